//! Names of servers at a relay, the tokens that admit to them, and the tags that prove a token.

use std::fmt;

use ring::hmac;

/// Most characters of a name.
pub const MAX_NAME: usize = 64;
/// Fewer characters could be guessed from a recorded registration.
pub const MIN_TOKEN: usize = 22;
pub const MAX_TOKEN: usize = 1024;
/// Bytes of a tag: half of an HMAC-SHA256.
pub const TAG: usize = 16;

const CONTEXT: &[u8] = b"openpi-flash relay 1";

/// Who sends a datagram. Part of its tag, so that none can be sent back as another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Server,
    Client,
    Relay,
}

impl Role {
    pub fn byte(self) -> u8 {
        match self {
            Self::Server => 0,
            Self::Client => 1,
            Self::Relay => 2,
        }
    }

    /// Of the other end; a relay has none.
    pub fn peer(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
            Self::Relay => Self::Relay,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Relay => "relay",
        })
    }
}

/// The name under which clients find a server at its relay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// Why a text is no name or no token. Never holds a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("relay name {:?} is not usable: write 1 to {MAX_NAME} of the characters a-z, A-Z, 0-9, - . _", crate::text::shown(.0))]
    Name(String),

    #[error("relay token holds {0}: a token is one word of visible ASCII characters")]
    Character(&'static str),

    #[error("relay token has {0} characters, expected {MIN_TOKEN} to {MAX_TOKEN}: make one with `openssl rand -hex 32`")]
    Length(usize),
}

impl Name {
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        match (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(TokenError::Name(text.to_owned())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The secret of a name, which both its ends and the relay know. No output shows it.
#[derive(Clone)]
pub struct Token {
    text: String,
    key: hmac::Key,
}

impl Token {
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            let what = match text.contains([' ', '\t', '\r', '\n']) {
                true => "a space or a line break",
                false => "another character",
            };
            return Err(TokenError::Character(what));
        }
        match (MIN_TOKEN..=MAX_TOKEN).contains(&text.len()) {
            true => Ok(Self {
                text: text.to_owned(),
                key: hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()),
            }),
            false => Err(TokenError::Length(text.len())),
        }
    }

    /// The tag of `message`, sent by `sender`.
    pub fn tag(&self, sender: Role, message: &[u8]) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [CONTEXT, &[sender.byte()], message] {
            context.update(part);
        }
        let mut tag = [0; TAG];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG]);
        tag
    }

    /// Whether `tag` is that of `message`, in a time that reveals nothing about it.
    pub fn proves(&self, sender: Role, message: &[u8], tag: &[u8; TAG]) -> bool {
        equal(&self.tag(sender, message), tag)
    }
}

/// Compares in a time that does not depend on the bytes.
pub(super) fn equal(one: &[u8; 16], other: &[u8; 16]) -> bool {
    let differences = one.iter().zip(other).map(|(one, other)| one ^ other);
    std::hint::black_box(differences.fold(0, |all, bits| all | bits)) == 0
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_tag_proves_token_sender_and_every_byte() {
        let token = Token::new(TEXT).unwrap();
        let other = Token::new(&TEXT.replace('0', "1")).unwrap();
        let tag = token.tag(Role::Client, b"message");
        assert!(token.proves(Role::Client, b"message", &tag));
        assert!(!token.proves(Role::Server, b"message", &tag));
        assert!(!token.proves(Role::Client, b"messagf", &tag));
        assert!(!other.proves(Role::Client, b"message", &tag));
    }

    #[test]
    fn a_token_that_is_none_is_refused_and_not_shown() {
        for text in [
            "",
            "short",
            &TEXT.repeat(40),
            &format!("{TEXT}\n"),
            &format!("{TEXT}é"),
        ] {
            let error = Token::new(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("0123"), "{error}");
        }
        let token = Token::new(TEXT).unwrap();
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn names_are_words() {
        assert!(Name::new("lab-1.gpu_2").is_ok());
        for text in ["", "two words", "lab:1", "é", &"a".repeat(65)] {
            let error = Name::new(text).unwrap_err().to_string();
            assert!(error.contains("write 1 to 64"), "{error}");
        }
    }
}

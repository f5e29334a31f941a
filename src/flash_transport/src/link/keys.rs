//! API keys: which are valid, and how a server compares them in a time that reveals nothing about
//! them.

use std::fmt;

use ring::hmac::{self, Tag};
use ring::rand::SystemRandom;

/// Most characters of a key.
pub const MAX_KEY: usize = 1024;

/// A client's API key. No error, log line or `Debug` output shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// Why a text is no valid key. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    #[error("api_keys holds an empty key: leave it out where no key is wanted")]
    Empty,

    #[error("api_key holds {0}: a key is one line of visible ASCII characters (check how the file or variable that holds it ends)")]
    Character(&'static str),

    #[error("api_key starts or ends with a space: leave it out")]
    SpaceAtEnd,

    #[error("api_key has more than {MAX_KEY} characters")]
    TooLong,
}

impl ApiKey {
    /// A key from a user. Every transport can carry it: over WebSocket it is part of an HTTP header
    /// (RFC 9110, section 5.5).
    pub fn new(text: impl Into<String>) -> Result<Self, ApiKeyError> {
        let text = text.into();
        let unfit = text.chars().find_map(|character| match character {
            '\n' | '\r' => Some("a line break"),
            '\0' => Some("a NUL"),
            ' '..='~' => None,
            _ if character.is_ascii() => Some("a control character"),
            _ => Some("a character that is not ASCII"),
        });
        match unfit {
            Some(what) => Err(ApiKeyError::Character(what)),
            None if text.len() > MAX_KEY => Err(ApiKeyError::TooLong),
            None if text.starts_with(' ') || text.ends_with(' ') => Err(ApiKeyError::SpaceAtEnd),
            None => Ok(Self(text)),
        }
    }

    /// A key for a server to accept: an empty one would admit clients that have none.
    pub fn accepted(text: impl Into<String>) -> Result<Self, ApiKeyError> {
        let key = Self::new(text)?;
        match key.0.is_empty() {
            true => Err(ApiKeyError::Empty),
            false => Ok(key),
        }
    }

    /// What a client sent, unchecked.
    pub(crate) fn received(text: String) -> Self {
        Self(text)
    }

    /// The key itself, for sending or comparing; never to be shown.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(not shown)")
    }
}

/// The keys that a server accepts, stored as keyed hashes: all have the same length, and comparing
/// them reveals nothing.
pub struct ApiKeys {
    secret: hmac::Key,
    accepted: Vec<Tag>,
}

impl ApiKeys {
    pub fn new<'a>(
        keys: impl IntoIterator<Item = &'a ApiKey>,
    ) -> Result<Self, ring::error::Unspecified> {
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        let sign = |key: &ApiKey| hmac::sign(&secret, key.reveal().as_bytes());
        let accepted = keys.into_iter().map(sign).collect();
        Ok(Self { secret, accepted })
    }

    /// The place of this key among those that are accepted; None refuses its client. Without
    /// configured keys every client is admitted, as with the first.
    pub fn place(&self, key: Option<&ApiKey>) -> Option<usize> {
        if self.accepted.is_empty() {
            return Some(0);
        }
        let key = key?.reveal().as_bytes();
        let matches = |accepted: &Tag| hmac::verify(&self.secret, key, accepted.as_ref()).is_ok();
        // Compares all, also after a match: the time must not depend on it.
        let places = self.accepted.iter().enumerate();
        places.fold(None, |found, (place, tag)| match matches(tag) {
            true => Some(place),
            false => found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ApiKey {
        ApiKey::received(text.to_owned())
    }

    #[test]
    fn only_the_configured_keys_are_admitted() {
        let keys = ApiKeys::new(&[key("one"), key("two")]).unwrap();
        assert_eq!(keys.place(Some(&key("one"))), Some(0));
        assert_eq!(keys.place(Some(&key("two"))), Some(1));
        assert_eq!(keys.place(None), None);
        for wrong in ["", "on", "one ", "ONE"] {
            assert_eq!(keys.place(Some(&key(wrong))), None, "{wrong:?}");
        }
    }

    #[test]
    fn without_keys_everybody_is_admitted() {
        let keys = ApiKeys::new([]).unwrap();
        assert_eq!(keys.place(None), Some(0));
        assert_eq!(keys.place(Some(&key("any"))), Some(0));
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_refused_and_not_shown() {
        for (text, part) in [
            ("secret\n", "a line break"),
            ("sec\rret", "a line break"),
            ("sec\0ret", "a NUL"),
            ("sec\tret", "a control character"),
            ("sec\u{1b}ret", "a control character"),
            ("sec\u{7f}ret", "a control character"),
            ("sécret", "not ASCII"),
            ("secret ", "starts or ends with a space"),
            (" secret", "starts or ends with a space"),
            (&"secret".repeat(1000), "more than 1024 characters"),
        ] {
            let error = ApiKey::new(text).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(part), "{part}: {shown}");
            assert!(!shown.contains("ret") && !shown.contains("sec"), "{shown}");
        }
        assert!(ApiKey::new("a key with spaces inside").is_ok());
        assert_eq!(ApiKey::accepted(""), Err(ApiKeyError::Empty));
    }

    #[test]
    fn debug_output_does_not_show_a_key() {
        let key = ApiKey::new("visible").unwrap();
        assert!(!format!("{key:?} {:#?}", Some(&key)).contains("visible"));
    }
}

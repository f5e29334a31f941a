//! How a client introduces itself.

use ring::rand::{SecureRandom, SystemRandom};

use crate::codec::{CodecError, Value};

use super::keys::ApiKey;
use super::wire::{Kind, SMALL_MAP};
use crate::text::{escaped, is_control};

/// The map of a hello. Every field is optional; unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// Name of the client's software.
    pub client: Option<String>,
    /// Version of the client's software.
    pub version: Option<String>,
    pub api_key: Option<ApiKey>,
    /// Requests of one session replace each other; a reconnecting client keeps its session.
    pub session: Option<String>,
    /// The code whose repair the client can read. The connection fills it in.
    pub repair: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    #[error("hello is no valid message: {0}")]
    Codec(#[from] CodecError),
    #[error("hello must be a map")]
    NotAMap,
    #[error("hello has a \"{field}\" that is no text")]
    NotText { field: &'static str },
    #[error("hello has a \"{field}\" of {got} bytes, at most {limit} are allowed")]
    TooLong {
        field: &'static str,
        got: usize,
        limit: usize,
    },
    #[error("session has {got} characters, at most {MAX_SESSION} are allowed")]
    LongSession { got: usize },
    #[error("session holds the control character {}", escaped(*character))]
    ControlInSession { character: char },
}

/// Most bytes of each field: longer than any name, key or token in use. A server keeps a session
/// per connection.
pub const MAX_FIELD: usize = 1024;

/// Most characters of a session.
pub const MAX_SESSION: usize = 128;

/// Whether `session` may name a session: logs show it, and servers keep one per robot.
pub fn check_session(session: &str) -> Result<(), HelloError> {
    let got = session.chars().count();
    if got > MAX_SESSION {
        return Err(HelloError::LongSession { got });
    }
    match session.chars().find(|character| is_control(*character)) {
        Some(character) => Err(HelloError::ControlInSession { character }),
        None => Ok(()),
    }
}

/// A random session for a client whose user has named none; kept over reconnections.
pub fn random_session() -> String {
    let mut bytes = [0u8; 8];
    // Without random numbers TLS fails, and reports it.
    let _ = SystemRandom::new().fill(&mut bytes);
    format!("{:016x}", u64::from_le_bytes(bytes))
}

impl Hello {
    /// The whole request, first byte included.
    pub fn encode(&self) -> Result<Vec<u8>, HelloError> {
        if let Some(session) = &self.session {
            check_session(session)?;
        }
        let mut entries = Vec::new();
        for (name, field) in [
            ("client", self.client.as_deref()),
            ("version", self.version.as_deref()),
            ("api_key", self.api_key.as_ref().map(ApiKey::reveal)),
            ("session", self.session.as_deref()),
            ("repair", self.repair.as_deref()),
        ] {
            if let Some(text) = field {
                check_length(name, text)?;
                entries.push((name.into(), text.into()));
            }
        }
        let mut request = vec![Kind::Hello.byte()];
        request.extend(Value::Map(entries).encode()?);
        Ok(request)
    }

    /// Parse what follows the first byte.
    pub fn decode(map: &[u8]) -> Result<Self, HelloError> {
        let value = Value::decode(map, SMALL_MAP)?;
        if !matches!(value, Value::Map(_)) {
            return Err(HelloError::NotAMap);
        }
        let session = field(&value, "session")?;
        if let Some(session) = &session {
            check_session(session)?;
        }
        Ok(Self {
            client: field(&value, "client")?,
            version: field(&value, "version")?,
            api_key: field(&value, "api_key")?.map(ApiKey::received),
            session,
            repair: field(&value, "repair")?,
        })
    }
}

fn field(value: &Value, name: &'static str) -> Result<Option<String>, HelloError> {
    match value.get(name) {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::Text(text)) => {
            check_length(name, text)?;
            Ok(Some(text.clone()))
        }
        Some(_) => Err(HelloError::NotText { field: name }),
    }
}

fn check_length(field: &'static str, text: &str) -> Result<(), HelloError> {
    if text.len() > MAX_FIELD {
        return Err(HelloError::TooLong {
            field,
            got: text.len(),
            limit: MAX_FIELD,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Hello {
        Hello {
            client: Some("robot".into()),
            version: Some("1.2".into()),
            api_key: Some(ApiKey::new("k3y").unwrap()),
            session: Some("arm-7".into()),
            repair: Some("rs16".into()),
        }
    }

    #[test]
    fn a_hello_survives_its_way_over_the_wire() {
        let request = hello().encode().unwrap();
        assert_eq!(request[0], Kind::Hello.byte());
        assert_eq!(Hello::decode(&request[1..]), Ok(hello()));
    }

    #[test]
    fn an_empty_map_is_a_hello() {
        assert_eq!(Hello::decode(&[0x80]), Ok(Hello::default()));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let map = Value::Map(vec![
            ("colour".into(), Value::List(vec![Value::Nil])),
            ("client".into(), "robot".into()),
        ]);
        let read = Hello::decode(&map.encode().unwrap()).unwrap();
        assert_eq!(read.client.as_deref(), Some("robot"));
    }

    #[test]
    fn a_list_is_no_hello() {
        assert_eq!(Hello::decode(&[0x90]), Err(HelloError::NotAMap));
    }

    #[test]
    fn a_number_is_no_api_key() {
        let map = Value::Map(vec![("api_key".into(), Value::Unsigned(1))]);
        assert_eq!(
            Hello::decode(&map.encode().unwrap()),
            Err(HelloError::NotText { field: "api_key" })
        );
    }

    #[test]
    fn a_session_that_is_no_name_is_refused_at_both_ends() {
        let long = "é".repeat(MAX_SESSION + 1);
        let control = |character| HelloError::ControlInSession { character };
        for (session, error) in [
            (long.as_str(), HelloError::LongSession { got: 129 }),
            ("\0action slot", control('\0')),
            ("arm\n", control('\n')),
            ("\u{1b}[2J", control('\u{1b}')),
            ("arm\u{9b}", control('\u{9b}')),
            ("arm\u{202e}", control('\u{202e}')),
        ] {
            let map = Value::Map(vec![("session".into(), session.into())]);
            assert_eq!(Hello::decode(&map.encode().unwrap()), Err(error.clone()));
            let written = Hello {
                session: Some(session.to_owned()),
                ..Hello::default()
            };
            assert_eq!(written.encode(), Err(error.clone()));
            assert!(!error.to_string().chars().any(char::is_control), "{error}");
        }
        for session in ["", "arm 7", "größe", &"x".repeat(MAX_SESSION)] {
            assert_eq!(check_session(session), Ok(()));
        }
    }

    #[test]
    fn a_long_field_is_refused_at_both_ends() {
        let client = "s".repeat(MAX_FIELD + 1);
        let too_long = HelloError::TooLong {
            field: "client",
            got: MAX_FIELD + 1,
            limit: MAX_FIELD,
        };
        let map = Value::Map(vec![("client".into(), client.as_str().into())]);
        let read = Hello::decode(&map.encode().unwrap());
        assert_eq!(read, Err(too_long.clone()));
        let written = Hello {
            client: Some(client),
            ..Hello::default()
        };
        assert_eq!(written.encode(), Err(too_long));
    }

    #[test]
    fn debug_output_does_not_show_the_key() {
        assert!(!format!("{:?}", hello()).contains("k3y"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Hello::decode(&bytes);
        }
    }
}

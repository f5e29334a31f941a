//! The api keys a server accepts, compared so that the time taken tells nothing about them.

use ring::hmac::{self, Tag};
use ring::rand::SystemRandom;

/// Only keyed hashes of the api keys are kept: they have one length, and comparing them tells nothing.
pub(crate) struct ApiKeys {
    secret: hmac::Key,
    accepted: Vec<Tag>,
}

impl ApiKeys {
    pub fn new<'a>(
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ring::error::Unspecified> {
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        let sign = |key: &str| hmac::sign(&secret, key.as_bytes());
        let accepted = keys.into_iter().map(sign).collect();
        Ok(Self { secret, accepted })
    }

    /// Whether a client with this key may come in. Without any configured key everybody may.
    pub fn admit(&self, key: Option<&str>) -> bool {
        if self.accepted.is_empty() {
            return true;
        }
        let Some(key) = key else { return false };
        let matches =
            |accepted: &Tag| hmac::verify(&self.secret, key.as_bytes(), accepted.as_ref()).is_ok();
        // Looks at each, also after a match.
        self.accepted.iter().filter(|tag| matches(tag)).count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_configured_keys_are_admitted() {
        let keys = ApiKeys::new(["one", "two"]).unwrap();
        assert!(keys.admit(Some("one")) && keys.admit(Some("two")));
        for wrong in [None, Some(""), Some("on"), Some("one "), Some("ONE")] {
            assert!(!keys.admit(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn without_keys_everybody_is_admitted() {
        let keys = ApiKeys::new([]).unwrap();
        assert!(keys.admit(None) && keys.admit(Some("any")));
    }
}

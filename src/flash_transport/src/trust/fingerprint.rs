//! SHA-256 of a certificate, as users compare it.

use std::fmt;
use std::str::FromStr;

use ring::digest::{digest, SHA256};

/// SHA-256 of a certificate's DER form. Written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server_fingerprint must be the 64 hex digits of a SHA-256, got {got:?}")]
pub struct FingerprintError {
    pub got: String,
}

impl Fingerprint {
    pub fn of_certificate(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Accepts upper and lower case, colons between bytes (as openssl prints them), and a leading
    /// `sha256:`.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let error = || FingerprintError { got: text.into() };
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.strip_prefix("sha256:").unwrap_or(&lower);
        let digits: Vec<u8> = digits.bytes().filter(|digit| *digit != b':').collect();
        if digits.len() != 64 {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let nibble = |digit: u8| char::from(digit).to_digit(16).ok_or_else(error);
            *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn a_fingerprint_is_the_sha256_in_hex() {
        assert_eq!(Fingerprint::of_certificate(b"hello").to_string(), HELLO);
    }

    #[test]
    fn a_fingerprint_is_read_as_people_write_it() {
        let expected = Fingerprint::of_certificate(b"hello");
        let colons: Vec<String> = HELLO
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
            .collect();
        for text in [
            HELLO.to_owned(),
            format!("sha256:{HELLO}"),
            format!(" {HELLO}\n"),
            colons.join(":"),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_fingerprint_is_named() {
        for text in ["", "abc", &HELLO[1..], &HELLO.replace('2', "g"), "é"] {
            let error = text.parse::<Fingerprint>().unwrap_err();
            assert_eq!(error.got, text);
        }
    }
}

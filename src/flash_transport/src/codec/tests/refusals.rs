//! What is refused, and with which message.

use super::*;

#[test]
fn a_message_that_is_cut_off_is_refused_at_every_length() {
    let whole = map([
        ("image", array("|u1", &[2, 2, 3], &[1; 12])),
        ("state", list(20, Value::Float(0.5))),
        (
            "prompt",
            Value::Text("a prompt of more than 31 characters".into()),
        ),
        ("blob", Value::Bytes(vec![1; 300])),
        ("count", Value::Unsigned(u64::MAX)),
    ])
    .encode()
    .unwrap();
    for length in 0..whole.len() {
        let error = Value::decode(&whole[..length], Limits::DEFAULT).expect_err("a refusal");
        assert!(
            matches!(error, CodecError::Truncated { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn broken_text_is_refused() {
    assert_eq!(refused("91a2c328"), CodecError::InvalidUtf8 { at: 1 });
    // a lone surrogate
    assert_eq!(refused("a3eda080"), CodecError::InvalidUtf8 { at: 0 });
}

#[test]
fn extensions_are_refused() {
    for (hex, kind) in [
        ("d4ff00", -1),
        ("d5010000", 1),
        ("d60200000000", 2),
        ("d7030000000000000000", 3),
        ("d80400000000000000000000000000000000", 4),
        ("c701ff00", -1),
        ("c80001ff00", -1),
        ("c900000001ff00", -1),
    ] {
        assert_eq!(
            refused(hex),
            CodecError::UnsupportedExtension { at: 0, kind }
        );
    }
}

#[test]
fn the_byte_that_means_nothing_is_refused() {
    assert_eq!(refused("91c1"), CodecError::ReservedByte { at: 1 });
}

#[test]
fn keys_other_than_text_and_bytes_are_refused() {
    for (hex, got) in [
        ("8101c0", "an integer"),
        ("81ffc0", "an integer"),
        ("81c0c0", "nil"),
        ("81c3c0", "a bool"),
        ("81cb3ff8000000000000c0", "a float"),
        ("8190c0", "a list"),
        ("8180c0", "a map"),
    ] {
        assert_eq!(refused(hex), CodecError::NonStringKey { at: 1, got });
    }
}

#[test]
fn bytes_after_the_message_are_refused() {
    assert_eq!(
        refused("c0c0c0"),
        CodecError::TrailingBytes { at: 1, count: 2 }
    );
}

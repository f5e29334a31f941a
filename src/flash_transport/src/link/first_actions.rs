//! The first actions of an answer, which may precede the whole answer on its stream. Pure.
//!
//! On a QUIC stream: [`ANSWER_FIRST`], the length of the map in four bytes (little-endian), the map.
//! On a unix socket the frame has the length: [`ANSWER_FIRST`], the map.

use crate::codec::{Limits, Value};
use crate::link::wire::ANSWER_FIRST;

/// Key in an observation: the number of steps that the client wants as soon as they are final.
pub const FIRST_ACTIONS_KEY: &str = "first_actions";

/// Kind and length, before the map on a QUIC stream.
pub const HEAD_BYTES: usize = 5;

/// The bytes before a map of `length` bytes on a QUIC stream; `None` if the length does not fit.
pub fn head(length: usize) -> Option<[u8; HEAD_BYTES]> {
    let [a, b, c, d] = u32::try_from(length).ok()?.to_le_bytes();
    Some([ANSWER_FIRST, a, b, c, d])
}

/// What the first bytes of an answer on a QUIC stream begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// Too few bytes to tell.
    Open,
    /// The whole answer.
    Whole,
    /// First actions, with a map of this many bytes, some of which may still be missing.
    First { length: usize },
}

impl Front {
    pub fn of(answer: &[u8]) -> Self {
        match answer {
            [] => Front::Open,
            [ANSWER_FIRST, a, b, c, d, ..] => Front::First {
                length: u32::from_le_bytes([*a, *b, *c, *d]) as usize,
            },
            [ANSWER_FIRST, ..] => Front::Open,
            _ => Front::Whole,
        }
    }
}

/// Check that `map` holds `actions` with `steps` steps, and nothing that is no number.
///
/// The error completes the sentence "the first actions are not valid: …".
pub fn check(map: &[u8], steps: u32) -> Result<(), String> {
    let value = Value::decode(map, Limits::DEFAULT).map_err(|error| error.to_string())?;
    let Some(Value::Array(actions)) = value.get("actions") else {
        return Err("they hold no array of actions".to_owned());
    };
    match *actions.shape {
        [rows, _] if rows == steps as usize => Ok(()),
        _ => Err(format!(
            "actions have shape {:?}, expected [{steps}, action_dim]",
            actions.shape
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ArrayValue;

    fn part(shape: &[usize]) -> Vec<u8> {
        let actions = Value::Array(ArrayValue {
            dtype: "<f4".to_owned(),
            shape: shape.to_vec(),
            data: vec![0; 4 * shape.iter().product::<usize>()],
        });
        Value::Map(vec![("actions".into(), actions)])
            .encode()
            .unwrap()
    }

    #[test]
    fn a_head_survives_its_way() {
        let head = head(0x0102_0304).unwrap();
        assert_eq!(head, [0x02, 4, 3, 2, 1]);
        assert_eq!(
            Front::of(&head),
            Front::First {
                length: 0x0102_0304
            }
        );
    }

    #[test]
    fn what_does_not_fit_into_a_length_has_no_head() {
        assert_eq!(head(1 << 40), None);
    }

    #[test]
    fn an_answer_says_by_its_first_byte_what_it_begins_with() {
        assert_eq!(Front::of(&[]), Front::Open);
        assert_eq!(Front::of(&[0x02, 1, 0, 0]), Front::Open);
        for other in [0x00, 0x01, 0x03, 0xff] {
            assert_eq!(Front::of(&[other]), Front::Whole);
        }
    }

    #[test]
    fn first_actions_have_the_steps_that_were_asked_for() {
        assert_eq!(check(&part(&[3, 2]), 3), Ok(()));
        for shape in [&[2, 2][..], &[4, 2], &[3], &[3, 2, 1], &[0, 2]] {
            let error = check(&part(shape), 3).unwrap_err();
            assert!(error.contains("expected [3, action_dim]"), "{error}");
        }
    }

    #[test]
    fn what_is_no_map_of_actions_is_refused() {
        for bytes in [
            &b""[..],
            b"\x80",
            b"\x90",
            b"\x81\xa7actions\xc0",
            b"\xdf\xff\xff\xff\xff",
        ] {
            assert!(check(bytes, 1).is_err(), "{bytes:02x?}");
        }
        let with_more_behind = [part(&[1, 1]), vec![0x80]].concat();
        assert!(check(&with_more_behind, 1).is_err());
    }
}

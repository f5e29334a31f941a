//! Both ends agree to send repair: the client offers it in its hello, the server adds an entry to the
//! metadata for this client.

use bytes::Bytes;

/// The code that `repair` describes, in a hello and in the metadata.
pub const CODE: &str = "rs16";

/// The entry `"repair": "rs16"` of a msgpack map.
const ENTRY: &[u8] = b"\xa6repair\xa4rs16";

/// An answer with the metadata, to a client that offers repair; `None` if it holds no map that has
/// room for an entry.
pub fn accept(answer: &[u8]) -> Option<Bytes> {
    let (kind, map) = answer.split_first()?;
    let (entries, rest) = header(map)?;
    let mut accepted = vec![*kind];
    accepted.extend(with_entries(entries.checked_add(1)?));
    accepted.extend_from_slice(rest);
    accepted.extend_from_slice(ENTRY);
    Some(accepted.into())
}

/// The metadata as the server has it, if it is from a server that accepted.
pub fn accepted(metadata: &[u8]) -> Option<Bytes> {
    let (entries, rest) = header(metadata.strip_suffix(ENTRY)?)?;
    let mut before = with_entries(entries.checked_sub(1)?);
    before.extend_from_slice(rest);
    Some(before.into())
}

/// The entries of a msgpack map, and what follows their number.
fn header(map: &[u8]) -> Option<(u32, &[u8])> {
    match map {
        [first @ 0x80..=0x8f, rest @ ..] => Some((u32::from(first & 0x0f), rest)),
        [0xde, high, low, rest @ ..] => Some((u16::from_be_bytes([*high, *low]).into(), rest)),
        [0xdf, a, b, c, d, rest @ ..] => Some((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        _ => None,
    }
}

fn with_entries(entries: u32) -> Vec<u8> {
    match (u8::try_from(entries), u16::try_from(entries)) {
        (Ok(few @ 0..=0x0f), _) => vec![0x80 | few],
        (_, Ok(entries)) => [&[0xde], entries.to_be_bytes().as_slice()].concat(),
        _ => [&[0xdf], entries.to_be_bytes().as_slice()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Limits, Value};
    use crate::link::wire::ANSWER_OK;

    fn metadata(entries: usize) -> Vec<u8> {
        let entry = |number: usize| (number.to_string().as_str().into(), Value::Nil);
        Value::Map((0..entries).map(entry).collect())
            .encode()
            .unwrap()
    }

    #[test]
    fn an_accepted_offer_is_one_entry_more_and_taken_out_again() {
        for entries in [0, 1, 14, 15, 16, 65_534, 65_535, 65_536] {
            let before = metadata(entries);
            let answer = accept(&[&[ANSWER_OK], before.as_slice()].concat()).unwrap();
            let map = Value::decode(&answer[1..], Limits::DEFAULT).unwrap();
            assert_eq!(map.get("repair"), Some(&Value::Text(CODE.to_owned())));
            assert_eq!(accepted(&answer[1..]).unwrap(), before, "{entries}");
        }
    }

    #[test]
    fn a_server_that_does_not_accept_changes_nothing() {
        for metadata in [metadata(3).as_slice(), &[], &[0x80], ENTRY, &[0x90]] {
            assert_eq!(accepted(metadata), None);
        }
        assert_eq!(accept(&[]), None);
        assert_eq!(accept(&[ANSWER_OK, 0x90]), None);
    }
}

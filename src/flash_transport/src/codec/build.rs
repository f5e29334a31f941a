//! The only walk over a message; the caller chooses which objects it makes.

use super::array::{is_marker, read_tagged, Tagged};
use super::error::CodecError;
use super::reader::{Key, Leaf, Limits, Reader, Token};

/// Makes objects from what [`decode`] reads.
pub trait Build<'a> {
    type Value;
    type List;
    type Map;
    type Error: From<CodecError>;

    fn leaf(&mut self, leaf: Leaf<'a>) -> Result<Self::Value, Self::Error>;
    fn tagged(&mut self, tagged: Tagged<'a>) -> Result<Self::Value, Self::Error>;

    /// The message is known to be long enough for `length` values.
    fn new_list(&mut self, length: usize) -> Result<Self::List, Self::Error>;
    fn push(&mut self, list: &mut Self::List, value: Self::Value) -> Result<(), Self::Error>;
    fn end_list(&mut self, list: Self::List) -> Result<Self::Value, Self::Error>;

    fn new_map(&mut self, length: usize) -> Result<Self::Map, Self::Error>;
    /// If a key occurs twice, the last value counts.
    fn insert(
        &mut self,
        map: &mut Self::Map,
        key: Key<'a>,
        value: Self::Value,
    ) -> Result<(), Self::Error>;
    fn end_map(&mut self, map: Self::Map) -> Result<Self::Value, Self::Error>;
}

/// Decode a message that holds exactly one value.
pub fn decode<'a, B: Build<'a>>(
    message: &'a [u8],
    limits: Limits,
    build: &mut B,
) -> Result<B::Value, B::Error> {
    let mut reader = Reader::new(message, limits)?;
    let value = read_value(&mut reader, build)?;
    reader.finish()?;
    Ok(value)
}

fn read_value<'a, B: Build<'a>>(
    reader: &mut Reader<'a>,
    build: &mut B,
) -> Result<B::Value, B::Error> {
    match reader.token()? {
        Token::Leaf(leaf) => build.leaf(leaf),
        Token::List(length) => {
            reader.descend()?;
            let value = read_list(reader, build, length)?;
            reader.ascend();
            Ok(value)
        }
        Token::Map(length) => {
            reader.descend()?;
            let value = read_map(reader, build, length)?;
            reader.ascend();
            Ok(value)
        }
    }
}

fn read_list<'a, B: Build<'a>>(
    reader: &mut Reader<'a>,
    build: &mut B,
    length: usize,
) -> Result<B::Value, B::Error> {
    let mut list = build.new_list(length)?;
    for _ in 0..length {
        let value = read_value(reader, build)?;
        build.push(&mut list, value)?;
    }
    build.end_list(list)
}

fn read_map<'a, B: Build<'a>>(
    reader: &mut Reader<'a>,
    build: &mut B,
    length: usize,
) -> Result<B::Value, B::Error> {
    let start = reader.at();
    let mut map = build.new_map(length)?;
    for _ in 0..length {
        let key = reader.key()?;
        if is_marker(key) {
            // Our and openpi's senders put the marker first. If it comes later, the entries before
            // it were read wrongly: read the map again.
            reader.rewind(start);
            return build.tagged(read_tagged(reader, length)?);
        }
        let value = read_value(reader, build)?;
        build.insert(&mut map, key, value)?;
    }
    build.end_map(map)
}

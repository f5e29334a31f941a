//! A message as a tree that owns its data.

use super::array::{check_size, Tagged};
use super::build::{decode, Build};
use super::dtype::Dtype;
use super::error::CodecError;
use super::reader::{Key, Leaf, Limits};
use super::writer::Writer;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// Always negative; `Value::from(i64)` ensures it.
    Negative(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// In the order of the message; if a key occurs twice, the last value counts.
    Map(Vec<(ValueKey, Value)>),
    Array(ArrayValue),
    /// A numpy scalar.
    Scalar {
        dtype: String,
        data: Box<Value>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueKey {
    Text(String),
    Bytes(Vec<u8>),
}

/// An array in C order.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayValue {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl Value {
    /// Decode a message that holds exactly one value.
    pub fn decode(message: &[u8], limits: Limits) -> Result<Value, CodecError> {
        decode(message, limits, &mut Tree)
    }

    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut writer = Writer::default();
        self.write(&mut writer)?;
        Ok(writer.into_bytes())
    }

    /// Append this value to a message.
    pub fn write(&self, writer: &mut Writer) -> Result<(), CodecError> {
        match self {
            Value::Nil => writer.nil(),
            Value::Bool(value) => writer.bool(*value),
            Value::Unsigned(value) => writer.unsigned(*value),
            Value::Negative(value) => writer.signed(*value),
            Value::Float(value) => writer.float(*value),
            Value::Text(value) => writer.text(value)?,
            Value::Bytes(value) => writer.bytes(value)?,
            Value::List(values) => {
                writer.list_header(values.len())?;
                for value in values {
                    value.write(writer)?;
                }
            }
            Value::Map(entries) => {
                writer.map_header(entries.len())?;
                for (key, value) in entries {
                    writer.key(key.as_key())?;
                    value.write(writer)?;
                }
            }
            Value::Array(array) => {
                let dtype = Dtype::parse(&array.dtype)?;
                check_size(dtype, &array.shape, array.data.len())?;
                writer.array_head(array.data.len())?;
                writer.raw(&array.data);
                writer.array_tail(dtype.as_str(), &array.shape)?;
            }
            Value::Scalar { dtype, data } => {
                writer.scalar_head()?;
                data.write(writer)?;
                writer.scalar_tail(Dtype::parse(dtype)?.as_str())?;
            }
        }
        Ok(())
    }

    /// The entry of a map with this name, whether its key is text or bytes.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let Value::Map(entries) = self else {
            return None;
        };
        let entry = entries
            .iter()
            .rev()
            .find(|(key, _)| key.as_key().as_bytes() == name.as_bytes());
        entry.map(|(_, value)| value)
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl ValueKey {
    pub fn as_key(&self) -> Key<'_> {
        match self {
            ValueKey::Text(text) => Key::Text(text),
            ValueKey::Bytes(bytes) => Key::Bytes(bytes),
        }
    }
}

impl From<&str> for ValueKey {
    fn from(text: &str) -> Self {
        ValueKey::Text(text.to_owned())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned)
    }
}

impl From<Leaf<'_>> for Value {
    fn from(leaf: Leaf<'_>) -> Self {
        match leaf {
            Leaf::Nil => Value::Nil,
            Leaf::Bool(value) => Value::Bool(value),
            Leaf::Unsigned(value) => Value::Unsigned(value),
            Leaf::Negative(value) => Value::Negative(value),
            Leaf::Float(value) => Value::Float(value),
            Leaf::Text(text) => Value::Text(text.to_owned()),
            Leaf::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        }
    }
}

impl From<Key<'_>> for ValueKey {
    fn from(key: Key<'_>) -> Self {
        match key {
            Key::Text(text) => ValueKey::Text(text.to_owned()),
            Key::Bytes(bytes) => ValueKey::Bytes(bytes.to_vec()),
        }
    }
}

struct Tree;

impl<'a> Build<'a> for Tree {
    type Value = Value;
    type List = Vec<Value>;
    type Map = Vec<(ValueKey, Value)>;
    type Error = CodecError;

    fn leaf(&mut self, leaf: Leaf<'a>) -> Result<Value, CodecError> {
        Ok(leaf.into())
    }

    fn tagged(&mut self, tagged: Tagged<'a>) -> Result<Value, CodecError> {
        Ok(match tagged {
            Tagged::Array(view) => Value::Array(ArrayValue {
                dtype: view.dtype.as_str().to_owned(),
                shape: view.shape,
                data: view.data.to_vec(),
            }),
            Tagged::Scalar { dtype, data } => Value::Scalar {
                dtype: dtype.as_str().to_owned(),
                data: Box::new(data.into()),
            },
        })
    }

    fn new_list(&mut self, _length: usize) -> Result<Vec<Value>, CodecError> {
        Ok(Vec::new())
    }

    fn push(&mut self, list: &mut Vec<Value>, value: Value) -> Result<(), CodecError> {
        list.push(value);
        Ok(())
    }

    fn end_list(&mut self, list: Vec<Value>) -> Result<Value, CodecError> {
        Ok(Value::List(list))
    }

    fn new_map(&mut self, _length: usize) -> Result<Self::Map, CodecError> {
        Ok(Vec::new())
    }

    fn insert(
        &mut self,
        map: &mut Self::Map,
        key: Key<'a>,
        value: Value,
    ) -> Result<(), CodecError> {
        map.push((key.into(), value));
        Ok(())
    }

    fn end_map(&mut self, map: Self::Map) -> Result<Value, CodecError> {
        Ok(Value::Map(map))
    }
}

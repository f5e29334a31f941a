//! Tests of the codec by subject, and their notation: messages as hex digits, values as short
//! calls.

mod arrays;
mod dtypes;
mod format;
mod limits;
mod properties;
mod refusals;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

fn decoded(hex: &str) -> Result<Value, CodecError> {
    Value::decode(&bytes(hex), Limits::DEFAULT)
}

fn refused(hex: &str) -> CodecError {
    decoded(hex).expect_err("a refusal")
}

fn array(dtype: &str, shape: &[usize], data: &[u8]) -> Value {
    Value::Array(ArrayValue {
        dtype: dtype.into(),
        shape: shape.to_vec(),
        data: data.to_vec(),
    })
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.map(|(key, value)| (key.into(), value)).to_vec())
}

fn list(length: usize, value: Value) -> Value {
    Value::List(vec![value; length])
}

/// An array's map with the given parts.
fn array_message(data: &Value, dtype: &Value, shape: &Value) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.map_header(4).unwrap();
    writer.bytes(NDARRAY_KEY).unwrap();
    writer.bool(true);
    for (key, value) in [(DATA_KEY, data), (DTYPE_KEY, dtype), (SHAPE_KEY, shape)] {
        writer.bytes(key).unwrap();
        value.write(&mut writer).unwrap();
    }
    writer.into_bytes()
}

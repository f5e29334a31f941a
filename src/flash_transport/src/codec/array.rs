//! The maps that represent arrays and numpy scalars.

use super::dtype::{Dtype, Kind};
use super::error::CodecError;
use super::reader::{Key, Leaf, Reader, Token};

pub const NDARRAY_KEY: &[u8] = b"__ndarray__";
pub const NPGENERIC_KEY: &[u8] = b"__npgeneric__";
pub const DATA_KEY: &[u8] = b"data";
pub const DTYPE_KEY: &[u8] = b"dtype";
pub const SHAPE_KEY: &[u8] = b"shape";

/// The limit of numpy 2.
pub const MAX_DIMS: usize = 64;

/// An array in C order whose data still lies in the message. The length of `data` matches dtype and
/// shape.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayView<'a> {
    pub dtype: Dtype<'a>,
    pub shape: Vec<usize>,
    pub data: &'a [u8],
}

/// A decoded map with one of the two marker keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Tagged<'a> {
    Array(ArrayView<'a>),
    Scalar { dtype: Dtype<'a>, data: Leaf<'a> },
}

pub(super) fn is_marker(key: Key<'_>) -> bool {
    matches!(key.as_bytes(), NDARRAY_KEY | NPGENERIC_KEY)
}

/// Read the `entries` of a map that has a marker key, in any order. Unknown entries are skipped.
pub(super) fn read_tagged<'a>(
    reader: &mut Reader<'a>,
    entries: usize,
) -> Result<Tagged<'a>, CodecError> {
    let at = reader.at();
    let malformed = |reason| CodecError::MalformedArray { at, reason };
    let mut is_array = false;
    let (mut data, mut dtype, mut shape) = (None, None, None);
    for _ in 0..entries {
        match reader.key()?.as_bytes() {
            NDARRAY_KEY => {
                is_array = true;
                reader.skip()?;
            }
            DATA_KEY => match reader.token()? {
                Token::Leaf(leaf) => data = Some(leaf),
                _ => return Err(malformed("data is neither bytes nor a number")),
            },
            DTYPE_KEY => match reader.token()? {
                Token::Leaf(Leaf::Text(text)) => dtype = Some(Dtype::parse(text)?),
                _ => return Err(malformed("dtype is not text")),
            },
            SHAPE_KEY => {
                shape = Some(read_shape(reader)?.ok_or(malformed("shape is not a list of sizes"))?)
            }
            _ => reader.skip()?,
        }
    }
    let data = data.ok_or(malformed("data is missing"))?;
    let dtype = dtype.ok_or(malformed("dtype is missing"))?;
    if !is_array {
        if !fits(dtype, data) {
            return Err(malformed("the scalar's data does not fit its dtype"));
        }
        return Ok(Tagged::Scalar { dtype, data });
    }
    let shape = shape.ok_or(malformed("shape is missing"))?;
    let Leaf::Bytes(data) = data else {
        return Err(malformed("data is not bytes"));
    };
    check_size(dtype, &shape, data.len())?;
    Ok(Tagged::Array(ArrayView { dtype, shape, data }))
}

/// Whether `data` is a valid value of the dtype. numpy's constructors accept more, and some of that
/// does harm: `numpy.bytes_(n)` allocates n bytes, and integers that are too large wrap around in
/// numpy 1.
fn fits(dtype: Dtype<'_>, data: Leaf<'_>) -> bool {
    let bits = 8 * dtype.item_size() as u32;
    match (dtype.kind(), data) {
        (Kind::Bool, Leaf::Bool(_)) => true,
        (Kind::Int, Leaf::Unsigned(value)) => value <= u64::MAX >> (65 - bits),
        (Kind::Int, Leaf::Negative(value)) => value >= i64::MIN >> (64 - bits),
        (Kind::Uint, Leaf::Unsigned(value)) => value <= u64::MAX >> (64 - bits),
        (Kind::Float, Leaf::Float(_) | Leaf::Unsigned(_) | Leaf::Negative(_)) => true,
        (Kind::Text, Leaf::Text(_)) => true,
        (Kind::Bytes, Leaf::Bytes(_)) => true,
        (Kind::Datetime | Kind::Timedelta, Leaf::Unsigned(_) | Leaf::Negative(_) | Leaf::Nil) => {
            true
        }
        _ => false,
    }
}

/// None if the value is not a list of at most [`MAX_DIMS`] sizes.
fn read_shape(reader: &mut Reader<'_>) -> Result<Option<Vec<usize>>, CodecError> {
    let Token::List(length) = reader.token()? else {
        return Ok(None);
    };
    if length > MAX_DIMS {
        return Ok(None);
    }
    let mut shape = Vec::with_capacity(length);
    for _ in 0..length {
        match reader.token()? {
            Token::Leaf(Leaf::Unsigned(dim)) if dim <= isize::MAX as u64 => {
                shape.push(dim as usize)
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(shape))
}

pub(super) fn check_size(dtype: Dtype<'_>, shape: &[usize], got: usize) -> Result<(), CodecError> {
    // a size of 0 must not hide an overflow of the others: numpy computes strides from them
    let fits = shape
        .iter()
        .filter(|dim| **dim != 0)
        .try_fold(dtype.item_size().max(1), |size, dim| size.checked_mul(*dim))
        .is_some_and(|size| isize::try_from(size).is_ok());
    let expected = match fits {
        true => shape.iter().product::<usize>() as u64 * dtype.item_size() as u64,
        false => u64::MAX,
    };
    if expected == got as u64 {
        return Ok(());
    }
    Err(CodecError::ShapeMismatch {
        dtype: dtype.as_str().to_owned(),
        shape: shape.to_vec(),
        expected,
        got,
    })
}

//! The subset of numpy's `dtype.str` that the codec accepts.

use super::error::CodecError;

/// numpy's `dtype.kind`. openpi refuses void, object and complex, and so does this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    Uint,
    Float,
    /// UCS-4 text of fixed length.
    Text,
    /// Bytes of fixed length.
    Bytes,
    Datetime,
    Timedelta,
}

/// A checked dtype string such as `<f4`, `|u1`, `<U5` or `<M8[ns]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dtype<'a> {
    text: &'a str,
    kind: Kind,
    item_size: usize,
}

impl<'a> Dtype<'a> {
    /// Accepts every `dtype.str`, also without byte order (`f4`), and names that `numpy.dtype`
    /// knows (`float32`).
    pub fn parse(text: &'a str) -> Result<Self, CodecError> {
        let code = NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map_or(text, |(_, code)| *code);
        parse_code(code).ok_or_else(|| CodecError::UnknownDtype {
            // untrusted text must not flood a log
            dtype: text.chars().take(32).collect(),
        })
    }

    pub fn as_str(self) -> &'a str {
        self.text
    }

    pub fn kind(self) -> Kind {
        self.kind
    }

    /// Bytes of one element.
    pub fn item_size(self) -> usize {
        self.item_size
    }
}

fn parse_code(text: &str) -> Option<Dtype<'_>> {
    let code = text.strip_prefix(['<', '>', '|', '=']).unwrap_or(text);
    let (kind, size) = code.split_at_checked(1)?;
    let (kind, item_size) = match kind {
        "b" => (Kind::Bool, one_of(size, &["1"])?),
        "i" => (Kind::Int, one_of(size, &["1", "2", "4", "8"])?),
        "u" => (Kind::Uint, one_of(size, &["1", "2", "4", "8"])?),
        "f" => (Kind::Float, one_of(size, &["2", "4", "8", "16"])?),
        "U" => (Kind::Text, text_size(size)?.checked_mul(4)?),
        "S" => (Kind::Bytes, text_size(size)?),
        "M" => (Kind::Datetime, time_size(size)?),
        "m" => (Kind::Timedelta, time_size(size)?),
        _ => return None,
    };
    // numpy stores an item's size in a C int
    i32::try_from(item_size).ok()?;
    Some(Dtype {
        text,
        kind,
        item_size,
    })
}

fn one_of(size: &str, sizes: &[&str]) -> Option<usize> {
    sizes.contains(&size).then(|| digits(size)).flatten()
}

fn text_size(size: &str) -> Option<usize> {
    (size.len() <= 10).then(|| digits(size)).flatten()
}

/// `8`, or `8` and a unit with its multiple: `8[ns]`, `8[25us]`.
fn time_size(size: &str) -> Option<usize> {
    let unit = size.strip_prefix('8')?;
    if !unit.is_empty() {
        let unit = unit.strip_prefix('[')?.strip_suffix(']')?;
        let name = unit.trim_start_matches(|c: char| c.is_ascii_digit());
        if unit.len() - name.len() > 9 || !TIME_UNITS.contains(&name) {
            return None;
        }
    }
    Some(8)
}

fn digits(text: &str) -> Option<usize> {
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| text.parse().ok()).flatten()
}

const TIME_UNITS: [&str; 13] = [
    "Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as",
];

const NAMES: [(&str, &str); 12] = [
    ("bool", "|b1"),
    ("int8", "|i1"),
    ("int16", "<i2"),
    ("int32", "<i4"),
    ("int64", "<i8"),
    ("uint8", "|u1"),
    ("uint16", "<u2"),
    ("uint32", "<u4"),
    ("uint64", "<u8"),
    ("float16", "<f2"),
    ("float32", "<f4"),
    ("float64", "<f8"),
];

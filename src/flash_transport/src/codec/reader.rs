//! Reads msgpack tokens from untrusted bytes.

use super::error::CodecError;

/// Limits of what decoding a message may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole message.
    pub bytes: usize,
    /// Depth of nested maps and lists, and of the recursion.
    pub depth: usize,
    /// Values of the whole message, map keys included: a value of one byte can become an object of
    /// a hundred.
    pub values: usize,
    /// Maps, lists and arrays of the whole message: an empty map of one byte becomes an object of
    /// 64 bytes, a scalar takes a call of numpy.
    pub containers: usize,
}

impl Limits {
    /// Far above any observation (a dozen maps, some hundred values), far below what would slow a
    /// server down: the costliest message takes some ten milliseconds and megabytes.
    pub const DEFAULT: Limits = Limits {
        bytes: 256 << 20,
        depth: 64,
        values: 1 << 18,
        containers: 1 << 14,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A value that holds no other values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Leaf<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// Always negative; integers from 0 up are `Unsigned`, whatever their encoding.
    Negative(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    Leaf(Leaf<'a>),
    /// Number of values that follow.
    List(usize),
    /// Number of pairs of key and value that follow.
    Map(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Key<'a> {
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Key::Text(text) => text.as_bytes(),
            Key::Bytes(bytes) => bytes,
        }
    }
}

/// A cursor over one message. It never reads beyond the end and trusts no length.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    depth: usize,
    values: usize,
    containers: usize,
    limits: Limits,
}

impl<'a> Reader<'a> {
    pub fn new(message: &'a [u8], limits: Limits) -> Result<Self, CodecError> {
        if message.len() > limits.bytes {
            return Err(CodecError::LengthOverLimit {
                what: "bytes",
                length: message.len() as u64,
                limit: limits.bytes as u64,
            });
        }
        Ok(Self {
            message,
            at: 0,
            depth: 0,
            values: 0,
            containers: 0,
            limits,
        })
    }

    /// Offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Return to an earlier byte. What is read again counts against the limits again.
    pub fn rewind(&mut self, at: usize) {
        debug_assert!(at <= self.at);
        self.at = at;
    }

    /// Enter a map or list; each `descend` needs its `ascend`.
    pub fn descend(&mut self) -> Result<(), CodecError> {
        if self.depth >= self.limits.depth {
            return Err(CodecError::NestingOverLimit {
                limit: self.limits.depth,
            });
        }
        self.depth += 1;
        Ok(())
    }

    pub fn ascend(&mut self) {
        self.depth -= 1;
    }

    /// Read one value, or the start of a map or list.
    ///
    /// A returned length is never larger than the remaining bytes allow.
    pub fn token(&mut self) -> Result<Token<'a>, CodecError> {
        self.count_value()?;
        let start = self.at;
        let marker = self.byte()?;
        let leaf = match marker {
            0x00..=0x7f => Leaf::Unsigned(u64::from(marker)),
            0x80..=0x8f => return self.map(usize::from(marker & 0x0f)),
            0x90..=0x9f => return self.list(usize::from(marker & 0x0f)),
            0xa0..=0xbf => self.text(start, usize::from(marker & 0x1f))?,
            0xc0 => Leaf::Nil,
            0xc1 => return Err(CodecError::ReservedByte { at: start }),
            0xc2 => Leaf::Bool(false),
            0xc3 => Leaf::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(1 << (marker - 0xc4))?;
                Leaf::Bytes(self.take(length)?)
            }
            0xc7..=0xc9 => {
                self.length(1 << (marker - 0xc7))?;
                return Err(self.extension(start));
            }
            0xca => Leaf::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Leaf::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Leaf::Unsigned(u64::from(self.byte()?)),
            0xcd => Leaf::Unsigned(u64::from(u16::from_be_bytes(self.array()?))),
            0xce => Leaf::Unsigned(u64::from(u32::from_be_bytes(self.array()?))),
            0xcf => Leaf::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => signed(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => signed(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => signed(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => signed(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => return Err(self.extension(start)),
            0xd9..=0xdb => {
                let length = self.length(1 << (marker - 0xd9))?;
                self.text(start, length)?
            }
            0xdc | 0xdd => {
                let length = self.length(2 << (marker - 0xdc))?;
                return self.list(length);
            }
            0xde | 0xdf => {
                let length = self.length(2 << (marker - 0xde))?;
                return self.map(length);
            }
            0xe0..=0xff => signed(i64::from(marker as i8)),
        };
        Ok(Token::Leaf(leaf))
    }

    /// Read a map's key: text or bytes, as openpi's decoder requires.
    pub fn key(&mut self) -> Result<Key<'a>, CodecError> {
        let at = self.at;
        let got = match self.token()? {
            Token::Leaf(Leaf::Text(text)) => return Ok(Key::Text(text)),
            Token::Leaf(Leaf::Bytes(bytes)) => return Ok(Key::Bytes(bytes)),
            Token::Leaf(Leaf::Nil) => "nil",
            Token::Leaf(Leaf::Bool(_)) => "a bool",
            Token::Leaf(Leaf::Unsigned(_) | Leaf::Negative(_)) => "an integer",
            Token::Leaf(Leaf::Float(_)) => "a float",
            Token::List(_) => "a list",
            Token::Map(_) => "a map",
        };
        Err(CodecError::NonStringKey { at, got })
    }

    /// Skip one value and everything in it.
    pub fn skip(&mut self) -> Result<(), CodecError> {
        let mut pending: u64 = 1;
        while pending > 0 {
            pending -= 1;
            pending += match self.token()? {
                Token::Leaf(_) => 0,
                Token::List(length) => length as u64,
                Token::Map(length) => 2 * length as u64,
            };
        }
        Ok(())
    }

    /// Fails unless the message ends here.
    pub fn finish(self) -> Result<(), CodecError> {
        match self.left() {
            0 => Ok(()),
            count => Err(CodecError::TrailingBytes { at: self.at, count }),
        }
    }

    fn left(&self) -> usize {
        self.message.len() - self.at
    }

    fn count_value(&mut self) -> Result<(), CodecError> {
        self.values += 1;
        if self.values > self.limits.values {
            return Err(CodecError::LengthOverLimit {
                what: "values",
                length: self.values as u64,
                limit: self.limits.values as u64,
            });
        }
        Ok(())
    }

    fn list(&mut self, length: usize) -> Result<Token<'a>, CodecError> {
        self.container(length, 1)?;
        Ok(Token::List(length))
    }

    fn map(&mut self, length: usize) -> Result<Token<'a>, CodecError> {
        self.container(length, 2)?;
        Ok(Token::Map(length))
    }

    fn container(&mut self, length: usize, bytes_each: u64) -> Result<(), CodecError> {
        let needed = length as u64 * bytes_each;
        if needed > self.left() as u64 {
            return Err(self.truncated(needed));
        }
        self.containers += 1;
        if self.containers > self.limits.containers {
            return Err(CodecError::LengthOverLimit {
                what: "maps, lists and arrays",
                length: self.containers as u64,
                limit: self.limits.containers as u64,
            });
        }
        let values = self.values as u64 + needed;
        if values > self.limits.values as u64 {
            return Err(CodecError::LengthOverLimit {
                what: "values",
                length: values,
                limit: self.limits.values as u64,
            });
        }
        Ok(())
    }

    fn text(&mut self, start: usize, length: usize) -> Result<Leaf<'a>, CodecError> {
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(Leaf::Text(text)),
            Err(_) => Err(CodecError::InvalidUtf8 { at: start }),
        }
    }

    fn extension(&mut self, start: usize) -> CodecError {
        match self.byte() {
            Ok(kind) => CodecError::UnsupportedExtension {
                at: start,
                kind: kind as i8,
            },
            Err(error) => error,
        }
    }

    /// A big-endian length of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize, CodecError> {
        let bytes = self.take(width)?;
        Ok(bytes
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        match self.message[self.at..].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.truncated(N as u64)),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        match self.message[self.at..].get(..length) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => Err(self.truncated(length as u64)),
        }
    }

    fn truncated(&self, needed: u64) -> CodecError {
        CodecError::Truncated {
            at: self.at,
            needed,
            left: self.left(),
        }
    }
}

fn signed(value: i64) -> Leaf<'static> {
    match u64::try_from(value) {
        Ok(value) => Leaf::Unsigned(value),
        Err(_) => Leaf::Negative(value),
    }
}

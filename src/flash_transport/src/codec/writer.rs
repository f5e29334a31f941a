//! Writes msgpack in the shortest form of each value, as msgpack-python does.

use super::array::{DATA_KEY, DTYPE_KEY, NDARRAY_KEY, NPGENERIC_KEY, SHAPE_KEY};
use super::error::CodecError;
use super::reader::Key;

#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Append to what `out` holds.
    pub fn new(out: Vec<u8>) -> Self {
        Self { out }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub fn nil(&mut self) {
        self.out.push(0xc0);
    }

    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { 0xc3 } else { 0xc2 });
    }

    pub fn unsigned(&mut self, value: u64) {
        match value {
            0..=0x7f => self.out.push(value as u8),
            0x80..=0xff => self.marked(0xcc, &(value as u8).to_be_bytes()),
            0x100..=0xffff => self.marked(0xcd, &(value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.marked(0xce, &(value as u32).to_be_bytes()),
            _ => self.marked(0xcf, &value.to_be_bytes()),
        }
    }

    pub fn signed(&mut self, value: i64) {
        match value {
            0.. => self.unsigned(value as u64),
            -0x20..=-1 => self.out.push(value as u8),
            -0x80..=-0x21 => self.marked(0xd0, &(value as i8).to_be_bytes()),
            -0x8000..=-0x81 => self.marked(0xd1, &(value as i16).to_be_bytes()),
            -0x8000_0000..=-0x8001 => self.marked(0xd2, &(value as i32).to_be_bytes()),
            _ => self.marked(0xd3, &value.to_be_bytes()),
        }
    }

    pub fn float(&mut self, value: f64) {
        self.marked(0xcb, &value.to_be_bytes());
    }

    pub fn text(&mut self, value: &str) -> Result<(), CodecError> {
        let length = length32("bytes in one text", value.len())?;
        match length {
            0..=0x1f => self.out.push(0xa0 | length as u8),
            0x20..=0xff => self.marked(0xd9, &(length as u8).to_be_bytes()),
            0x100..=0xffff => self.marked(0xda, &(length as u16).to_be_bytes()),
            _ => self.marked(0xdb, &length.to_be_bytes()),
        }
        self.raw(value.as_bytes());
        Ok(())
    }

    pub fn bytes(&mut self, value: &[u8]) -> Result<(), CodecError> {
        self.bytes_header(value.len())?;
        self.raw(value);
        Ok(())
    }

    /// Write the header of `length` bytes, which the caller writes next.
    pub fn bytes_header(&mut self, length: usize) -> Result<(), CodecError> {
        let length = length32("bytes in one value", length)?;
        match length {
            0..=0xff => self.marked(0xc4, &(length as u8).to_be_bytes()),
            0x100..=0xffff => self.marked(0xc5, &(length as u16).to_be_bytes()),
            _ => self.marked(0xc6, &length.to_be_bytes()),
        }
        Ok(())
    }

    /// Write the header of a list of `length` values.
    pub fn list_header(&mut self, length: usize) -> Result<(), CodecError> {
        self.container_header("values in one list", 0x90, 0xdc, length)
    }

    /// Write the header of a map of `length` pairs of key and value.
    pub fn map_header(&mut self, length: usize) -> Result<(), CodecError> {
        self.container_header("entries in one map", 0x80, 0xde, length)
    }

    pub fn key(&mut self, key: Key<'_>) -> Result<(), CodecError> {
        match key {
            Key::Text(text) => self.text(text),
            Key::Bytes(bytes) => self.bytes(bytes),
        }
    }

    /// Start an array; its `length` bytes of data and [`Writer::array_tail`] must follow.
    pub fn array_head(&mut self, length: usize) -> Result<(), CodecError> {
        self.map_header(4)?;
        self.bytes(NDARRAY_KEY)?;
        self.bool(true);
        self.bytes(DATA_KEY)?;
        self.bytes_header(length)
    }

    pub fn array_tail(&mut self, dtype: &str, shape: &[usize]) -> Result<(), CodecError> {
        self.bytes(DTYPE_KEY)?;
        self.text(dtype)?;
        self.bytes(SHAPE_KEY)?;
        self.list_header(shape.len())?;
        shape.iter().for_each(|dim| self.unsigned(*dim as u64));
        Ok(())
    }

    /// Start a numpy scalar; its value and [`Writer::scalar_tail`] must follow.
    pub fn scalar_head(&mut self) -> Result<(), CodecError> {
        self.map_header(3)?;
        self.bytes(NPGENERIC_KEY)?;
        self.bool(true);
        self.bytes(DATA_KEY)
    }

    pub fn scalar_tail(&mut self, dtype: &str) -> Result<(), CodecError> {
        self.bytes(DTYPE_KEY)?;
        self.text(dtype)
    }

    /// Append bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn container_header(
        &mut self,
        what: &'static str,
        short: u8,
        long: u8,
        length: usize,
    ) -> Result<(), CodecError> {
        let length = length32(what, length)?;
        match length {
            0..=0x0f => self.out.push(short | length as u8),
            0x10..=0xffff => self.marked(long, &(length as u16).to_be_bytes()),
            _ => self.marked(long + 1, &length.to_be_bytes()),
        }
        Ok(())
    }

    fn marked(&mut self, marker: u8, bytes: &[u8]) {
        self.out.push(marker);
        self.raw(bytes);
    }
}

fn length32(what: &'static str, length: usize) -> Result<u32, CodecError> {
    u32::try_from(length).map_err(|_| CodecError::LengthOverLimit {
        what,
        length: length as u64,
        limit: u64::from(u32::MAX),
    })
}

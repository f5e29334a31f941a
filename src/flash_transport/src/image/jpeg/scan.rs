//! Quantised coefficients to symbols (T.81, F.1), and symbols to bits.

use std::cell::Cell;

use super::arithmetic::{Pair, ZIGZAG};
use super::huffman::HuffmanTable;
use crate::image::shape::ImageShape;

/// All symbols of an image in order, and the number of each.
pub(super) struct Tokens {
    /// Upper half: table and symbol; lower half: the bits that follow the symbol. Longer than
    /// `count`.
    tokens: Vec<u32>,
    count: usize,
    /// By the upper half of a token.
    occurrences: [u32; KINDS],
    /// DC coefficients of the previous blocks, by component.
    means: [i16; 3],
}

impl Tokens {
    pub fn for_image(image: ImageShape) -> Self {
        let mut tokens = SPARE.take();
        // as many as a photograph needs at quality 95
        tokens.resize(image.height * image.width + ROOM, 0);
        Self {
            tokens,
            count: 0,
            occurrences: [0; KINDS],
            means: [0; 3],
        }
    }

    /// Add the next block of a component: the left (0) or right (1) one of the pair.
    #[inline(always)]
    pub fn push(&mut self, component: usize, pair: &Pair, side: usize) {
        let Some(places) = self.tokens[self.count..].first_chunk_mut::<ROOM>() else {
            return self.push_with_more_room(component, pair, side);
        };
        let occurrences = &mut self.occurrences;
        let mut count = 0;
        let mut add = |token: u32| {
            occurrences[(token >> 16) as usize % KINDS] += 1;
            places[count % ROOM] = token;
            count += 1;
        };
        let table = (component.min(1) as u32 * 2) << 24;
        let mean = pair.levels[side * 8];
        add(table | level_token(mean - self.means[component]));
        self.means[component] = mean;
        let table = table + (1 << 24);
        let mut left = pair.places[side] & !1;
        let mut before = 0;
        while left != 0 {
            let place = left.trailing_zeros();
            left &= left - 1;
            let mut zeros = place - before - 1;
            before = place;
            while zeros > 15 {
                add(table | SIXTEEN_ZEROS << 16);
                zeros -= 16;
            }
            let at = usize::from(PLACES[place as usize % 64]) + side * 8;
            add((table | zeros << 20) + level_token(pair.levels[at % 128]));
        }
        if before != 63 {
            add(table | END_OF_BLOCK << 16);
        }
        self.count += count;
    }

    #[cold]
    #[inline(never)]
    fn push_with_more_room(&mut self, component: usize, pair: &Pair, side: usize) {
        self.tokens.resize(self.tokens.len() * 2 + ROOM, 0);
        self.push(component, pair, side);
    }

    /// For DC and AC coefficients of luma, then of chroma: optimal tables for these symbols.
    pub fn huffman_tables(&self) -> [HuffmanTable; 4] {
        let tables = self.occurrences.as_chunks().0;
        std::array::from_fn(|table| HuffmanTable::new(&tables[table]))
    }

    pub fn write(&self, tables: &[HuffmanTable; 4], out: &mut Vec<u8>) {
        // by the upper half of a token: the code, shifted to its place before the bits that follow,
        // and above it the number of all bits, at most 16 + 11
        let mut codes = [0; KINDS];
        let mut length = 0;
        for (index, packed) in codes.iter_mut().enumerate() {
            let (code, bits) = tables[index / 256].code(index as u8);
            let size = index as u32 & 15;
            *packed = (bits + size) << CODE_BITS | code << size & CODE_MASK;
            length += (bits + size) as usize * self.occurrences[index] as usize;
        }
        let coded = |token: &u32| {
            let code = codes[(token >> 16) as usize % KINDS];
            (
                u64::from(code & CODE_MASK | token & 0xffff),
                code >> CODE_BITS,
            )
        };
        let mut writer = BitWriter::new(length);
        let (twos, last) = self.tokens[..self.count].as_chunks();
        for [one, other] in twos {
            let ((one, one_length), (other, other_length)) = (coded(one), coded(other));
            writer.put(one << other_length | other, one_length + other_length);
        }
        for token in last {
            let (bits, length) = coded(token);
            writer.put(bits, length);
        }
        stuff(writer.finish(), out);
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if self.tokens.len() <= MOST_TO_SPARE {
            SPARE.set(std::mem::take(&mut self.tokens));
        }
    }
}

thread_local! {
    /// The last image's tokens: filling a new vector with zeros takes a tenth of an image's time.
    static SPARE: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// Tokens of an image of 512x512.
const MOST_TO_SPARE: usize = (512 * 512) + ROOM;

/// Tables times symbols.
const KINDS: usize = 4 * 256;

/// Most tokens of a block.
const ROOM: usize = 64;

/// The longest code and the most bits after it.
const CODE_BITS: u32 = 27;
const CODE_MASK: u32 = (1 << CODE_BITS) - 1;

/// Upper half: the level's number of bits; lower half: those bits, of the level minus one if it is
/// negative (T.81, F.1.2.1).
#[inline(always)]
fn level_token(level: i16) -> u32 {
    LEVELS[level as usize % LEVELS.len()]
}

/// By the last bits of the level, which is at most twice 2^10.
const LEVELS: [u32; 4096] = {
    let mut tokens = [0; 4096];
    let mut level = -2048_i32;
    while level < 2048 {
        let size = u32::BITS - level.unsigned_abs().leading_zeros();
        let bits = (level + (level >> 31)) as u32 & ((1 << size) - 1);
        tokens[level as usize % 4096] = size << 16 | bits;
        level += 1;
    }
    tokens
};

/// `ZIGZAG` for the levels of the left block of a pair.
const PLACES: [u8; 64] = {
    let mut places = ZIGZAG;
    let mut place = 0;
    while place < 64 {
        places[place] = ZIGZAG[place] / 8 * 16 + ZIGZAG[place] % 8;
        place += 1;
    }
    places
};

const SIXTEEN_ZEROS: u32 = 0xf0;
const END_OF_BLOCK: u32 = 0;

/// Writes bits, the most significant first.
struct BitWriter {
    bytes: Vec<u8>,
    written: usize,
    /// Bits that do not fill a byte yet, at the upper end.
    bits: u64,
    count: u32,
}

impl BitWriter {
    fn new(bits: usize) -> Self {
        Self {
            // `put` always writes eight bytes
            bytes: vec![0; bits / 8 + 8],
            written: 0,
            bits: 0,
            count: 0,
        }
    }

    /// At most 56 bits, with no others set: up to seven are left from before, and a shift by 64 is
    /// not possible.
    #[inline(always)]
    fn put(&mut self, bits: u64, count: u32) {
        self.count += count;
        self.bits |= bits << ((64 - self.count) % 64);
        self.bytes[self.written..][..8].copy_from_slice(&self.bits.to_be_bytes());
        self.written += self.count as usize / 8;
        self.bits <<= self.count & !7;
        self.count %= 8;
    }

    /// Fill the last byte with ones.
    fn finish(mut self) -> Vec<u8> {
        let missing = (8 - self.count) % 8;
        self.put((1 << missing) - 1, missing);
        self.bytes.truncate(self.written);
        self.bytes
    }
}

/// Insert a zero byte behind each 0xff (T.81, F.1.2.3).
fn stuff(bytes: Vec<u8>, out: &mut Vec<u8>) {
    out.reserve(bytes.len() + bytes.len() / 64);
    let (chunks, last) = bytes.as_chunks::<32>();
    for chunk in chunks {
        // one comparison for the whole chunk, to be vectorised
        if chunk.iter().fold(false, |any, byte| any | (*byte == 0xff)) {
            stuff_each(chunk, out);
        } else {
            out.extend_from_slice(chunk);
        }
    }
    stuff_each(last, out);
}

fn stuff_each(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0xff {
            out.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_written_in_order_and_the_last_byte_is_filled_with_ones() {
        let mut writer = BitWriter::new(7 + 56 + 3);
        writer.put(0b110_0000, 7);
        writer.put((1 << 55) | 5, 56);
        writer.put(0b010, 3);
        assert_eq!(
            writer.finish(),
            [0b1100_0001, 0, 0, 0, 0, 0, 0, 0b0000_1010, 0b1011_1111]
        );
        let mut writer = BitWriter::new(0);
        writer.put(0, 0);
        assert!(writer.finish().is_empty());
    }

    #[test]
    fn a_byte_of_ones_is_followed_by_one_of_zeros_wherever_it_is() {
        for length in 0..100 {
            for at in 0..length {
                let mut bytes = vec![0xfe; length];
                bytes[at] = 0xff;
                let mut expected = bytes.clone();
                expected.insert(at + 1, 0);
                let mut out = Vec::new();
                stuff(bytes, &mut out);
                assert_eq!(out, expected);
            }
        }
    }
}

//! Quantised frequencies as symbols, and symbols as bits.

use super::huffman::HuffmanTable;
use super::transform::Frequencies;
use crate::image::shape::ImageShape;

/// All symbols of an image in order, and how often each occurs.
pub(super) struct Tokens {
    /// Table and symbol in the upper half, what follows the symbol in the lower.
    tokens: Vec<u32>,
    counts: [[u32; 256]; 4],
    /// Means of the blocks before, by component.
    means: [i16; 3],
}

impl Tokens {
    pub fn for_image(image: ImageShape) -> Self {
        Self {
            // as many as quality 95 needs for a photograph
            tokens: Vec::with_capacity(image.height * image.width),
            counts: [[0; 256]; 4],
            means: [0; 3],
        }
    }

    /// Add the next block of a component.
    #[inline(always)]
    pub fn push(&mut self, component: usize, block: &Frequencies) {
        let table = component.min(1) * 2;
        let mean = block.level(0);
        let (size, bits) = size_and_bits(mean - self.means[component]);
        self.means[component] = mean;
        self.add(table, size, bits);
        // a block has no more than 64 of them, for which there is room before the first
        let length = self.tokens.len();
        self.tokens.resize(length + 64, 0);
        let mut places = self.tokens[length..].iter_mut();
        let table = (table + 1) as u32;
        let counts = &mut self.counts[table as usize & 3];
        let mut add = |symbol: u32, bits: u32| {
            counts[symbol as usize & 255] += 1;
            let place = places.next().expect("room for a block");
            *place = table << 24 | symbol << 16 | bits;
        };
        let mut left = block.places() & !1;
        let mut before = 0;
        while left != 0 {
            let index = left.trailing_zeros();
            left &= left - 1;
            let mut zeros = index - before - 1;
            before = index;
            while zeros > 15 {
                add(SIXTEEN_ZEROS, 0);
                zeros -= 16;
            }
            let (size, bits) = size_and_bits(block.level(index as usize));
            add(zeros << 4 | size, bits);
        }
        if before != 63 {
            add(END_OF_BLOCK, 0);
        }
        let free = places.len();
        self.tokens.truncate(length + 64 - free);
    }

    /// Of brightness and of colour, of means and of the rest, as [`HuffmanTable`]s for exactly these symbols.
    pub fn huffman_tables(&self) -> [HuffmanTable; 4] {
        self.counts.each_ref().map(HuffmanTable::new)
    }

    pub fn write(&self, tables: &[HuffmanTable; 4], out: &mut Vec<u8>) {
        // by the upper half of a token: its code where it belongs before the bits that follow, and above them how many
        // bits that is in all, which is at most 16 and 11
        let mut codes = [0_u32; 4 * 256];
        for (index, packed) in codes.iter_mut().enumerate() {
            let (code, length) = tables[index / 256].code(index as u8);
            let size = index as u32 & 15;
            *packed = (length + size) << CODE_BITS | code << size & ((1 << CODE_BITS) - 1);
        }
        let mut writer = BitWriter::new(out);
        for token in &self.tokens {
            let code = codes[(token >> 16) as usize & 1023];
            let bits = code & ((1 << CODE_BITS) - 1) | token & 0xffff;
            writer.put(bits, code >> CODE_BITS);
        }
        writer.finish();
    }

    #[inline(always)]
    fn add(&mut self, table: usize, symbol: u32, bits: u32) {
        self.counts[table & 3][symbol as usize & 255] += 1;
        self.tokens.push((table as u32) << 24 | symbol << 16 | bits);
    }
}

/// Room for the longest code and the most bits that follow one.
const CODE_BITS: u32 = 27;

/// How many bits a level has, and which; those of a negative one are those of the level less one.
#[inline(always)]
fn size_and_bits(level: i16) -> (u32, u32) {
    let level = i32::from(level);
    let size = u32::BITS - level.unsigned_abs().leading_zeros();
    let bits = (level + (level >> 31)) as u32 & ((1 << size) - 1);
    (size, bits)
}

const SIXTEEN_ZEROS: u32 = 0xf0;
const END_OF_BLOCK: u32 = 0;

/// Writes bits, the first one highest; a byte of ones is followed by a byte of zeros.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    bits: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            bits: 0,
            count: 0,
        }
    }

    /// At most 32 bits, no other ones set.
    #[inline(always)]
    fn put(&mut self, bits: u32, count: u32) {
        self.bits = self.bits << count | u64::from(bits);
        self.count += count;
        if self.count >= 32 {
            self.count -= 32;
            self.put_word((self.bits >> self.count) as u32);
        }
    }

    #[inline(never)]
    fn put_word(&mut self, word: u32) {
        let bytes = word.to_be_bytes();
        // a byte of ones carries when one is added to it
        if word & 0x8080_8080 & !(word.wrapping_add(0x0101_0101)) == 0 {
            self.out.extend_from_slice(&bytes);
        } else {
            bytes.into_iter().for_each(|byte| self.put_byte(byte));
        }
    }

    fn put_byte(&mut self, byte: u8) {
        self.out.push(byte);
        if byte == 0xff {
            self.out.push(0);
        }
    }

    /// Fill the last byte with ones.
    fn finish(mut self) {
        let missing = (8 - self.count % 8) % 8;
        self.bits = self.bits << missing | ((1 << missing) - 1);
        self.count += missing;
        while self.count > 0 {
            self.count -= 8;
            self.put_byte((self.bits >> self.count) as u8);
        }
    }
}

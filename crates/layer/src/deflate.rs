//! A small DEFLATE encoder whose bytes are ours.
//!
//! A layer made from a wheel copies the wheel's own DEFLATE streams; what lies between them (tar headers, padding, the
//! few files that an installer writes) has to be compressed here. Were that left to a library, its next release could
//! change every digest. So this is the one codec of the project's own: LZ77 with a single match candidate and the fixed
//! Huffman codes of RFC 1951. On tar headers, which are mostly zeros, it is within a few bytes of zlib's best.

/// Compresses `input` into one gzip member (RFC 1952) without name or time, and appends it to `out`.
pub(crate) fn gzip_member(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&GZIP_HEADER);
    deflate(input, out);
    out.extend_from_slice(&gzip_trailer(crc32fast::hash(input), input.len() as u64));
}

/// Method DEFLATE, no flags, no time, no hint, system unknown.
pub(crate) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// CRC-32 and the length modulo 2^32.
pub(crate) fn gzip_trailer(crc32: u32, len: u64) -> [u8; 8] {
    let mut trailer = [0; 8];
    let (crc, size) = trailer.split_at_mut(4);
    crc.copy_from_slice(&crc32.to_le_bytes());
    size.copy_from_slice(&(len as u32).to_le_bytes());
    trailer
}

/// The longest stored block.
pub(crate) const STORED_MAX: usize = 0xffff;

/// The header of a stored block of `len` bytes (at most [`STORED_MAX`]), for content that is copied uncompressed.
pub(crate) fn stored_header(len: u16, last: bool) -> [u8; 5] {
    let [low, high] = len.to_le_bytes();
    [last.into(), low, high, !low, !high]
}

const WINDOW: usize = 1 << 15;
const MATCH_MIN: usize = 4;
const MATCH_MAX: usize = 258;
const HASH_BITS: u32 = 13;

fn deflate(input: &[u8], out: &mut Vec<u8>) {
    let mut bits = Bits { out, pending: 0, count: 0 };
    bits.put(0b011, 3); // the last block, fixed codes
    // The position after the latest one with each hash of four bytes; 0 is none.
    let mut latest = vec![0_u32; 1 << HASH_BITS];
    let mut at = 0;
    while at < input.len() {
        let here = &input[at..];
        let mut len = 0;
        let mut distance = 0;
        if let Some(slot) = slot(here) {
            let candidate = latest[slot] as usize;
            if candidate > 0 && at - (candidate - 1) <= WINDOW {
                len = common_prefix(&input[candidate - 1..], here);
                distance = at - (candidate - 1);
            }
            latest[slot] = at as u32 + 1;
        }
        if len < MATCH_MIN {
            bits.literal(here[0]);
            at += 1;
            continue;
        }
        bits.length(len);
        bits.distance(distance);
        // Later matches may start inside this one, but a run of one byte has the same hash throughout.
        for inside in (at + 1..at + len).take(if distance == 1 { 0 } else { MATCH_MAX }) {
            if let Some(slot) = slot(&input[inside..]) {
                latest[slot] = inside as u32 + 1;
            }
        }
        at += len;
    }
    bits.code(256);
    bits.finish();
}

fn slot(bytes: &[u8]) -> Option<usize> {
    let four = u32::from_le_bytes(*bytes.first_chunk()?);
    Some((four.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize)
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take(MATCH_MAX).take_while(|(a, b)| a == b).count()
}

struct Bits<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    count: u32,
}

impl Bits<'_> {
    /// Appends the low `count` bits of `value`, the lowest first.
    fn put(&mut self, value: u32, count: u32) {
        self.pending |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// Huffman codes go in with the highest bit first.
    fn put_code(&mut self, code: u32, len: u32) {
        self.put(code.reverse_bits() >> (32 - len), len);
    }

    /// The fixed literal and length code (RFC 1951, 3.2.6).
    fn code(&mut self, symbol: u32) {
        match symbol {
            0..=143 => self.put_code(0x30 + symbol, 8),
            144..=255 => self.put_code(0x190 + symbol - 144, 9),
            256..=279 => self.put_code(symbol - 256, 7),
            _ => self.put_code(0xc0 + symbol - 280, 8),
        }
    }

    fn literal(&mut self, byte: u8) {
        self.code(byte.into());
    }

    /// A match length of 3 to 258: RFC 1951, 3.2.5.
    fn length(&mut self, len: usize) {
        if len == MATCH_MAX {
            return self.code(285);
        }
        let value = (len - 3) as u32;
        if value < 8 {
            return self.code(257 + value);
        }
        // Symbols come in fours, each four with one extra bit more than the four before.
        let extra = value.ilog2() - 2;
        self.code(257 + 4 * extra + (value >> extra));
        self.put(value & ((1 << extra) - 1), extra);
    }

    /// A distance of 1 to 32,768: RFC 1951, 3.2.5, with five bits for each symbol.
    fn distance(&mut self, distance: usize) {
        let value = (distance - 1) as u32;
        if value < 4 {
            return self.put_code(value, 5);
        }
        let extra = value.ilog2() - 1;
        self.put_code(2 * extra + (value >> extra), 5);
        self.put(value & ((1 << extra) - 1), extra);
    }

    fn finish(self) {
        if self.count > 0 {
            self.out.push(self.pending as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::MultiGzDecoder;
    use proptest::prelude::*;

    use super::*;

    fn check(input: &[u8]) -> usize {
        let mut member = Vec::new();
        gzip_member(input, &mut member);
        let mut back = Vec::new();
        MultiGzDecoder::new(member.as_slice()).read_to_end(&mut back).unwrap();
        assert_eq!(back, input);
        member.len()
    }

    #[test]
    fn every_length_and_distance() {
        check(b"");
        check(b"abc");
        for len in 1..600 {
            check(&vec![0; len]);
        }
        for distance in (1..WINDOW + 2).step_by(311).chain([WINDOW - 1, WINDOW, WINDOW + 1]) {
            let mut input: Vec<u8> = b"0123456789abcdef".to_vec();
            input.extend((0..distance).map(|i| (i * 7 % 251) as u8 ^ (i / 251) as u8));
            input.extend_from_slice(b"0123456789abcdef");
            check(&input);
        }
    }

    #[test]
    fn a_tar_header_shrinks_below_a_third() {
        let mut header = Vec::new();
        let path = crate::TreePath::new("opt/venv/lib/python3.11/site-packages/torch/nn/module.py").unwrap();
        crate::tar::write_header(&mut header, &path, &crate::Entry::bytes(*b"x", false), 0);
        assert!(check(&header) < 512 / 3);
    }

    proptest! {
        #[test]
        fn whatever_goes_in_comes_out(
            words in prop::collection::vec(prop::sample::select(vec!["a", "bc", "\0\0\0\0\0", "def0", "\u{ff}"]), 0..3000),
        ) {
            check(words.concat().as_bytes());
        }
    }
}

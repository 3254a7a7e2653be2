//! SHA-256 of a stream and, at the same time, of a file within it.
//!
//! A layer's tar stream is hashed for the diff ID, and each file in it once more for its RECORD line. File contents
//! start at a multiple of 512 bytes, so both hashes take the very same 64-byte blocks: the message schedule is worked
//! out once and two states go through the rounds side by side. SHA-256 instructions are bound by latency, so the second
//! state costs little.

use imgforge_oci::Digest;
use sha2::block_api::compress256;

const BLOCK: usize = 64;

const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Hashes a stream, and a part of it that starts at a multiple of 64 bytes.
pub(crate) struct PairHasher {
    stream: [u32; 8],
    stream_len: u64,
    part: Option<([u32; 8], u64)>,
    /// The beginning of a block that is not whole yet; `stream_len % 64` bytes of it are valid.
    tail: [u8; BLOCK],
}

impl Default for PairHasher {
    fn default() -> Self {
        Self { stream: START, stream_len: 0, part: None, tail: [0; BLOCK] }
    }
}

impl PairHasher {
    /// Takes the next bytes of the stream.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let filled = (self.stream_len % BLOCK as u64) as usize;
        self.stream_len += bytes.len() as u64;
        if let Some((_, len)) = &mut self.part {
            *len += bytes.len() as u64;
        }
        if filled > 0 {
            let take = bytes.len().min(BLOCK - filled);
            let (now, rest) = bytes.split_at(take);
            self.tail[filled..filled + take].copy_from_slice(now);
            bytes = rest;
            if filled + take < BLOCK {
                return;
            }
            let block = self.tail;
            self.blocks(&[block]);
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        self.blocks(blocks);
        self.tail[..rest.len()].copy_from_slice(rest);
    }

    /// Starts a part at this place of the stream, which must be a multiple of 64 bytes.
    pub(crate) fn begin(&mut self) {
        debug_assert_eq!(self.stream_len % BLOCK as u64, 0, "parts start with a block");
        self.part = Some((START, 0));
    }

    /// Ends the part and returns its digest; `None` when none was begun.
    pub(crate) fn end(&mut self) -> Option<Digest> {
        self.part.take().map(|(state, len)| finish(state, len, &self.tail))
    }

    /// The digest and the length of the stream.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (finish(self.stream, self.stream_len, &self.tail), self.stream_len)
    }

    fn blocks(&mut self, blocks: &[[u8; BLOCK]]) {
        match &mut self.part {
            Some((part, _)) => compress_pair(&mut self.stream, part, blocks),
            None => compress256(&mut self.stream, blocks),
        }
    }
}

/// Pads the last block (FIPS 180-4, 5.1.1): a one bit, zeros, the length in bits.
fn finish(mut state: [u32; 8], len: u64, tail: &[u8; BLOCK]) -> Digest {
    let filled = (len % BLOCK as u64) as usize;
    let mut end = [[0; BLOCK]; 2];
    let blocks = if filled < 56 { 1 } else { 2 };
    end[0][..filled].copy_from_slice(&tail[..filled]);
    end[0][filled] = 0x80;
    end[blocks - 1][56..].copy_from_slice(&(len * 8).to_be_bytes());
    compress256(&mut state, &end[..blocks]);
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    Digest::from_bytes(bytes)
}

fn compress_pair(a: &mut [u32; 8], b: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
    compress256(a, blocks);
    compress256(b, blocks);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes `before`, a part, `after`, in pieces of `step` bytes, and compares with the library.
    fn check(before: usize, part: usize, after: usize, step: usize) {
        let bytes: Vec<u8> = (0..before + part + after).map(|i| (i * 31 % 251) as u8).collect();
        let (head, rest) = bytes.split_at(before);
        let (file, tail) = rest.split_at(part);
        let mut hasher = PairHasher::default();
        head.chunks(step).for_each(|piece| hasher.update(piece));
        hasher.begin();
        file.chunks(step).for_each(|piece| hasher.update(piece));
        assert_eq!(hasher.end(), Some(Digest::of(file)), "{before} {part} {after} {step}");
        tail.chunks(step).for_each(|piece| hasher.update(piece));
        assert_eq!(
            hasher.finish(),
            (Digest::of(&bytes), bytes.len() as u64),
            "{before} {part} {after} {step}"
        );
    }

    #[test]
    fn agrees_with_the_library() {
        for part in [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 5000] {
            for step in [1, 3, 64, 100, 4096] {
                check(0, part, 0, step);
                check(512, part, 7, step);
                check(1024, part, 512, step);
            }
        }
    }
}

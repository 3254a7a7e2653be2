//! SHA-256 of a stream and, at the same time, of a file within it.
//!
//! A layer's tar stream is hashed for the diff ID, and each file in it once more for its RECORD line. File contents
//! start at a multiple of 512 bytes, so both hashes take the very same 64-byte blocks: the message schedule is worked
//! out once and two states go through the rounds side by side. SHA-256 instructions are bound by latency, so the second
//! state costs about half of the first. Where there are no such instructions, the hashes are taken one after the other.

#![allow(unsafe_code)]

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

/// Takes the same blocks into two states.
pub(crate) fn compress_pair(a: &mut [u32; 8], b: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") {
        // SAFETY: the processor has the instructions that `compress` is compiled for; SSSE3 is a part of SSE4.1.
        return unsafe { x86::compress(a, b, blocks) };
    }
    compress256(a, blocks);
    compress256(b, blocks);
}

/// The SHA extensions of x86-64 (Intel's manual, volume 2, `SHA256RNDS2`).
///
/// The instruction takes two rounds in four to six cycles, but a new one may start every two: the two states' rounds,
/// which don't depend on each other, fill the gaps.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_loadu_si128, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32, _mm_storeu_si128, _mm_unpackhi_epi64, _mm_unpacklo_epi64,
    };

    use super::BLOCK;

    /// The round constants (FIPS 180-4, 4.2.2): four rounds to a row, sixteen to a block of rows.
    const ROUNDS: [[[u32; 4]; 4]; 4] = [
        [
            [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
            [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
            [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
            [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        ],
        [
            [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
            [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
            [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
            [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        ],
        [
            [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
            [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
            [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
            [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        ],
        [
            [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
            [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
            [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
            [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
        ],
    ];

    #[target_feature(enable = "sha,sse4.1")]
    pub(super) fn compress(a: &mut [u32; 8], b: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
        let mut first = State::load(a);
        let mut second = State::load(b);
        for block in blocks {
            let before = (first, second);
            // Named, not indexed: an array that is indexed by a variable lies in memory instead of in registers.
            let [mut w0, mut w1, mut w2, mut w3] = load_words(block);
            let [start, later @ ..] = &ROUNDS;
            rounds(&mut first, &mut second, w0, start[0]);
            rounds(&mut first, &mut second, w1, start[1]);
            rounds(&mut first, &mut second, w2, start[2]);
            rounds(&mut first, &mut second, w3, start[3]);
            for row in later {
                w0 = next_words(w0, w1, w2, w3);
                rounds(&mut first, &mut second, w0, row[0]);
                w1 = next_words(w1, w2, w3, w0);
                rounds(&mut first, &mut second, w1, row[1]);
                w2 = next_words(w2, w3, w0, w1);
                rounds(&mut first, &mut second, w2, row[2]);
                w3 = next_words(w3, w0, w1, w2);
                rounds(&mut first, &mut second, w3, row[3]);
            }
            first.add(before.0);
            second.add(before.1);
        }
        first.store(a);
        second.store(b);
    }

    /// The eight working variables as the instructions want them, the first named in the highest lane.
    #[derive(Clone, Copy)]
    struct State {
        abef: __m128i,
        cdgh: __m128i,
    }

    impl State {
        #[inline]
        #[target_feature(enable = "sse4.1")]
        fn load(state: &[u32; 8]) -> Self {
            let from: *const __m128i = state.as_ptr().cast();
            // SAFETY: eight words are two times sixteen bytes, and these loads need no alignment.
            let (dcba, hgfe) = unsafe { (_mm_loadu_si128(from), _mm_loadu_si128(from.add(1))) };
            let abcd = _mm_shuffle_epi32::<0b00_01_10_11>(dcba);
            let efgh = _mm_shuffle_epi32::<0b00_01_10_11>(hgfe);
            Self { abef: _mm_unpackhi_epi64(efgh, abcd), cdgh: _mm_unpacklo_epi64(efgh, abcd) }
        }

        #[inline]
        #[target_feature(enable = "sse4.1")]
        fn store(self, state: &mut [u32; 8]) {
            let abcd = _mm_unpackhi_epi64(self.cdgh, self.abef);
            let efgh = _mm_unpacklo_epi64(self.cdgh, self.abef);
            let to: *mut __m128i = state.as_mut_ptr().cast();
            // SAFETY: eight words are two times sixteen bytes, and these stores need no alignment.
            unsafe {
                _mm_storeu_si128(to, _mm_shuffle_epi32::<0b00_01_10_11>(abcd));
                _mm_storeu_si128(to.add(1), _mm_shuffle_epi32::<0b00_01_10_11>(efgh));
            }
        }

        #[inline]
        #[target_feature(enable = "sse4.1")]
        fn add(&mut self, before: Self) {
            self.abef = _mm_add_epi32(self.abef, before.abef);
            self.cdgh = _mm_add_epi32(self.cdgh, before.cdgh);
        }
    }

    /// A block's sixteen big-endian words.
    #[inline]
    #[target_feature(enable = "sse4.1")]
    fn load_words(block: &[u8; BLOCK]) -> [__m128i; 4] {
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let from: *const __m128i = block.as_ptr().cast();
        // SAFETY: a block is four times sixteen bytes, and these loads need no alignment.
        let words = unsafe {
            [
                _mm_loadu_si128(from),
                _mm_loadu_si128(from.add(1)),
                _mm_loadu_si128(from.add(2)),
                _mm_loadu_si128(from.add(3)),
            ]
        };
        [
            _mm_shuffle_epi8(words[0], swap),
            _mm_shuffle_epi8(words[1], swap),
            _mm_shuffle_epi8(words[2], swap),
            _mm_shuffle_epi8(words[3], swap),
        ]
    }

    /// The message schedule's next four words, of the sixteen before them, the oldest first.
    #[inline]
    #[target_feature(enable = "sha,sse4.1")]
    fn next_words(w0: __m128i, w1: __m128i, w2: __m128i, w3: __m128i) -> __m128i {
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8::<4>(w3, w2));
        _mm_sha256msg2_epu32(sum, w3)
    }

    /// Four rounds of both states.
    #[inline]
    #[target_feature(enable = "sha,sse4.1")]
    fn rounds(a: &mut State, b: &mut State, words: __m128i, constants: [u32; 4]) {
        let [k0, k1, k2, k3] = constants.map(|k| k as i32);
        let words = _mm_add_epi32(words, _mm_set_epi32(k3, k2, k1, k0));
        let later = _mm_shuffle_epi32::<0b00_00_11_10>(words);
        // Two rounds turn ABEF into the next CDGH, and CDGH into the next ABEF: the names change places.
        a.cdgh = _mm_sha256rnds2_epu32(a.cdgh, a.abef, words);
        b.cdgh = _mm_sha256rnds2_epu32(b.cdgh, b.abef, words);
        a.abef = _mm_sha256rnds2_epu32(a.abef, a.cdgh, later);
        b.abef = _mm_sha256rnds2_epu32(b.abef, b.cdgh, later);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn a_pair_is_two_single_hashes(
            a in any::<[u32; 8]>(),
            b in any::<[u32; 8]>(),
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            // The blocks of a piece need not be aligned in memory.
            skip in 0_usize..16,
        ) {
            let (blocks, _) = bytes.get(skip..).unwrap_or_default().as_chunks();
            let (mut paired, mut single) = ([a, b], [a, b]);
            let [first, second] = &mut paired;
            compress_pair(first, second, blocks);
            single.iter_mut().for_each(|state| compress256(state, blocks));
            prop_assert_eq!(paired, single);
        }
    }
}

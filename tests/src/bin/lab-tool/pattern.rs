//! Bytes that both ends can compute: what arrives is compared byte for byte.

use std::io::{Read, Write};

use anyhow::{Context as _, ensure};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// How much is written or compared at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// An endless stream of bytes that depends on its seed alone (splitmix64).
pub(crate) struct Pattern(u64);

impl Pattern {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Fills `out`. Calls with lengths that are multiples of eight continue one stream.
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for word in out.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            word.copy_from_slice(&mixed.to_le_bytes()[..word.len()]);
        }
    }
}

/// Writes `length` bytes of the pattern and returns their SHA-256 in hex.
pub(crate) fn send(out: &mut impl Write, seed: u64, length: u64) -> anyhow::Result<String> {
    let mut pattern = Pattern::new(seed);
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = length;
    while left > 0 {
        let now = left.min(CHUNK_BYTES as u64) as usize;
        pattern.fill(&mut chunk[..now]);
        digest.update(&chunk[..now]);
        out.write_all(&chunk[..now])
            .with_context(|| format!("{} of {length} bytes were sent", length - left))?;
        left -= now as u64;
    }
    out.flush()?;
    Ok(HEXLOWER.encode(&digest.finalize()))
}

/// Reads `length` bytes, compares each with the pattern, and returns their SHA-256 in hex.
pub(crate) fn receive(from: &mut impl Read, seed: u64, length: u64) -> anyhow::Result<String> {
    let mut pattern = Pattern::new(seed);
    let mut digest = Sha256::new();
    let (mut expected, mut chunk) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut left = length;
    while left > 0 {
        let now = left.min(CHUNK_BYTES as u64) as usize;
        let start = length - left;
        from.read_exact(&mut chunk[..now])
            .with_context(|| format!("after {start} of {length} bytes"))?;
        pattern.fill(&mut expected[..now]);
        let wrong = expected[..now]
            .iter()
            .zip(&chunk[..now])
            .position(|(a, b)| a != b);
        ensure!(
            wrong.is_none(),
            "byte {} is wrong",
            start + wrong.unwrap_or(0) as u64
        );
        digest.update(&chunk[..now]);
        left -= now as u64;
    }
    Ok(HEXLOWER.encode(&digest.finalize()))
}

//! HMAC-SHA1 from kept key states.
//!
//! The generic HMAC copies two block buffers per message and, if it is to leave nothing behind, erases them
//! byte by byte; that costs as much as a third of the hashing of a short message. Here a key is ten words,
//! and a message of a few hundred bytes is hashed where it lies. The hashing itself is that of the `sha1`
//! crate.

use sha1::block_api::compress;
use zeroize::{Zeroize, ZeroizeOnDrop};

const BLOCK_LEN: usize = 64;
/// FIPS 180-4, section 5.3.1.
const INITIAL: State = [
    0x6745_2301,
    0xEFCD_AB89,
    0x98BA_DCFE,
    0x1032_5476,
    0xC3D2_E1F0,
];
/// RFC 2104, section 2.
const IPAD: u8 = 0x36;
/// RFC 2104, section 2.
const OPAD: u8 = 0x5C;

type State = [u32; 5];
type Block = [u8; BLOCK_LEN];

/// The states of SHA-1 after the padded key, for the inner and the outer hash.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct HmacSha1 {
    inner: State,
    outer: State,
}

impl HmacSha1 {
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK_LEN];
        if key.len() <= BLOCK_LEN {
            block[..key.len()].copy_from_slice(key);
        } else {
            let mut hash = hash(INITIAL, 0, key, &[]);
            block[..hash.len()].copy_from_slice(&hash);
            hash.zeroize();
        }
        let state_after = |pad: u8, mut block: Block| {
            block.iter_mut().for_each(|byte| *byte ^= pad);
            let mut state = INITIAL;
            compress(&mut state, &[block]);
            block.zeroize();
            state
        };
        let key = Self {
            inner: state_after(IPAD, block),
            outer: state_after(OPAD, block),
        };
        block.zeroize();
        key
    }

    /// Returns the HMAC over two pieces.
    #[inline]
    pub(crate) fn sign(&self, head: &[u8], rest: &[u8]) -> [u8; 20] {
        let inner = hash(self.inner, BLOCK_LEN, head, rest);
        hash(self.outer, BLOCK_LEN, &inner, &[])
    }
}

/// Goes on hashing from `state`, which has taken `before` bytes, and ends.
#[inline]
fn hash(mut state: State, before: usize, head: &[u8], rest: &[u8]) -> [u8; 20] {
    let bits = (before + head.len() + rest.len()) as u64 * 8;

    let mut tail = take_whole_blocks(&mut state, head);
    let mut block: Block = [0; BLOCK_LEN];
    block[..tail.len()].copy_from_slice(tail);
    let mut filled = tail.len();
    if !rest.is_empty() {
        // What is left of the head is completed to a block from the rest; the rest then goes on by itself.
        let (first, others) = rest.split_at(rest.len().min(BLOCK_LEN - filled));
        block[filled..filled + first.len()].copy_from_slice(first);
        filled += first.len();
        if filled == BLOCK_LEN {
            compress(&mut state, &[block]);
            tail = take_whole_blocks(&mut state, others);
            block[..tail.len()].copy_from_slice(tail);
            filled = tail.len();
        }
    }

    // FIPS 180-4, section 5.1.1: a one bit, zeros, and the length in bits in the last eight bytes.
    block[filled] = 0x80;
    block[filled + 1..].fill(0);
    if filled >= BLOCK_LEN - 8 {
        compress(&mut state, &[block]);
        block.fill(0);
    }
    block[BLOCK_LEN - 8..].copy_from_slice(&bits.to_be_bytes());
    compress(&mut state, &[block]);

    let mut out = [0; 20];
    let (words, _) = out.as_chunks_mut::<4>();
    words
        .iter_mut()
        .zip(state)
        .for_each(|(word, value)| *word = value.to_be_bytes());
    out
}

#[inline]
fn take_whole_blocks<'a>(state: &mut State, bytes: &'a [u8]) -> &'a [u8] {
    let (blocks, tail) = bytes.as_chunks::<BLOCK_LEN>();
    if !blocks.is_empty() {
        compress(state, blocks);
    }
    tail
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use sha1::Sha1;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn it_agrees_with_the_generic_hmac(
            key in vec(any::<u8>(), 0..140),
            head in vec(any::<u8>(), 0..140),
            rest in vec(any::<u8>(), 0..300),
        ) {
            let mut expected = Hmac::<Sha1>::new_from_slice(&key).unwrap();
            expected.update(&head);
            expected.update(&rest);
            let expected: [u8; 20] = expected.finalize().into_bytes().into();
            prop_assert_eq!(HmacSha1::new(&key).sign(&head, &rest), expected);
        }
    }

    #[test]
    fn every_length_around_a_block_agrees_with_the_generic_hmac() {
        let bytes = [0xA5; 200];
        let key = HmacSha1::new(b"key");
        for head in [0, 1, 20, 63, 64, 65] {
            for rest in 0..130 {
                let mut expected = Hmac::<Sha1>::new_from_slice(b"key").unwrap();
                expected.update(&bytes[..head]);
                expected.update(&bytes[..rest]);
                let expected: [u8; 20] = expected.finalize().into_bytes().into();
                assert_eq!(
                    key.sign(&bytes[..head], &bytes[..rest]),
                    expected,
                    "{head}, {rest}"
                );
            }
        }
    }
}

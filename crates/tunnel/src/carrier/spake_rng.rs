//! Randomness for the SPAKE2 crate.

use rand::rngs::StdRng;

/// Our generator in the shape of the older `rand_core` that the SPAKE2 crate speaks.
pub(super) struct SpakeRng<'a>(pub(super) &'a mut StdRng);

impl rand_core_06::RngCore for SpakeRng<'_> {
    fn next_u32(&mut self) -> u32 {
        rand::Rng::next_u32(self.0)
    }

    fn next_u64(&mut self) -> u64 {
        rand::Rng::next_u64(self.0)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        rand::Rng::fill_bytes(self.0, dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core_06::Error> {
        rand::Rng::fill_bytes(self.0, dest);
        Ok(())
    }
}

impl rand_core_06::CryptoRng for SpakeRng<'_> {}

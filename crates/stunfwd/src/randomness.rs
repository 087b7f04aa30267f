//! Randomness for machines that have none of their own.

use rand::Rng;

/// Draws a seed from the system.
pub(crate) fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    seed
}

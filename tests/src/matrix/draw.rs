//! Which pairs a run takes when it does not take all.

use std::{env, process::Command};

use sha2::{Digest as _, Sha256};

use super::scenario::{KINDS, Scenario};

/// Names the seed to repeat a run with.
pub const SEED: &str = "STUNFWD_MATRIX_SEED";

/// How many kinds there are.
const COUNT: usize = KINDS.len();

/// The pairs of a seed, in rounds of as many as there are kinds: each round has every kind on both sides once, no pair comes
/// twice, and all rounds are the whole matrix.
pub fn rounds(seed: u64) -> Vec<[Scenario; COUNT]> {
    let columns = shuffled(seed, "columns");
    shuffled(seed, "rounds")
        .into_iter()
        .map(|shift| {
            std::array::from_fn(|row| {
                let column = columns[(row + shift) % COUNT];
                Scenario::pair(KINDS[row], KINDS[column])
            })
        })
        .collect()
}

/// The first `count` pairs of a seed.
pub fn pairs(seed: u64, count: usize) -> Vec<Scenario> {
    rounds(seed).concat().into_iter().take(count).collect()
}

/// The numbers below [`COUNT`] in an order that the seed decides.
fn shuffled(seed: u64, what: &str) -> [usize; COUNT] {
    let mut numbers: [usize; COUNT] = std::array::from_fn(|number| number);
    numbers.sort_by_key(|number| Sha256::digest(format!("{seed} {what} {number}")).to_vec());
    numbers
}

/// The seed of this run: the one that is asked for by [`SEED`], else one that every commit and every day has of its own.
///
/// # Panics
/// When [`SEED`] is not a number.
pub fn seed() -> u64 {
    if let Ok(text) = env::var(SEED) {
        return text
            .parse()
            .unwrap_or_else(|error| panic!("{SEED}={text}: {error}"));
    }
    let commit = said_by("git", &["rev-parse", "HEAD"]);
    let day = said_by("date", &["-u", "+%F"]);
    let digest = Sha256::digest(format!("{commit} {day}"));
    // Short enough to be typed.
    u64::from(u16::from_be_bytes([digest[0], digest[1]]))
}

/// What a program prints, without the line's end; nothing when it cannot be run.
pub(super) fn said_by(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::matrix::scenario::home_text;

    #[test]
    fn each_round_has_every_kind_on_both_sides_and_all_rounds_are_the_matrix() {
        for seed in 0..50 {
            for round in rounds(seed) {
                let ends = |end: fn(&Scenario) -> String| round.iter().map(end).collect();
                let clients: BTreeSet<String> = ends(|pair| home_text(&pair.client));
                let servers: BTreeSet<String> = ends(|pair| home_text(&pair.server));
                assert_eq!((clients.len(), servers.len()), (COUNT, COUNT));
            }
            let all = pairs(seed, COUNT * COUNT);
            let all: BTreeSet<String> = all.iter().map(Scenario::to_string).collect();
            assert_eq!(all.len(), COUNT * COUNT);
        }
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let drawn = |seed| pairs(seed, 16).iter().map(Scenario::to_string).collect();
        let draws: BTreeSet<Vec<String>> = (0..50).map(drawn).collect();
        assert_eq!(draws.len(), 50);
        assert!(draws.contains(&drawn(7)));
    }
}

//! Which port an allocation gets.

use std::ops::RangeInclusive;

use rand::{RngExt, rngs::StdRng};

/// Random draws before the range is searched from end to end.
const DRAWS: u32 = 16;

/// Draws a free port, an even one if asked for; `None` when there is none.
///
/// Random (RFC 8656, section 7.2), so that a port that was just given back is rarely the next one given.
pub(super) fn draw(
    range: &RangeInclusive<u16>,
    even: bool,
    rng: &mut StdRng,
    is_free: impl Fn(u16) -> bool,
) -> Option<u16> {
    let fits = |port: &u16| *port != 0 && (!even || port.is_multiple_of(2)) && is_free(*port);
    if range.is_empty() {
        return None;
    }
    for _ in 0..DRAWS {
        let port = rng.random_range(range.clone());
        if fits(&port) {
            return Some(port);
        }
    }
    let start = rng.random_range(range.clone());
    (start..=*range.end())
        .chain(*range.start()..start)
        .find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_last_free_port_is_found() {
        let mut rng = StdRng::from_seed([3; 32]);
        assert_eq!(
            draw(&(40000..=50000), false, &mut rng, |port| port == 44_444),
            Some(44_444)
        );
        assert_eq!(
            draw(&(40000..=50000), true, &mut rng, |port| port == 44_445),
            None
        );
        assert_eq!(draw(&(40000..=50000), false, &mut rng, |_| false), None);
    }

    #[test]
    fn an_even_port_is_even() {
        let mut rng = StdRng::from_seed([4; 32]);
        for _ in 0..100 {
            let port = draw(&(40000..=40009), true, &mut rng, |_| true).unwrap();
            assert!(port.is_multiple_of(2));
        }
    }
}

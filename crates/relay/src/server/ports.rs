//! Which port an allocation gets.

use std::ops::RangeInclusive;

use rand::{RngExt, rngs::StdRng};

/// Random draws before the range is searched from end to end.
const DRAWS: u32 = 16;

/// What kind of port is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parity {
    /// Any will do.
    Any,
    /// An even one (EVEN-PORT).
    Even,
    /// An even one whose upper neighbour is free too (EVEN-PORT with the R bit).
    EvenWithNeighbor,
}

/// Draws a free port of that kind; `None` when there is none.
///
/// Random (RFC 8656, section 7.2), so that a port that was just given back is rarely the next one given.
pub(super) fn draw(
    range: &RangeInclusive<u16>,
    parity: Parity,
    rng: &mut StdRng,
    is_free: impl Fn(u16) -> bool,
) -> Option<u16> {
    let fits = |port: &u16| {
        let of_kind = match parity {
            Parity::Any => true,
            Parity::Even => port.is_multiple_of(2),
            // An even port has an upper neighbour: the highest port of all is odd.
            Parity::EvenWithNeighbor => {
                port.is_multiple_of(2) && range.contains(&(port + 1)) && is_free(port + 1)
            }
        };
        *port != 0 && of_kind && is_free(*port)
    };
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
            draw(&(40000..=50000), Parity::Any, &mut rng, |port| port
                == 44_444),
            Some(44_444)
        );
        assert_eq!(
            draw(&(40000..=50000), Parity::Even, &mut rng, |port| port
                == 44_445),
            None
        );
        assert_eq!(
            draw(&(40000..=50000), Parity::Any, &mut rng, |_| false),
            None
        );
    }

    #[test]
    fn an_even_port_is_even() {
        let mut rng = StdRng::from_seed([4; 32]);
        for _ in 0..100 {
            let port = draw(&(40000..=40009), Parity::Even, &mut rng, |_| true).unwrap();
            assert!(port.is_multiple_of(2));
        }
    }

    #[test]
    fn a_pair_is_two_free_ports_of_the_range() {
        let mut rng = StdRng::from_seed([5; 32]);
        let pair = Parity::EvenWithNeighbor;
        for _ in 0..100 {
            let taken = [40003, 40004];
            let port = draw(&(40001..=40008), pair, &mut rng, |port| {
                !taken.contains(&port)
            });
            assert_eq!(port, Some(40006));
        }
        assert_eq!(draw(&(40000..=40000), pair, &mut rng, |_| true), None);
        let highest = draw(&(65534..=65535), pair, &mut rng, |_| true);
        assert_eq!(highest, Some(65534));
    }
}

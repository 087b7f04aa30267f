//! Links, packet by packet.
#![expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]

use std::time::{Duration, Instant};

use natlab::{Link, Pipe};
use rand::{SeedableRng, rngs::StdRng};

const DELAY: Duration = Duration::from_millis(20);
const PACKETS: u32 = 2_000;

/// Sends packets a millisecond apart; returns how long each copy took, and of which packet it was.
fn send(link: Link, bytes: usize) -> Vec<(u32, Duration)> {
    let (mut pipe, mut rng) = (Pipe::new(link), StdRng::from_seed([3; 32]));
    let start = Instant::now();
    let mut arrivals = Vec::new();
    for number in 0..PACKETS {
        let now = start + Duration::from_millis(number.into());
        for at in pipe.send(bytes, now, &mut rng).into_iter().flatten() {
            arrivals.push((number, at - now, at));
        }
    }
    arrivals.sort_by_key(|(_, _, at)| *at);
    arrivals
        .into_iter()
        .map(|(number, took, _)| (number, took))
        .collect()
}

#[test]
fn a_plain_link_only_delays() {
    let arrivals = send(Link::with_delay(DELAY), 100);
    assert_eq!(arrivals.len(), PACKETS as usize);
    assert!(arrivals.iter().all(|(_, took)| *took == DELAY));
}

#[test]
fn a_lossy_link_loses_its_share() {
    let arrived = send(Link::with_delay(DELAY).losing(20), 100).len();
    assert!((1_500..1_700).contains(&arrived), "{arrived}");
}

#[test]
fn a_duplicating_link_sends_some_packets_twice() {
    let link = Link {
        duplicate: 10,
        ..Link::with_delay(DELAY)
    };
    let copies = send(link, 100).len() - PACKETS as usize;
    assert!((150..250).contains(&copies), "{copies}");
}

#[test]
fn packets_overtake_those_that_are_held_back() {
    let link = Link {
        reorder: 5,
        reorder_by: Duration::from_millis(5),
        ..Link::with_delay(DELAY)
    };
    let arrivals = send(link, 100);
    let overtakes = arrivals.windows(2).filter(|pair| pair[0].0 > pair[1].0);
    assert!((50..150).contains(&overtakes.count()));
}

#[test]
fn jitter_stays_within_its_bounds() {
    let jitter = Duration::from_millis(10);
    let link = Link {
        jitter,
        ..Link::with_delay(DELAY)
    };
    let times: Vec<_> = send(link, 100).into_iter().map(|(_, took)| took).collect();
    assert!(
        times
            .iter()
            .all(|took| (DELAY..=DELAY + jitter).contains(took))
    );
    assert!(times.iter().any(|took| *took > DELAY + jitter / 2));
}

#[test]
fn a_full_link_queues_a_quarter_of_a_second_and_drops_the_rest() {
    // 1,028 bytes a millisecond are 8.2 Mbit/s.
    let link = Link {
        rate: Some(4_000_000),
        ..Link::with_delay(DELAY)
    };
    let arrivals = send(link, 1_000);
    let worst = arrivals.iter().map(|(_, took)| *took).max().unwrap();
    assert!(
        (DELAY + Duration::from_millis(245)..DELAY + Duration::from_millis(255)).contains(&worst),
        "{worst:?}"
    );
    // Two seconds and a queue at 4 Mbit/s.
    assert!(
        (1_000..1_150).contains(&arrivals.len()),
        "{}",
        arrivals.len()
    );
}

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn fresh(mapped: &[u16]) -> PortAllocation {
    let samples: Vec<_> = (50_000..)
        .zip(mapped)
        .map(|(local, mapped)| PortSample {
            local,
            mapped: *mapped,
        })
        .collect();
    infer_allocation(&samples)
}

fn of_one_socket(mapped: &[u16]) -> PortAllocation {
    let samples: Vec<_> = mapped
        .iter()
        .map(|mapped| PortSample {
            local: 5000,
            mapped: *mapped,
        })
        .collect();
    infer_allocation(&samples)
}

#[test]
fn ports_follow_from_their_order() {
    use PortAllocation as A;
    let up = |stride| A::Sequential { stride };
    let cases: [(&[u16], A); 14] = [
        (&[], A::Unknown),
        (&[6000], A::Unknown),
        (&[6000, 6001], A::Unknown),
        (&[6000, 6001, 6002], up(1)),
        (&[6000, 6002, 6004, 6008], up(2)),
        (&[6000, 6003, 6004, 6010], up(1)),
        (&[6010, 6007, 6004], up(-3)),
        // The end of the range, and its beginning.
        (&[65_534, 65_535, 1024, 1025], up(1)),
        // With three, a leap is more likely chance.
        (&[65_534, 65_535, 1024], A::Random),
        (&[6000, 9001, 6002], A::Random),
        // Out of order, close together: no block, no sequence.
        (&[6001, 6000, 6002, 6003], A::Unknown),
        (&[6000, 6100, 6050], A::Unknown),
        (
            &[1100, 1030, 1149, 1024, 1077],
            A::Block {
                first: 1024,
                last: 1151,
            },
        ),
        (&[40_000, 1500, 62_000, 17_111], A::Random),
    ];
    for (mapped, expected) in cases {
        assert_eq!(fresh(mapped), expected, "{mapped:?}");
    }
}

#[test]
fn a_kept_port_is_kept_although_somebody_else_had_one_of_them() {
    assert_eq!(
        fresh(&[50_000, 50_001, 50_002, 50_003]),
        PortAllocation::Preserving
    );
    assert_eq!(
        fresh(&[50_000, 50_001, 61_234, 50_003]),
        PortAllocation::Preserving
    );
    assert_eq!(of_one_socket(&[5000]), PortAllocation::Preserving);
}

#[test]
fn one_socket_keeps_its_port_for_one_destination_and_the_others_show_the_pattern() {
    assert_eq!(
        of_one_socket(&[5000, 7001, 7002, 7003]),
        PortAllocation::Sequential { stride: 1 }
    );
    assert_eq!(
        of_one_socket(&[5000, 7001, 31_002, 12_003]),
        PortAllocation::Random
    );
    assert_eq!(of_one_socket(&[5000, 7001, 7002]), PortAllocation::Unknown);
}

#[test]
fn destinations_that_share_a_mapping_count_once() {
    assert_eq!(
        of_one_socket(&[6000, 6001, 6001, 6000]),
        PortAllocation::Unknown
    );
}

#[test]
fn of_a_thousand_nats_of_each_kind_fewer_than_ten_are_misjudged() {
    let mut rng = StdRng::from_seed([11; 32]);
    for count in 3..=16 {
        for (low, high) in [(1024, 65_535), (32_768, 60_999)] {
            misjudged(count, &mut rng, PortAllocation::Random, |rng| {
                rng.random_range(low..=high)
            });
        }
        for size in [128, 256, 512, 1000, 2048] {
            let first = 1024 + 7 * size;
            let last = first + size - 1;
            let block = PortAllocation::Block { first, last };
            misjudged(count, &mut rng, block, |rng| rng.random_range(first..=last));
        }
    }
}

/// Block and sequence are kept apart from each other and from ports that are anywhere; how well a block is
/// measured is another question.
fn misjudged(
    count: usize,
    rng: &mut StdRng,
    truth: PortAllocation,
    draw: impl Fn(&mut StdRng) -> u16,
) {
    let mut wrong = 0;
    for _ in 0..1000 {
        let mapped: Vec<u16> = (0..count).map(|_| draw(rng)).collect();
        let told = fresh(&mapped);
        let right = match (truth, told) {
            (_, PortAllocation::Unknown)
            | (PortAllocation::Random, PortAllocation::Random)
            | (PortAllocation::Block { .. }, PortAllocation::Block { .. }) => true,
            // A large block seen through few samples is as good as any port.
            (PortAllocation::Block { first, last }, PortAllocation::Random) => {
                last - first >= 511 && count <= 4 || last - first >= 2047 && count <= 5
            }
            _ => false,
        };
        wrong += u32::from(!right);
    }
    assert!(wrong < 10, "{wrong} of 1000 with {count} of {truth:?}");
}

#[test]
fn eight_samples_find_the_block_of_a_carrier() {
    let mut rng = StdRng::from_seed([12; 32]);
    for size in [128, 256, 512, 1024, 2048] {
        let first = 1024 + 5 * size;
        let last = first + size - 1;
        let found = (0..1000)
            .filter(|_| {
                let mapped: Vec<u16> = (0..8).map(|_| rng.random_range(first..=last)).collect();
                fresh(&mapped) == PortAllocation::Block { first, last }
            })
            .count();
        assert!(found >= 950, "{found} of 1000 blocks of {size}");
    }
}

#[test]
fn a_block_that_lies_oddly_is_found_around_its_samples() {
    let PortAllocation::Block { first, last } =
        fresh(&[5100, 5140, 5200, 5217, 5180, 5111, 5163, 5150])
    else {
        panic!("no block");
    };
    assert!(
        first <= 5100 && last >= 5217 && last - first < 256,
        "{first}..{last}"
    );
}

#[test]
fn addresses_of_a_pool_are_arbitrary_as_soon_as_two_are_seen_and_paired_after_eight() {
    let at = |ip: u8, port: u16| SocketAddr::from(([203, 0, 113, ip], port));
    assert_eq!(infer_pooling(&[]), None);
    assert_eq!(
        infer_pooling(&[at(1, 1), at(2, 1)]),
        Some(Pooling::Arbitrary)
    );
    let many: Vec<_> = (1..=8).map(|port| at(1, port)).collect();
    assert_eq!(infer_pooling(&many[..7]), None);
    assert_eq!(infer_pooling(&many), Some(Pooling::Paired));
    // One mapping seen eight times is one.
    assert_eq!(infer_pooling(&[at(1, 1); 8]), None);
}

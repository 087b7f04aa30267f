//! One box at a time.
#![expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use natlab::{
    Behavior, Filtering, Lifetime, Limits, Mapping, NatBox, NatKind, Pooling, PortAllocation,
};
use rand::{SeedableRng, rngs::StdRng};

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const INSIDE: &str = "192.168.0.2:5000";
const SERVER: &str = "203.0.113.10:3478";
const OTHER_PORT: &str = "203.0.113.10:3479";
const OTHER_ADDRESS: &str = "203.0.113.11:3478";
const SECOND: Duration = Duration::from_secs(1);

/// A box, a clock and a source of chance.
struct Bench {
    nat: NatBox,
    now: Instant,
    rng: StdRng,
}

impl Bench {
    fn new(behavior: Behavior) -> Self {
        Self {
            nat: NatBox::new(behavior, OUTSIDE),
            now: Instant::now(),
            rng: StdRng::from_seed([7; 32]),
        }
    }

    fn out(&mut self, from: &str, to: &str) -> Option<SocketAddr> {
        let (from, to) = (address(from), address(to));
        self.nat.outbound(from, to, self.now, &mut self.rng)
    }

    fn is_let_in(&mut self, from: &str, to: SocketAddr) -> bool {
        let inside = self.nat.inbound(address(from), to, self.now);
        assert!(inside.is_none_or(|inside| inside == address(INSIDE)));
        inside.is_some()
    }

    /// Who of the three is let in at the binding toward the first.
    fn let_in(&mut self) -> [bool; 3] {
        let outside = self.out(INSIDE, SERVER).expect("passes");
        [SERVER, OTHER_PORT, OTHER_ADDRESS].map(|from| self.is_let_in(from, outside))
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn filters_let_in_whom_they_should() {
    let expected = [
        (NatKind::None, [true, true, true]),
        (NatKind::Firewall, [true, false, false]),
        (NatKind::FullCone, [true, true, true]),
        (NatKind::AddressRestricted, [true, true, false]),
        (NatKind::PortRestricted, [true, false, false]),
        (NatKind::Symmetric, [true, false, false]),
    ];
    for (kind, expected) in expected {
        assert_eq!(Bench::new(kind.behavior()).let_in(), expected, "{kind}");
    }
}

#[test]
fn mappings_depend_on_what_they_should() {
    let expected = [
        (NatKind::None, [true, true]),
        (NatKind::PortRestrictedRandom, [true, true]),
        (NatKind::SymmetricAddressDependent, [true, false]),
        (NatKind::Symmetric, [false, false]),
        (NatKind::SymmetricSequential, [false, false]),
    ];
    for (kind, expected) in expected {
        let mut bench = Bench::new(kind.behavior());
        let first = bench.out(INSIDE, SERVER);
        let same = [OTHER_PORT, OTHER_ADDRESS].map(|to| bench.out(INSIDE, to) == first);
        assert_eq!(same, expected, "{kind}");
        assert_eq!(bench.out(INSIDE, SERVER), first, "{kind} keeps a binding");
    }
}

#[test]
fn ports_are_chosen_as_they_should_be() {
    let mut kept = Bench::new(NatKind::PortRestricted.behavior());
    assert_eq!(kept.out(INSIDE, SERVER).unwrap().port(), 5000);
    let neighbour = kept.out("192.168.0.3:5000", SERVER).unwrap();
    assert_ne!(neighbour.port(), 5000, "the port is taken");

    let mut counted = Bench::new(Behavior::nat(
        Mapping::AddressAndPortDependent,
        Filtering::AddressAndPortDependent,
        PortAllocation::Sequential { stride: 3 },
    ));
    let ports = [SERVER, OTHER_PORT, OTHER_ADDRESS].map(|to| counted.out(INSIDE, to).unwrap());
    assert_eq!(ports.map(|it| it.port()), [40_000, 40_003, 40_006]);
}

fn symmetric(ports: PortAllocation) -> Behavior {
    let dependent = Mapping::AddressAndPortDependent;
    Behavior::nat(dependent, Filtering::AddressAndPortDependent, ports)
}

/// Ports toward many destinations, one after the other.
fn ports_toward_many(bench: &mut Bench, from: &str, count: u16) -> Vec<u16> {
    let outside = (0..count).filter_map(|port| {
        let to = format!("203.0.113.99:{}", 1_000 + port);
        bench.out(from, &to)
    });
    outside.map(|it| it.port()).collect()
}

#[test]
fn a_host_gets_ports_of_its_own_block_and_another_block_when_that_is_full() {
    let size = 128;
    let mut bench = Bench::new(symmetric(PortAllocation::Block { size }));
    let first_of = |port: u16| (port - 1024) / size;
    let ports = ports_toward_many(&mut bench, INSIDE, size);
    assert_eq!(ports.len(), usize::from(size), "every port of it is used");
    assert!(
        ports
            .iter()
            .all(|port| first_of(*port) == first_of(ports[0]))
    );
    assert!(!ports.is_sorted(), "in no order");
    let neighbours = ports_toward_many(&mut bench, "192.168.0.3:5000", 8);
    assert!(
        neighbours
            .iter()
            .all(|port| first_of(*port) != first_of(ports[0]))
    );
    let next = bench.out(INSIDE, SERVER).expect("a second block");
    assert_ne!(first_of(next.port()), first_of(ports[0]));
}

#[test]
fn what_others_do_advances_a_nat_that_counts() {
    let sequential = symmetric(PortAllocation::Sequential { stride: 2 });
    let mut bench = Bench::new(sequential.with_other_flows(50));
    let first = bench.out(INSIDE, SERVER).unwrap().port();
    bench.now += 10 * SECOND;
    let second = bench.out(INSIDE, OTHER_PORT).unwrap().port();
    let others = (second - first) / 2 - 1;
    assert_eq!((second - first) % 2, 0);
    assert!((400..600).contains(&others), "{others}");
}

#[test]
fn a_pool_is_paired_or_arbitrary() {
    for (pooling, scatters) in [(Pooling::Paired, false), (Pooling::Arbitrary, true)] {
        let random = symmetric(PortAllocation::Random).with_pool(4, pooling);
        let mut bench = Bench::new(random);
        let to = |port: u16| format!("203.0.113.99:{port}");
        let addresses: std::collections::BTreeSet<_> = (1..100)
            .map(|port| bench.out(INSIDE, &to(port)).unwrap().ip())
            .collect();
        assert_eq!(addresses.len() > 1, scatters, "{pooling:?}");
        assert!(addresses.iter().all(|ip| bench.nat.is_outside(*ip)));
    }
}

#[test]
fn a_box_at_its_limits_drops_and_counts() {
    let limits = Limits {
        bindings: Some(10),
        packets_per_second: Some(20),
    };
    let mut bench = Bench::new(Behavior {
        limits,
        ..symmetric(PortAllocation::Random)
    });
    assert_eq!(ports_toward_many(&mut bench, INSIDE, 15).len(), 10);
    assert_eq!(bench.nat.load().over_limit, 5);
    assert_eq!(
        ports_toward_many(&mut bench, INSIDE, 10).len(),
        5,
        "20 in a second"
    );
    bench.now += SECOND;
    assert_eq!(ports_toward_many(&mut bench, INSIDE, 10).len(), 10);
    let neighbour = bench.out("192.168.0.3:5000", SERVER);
    assert!(neighbour.is_some(), "each host has its own");
}

#[test]
fn a_box_knows_its_worst_second_and_minute() {
    let mut bench = Bench::new(symmetric(PortAllocation::Random));
    for _ in 0..30 {
        ports_toward_many(&mut bench, INSIDE, 7);
        bench.now += 10 * SECOND;
    }
    let load = bench.nat.load();
    assert_eq!((load.packets, load.packets_per_second_max), (210, 7));
    // Bindings live for 30 s and are used every 10.
    assert_eq!((load.bindings, load.bindings_per_minute_max), (7, 7));
}

#[test]
fn a_port_mapping_lets_everybody_in_and_their_answers_out_by_the_same_port() {
    let mut bench = Bench::new(symmetric(PortAllocation::Random));
    let now = bench.now;
    let external = bench
        .nat
        .map_port(address(INSIDE), 5_000, None, now)
        .unwrap();
    assert!(bench.is_let_in(OTHER_ADDRESS, external));
    assert_eq!(bench.out(INSIDE, OTHER_ADDRESS), Some(external));
    assert_ne!(
        bench.out(INSIDE, SERVER),
        Some(external),
        "who was not there"
    );
    let taken = bench
        .nat
        .map_port(address("192.168.0.3:5000"), 5_000, None, now);
    assert_eq!(taken, None);
}

#[test]
fn a_port_mapping_ends_when_it_does() {
    let mut bench = Bench::new(NatKind::PortRestrictedRandom.behavior());
    let until = Some(bench.now + 60 * SECOND);
    let now = bench.now;
    let external = bench
        .nat
        .map_port(address(INSIDE), 5_000, until, now)
        .unwrap();
    bench.now += 59 * SECOND;
    assert!(bench.is_let_in(SERVER, external));
    bench.now += SECOND;
    assert!(!bench.is_let_in(SERVER, external));
}

#[test]
fn an_idle_binding_goes_and_only_what_refreshes_it_keeps_it() {
    let idle = Lifetime {
        idle: 30 * SECOND,
        inbound_refreshes: false,
        absolute: None,
    };
    for inbound_refreshes in [false, true] {
        let behavior = NatKind::PortRestricted.behavior().with_lifetime(Lifetime {
            inbound_refreshes,
            ..idle
        });
        let mut bench = Bench::new(behavior);
        let outside = bench.out(INSIDE, SERVER).unwrap();
        bench.now += 20 * SECOND;
        assert!(bench.is_let_in(SERVER, outside));
        bench.now += 20 * SECOND;
        assert_eq!(bench.is_let_in(SERVER, outside), inbound_refreshes);
    }
}

#[test]
fn a_filter_forgets_who_was_not_written_to_for_long() {
    let mut bench = Bench::new(NatKind::PortRestricted.behavior());
    let outside = bench.out(INSIDE, SERVER).unwrap();
    bench.now += 20 * SECOND;
    bench.out(INSIDE, OTHER_PORT).unwrap();
    bench.now += 20 * SECOND;
    assert!(!bench.is_let_in(SERVER, outside));
    assert!(bench.is_let_in(OTHER_PORT, outside));
}

#[test]
fn a_binding_with_an_age_limit_dies_in_use() {
    let mut bench = Bench::new(
        NatKind::PortRestrictedRandom
            .behavior()
            .with_lifetime(Lifetime {
                idle: 30 * SECOND,
                inbound_refreshes: true,
                absolute: Some(60 * SECOND),
            }),
    );
    let outside = bench.out(INSIDE, SERVER);
    for _ in 0..5 {
        bench.now += 10 * SECOND;
        assert_eq!(bench.out(INSIDE, SERVER), outside);
    }
    bench.now += 10 * SECOND;
    assert!(!bench.is_let_in(SERVER, outside.unwrap()));
    assert_ne!(bench.out(INSIDE, SERVER), outside);
}

#[test]
fn an_early_packet_at_a_router_without_a_firewall_shifts_the_binding_toward_its_sender() {
    let behavior = NatKind::PortRestricted.behavior().without_wan_firewall();
    let mut bench = Bench::new(behavior);
    let outside = bench.out(INSIDE, SERVER).unwrap();
    let peer = "198.51.101.1:5000";
    assert!(!bench.is_let_in(peer, outside));
    let shifted = bench.out(INSIDE, peer).unwrap();
    assert_ne!(shifted, outside, "the router holds that flow");
    assert_eq!(
        bench.out(INSIDE, SERVER),
        Some(outside),
        "others are not moved"
    );
    assert!(!bench.is_let_in(peer, outside));
    assert!(bench.is_let_in(peer, shifted));
}

#[test]
fn who_writes_first_has_no_clash_to_fear() {
    let behavior = NatKind::PortRestricted.behavior().without_wan_firewall();
    let mut bench = Bench::new(behavior);
    let outside = bench.out(INSIDE, SERVER).unwrap();
    let peer = "198.51.101.1:5000";
    assert_eq!(bench.out(INSIDE, peer), Some(outside));
    assert!(bench.is_let_in(peer, outside));
    assert_eq!(bench.out(INSIDE, peer), Some(outside));
}

#[test]
fn a_restarted_box_knows_nobody() {
    let mut bench = Bench::new(NatKind::FullCone.behavior());
    let outside = bench.out(INSIDE, SERVER).unwrap();
    bench.nat.restart();
    assert!(!bench.is_let_in(SERVER, outside));
}

#[test]
fn nothing_passes_where_udp_is_blocked() {
    for kind in [NatKind::UdpBlocked, NatKind::TcpOnly] {
        let mut bench = Bench::new(kind.behavior());
        assert_eq!(bench.out(INSIDE, SERVER), None, "{kind}");
    }
}

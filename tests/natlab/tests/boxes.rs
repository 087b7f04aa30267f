//! One box at a time.
#![expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use natlab::{Behavior, Filtering, Lifetime, Mapping, NatBox, NatKind, PortAllocation};
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

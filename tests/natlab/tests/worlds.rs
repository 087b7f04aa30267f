//! Sessions in worlds that are not one box against one box.

use std::time::Duration;

use natlab::matrix::{Case, run};
use natlab::population::Budget;
use natlab::{
    Behavior, Filtering, Host, Link, Mapping, NatKind, PortAllocation, Possible, World,
    direct_is_possible, direct_is_possible_behind_one,
};
use natprobe::{FilteringBehavior, MappingBehavior};
use sansio::Transmit;
use session::RelayTransport as Transport;
use session::{PathKind, Side};

const SECOND: Duration = Duration::from_secs(1);
const FULL_CONE_RANDOM: Behavior = Behavior::nat(
    Mapping::EndpointIndependent,
    Filtering::EndpointIndependent,
    PortAllocation::Random,
);

/// Runs until both ends have judged the best path there can be.
fn settle(world: &mut World) -> PathKind {
    world.run(5 * SECOND);
    judged(world)
}

/// The same where guessing ports may take several rounds.
fn settle_as(world: &mut World, possible: Possible) -> PathKind {
    world.run(5 * SECOND);
    if possible.is_direct() {
        world.run_until(20 * SECOND, |world| {
            world.both_judge() == Some((PathKind::Direct, PathKind::Direct))
        });
    }
    judged(world)
}

fn judged(world: &World) -> PathKind {
    let (ours, theirs) = world.both_judge().expect("a path that carries");
    assert_eq!(ours, theirs, "the ends judge differently");
    ours
}

fn expected(possible: Possible) -> PathKind {
    if possible.is_direct() {
        PathKind::Direct
    } else {
        PathKind::Relay
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let pairs = [
        (NatKind::PortRestrictedRandom, NatKind::AddressRestricted),
        (NatKind::Symmetric, NatKind::TcpOnly),
    ];
    for (ingress, egress) in pairs {
        let runs = [11, 11, 12].map(|seed| run(Case::new(ingress, egress, 20, seed)));
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0].digest, runs[2].digest);
    }
}

#[test]
fn sessions_see_what_they_are_behind() {
    use FilteringBehavior as F;
    use MappingBehavior as M;
    let table = [
        (
            NatKind::None,
            M::EndpointIndependent,
            F::EndpointIndependent,
        ),
        (
            NatKind::Firewall,
            M::EndpointIndependent,
            F::AddressAndPortDependent,
        ),
        (
            NatKind::FullCone,
            M::EndpointIndependent,
            F::EndpointIndependent,
        ),
        (
            NatKind::AddressRestricted,
            M::EndpointIndependent,
            F::AddressDependent,
        ),
        (
            NatKind::PortRestricted,
            M::EndpointIndependent,
            F::AddressAndPortDependent,
        ),
        (
            NatKind::PortRestrictedRandom,
            M::EndpointIndependent,
            F::AddressAndPortDependent,
        ),
        (
            NatKind::SymmetricAddressDependent,
            M::AddressDependent,
            F::AddressAndPortDependent,
        ),
        (
            NatKind::SymmetricSequential,
            M::AddressAndPortDependent,
            F::AddressAndPortDependent,
        ),
        (
            NatKind::Symmetric,
            M::AddressAndPortDependent,
            F::AddressAndPortDependent,
        ),
    ];
    for (kind, mapping, filtering) in table {
        let mut world = World::new(1);
        let site = world.site(kind.behavior());
        let host = world.home(site, Side::Ingress);
        world.run(10 * SECOND);
        let report = world.hosts[host].node.report().expect("a classification");
        assert_eq!(
            (report.mapping, report.filtering),
            (mapping, filtering),
            "{kind}"
        );
    }
}

#[test]
fn hairpin_is_seen_where_it_is() {
    for hairpin in [false, true] {
        let mut world = World::new(1);
        let home = NatKind::FullCone.behavior();
        let site = world.site(if hairpin { home.with_hairpin() } else { home });
        let host = world.home(site, Side::Ingress);
        world.run(10 * SECOND);
        let report = world.hosts[host].node.report().expect("a classification");
        assert_eq!(report.hairpin, Some(hairpin));
    }
}

#[test]
fn homes_behind_carriers_get_what_the_oracle_says() {
    let homes = [
        (NatKind::PortRestricted.behavior(), FULL_CONE_RANDOM),
        (
            NatKind::PortRestricted.behavior(),
            NatKind::PortRestrictedRandom.behavior(),
        ),
        (
            NatKind::PortRestricted.behavior(),
            NatKind::Symmetric.behavior(),
        ),
        (NatKind::Symmetric.behavior(), FULL_CONE_RANDOM),
    ];
    let peers = [
        NatKind::FullCone,
        NatKind::PortRestricted,
        NatKind::Symmetric,
    ];
    for (home, carrier) in homes {
        for peer in peers {
            let mut world = World::new(3);
            let outer = world.carrier(carrier);
            let inner = world.home_behind(outer, home);
            world.home(inner, Side::Ingress);
            let other = world.site(peer.behavior());
            world.home(other, Side::Egress);
            let possible = direct_is_possible(&home.behind(&carrier), &peer.behavior());
            assert_eq!(
                settle_as(&mut world, possible),
                expected(possible),
                "{home:?} behind {carrier:?} and {peer}"
            );
        }
    }
}

#[test]
fn neighbours_behind_one_carrier_are_direct_only_if_it_turns_packets_round() {
    let home = NatKind::PortRestricted.behavior();
    let carriers = [
        NatKind::PortRestrictedRandom.behavior(),
        NatKind::PortRestrictedRandom.behavior().with_hairpin(),
        NatKind::Symmetric.behavior().with_hairpin(),
    ];
    for carrier in carriers {
        let mut world = World::new(4);
        let outer = world.carrier(carrier);
        for side in [Side::Ingress, Side::Egress] {
            let inner = world.home_behind(outer, home);
            world.home(inner, side);
        }
        let possible = direct_is_possible_behind_one(&home, &home, &carrier);
        assert_eq!(
            settle_as(&mut world, possible),
            expected(possible),
            "{carrier:?}"
        );
    }
}

#[test]
fn two_hosts_of_one_home_use_its_network() {
    let mut world = World::new(5);
    let site = world.site(NatKind::Symmetric.behavior());
    world.home(site, Side::Ingress);
    world.home(site, Side::Egress);
    assert_eq!(settle(&mut world), PathKind::Lan);
}

/// The egress writes first, so that what it writes is early at the router of the ingress. Its openers with a
/// low TTL last 150 ms, and the ingress answers within them.
#[test]
fn routers_without_a_wan_firewall_are_no_obstacle() {
    let open = NatKind::PortRestricted.behavior().without_wan_firewall();
    let others = [
        open,
        NatKind::PortRestricted.behavior(),
        NatKind::Firewall.behavior(),
    ];
    for (seed, other) in (0..).zip(others) {
        let mut world = World::new(seed);
        world.signaling_works = false;
        for (behavior, side) in [(open, Side::Ingress), (other, Side::Egress)] {
            let site = world.site(behavior);
            world.home(site, side);
        }
        world.run(3 * SECOND);
        world.hosts[0].signaling_delay = Duration::from_millis(100);
        world.open_signaling();
        assert_eq!(
            settle(&mut world),
            PathKind::Direct,
            "{other:?} SEED={seed}"
        );
    }
}

#[test]
fn a_packet_with_a_low_ttl_binds_as_many_boxes_as_it_passes() {
    let symmetric = NatKind::Symmetric.behavior();
    for (ttl, bound) in [(1, [0, 0]), (2, [1, 0]), (3, [1, 1])] {
        let mut world = World::new(1);
        let outer = world.carrier(symmetric);
        let inner = world.home_behind(outer, symmetric);
        let host = world.home(inner, Side::Ingress);
        let bindings = |world: &World| [inner, outer].map(|site| world.nat(site).bindings());
        let before = bindings(&world);
        let transmit = Transmit {
            source: Host::base(),
            destination: "198.51.199.1:5000".parse().unwrap(),
            ttl: Some(ttl),
            payload: Vec::new(),
        };
        world.send_udp(host, transmit);
        let after = bindings(&world);
        assert_eq!([after[0] - before[0], after[1] - before[1]], bound, "{ttl}");
    }
}

#[test]
fn networks_without_udp_are_relayed_over_a_stream() {
    for kind in [NatKind::UdpBlocked, NatKind::TcpOnly] {
        let mut world = World::pair(6, kind, NatKind::PortRestricted);
        assert_eq!(settle(&mut world), PathKind::Relay, "{kind}");
        let view = world.chosen(0).expect("a path");
        let over_stream = view.through_our_relay && view.transport == Transport::Tcp;
        assert!(over_stream || !view.through_our_relay, "{kind}: {view:?}");
        assert_eq!(world.nat(site_of(&world, 0)).refused(), 0, "{kind}");
    }
}

fn site_of(world: &World, host: usize) -> natlab::SiteId {
    world.hosts[host].config.site
}

#[test]
fn bad_lines_do_not_keep_two_homes_apart() {
    let mut world = World::pair(7, NatKind::PortRestricted, NatKind::PortRestricted);
    world.internet.link = Link {
        jitter: Duration::from_millis(15),
        loss: 5,
        reorder: 10,
        reorder_by: Duration::from_millis(10),
        duplicate: 5,
        ..Link::with_delay(Duration::from_millis(60))
    };
    let slow = Link {
        rate: Some(500_000),
        ..Link::with_delay(Duration::from_millis(8))
    };
    for host in 0..2 {
        let site = site_of(&world, host);
        world.set_line(site, slow);
    }
    assert_eq!(settle(&mut world), PathKind::Direct);
    let rtt = world.chosen(0).and_then(|view| view.rtt).expect("measured");
    assert!(
        rtt >= Duration::from_millis(152),
        "{rtt:?} is less than light takes"
    );
}

#[test]
fn ipv6_behind_firewalls_brings_together_whom_their_nats_keep_apart() {
    let hard = NatKind::Symmetric
        .behavior()
        .with_ipv6(Filtering::AddressAndPortDependent);
    assert_eq!(direct_is_possible(&hard, &hard), Possible::Ipv6);
    let mut world = World::pair_behind(10, hard, hard);
    assert_eq!(settle(&mut world), PathKind::Direct);
    let view = world.chosen(0).expect("a path");
    assert!(view.remote.is_ipv6(), "{view:?}");
}

/// A CGN that counts, with 50 customers' flows a second, is still ahead of by a window of 16.
#[test]
fn a_nat_that_counts_is_predicted_although_others_use_it_too() {
    let mut world = World::pair_behind(
        11,
        NatKind::SymmetricSequential.behavior().with_other_flows(50),
        NatKind::PortRestricted.behavior(),
    );
    assert_eq!(
        settle_as(&mut world, Possible::OnlyPredicted),
        PathKind::Direct
    );
}

#[test]
fn two_addresses_of_a_pool_are_no_obstacle_where_the_mapping_stays_put() {
    use natlab::Pooling;
    for pooling in [Pooling::Paired, Pooling::Arbitrary] {
        let home = NatKind::PortRestrictedRandom
            .behavior()
            .with_pool(2, pooling);
        let mut world = World::pair_behind(12, home, NatKind::PortRestricted.behavior());
        assert_eq!(settle(&mut world), PathKind::Direct, "{pooling:?}");
    }
}

/// Every answer comes from a new port, and a check of that makes another one.
#[test]
fn two_nats_that_let_in_everybody_from_ever_new_ports_start_no_storm() {
    let open = Behavior::nat(
        Mapping::AddressAndPortDependent,
        Filtering::EndpointIndependent,
        PortAllocation::Random,
    );
    let mut world = World::pair_behind(13, open, open);
    assert_eq!(settle(&mut world), PathKind::Relay);
    world.run(60 * SECOND);
    for host in 0..2 {
        let load = world.load(site_of(&world, host));
        let sockets = world.hosts[host].extra_sockets_peak;
        assert!(Budget::PROMISED.holds(sockets, &load), "{load:?}");
    }
}

/// Both budgets hold for as long as the ends stay apart.
#[test]
fn a_search_that_never_succeeds_stays_within_the_budget_for_hours() {
    let mut stingy = NatKind::Symmetric.behavior();
    stingy.limits.bindings = Some(14);
    let mut world = World::pair_behind(14, NatKind::PortRestricted.behavior(), stingy);
    world.run(3_600 * SECOND);
    let mut rates = Vec::new();
    for host in 0..2 {
        let load = world.load(site_of(&world, host));
        let sockets = world.hosts[host].extra_sockets_peak;
        assert!(Budget::PROMISED.holds(sockets, &load), "{load:?}");
        rates.push(load.packets);
    }
    // Back-off grows to minutes: after an hour it is a trickle, about what keepalives cost.
    let before: Vec<u64> = rates;
    world.run(600 * SECOND);
    for (host, before) in before.into_iter().enumerate() {
        let sent = world.load(site_of(&world, host)).packets - before;
        assert!(
            sent < 60_000 / 4,
            "host {host}: {sent} packets in ten minutes"
        );
    }
}

#[test]
fn a_second_server_is_used_when_the_first_is_cut_off() {
    let mut world = World::new(8);
    world.server();
    let first = world.servers[0].address();
    let sites = [Side::Ingress, Side::Egress].map(|side| {
        let site = world.site(NatKind::Symmetric.behavior());
        world.home(site, side);
        site
    });
    for site in sites {
        world.cut_server(site, 0);
    }
    assert_eq!(settle(&mut world), PathKind::Relay);
    let view = world.chosen(0).expect("a path");
    assert_ne!(view.remote.ip(), first.ip());
}

#[test]
#[should_panic(expected = "SEED=9: logged")]
fn an_error_in_the_log_fails_the_run() {
    let mut world = World::new(9);
    world.run_until(SECOND, |_| {
        tracing::error!("something broke");
        false
    });
}

//! Which path is found between which NATs, and in which order.

use std::net::Ipv4Addr;
use std::time::Duration;

use punch::CandidateKind;
use session::RelayTransport as Transport;
use session::{PathKind, Policy, Side};

use crate::world::{Filtering, Happening, HostConfig, NatKind, RelayBox, World};

const PORT_RESTRICTED: NatKind = NatKind::Cone(Filtering::AddressAndPort);
const ADDRESS_RESTRICTED: NatKind = NatKind::Cone(Filtering::Address);
const SYMMETRIC: NatKind = NatKind::Symmetric(Filtering::AddressAndPort);
const BLOCKED: NatKind = NatKind::UdpBlocked;
const SECOND: Duration = Duration::from_secs(1);

/// Runs until things have settled; then both ends must agree, and no carrier may have come too early.
fn settled(ingress: NatKind, egress: NatKind) -> World {
    let mut world = World::pair(1, ingress, egress);
    world.run(12 * SECOND);
    assert_sound(&world);
    world
}

fn assert_sound(world: &World) {
    for host in &world.hosts {
        assert_eq!(
            host.orphans, 0,
            "a carrier was dialled before its path was announced"
        );
    }
    let (ours, theirs) = world.agreed_kinds();
    assert_eq!(ours, theirs, "the ends judge differently");
    assert_eq!(Some(ours), world.chosen_kind(0));
}

/// The kinds that host 0 chose, in order.
fn choices(world: &World) -> Vec<PathKind> {
    let host = &world.hosts[0];
    let mut kinds = Vec::new();
    for (_, happening) in &host.log {
        if let Happening::Chosen(path) = happening {
            kinds.push(host.views[path].kind);
        }
    }
    kinds
}

#[test]
fn a_relay_is_chosen_first_and_then_a_direct_path() {
    let mut world = World::new(1);
    world.signaling_works = false;
    world.home(PORT_RESTRICTED, Side::Ingress, Policy::Any);
    world.home(PORT_RESTRICTED, Side::Egress, Policy::Any);
    world.run(5 * SECOND);
    world.open_signaling();
    world.run(5 * SECOND);
    assert_sound(&world);
    assert_eq!(choices(&world), [PathKind::Relay, PathKind::Direct]);
    let host = &world.hosts[0];
    let known = host.fresh_at.unwrap();
    let chosen = host.times(|happening| matches!(happening, Happening::Chosen(_)));
    let (relayed, direct) = (chosen[0] - known, chosen[1] - known);
    println!("both descriptions known, round trip 40 ms: relayed {relayed:?}, direct {direct:?}");
    assert!(
        relayed <= Duration::from_millis(120),
        "{relayed:?} is more than three round trips"
    );
    assert!(direct <= Duration::from_millis(600), "{direct:?}");
    assert_eq!(
        host.times(|happening| matches!(happening, Happening::Standby(_)))
            .len(),
        1
    );
}

#[test]
fn a_cold_start_needs_no_more_than_the_allocation_and_the_exchange() {
    let mut world = World::pair(2, PORT_RESTRICTED, PORT_RESTRICTED);
    let took = world
        .run_until(5 * SECOND, |world| world.chosen(0).is_some())
        .unwrap();
    println!("cold start to the first path, round trip 40 ms, signaling 40 ms: {took:?}");
    assert!(took <= Duration::from_millis(400), "{took:?}");
}

#[test]
fn two_port_restricted_nats_are_passed_directly() {
    let world = settled(PORT_RESTRICTED, PORT_RESTRICTED);
    let view = world.chosen(0).unwrap();
    assert_eq!(
        (view.kind, view.via()),
        (PathKind::Direct, "server-reflexive")
    );
}

#[test]
fn a_symmetric_nat_and_an_address_restricted_one_are_passed_by_a_peer_reflexive_address() {
    let world = settled(ADDRESS_RESTRICTED, SYMMETRIC);
    let view = world.chosen(0).unwrap();
    assert_eq!(
        (view.kind, view.remote_kind),
        (PathKind::Direct, CandidateKind::PeerReflexive)
    );
    let world = settled(SYMMETRIC, ADDRESS_RESTRICTED);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
}

#[test]
fn public_hosts_reach_each_other_directly() {
    let world = settled(NatKind::Open, PORT_RESTRICTED);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
    let world = settled(NatKind::Open, SYMMETRIC);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
}

#[test]
fn two_symmetric_nats_are_joined_by_a_relay_and_the_reason_is_told() {
    let world = settled(SYMMETRIC, SYMMETRIC);
    let view = world.chosen(0).unwrap();
    assert_eq!(
        (view.kind, view.transport),
        (PathKind::Relay, Transport::Udp)
    );
    let peer = *world.hosts[0].chosen.keys().next().unwrap();
    let reason = world.hosts[0].node.why_relayed(peer).unwrap();
    assert!(reason.contains("both NATs pick a new port"), "{reason}");
}

#[test]
fn a_symmetric_nat_and_a_port_restricted_one_meet_by_chance_and_not_by_a_relay() {
    for (ingress, egress) in [(SYMMETRIC, PORT_RESTRICTED), (PORT_RESTRICTED, SYMMETRIC)] {
        let world = settled(ingress, egress);
        let view = world.chosen(0).unwrap();
        assert_eq!((view.kind, view.via()), (PathKind::Direct, "birthday"));
    }
}

#[test]
fn a_host_without_udp_goes_through_the_relay_over_tcp() {
    for (ingress, egress) in [
        (BLOCKED, PORT_RESTRICTED),
        (PORT_RESTRICTED, BLOCKED),
        (BLOCKED, SYMMETRIC),
    ] {
        let world = settled(ingress, egress);
        assert_eq!(
            world.chosen_kind(0),
            Some(PathKind::Relay),
            "{ingress:?} {egress:?}"
        );
        let blocked = if ingress == BLOCKED { 0 } else { 1 };
        let used = world.hosts[blocked]
            .routes
            .values()
            .any(|(_, route)| matches!(route, session::Route::RelayedStream { .. }));
        assert!(used, "{ingress:?} {egress:?}");
    }
}

#[test]
fn two_hosts_without_udp_meet_inside_the_relay() {
    let world = settled(BLOCKED, BLOCKED);
    let view = world.chosen(0).unwrap();
    assert_eq!(
        (view.kind, view.transport),
        (PathKind::Relay, Transport::Tcp)
    );
    assert_eq!(view.remote_kind, CandidateKind::Relayed);
}

#[test]
fn two_hosts_behind_one_nat_use_their_lan() {
    let mut world = World::new(3);
    let site = world.site(PORT_RESTRICTED);
    for (last, side) in [(2, Side::Ingress), (3, Side::Egress)] {
        let ip = Ipv4Addr::new(192, 168, 1, last);
        world.host(HostConfig {
            site,
            ip,
            side,
            policy: Policy::Any,
        });
    }
    world.run(12 * SECOND);
    assert_sound(&world);
    let view = world.chosen(0).unwrap();
    assert_eq!((view.kind, view.via()), (PathKind::Lan, "host"));
}

#[test]
fn homes_with_the_same_private_addresses_never_take_a_neighbour_for_the_peer() {
    let mut world = World::new(4);
    let same = Ipv4Addr::new(192, 168, 1, 2);
    let other = Ipv4Addr::new(192, 168, 1, 3);
    for (site_kind, side) in [
        (PORT_RESTRICTED, Side::Ingress),
        (PORT_RESTRICTED, Side::Egress),
    ] {
        let site = world.site(site_kind);
        world.host(HostConfig {
            site,
            ip: same,
            side,
            policy: Policy::Any,
        });
    }
    world.run(12 * SECOND);
    assert_sound(&world);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));

    // A second client, whose neighbour at home has the address that the server has in its own home.
    let mut world = World::new(5);
    let home = world.site(PORT_RESTRICTED);
    world.host(HostConfig {
        site: home,
        ip: other,
        side: Side::Ingress,
        policy: Policy::Any,
    });
    let away = world.site(PORT_RESTRICTED);
    world.host(HostConfig {
        site: away,
        ip: same,
        side: Side::Egress,
        policy: Policy::Any,
    });
    world.host(HostConfig {
        site: home,
        ip: same,
        side: Side::Ingress,
        policy: Policy::Any,
    });
    world.run(12 * SECOND);
    assert_sound(&world);
    for index in [0, 2] {
        assert_eq!(world.chosen_kind(index), Some(PathKind::Direct));
        let paths = world.hosts[index].views.values();
        assert!(paths.clone().count() > 0);
        assert!(
            paths.into_iter().all(|path| path.kind != PathKind::Lan),
            "the wrong host"
        );
    }
}

#[test]
fn one_server_serves_two_clients_at_once() {
    let mut world = World::pair(6, PORT_RESTRICTED, PORT_RESTRICTED);
    world.home(SYMMETRIC, Side::Ingress, Policy::Any);
    world.run(12 * SECOND);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
    assert_eq!(world.chosen_kind(2), Some(PathKind::Direct));
    assert_eq!(world.hosts[1].peers.len(), 2);
    assert!(world.hosts.iter().all(|host| host.orphans == 0));
}

#[test]
fn carriers_are_never_dialled_before_the_other_end_has_announced_the_path() {
    let kinds = [
        PORT_RESTRICTED,
        ADDRESS_RESTRICTED,
        SYMMETRIC,
        BLOCKED,
        NatKind::Open,
    ];
    for ingress in kinds {
        for egress in kinds {
            let world = settled(ingress, egress);
            assert!(world.chosen(0).is_some(), "{ingress:?} {egress:?}");
        }
    }
}

#[test]
fn nothing_is_sent_to_the_relay_that_has_no_channel() {
    let world = settled(PORT_RESTRICTED, PORT_RESTRICTED);
    let to_relay = |bytes: &&Vec<u8>| {
        let message = stunwire::Message::decode(bytes);
        message.is_ok_and(|message| message.method() == stunwire::Method::SEND)
    };
    for host in &world.hosts {
        let sent = host
            .sent
            .iter()
            .filter(|(_, to, _)| *to == RelayBox::address());
        assert_eq!(sent.map(|(_, _, bytes)| bytes).filter(to_relay).count(), 0);
    }
}

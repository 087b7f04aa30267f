//! Port mappings: believed once a server came in by them.

use std::net::SocketAddr;
use std::time::Duration;

use session::{CandidateEntry, GatewayProtocol, GatewayView, PathKind, PortMapping};

use crate::world::{Filtering, Happening, NatKind, PORT, World};

const SYMMETRIC: NatKind = NatKind::Symmetric(Filtering::AddressAndPort);
const PORT_RESTRICTED: NatKind = NatKind::Cone(Filtering::AddressAndPort);
const SECOND: Duration = Duration::from_secs(1);
/// What the gateway forwards.
const EXTERNAL_PORT: u16 = 6000;

/// Where host 1's gateway says that it listens.
fn external(world: &World) -> SocketAddr {
    SocketAddr::new(world.public_ip(1), EXTERNAL_PORT)
}

fn tell(world: &mut World, external: SocketAddr) {
    let base = SocketAddr::from(([0, 0, 0, 0], PORT));
    let protocol = GatewayProtocol::Pcp;
    let mapping = PortMapping {
        base,
        external,
        protocol,
    };
    world.set_port_mappings(1, vec![mapping]);
}

fn offered(world: &World) -> Vec<SocketAddr> {
    let candidates = world.hosts[1].node.description().candidates;
    let mapped = |it: &&CandidateEntry| it.kind == "mapped";
    candidates.iter().filter(mapped).map(|it| it.addr).collect()
}

fn happened(world: &World, wanted: impl Fn(&Happening) -> bool) -> bool {
    world.hosts[1].log.iter().any(|(_, it)| wanted(it))
}

fn nothing_was_said(happening: &Happening) -> bool {
    matches!(
        happening,
        Happening::MappingVerified(_)
            | Happening::MappingRefuted(..)
            | Happening::MappingUndecided(..)
    )
}

#[test]
fn two_symmetric_nats_are_passed_by_a_mapping_that_was_verified() {
    let mut world = World::pair(51, SYMMETRIC, SYMMETRIC);
    let external = external(&world);
    world.forward(1, EXTERNAL_PORT, Some(1));
    tell(&mut world, external);
    world.run(15 * SECOND);
    assert!(happened(&world, |it| *it == Happening::MappingVerified(external)));
    assert_eq!(offered(&world), [external]);
    assert_eq!(world.hosts[1].node.description().nat.port_mapping, "active");
    let view = world.chosen(0).unwrap();
    assert_eq!((view.kind, view.via()), (PathKind::Direct, "port-mapped"));
    assert_eq!(view.remote, external);
}

#[test]
fn a_mapping_that_is_none_is_refuted_and_offered_once_it_was_made_anew() {
    for kind in [SYMMETRIC, PORT_RESTRICTED] {
        let mut world = World::pair(52, SYMMETRIC, kind);
        let external = external(&world);
        tell(&mut world, external);
        world.run(15 * SECOND);
        assert!(happened(&world, |it| matches!(
            it,
            Happening::MappingRefuted(..)
        )));
        assert_eq!(offered(&world), [], "{kind:?}");
        assert_eq!(
            world.hosts[1].node.description().nat.port_mapping,
            "refuted"
        );
        world.forward(1, EXTERNAL_PORT, Some(1));
        tell(&mut world, external);
        world.run(10 * SECOND);
        assert_eq!(offered(&world), [external], "{kind:?}");
        assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
    }
}

#[test]
fn a_gateway_that_names_a_strangers_address_sends_nobody_there() {
    let mut world = World::pair(53, PORT_RESTRICTED, SYMMETRIC);
    world.forward(1, EXTERNAL_PORT, Some(1));
    let stranger: SocketAddr = "192.0.2.77:6000".parse().unwrap();
    tell(&mut world, stranger);
    world.run(30 * SECOND);
    assert!(happened(&world, |it| matches!(
        it,
        Happening::MappingRefuted(..)
    )));
    assert_eq!(offered(&world), []);
    for host in &world.hosts {
        assert!(host.sent.iter().all(|(_, to, _)| *to != stranger));
    }
}

#[test]
fn a_mapping_that_the_router_forgets_is_withdrawn() {
    let mut world = World::pair(54, PORT_RESTRICTED, PORT_RESTRICTED);
    let external = external(&world);
    world.forward(1, EXTERNAL_PORT, Some(1));
    tell(&mut world, external);
    world.run(15 * SECOND);
    assert_eq!(offered(&world), [external]);
    world.forward(1, EXTERNAL_PORT, None);
    world.restart_nat(1);
    let withdrawn = world.run_until(400 * SECOND, |world| offered(world).is_empty());
    println!("forgotten to withdrawn: {withdrawn:?}");
    assert!(withdrawn.is_some());
    assert!(happened(&world, |it| matches!(
        it,
        Happening::MappingRefuted(..)
    )));
}

#[test]
fn without_a_mapping_nothing_is_verified_and_the_gateway_is_told_of() {
    let mut world = World::pair(55, PORT_RESTRICTED, SYMMETRIC);
    let view = GatewayView {
        pcp: Some(false),
        nat_pmp: Some(false),
        upnp: Some(true),
        external_ip: Some("100.64.7.7".parse().unwrap()),
    };
    world.set_gateway(1, view);
    world.run(15 * SECOND);
    assert!(!happened(&world, nothing_was_said));
    let told = world.hosts[1].node.description().nat;
    assert_eq!(told.port_mapping, "present");
    assert_eq!(
        told.double_nat,
        Some(true),
        "its own address is a carrier's"
    );
}

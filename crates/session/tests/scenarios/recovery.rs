//! What happens when a path, an allocation or a relay dies.

use std::time::Duration;

use session::{DropCause, PathId, PathKind, Policy, Side};

use crate::world::{Filtering, Happening, NatKind, World};

const PORT_RESTRICTED: NatKind = NatKind::Cone(Filtering::AddressAndPort);
const SYMMETRIC: NatKind = NatKind::Symmetric(Filtering::AddressAndPort);
const BLOCKED: NatKind = NatKind::UdpBlocked;
const SECOND: Duration = Duration::from_secs(1);

/// A pair that talks over a direct path and has a standby.
fn talking(seed: u8) -> World {
    let mut world = World::pair(seed, PORT_RESTRICTED, PORT_RESTRICTED);
    world.hosts[0].is_chatty = true;
    world.run(12 * SECOND);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
    assert!(world.hosts[0].standby.is_some());
    world
}

fn chosen(world: &World) -> PathId {
    *world.hosts[0].chosen.values().next().unwrap()
}

fn drops(world: &World, path: PathId) -> Vec<DropCause> {
    let mut causes = Vec::new();
    for (_, happening) in &world.hosts[0].log {
        if let Happening::Dropped(dropped, cause) = happening
            && *dropped == path
        {
            causes.push(*cause);
        }
    }
    causes
}

#[test]
fn a_silent_path_is_left_for_the_standby_within_a_second_and_taken_back_when_it_works() {
    let mut world = talking(11);
    let direct = chosen(&world);
    let standby = world.hosts[0].standby.unwrap();
    world.cut(0, Some(1));
    let took = world.run_until(5 * SECOND, |world| {
        world.chosen_kind(0) == Some(PathKind::Relay)
    });
    println!("silent death to standby: {took:?}");
    assert!(took.unwrap() <= SECOND, "{took:?}");
    assert_eq!(chosen(&world), standby);
    assert_eq!(drops(&world, direct), [DropCause::Silent]);
    world.run(5 * SECOND);
    assert_eq!(chosen(&world), standby, "the standby serves");
    world.mend();
    let back = world.run_until(10 * SECOND, |world| {
        world.chosen_kind(0) == Some(PathKind::Direct)
    });
    println!("mended to direct: {back:?}");
    assert!(back.is_some(), "never came back");
    assert_eq!(world.hosts[0].orphans + world.hosts[1].orphans, 0);
}

#[test]
fn an_outage_longer_than_every_binding_is_recovered_from() {
    let mut world = talking(12);
    for site in [0, 1] {
        world.cut(site, Some(1 - site));
        world.cut(site, None);
    }
    world.run(180 * SECOND);
    assert!(world.chosen(0).is_none(), "nothing works");
    world.mend();
    let relay = world.run_until(90 * SECOND, |world| world.chosen(0).is_some());
    println!("network back to any path: {relay:?}");
    assert!(relay.is_some());
    let direct = world.run_until(120 * SECOND, |world| {
        world.chosen_kind(0) == Some(PathKind::Direct)
    });
    println!("then to direct: {direct:?}");
    assert!(direct.is_some());
}

#[test]
fn a_router_that_forgets_its_bindings_costs_a_moment() {
    for site in [0, 1] {
        let mut world = talking(13);
        world.restart_nat(site);
        let old = chosen(&world);
        let left = world.run_until(3 * SECOND, |world| {
            world.chosen(0).is_some() && chosen(world) != old
        });
        let back = world.run_until(60 * SECOND, |world| {
            world.chosen_kind(0) == Some(PathKind::Direct)
        });
        println!(
            "router {site} restarted: left the path after {left:?}, direct again after {back:?}"
        );
        assert!(back.is_some());
        world.run(10 * SECOND);
        assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
    }
}

#[test]
fn a_quiet_path_stays_alive_for_minutes_and_costs_little() {
    let mut world = World::pair(14, PORT_RESTRICTED, PORT_RESTRICTED);
    world.run(20 * SECOND);
    let path = chosen(&world);
    let before = world.hosts[0].sent.len();
    world.run(300 * SECOND);
    assert_eq!(chosen(&world), path);
    for host in &world.hosts {
        let lost = host.log.iter().filter(|(at, happening)| {
            *at > 20 * SECOND && matches!(happening, Happening::Dropped(..))
        });
        assert_eq!(
            lost.collect::<Vec<_>>(),
            Vec::<&(Duration, Happening)>::new()
        );
    }
    let sent = world.hosts[0].sent.len() - before;
    println!("packets of a quiet ingress side in five minutes: {sent}");
    assert!(sent < 300, "{sent} packets in five minutes");
}

#[test]
fn a_restarted_relay_drops_its_paths_and_has_new_ones_soon() {
    let mut world = World::pair(15, SYMMETRIC, SYMMETRIC);
    world.hosts[0].is_chatty = true;
    world.run(12 * SECOND);
    let old = chosen(&world);
    world.relay.restart();
    let again = world.run_until(20 * SECOND, |world| {
        world.chosen(0).is_some() && chosen(world) != old
    });
    println!("relay restarted to a new path: {again:?}");
    assert!(again.is_some_and(|took| took < 15 * SECOND), "{again:?}");
    assert!(!drops(&world, old).is_empty());
    world.run(5 * SECOND);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Relay));
    assert_eq!(world.relay.allocations(), 2);
}

#[test]
fn a_lost_standby_is_replaced_while_the_direct_path_goes_on() {
    let mut world = talking(21);
    let (direct, standby) = (chosen(&world), world.hosts[0].standby.unwrap());
    world.relay.restart();
    let again = world.run_until(60 * SECOND, |world| {
        world.hosts[0]
            .standby
            .is_some_and(|present| present != standby)
    });
    println!("relay restarted to a new standby: {again:?}");
    assert!(again.is_some());
    assert!(!drops(&world, standby).is_empty());
    assert_eq!(
        (chosen(&world), drops(&world, direct)),
        (direct, Vec::new())
    );
}

#[test]
fn a_network_that_begins_to_block_udp_moves_to_the_relay_over_tcp() {
    for site in [0, 1] {
        let mut world = talking(22);
        world.replace_nat(site, BLOCKED);
        let dead = world.run_until(5 * SECOND, |world| world.chosen(0).is_none());
        assert!(dead.is_some());
        let moved = world.run_until(40 * SECOND, |world| world.chosen(0).is_some());
        println!("site {site} blocks UDP, to a path over TCP: {moved:?}");
        assert!(moved.is_some());
        world.run(5 * SECOND);
        assert_eq!(world.chosen_kind(0), Some(PathKind::Relay));
        world.replace_nat(site, PORT_RESTRICTED);
        let back = world.run_until(90 * SECOND, |world| {
            world.chosen_kind(0) == Some(PathKind::Direct)
        });
        println!("and back to direct: {back:?}");
        assert!(back.is_some());
    }
}

#[test]
fn a_path_that_lost_its_job_is_dropped_when_flows_have_moved() {
    // The relay over TCP comes first because UDP is blocked at the start.
    let mut world = World::pair(23, BLOCKED, SYMMETRIC);
    world.run(5 * SECOND);
    let tcp = chosen(&world);
    world.replace_nat(0, SYMMETRIC);
    let moved = world.run_until(60 * SECOND, |world| {
        world
            .chosen(0)
            .is_some_and(|view| view.transport == session::RelayTransport::Udp)
    });
    assert!(moved.is_some());
    world.run(5 * SECOND);
    assert_eq!(drops(&world, tcp), [], "make before break");
    world.run(10 * SECOND);
    assert_eq!(drops(&world, tcp), [DropCause::Superseded]);
}

#[test]
fn a_broken_connection_to_the_relay_is_dialled_anew() {
    let mut world = World::pair(16, BLOCKED, BLOCKED);
    world.hosts[0].is_chatty = true;
    world.run(12 * SECOND);
    let old = chosen(&world);
    world.break_streams(0);
    assert_eq!(drops(&world, old), [DropCause::RelayLost]);
    let again = world.run_until(5 * SECOND, |world| world.chosen(0).is_some());
    println!("connection to the relay broken to a new path: {again:?}");
    assert!(again.is_some_and(|took| took < 3 * SECOND), "{again:?}");
}

#[test]
fn a_path_without_a_carrier_is_dropped_and_tried_again_later() {
    let mut world = talking(17);
    let direct = chosen(&world);
    let now = world.now;
    world.hosts[0].node.carrier_failed(direct, now);
    world.run(Duration::from_millis(60));
    assert_eq!(drops(&world, direct), [DropCause::CarrierFailed]);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Relay));
    world.run(Duration::from_millis(1800));
    assert_eq!(world.chosen_kind(0), Some(PathKind::Relay), "not yet");
    world.run(SECOND);
    assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
}

#[test]
fn a_doubt_about_a_living_path_changes_nothing() {
    let mut world = talking(18);
    let direct = chosen(&world);
    for _ in 0..5 {
        let now = world.now;
        world.hosts[0].node.doubt(direct, now);
        world.run(SECOND);
    }
    assert_eq!(chosen(&world), direct);
    assert_eq!(drops(&world, direct), []);
}

#[test]
fn renewed_credentials_keep_an_allocation_beyond_the_life_of_the_old_ones() {
    let mut world = World::new(19);
    for side in [Side::Ingress, Side::Egress] {
        let index = world.home(SYMMETRIC, side, Policy::Any);
        world.offer_servers(index, 900);
    }
    world.run(12 * SECOND);
    let path = chosen(&world);
    for renewal in 1..8_u64 {
        for index in [0, 1] {
            world.offer_servers(index, 900 + renewal * 600);
        }
        world.run(600 * SECOND);
    }
    assert_eq!(
        chosen(&world),
        path,
        "the path did not outlive the credentials"
    );
    assert_eq!(drops(&world, path), []);
    assert_eq!(world.relay.allocations(), 2);
}

#[test]
fn a_removed_peer_gives_its_channels_back() {
    let mut world = World::pair(20, SYMMETRIC, SYMMETRIC);
    world.run(12 * SECOND);
    let egress = &mut world.hosts[1];
    let peer = *egress.peers.values().next().unwrap();
    egress.node.remove_peer(peer);
    world.run(SECOND);
    let before = world.hosts[1].sent.len();
    world.run(500 * SECOND);
    let binds = world.hosts[1].sent[before..]
        .iter()
        .filter(|(_, _, bytes)| {
            let message = stunwire::Message::decode(bytes);
            message.is_ok_and(|message| message.method() == stunwire::Method::CHANNEL_BIND)
        });
    assert_eq!(binds.count(), 0, "channels to nobody are renewed");
}

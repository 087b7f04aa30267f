//! Two agents find each other through every kind of NAT pair that checks alone can open.

mod world;

use std::time::Duration;

use punch::{AgentConfig, CandidateKind, Event, PairState, Probe, Role, Volley};
use world::{
    Filtering, Mapping, Nat, World, address, candidate, credentials, credentials_with, host,
};

const SECOND: Duration = Duration::from_secs(1);

/// Two homes behind one NAT each.
fn two_homes(a: (Mapping, Filtering), b: (Mapping, Filtering)) -> World {
    let mut world = World::new();
    let home_a = world.lan(Some(Nat::new("198.51.100.1", a.0, a.1)));
    let home_b = world.lan(Some(Nat::new("198.51.100.2", b.0, b.1)));
    world.node(home_a, "192.168.1.5:40000", Role::Controlling);
    world.node(home_b, "10.0.0.7:41000", Role::Controlled);
    world
}

fn both_direct(world: &World) -> bool {
    world.nodes.iter().all(world::Node::has_validated_direct)
}

#[test]
fn two_port_restricted_nats_open_within_a_second() {
    let eim_apdf = (Mapping::Independent, Filtering::AddressAndPort);
    let mut world = two_homes(eim_apdf, eim_apdf);
    world.introduce(0, 1);
    let took = world.run_until(SECOND, both_direct);
    assert!(
        took.is_some_and(|took| took < Duration::from_millis(300)),
        "{took:?}"
    );
    assert_eq!(
        world.nodes[0].validated(),
        [(address("192.168.1.5:40000"), address("198.51.100.2:41000"))]
    );
}

#[test]
fn a_peer_described_three_seconds_late_still_opens() {
    let eim_apdf = (Mapping::Independent, Filtering::AddressAndPort);
    let mut world = two_homes(eim_apdf, eim_apdf);
    world.describe(1, 0);
    world.run_for(3 * SECOND);
    world.describe(0, 1);
    let took = world.run_until(SECOND, both_direct);
    assert!(took.is_some(), "not within a second");
}

#[test]
fn a_nat_that_maps_per_destination_is_met_by_its_peer_reflexive_address() {
    for filtering in [Filtering::Independent, Filtering::Address] {
        let symmetric = (Mapping::PerDestination, Filtering::AddressAndPort);
        let mut world = two_homes(symmetric, (Mapping::Independent, filtering));
        world.introduce(0, 1);
        assert!(
            world.run_until(SECOND, both_direct).is_some(),
            "{filtering:?}"
        );
        let remotes: Vec<_> = world.nodes[1]
            .agent
            .pairs()
            .filter(|pair| pair.is_validated())
            .map(|pair| pair.remote.kind)
            .collect();
        assert_eq!(remotes, [CandidateKind::PeerReflexive]);
    }
}

#[test]
fn two_nats_that_map_per_destination_do_not_open_but_the_relay_does() {
    let symmetric = (Mapping::PerDestination, Filtering::AddressAndPort);
    let mut world = two_homes(symmetric, symmetric);
    world.add_relay(0, "203.0.113.9:49152");
    world.introduce(0, 1);
    world.run_for(10 * SECOND);
    assert!(world.nodes.iter().all(|node| !node.has_validated_direct()));
    assert!(
        world
            .nodes
            .iter()
            .all(|node| node.first_validated().is_some())
    );
    let through_relay = &world.nodes[1].agent;
    assert!(
        through_relay
            .pairs()
            .any(|pair| pair.is_validated() && pair.remote.address == address("203.0.113.9:49152"))
    );
}

/// Each check comes from a port that nobody has seen, is let in, and is answered to where the answer's own port is new
/// again: neither end ever gets an answer from where it asked.
#[test]
fn nats_that_give_every_answer_another_port_do_not_raise_a_storm() {
    let open = (Mapping::PerDestination, Filtering::Independent);
    let mut world = two_homes(open, open);
    world.introduce(0, 1);
    world.run_for(60 * SECOND);
    let sent = |world: &World| world.nodes[0].sent.len() + world.nodes[1].sent.len();
    let in_the_first_minute = sent(&world);
    world.run_for(60 * SECOND);
    let in_the_second = sent(&world) - in_the_first_minute;
    // Each end: at most 50 triggered checks a second, as many answers, and the slow checks of few pairs.
    assert!(in_the_first_minute < 2 * 60 * 150, "{in_the_first_minute}");
    assert!(in_the_second < 2 * 60 * 150, "{in_the_second}");
}

#[test]
fn the_relay_is_validated_within_two_round_trips_although_other_pairs_come_first() {
    let symmetric = (Mapping::PerDestination, Filtering::AddressAndPort);
    let mut world = two_homes(symmetric, symmetric);
    world.add_relay(0, "203.0.113.9:49152");
    world.introduce(0, 1);
    let took = world.run_until(SECOND, |world| {
        world
            .nodes
            .iter()
            .all(|node| node.first_validated().is_some())
    });
    assert!(
        took.is_some_and(|took| took <= Duration::from_millis(50)),
        "{took:?}"
    );
    let transmits = &world.nodes[0].sent;
    let from_relay = transmits
        .iter()
        .find(|(_, sent)| sent.source == address("203.0.113.9:49152"));
    assert_eq!(from_relay.unwrap().1.ttl, None);
}

#[test]
fn an_unknown_address_that_sends_through_a_relay_is_called_relayed() {
    let apdf = (Mapping::Independent, Filtering::Independent);
    let mut world = two_homes(apdf, apdf);
    world.describe(1, 0); // the relayed address is never told
    world.add_relay(0, "203.0.113.9:49152");
    world.run_for(SECOND);
    let seen = world.nodes[1].events.iter().any(|event| {
        matches!(event, Event::RemoteSeen { remote, remote_kind: CandidateKind::Relayed, .. }
            if *remote == address("203.0.113.9:49152"))
    });
    assert!(seen);
    world.describe(0, 1);
    let pair = world.nodes[1]
        .agent
        .pairs()
        .find(|pair| pair.remote.address.port() == 49152);
    assert_eq!(
        pair.unwrap().remote,
        candidate(CandidateKind::Relayed, "203.0.113.9:49152")
    );
}

#[test]
fn two_hosts_on_one_lan_use_their_host_addresses_without_openers() {
    let mut world = World::new();
    let nat = Nat::new(
        "198.51.100.1",
        Mapping::Independent,
        Filtering::AddressAndPort,
    );
    let lan = world.lan(Some(nat));
    world.node(lan, "192.168.1.5:40000", Role::Controlling);
    world.node(lan, "192.168.1.6:40000", Role::Controlled);
    world.introduce(0, 1);
    let took = world.run_until(SECOND, both_direct).unwrap();
    assert!(took <= Duration::from_millis(30), "{took:?}");
    let lan_address = address("192.168.1.6:40000");
    let to_lan = world.nodes[0]
        .sent
        .iter()
        .filter(|(_, sent)| sent.destination == lan_address);
    assert!(to_lan.clone().count() > 0);
    assert!(to_lan.clone().all(|(_, sent)| sent.ttl.is_none()));
}

#[test]
fn paths_open_at_20_percent_loss() {
    for filtering in [Filtering::AddressAndPort, Filtering::Address] {
        let eim = (Mapping::Independent, filtering);
        let mut world = two_homes(eim, eim);
        world.loss_percent = 20;
        world.introduce(0, 1);
        let took = world.run_until(2 * SECOND, both_direct);
        assert!(took.is_some(), "{filtering:?}");
    }
}

#[test]
fn duplicated_datagrams_change_nothing() {
    let eim_apdf = (Mapping::Independent, Filtering::AddressAndPort);
    let mut world = two_homes(eim_apdf, eim_apdf);
    world.duplicates = true;
    world.introduce(0, 1);
    assert!(world.run_until(SECOND, both_direct).is_some());
    world.run_for(SECOND);
    for node in &world.nodes {
        let validated = node
            .events
            .iter()
            .filter(|event| matches!(event, Event::PairValidated { .. }));
        assert_eq!(validated.count(), 1);
        assert_eq!(node.agent.stats().replayed, 0);
    }
}

/// Both routers accept unsolicited packets, and B starts 60 ms after A.
fn accepting_routers(config: &AgentConfig) -> World {
    let mut world = World::new();
    for (ip, base, role) in [
        ("198.51.100.1", "192.168.1.5:40000", Role::Controlling),
        ("198.51.100.2", "10.0.0.7:41000", Role::Controlled),
    ] {
        let mut nat = Nat::new(ip, Mapping::Independent, Filtering::AddressAndPort);
        nat.accepts_unsolicited = true;
        let lan = world.lan(Some(nat));
        world.node_with(lan, base, role, credentials(role), config.clone());
    }
    world.describe(1, 0);
    world.run_for(Duration::from_millis(60));
    world.describe(0, 1);
    world
}

#[test]
fn openers_keep_an_early_packet_from_taking_the_tuple() {
    let mut world = accepting_routers(&AgentConfig::default());
    assert!(world.run_until(SECOND, both_direct).is_some());
    assert!(world.nodes[0].agent.stats().openers_sent >= 3);

    let plain = AgentConfig {
        low_ttl_phase: Duration::ZERO,
        ..AgentConfig::default()
    };
    let mut world = accepting_routers(&plain);
    assert!(
        world.run_until(5 * SECOND, both_direct).is_none(),
        "the model has no clash"
    );
    assert_eq!(world.nodes[0].agent.stats().openers_sent, 0);
}

/// The first checks of A arrive at B's router, which accepts what comes unasked, seconds before B opens: B's packets to
/// A leave from another port from then on.
fn shifted(filtering_of_a: Filtering) -> World {
    let mut world = World::new();
    let lifetime = Some(Duration::from_secs(30));
    let mut strict = Nat::new("198.51.100.1", Mapping::Independent, filtering_of_a);
    strict.lifetime = lifetime;
    let apdf = Filtering::AddressAndPort;
    let mut accepting = Nat::new("198.51.100.2", Mapping::Independent, apdf);
    accepting.lifetime = lifetime;
    accepting.accepts_unsolicited = true;
    let (a, b) = (world.lan(Some(strict)), world.lan(Some(accepting)));
    world.node(a, "192.168.1.5:40000", Role::Controlling);
    world.node(b, "10.0.0.7:41000", Role::Controlled);
    world.describe(1, 0);
    world.run_for(3 * SECOND);
    world.describe(0, 1);
    world
}

#[test]
fn a_shifted_mapping_is_met_by_its_peer_reflexive_address_where_the_filter_lets_it_in() {
    let mut world = shifted(Filtering::Address);
    let took = world.run_until(SECOND, both_direct);
    assert!(took.is_some(), "not within a second");
    let remote = world.nodes[0].validated()[0].1;
    assert_ne!(remote, address("198.51.100.2:41000"), "nothing was shifted");
}

#[test]
fn a_shifted_mapping_heals_once_the_slow_checks_have_let_it_die() {
    let mut world = shifted(Filtering::AddressAndPort);
    assert!(
        world.run_until(10 * SECOND, both_direct).is_none(),
        "the model has no clash"
    );
    let took = world.run_until(1800 * SECOND, both_direct);
    assert!(took.is_some(), "it never healed");
    assert_eq!(
        world.nodes[0].validated()[0].1,
        address("198.51.100.2:41000")
    );
}

#[test]
fn a_shifted_mapping_does_not_touch_a_fresh_socket() {
    let mut world = shifted(Filtering::AddressAndPort);
    assert!(world.run_until(10 * SECOND, both_direct).is_none());
    let fresh = world.add_anchors(1, 1, CandidateKind::Predicted)[0];
    let seen = world.sample(1, fresh);
    let volley = |local, remote, openers| Volley {
        probes: vec![Probe { local, remote }],
        kind: CandidateKind::Predicted,
        per_second: 500,
        openers,
        passes: 1,
        pass_gap: Duration::ZERO,
    };
    let now = world.now;
    let opener = volley(fresh, address("198.51.100.1:40000"), true);
    world.nodes[1].agent.start_volley(opener, now);
    world.run_for(Duration::from_millis(50));
    let now = world.now;
    let guess = volley(address("192.168.1.5:40000"), seen, false);
    world.nodes[0].agent.start_volley(guess, now);
    assert!(world.run_until(SECOND, both_direct).is_some());
}

#[test]
fn the_same_address_on_both_sides_never_pairs_with_itself() {
    let mut world = World::new();
    for (ip, role) in [
        ("198.51.100.1", Role::Controlling),
        ("198.51.100.2", Role::Controlled),
    ] {
        let nat = Nat::new(ip, Mapping::Independent, Filtering::AddressAndPort);
        let lan = world.lan(Some(nat));
        world.node(lan, "192.168.1.5:40000", role);
    }
    world.introduce(0, 1);
    assert!(world.run_until(SECOND, both_direct).is_some());
    for node in &world.nodes {
        assert!(
            node.sent
                .iter()
                .all(|(_, sent)| sent.destination != node.base)
        );
        assert_eq!(node.agent.stats().own_requests, 0);
        assert_eq!(node.agent.stats().candidates_refused, 1);
    }
}

#[test]
fn a_pair_with_ourselves_goes_when_we_learn_that_the_address_is_ours() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    let now = world.now;
    let agent = &mut world.nodes[0].agent;
    agent.add_remote_candidate(host("192.168.1.5:40000"), now);
    assert_eq!(agent.pairs().count(), 1);
    agent.add_local_candidate(host("192.168.1.5:40000"), now);
    assert_eq!(agent.pairs().count(), 0);
}

#[test]
fn a_wrong_host_at_the_peers_private_address_never_validates() {
    let mut world = World::new();
    let eim = |ip| {
        Some(Nat::new(
            ip,
            Mapping::Independent,
            Filtering::AddressAndPort,
        ))
    };
    let (home_a, home_b) = (
        world.lan(eim("198.51.100.1")),
        world.lan(eim("198.51.100.2")),
    );
    world.node(home_a, "192.168.1.5:40000", Role::Controlling);
    world.node(home_b, "192.168.1.6:40000", Role::Controlled);
    // A stranger of another room on A's LAN has the address that B has at home, and B's ufrag at that.
    let stranger = credentials_with(Role::Controlled, "another");
    let config = AgentConfig::default();
    world.node_with(
        home_a,
        "192.168.1.6:40000",
        Role::Controlled,
        stranger,
        config,
    );
    world.introduce(0, 1);
    world.run_for(3 * SECOND);
    assert_eq!(
        world.nodes[0].validated(),
        [(address("192.168.1.5:40000"), address("198.51.100.2:40000"))]
    );
    assert!(world.nodes[2].agent.stats().unverified > 0);
    assert_eq!(world.nodes[2].agent.stats().answers_sent, 0);
}

#[test]
fn a_wrong_password_never_validates() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    let wrong = credentials_with(Role::Controlled, "wrong");
    world.node_with(
        lan,
        "192.0.2.2:4000",
        Role::Controlled,
        wrong,
        AgentConfig::default(),
    );
    world.introduce(0, 1);
    world.run_for(30 * SECOND);
    for node in &world.nodes {
        assert!(node.events.is_empty());
        assert!(node.agent.stats().unverified > 0);
        assert!(
            node.agent
                .pairs()
                .all(|pair| pair.state == PairState::Checking)
        );
    }
}

#[test]
fn hosts_of_the_same_family_pair_and_others_do_not() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "[2001:db8::1]:4000", Role::Controlling);
    world.node(lan, "[2001:db8::2]:4000", Role::Controlled);
    world.introduce(0, 1);
    let now = world.now;
    world.nodes[0]
        .agent
        .add_remote_candidate(host("192.0.2.2:4000"), now);
    assert_eq!(world.nodes[0].agent.pairs().count(), 1);
    assert!(world.run_until(SECOND, both_direct).is_some());
}

#[test]
fn a_validated_pair_is_not_checked_again_on_its_own() {
    let eim_apdf = (Mapping::Independent, Filtering::AddressAndPort);
    let mut world = two_homes(eim_apdf, eim_apdf);
    world.introduce(0, 1);
    world.run_for(5 * SECOND);
    let before = world.nodes[0].sent.len();
    world.run_for(600 * SECOND);
    let address = address("198.51.100.2:41000");
    let later = &world.nodes[0].sent[before..];
    assert!(later.iter().all(|(_, sent)| sent.destination != address));
}

#[test]
fn attempts_never_stop() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    let now = world.now;
    world.nodes[0]
        .agent
        .add_remote_candidate(host("192.0.2.9:4000"), now);
    world.run_for(3600 * SECOND);
    let recent = world.nodes[0]
        .sent
        .iter()
        .filter(|(at, _)| *at > 3400 * SECOND)
        .count();
    assert!((2..=5).contains(&recent), "{recent}");
}

//! Anchors: extra sockets that wait for a guess of the peer.

mod world;

use std::time::Duration;

use punch::{CandidateKind, Event, Probe, Role, Volley};
use world::{Filtering, Mapping, Nat, World, address, host};

const SECOND: Duration = Duration::from_secs(1);
const PREDICTED: CandidateKind = CandidateKind::Predicted;

/// A behind a NAT that maps and filters per destination, B behind one that filters by port.
fn hard_and_easy() -> World {
    let mut world = World::new();
    let apdf = Filtering::AddressAndPort;
    let hard = Nat::new("198.51.100.1", Mapping::PerDestination, apdf);
    let easy = Nat::new("198.51.100.2", Mapping::Independent, apdf);
    let (a, b) = (world.lan(Some(hard)), world.lan(Some(easy)));
    world.node(a, "192.168.1.5:40000", Role::Controlling);
    world.node(b, "10.0.0.7:41000", Role::Controlled);
    world.introduce(0, 1);
    world
}

fn volley(probes: Vec<Probe>) -> Volley {
    Volley {
        probes,
        kind: PREDICTED,
        per_second: 500,
        openers: false,
        passes: 1,
        pass_gap: Duration::ZERO,
    }
}

#[test]
fn an_anchor_makes_no_pairs_and_sends_nothing_by_itself() {
    let mut world = hard_and_easy();
    let before = world.nodes[0].agent.pairs().count();
    let anchors = world.add_anchors(0, 16, PREDICTED);
    world.run_for(60 * SECOND);
    let node = &world.nodes[0];
    assert_eq!(node.agent.pairs().count(), before);
    assert!(
        node.sent
            .iter()
            .all(|(_, sent)| !anchors.contains(&sent.source))
    );
}

#[test]
fn the_257th_anchor_is_refused() {
    let mut world = hard_and_easy();
    world.add_anchors(0, 300, CandidateKind::Birthday);
    let stats = world.nodes[0].agent.stats();
    assert_eq!((stats.anchors_peak, stats.anchors_refused), (256, 44));
}

#[test]
fn a_guess_that_hits_an_anchor_makes_a_path_on_both_sides() {
    let mut world = hard_and_easy();
    world.run_for(12 * SECOND);
    assert!(world.nodes.iter().all(|node| !node.has_validated_direct()));

    // A opens toward B; B guesses the ports that A's NAT gives next.
    let (ours, theirs) = (address("192.168.1.5:20000"), address("198.51.100.2:41000"));
    let anchors = world.add_anchors(0, 1, PREDICTED);
    assert_eq!(anchors, [ours]);
    let sample = world.sample(0, ours);
    let now = world.now;
    let opener = Volley {
        openers: true,
        ..volley(vec![Probe {
            local: ours,
            remote: theirs,
        }])
    };
    world.nodes[0].agent.start_volley(opener, now);
    world.run_for(Duration::from_millis(50));
    let guesses = (1..=16).map(|n| {
        let remote = (sample.ip(), sample.port() + n).into();
        Probe {
            local: address("10.0.0.7:41000"),
            remote,
        }
    });
    let guesses = volley(guesses.collect());
    let now = world.now;
    world.nodes[1].agent.start_volley(guesses, now);
    let both = |world: &World| world.nodes.iter().all(world::Node::has_validated_direct);
    let took = world.run_until(SECOND, both).expect("the window holds it");
    assert!(took <= Duration::from_millis(100), "{took:?}");

    let ends: Vec<_> = world
        .nodes
        .iter()
        .flat_map(|node| node.agent.pairs().filter(|pair| pair.is_validated()))
        .map(|pair| (pair.local.base, pair.remote.address.ip(), pair.via))
        .collect();
    assert_eq!(
        ends,
        [
            (ours, theirs.ip(), PREDICTED),
            (address("10.0.0.7:41000"), sample.ip(), PREDICTED)
        ]
    );
    assert_eq!(ends[0].0, ours);
    let seen = world.nodes[0]
        .has(|event| matches!(event, Event::RemoteSeen { local_base, .. } if *local_base == ours));
    assert!(seen);
}

#[test]
fn a_removed_anchor_takes_its_pairs_along() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    world.node(lan, "192.0.2.2:4000", Role::Controlled);
    let anchor = world.add_anchors(0, 1, PREDICTED)[0];
    let now = world.now;
    world.nodes[1]
        .agent
        .add_remote_candidate(host(&anchor.to_string()), now);
    world.run_for(SECOND);
    let pair = world.nodes[0].first_validated().expect("a path");
    assert_eq!(
        world.nodes[0].agent.pair(pair).map(|pair| pair.via),
        Some(PREDICTED)
    );
    let now = world.now;
    world.nodes[0].agent.remove_local_base(anchor, now);
    world.drain(0);
    assert!(world.nodes[0].has(|event| *event == Event::PairRemoved { pair }));
    assert_eq!(world.nodes[0].agent.pairs().count(), 0);
}

#[test]
fn an_address_that_turns_out_to_be_an_anchor_of_ours_is_never_paired_with() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    let now = world.now;
    let agent = &mut world.nodes[0].agent;
    agent.add_remote_candidate(host("192.0.2.1:20000"), now);
    assert_eq!(agent.pairs().count(), 1);
    agent.add_anchor(address("192.0.2.1:20000"), PREDICTED, now);
    assert_eq!(agent.pairs().count(), 0);
}

/// A's router accepts what comes unasked, and B's guess may come before A has opened.
fn guess_arrives_early(openers: bool) -> World {
    let mut world = World::new();
    let mut accepting = Nat::new(
        "198.51.100.1",
        Mapping::Independent,
        Filtering::AddressAndPort,
    );
    accepting.accepts_unsolicited = true;
    let strict = Nat::new(
        "198.51.100.2",
        Mapping::Independent,
        Filtering::AddressAndPort,
    );
    let (a, b) = (world.lan(Some(accepting)), world.lan(Some(strict)));
    world.node(a, "192.168.1.5:40000", Role::Controlling);
    world.node(b, "10.0.0.7:41000", Role::Controlled);
    let anchor = world.add_anchors(0, 1, PREDICTED)[0];
    let outside = world.sample(0, anchor);
    let now = world.now;
    let ours = Volley {
        openers,
        passes: 2,
        pass_gap: Duration::from_millis(100),
        ..volley(vec![Probe {
            local: anchor,
            remote: address("198.51.100.2:41000"),
        }])
    };
    if openers {
        world.nodes[0].agent.start_volley(ours.clone(), now);
        world.run_for(Duration::from_millis(20));
    }
    let theirs = volley(vec![Probe {
        local: address("10.0.0.7:41000"),
        remote: outside,
    }]);
    let now = world.now;
    world.nodes[1].agent.start_volley(theirs, now);
    if !openers {
        world.run_for(Duration::from_millis(20));
        let now = world.now;
        world.nodes[0].agent.start_volley(ours, now);
    }
    world.run_for(5 * SECOND);
    world
}

#[test]
fn openers_of_anchors_keep_an_early_guess_from_taking_the_tuple() {
    let opened = guess_arrives_early(true);
    assert!(opened.nodes.iter().all(world::Node::has_validated_direct));
    let clashed = guess_arrives_early(false);
    assert!(
        clashed
            .nodes
            .iter()
            .all(|node| !node.has_validated_direct()),
        "the model has no clash"
    );
}

//! What the layer above may ask of an agent.

mod world;

use std::time::Duration;

use punch::{AgentConfig, Candidate, CandidateKind, Event, PairState, Role};
use world::{DELAY, World, address, candidate, host};

const SECOND: Duration = Duration::from_secs(1);

/// Two public hosts with a validated pair.
fn connected() -> World {
    let mut world = two_public_hosts();
    world.introduce(0, 1);
    let validated = |world: &World| {
        world
            .nodes
            .iter()
            .all(|node| node.first_validated().is_some())
    };
    assert!(world.run_until(SECOND, validated).is_some());
    for node in &mut world.nodes {
        node.events.clear();
        node.sent.clear();
    }
    world
}

fn two_public_hosts() -> World {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    world.node(lan, "192.0.2.2:4000", Role::Controlled);
    world
}

#[test]
fn a_commanded_check_is_answered_with_its_round_trip() {
    let mut world = connected();
    let pair = world.nodes[0].first_validated().unwrap();
    let now = world.now;
    world.nodes[0].agent.check(pair, now);
    world.drain(0);
    world.run_for(5 * SECOND);
    let rtt = 2 * DELAY;
    assert_eq!(world.nodes[0].events, [Event::CheckAnswered { pair, rtt }]);
    let known = world.nodes[0].agent.pair(pair).unwrap();
    assert_eq!(known.rtt, Some(rtt));
    assert_eq!(known.mapped, Some(address("192.0.2.1:4000")));
    assert!(matches!(
        world.nodes[1].events[..],
        [Event::RemoteSeen { .. }]
    ));
}

#[test]
fn an_unanswered_check_is_reported_after_three_seconds() {
    let mut world = connected();
    world.loss_percent = 100;
    let pair = world.nodes[0].first_validated().unwrap();
    let now = world.now;
    world.nodes[0].agent.check(pair, now);
    world.drain(0);
    world.run_for(3 * SECOND - Duration::from_millis(1));
    assert_eq!(world.nodes[0].events, []);
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.nodes[0].events, [Event::CheckUnanswered { pair }]);
    assert_eq!(world.nodes[0].sent.len(), 1);
}

#[test]
fn a_newer_check_supersedes_an_older_one_whose_late_answer_still_counts() {
    let mut world = connected();
    let pair = world.nodes[0].first_validated().unwrap();
    let now = world.now;
    world.nodes[0].agent.check(pair, now);
    world.drain(0);
    world.run_for(DELAY);
    let now = world.now;
    world.nodes[0].agent.check(pair, now);
    world.drain(0);
    assert_eq!(world.nodes[0].events, [Event::CheckUnanswered { pair }]);
    world.run_for(5 * SECOND);
    let answered = Event::CheckAnswered {
        pair,
        rtt: 2 * DELAY,
    };
    assert_eq!(world.nodes[0].events[1..], [answered.clone(), answered]);
}

#[test]
fn a_check_on_a_pair_that_is_gone_does_nothing() {
    let mut world = connected();
    let pair = world.nodes[0].first_validated().unwrap();
    let now = world.now;
    world.nodes[0]
        .agent
        .remove_local_base(address("192.0.2.1:4000"), now);
    world.nodes[0].agent.check(pair, now);
    world.drain(0);
    assert_eq!(world.nodes[0].events, [Event::PairRemoved { pair }]);
    assert!(world.nodes[0].sent.is_empty());
    assert_eq!(world.nodes[0].agent.poll_timeout(), None);
}

#[test]
fn a_restarted_pair_is_validated_anew() {
    let mut world = connected();
    let pair = world.nodes[0].first_validated().unwrap();
    let now = world.now;
    world.nodes[0].agent.restart(pair, now);
    assert_eq!(
        world.nodes[0].agent.pair(pair).unwrap().state,
        PairState::Waiting
    );
    world.run_for(SECOND);
    assert!(matches!(
        world.nodes[0].events[..],
        [Event::PairValidated { .. }]
    ));
    assert!(world.nodes[0].sent[0].1.ttl.is_some(), "no opener");
}

#[test]
fn news_makes_slow_pairs_brisk_at_once() {
    let mut world = two_public_hosts();
    world.describe(1, 0);
    world.loss_percent = 100;
    world.run_for(1000 * SECOND);
    world.nodes[0].sent.clear();
    let now = world.now;
    world.nodes[0].agent.restart_unvalidated(now);
    world.run_for(SECOND);
    assert_eq!(world.nodes[0].sent.len(), 3 + 9); // 0, 50, 100; 150, 250, … 950 ms
}

#[test]
fn replacing_remote_candidates_keeps_what_works_and_drops_what_vanished() {
    let mut world = connected();
    let now = world.now;
    let valid = world.nodes[0].first_validated().unwrap();
    let agent = &mut world.nodes[0].agent;
    agent.add_remote_candidate(host("192.0.2.77:7"), now);
    let guess = agent.pairs().last().unwrap().id;
    agent.set_remote_candidates(vec![host("192.0.2.88:8")], now);
    world.drain(0);
    let agent = &world.nodes[0].agent;
    let remotes: Vec<_> = agent.pairs().map(|pair| pair.remote.address).collect();
    assert_eq!(
        remotes,
        [address("192.0.2.2:4000"), address("192.0.2.88:8")]
    );
    assert!(
        agent
            .pair(valid)
            .is_some_and(punch::CandidatePair::is_validated)
    );
    assert_eq!(world.nodes[0].events, [Event::PairRemoved { pair: guess }]);
}

#[test]
fn the_same_description_again_changes_nothing() {
    let mut world = two_public_hosts();
    world.introduce(0, 1);
    let before: Vec<_> = world.nodes[0].agent.pairs().map(|pair| pair.id).collect();
    world.introduce(0, 1);
    let after: Vec<_> = world.nodes[0].agent.pairs().map(|pair| pair.id).collect();
    assert_eq!(before, after);
    assert!(world.nodes[0].events.is_empty());
}

#[test]
fn a_base_added_later_pairs_with_candidates_known_before() {
    let mut world = two_public_hosts();
    world.describe(1, 0);
    let now = world.now;
    let agent = &mut world.nodes[0].agent;
    agent.add_local_candidate(candidate(CandidateKind::Relayed, "203.0.113.9:49152"), now);
    assert_eq!(agent.pairs().count(), 2);
    assert!(agent.pairs().last().unwrap().is_relayed());
}

#[test]
fn candidates_of_one_base_make_one_pair_and_the_host_candidate_stands_for_it() {
    let mut world = two_public_hosts();
    let now = world.now;
    let base = address("0.0.0.0:5000");
    let agent = &mut world.nodes[0].agent;
    agent.set_remote_candidates(vec![host("198.51.100.9:9")], now);
    let seen = Candidate::new(
        CandidateKind::ServerReflexive,
        address("198.51.100.1:5000"),
        base,
        1,
    );
    agent.add_local_candidate(seen, now);
    assert_eq!(agent.pairs().last().unwrap().local, seen);
    let ours = Candidate::new(CandidateKind::Host, address("192.168.1.5:5000"), base, 1);
    agent.add_local_candidate(ours, now);
    assert_eq!(agent.pairs().count(), 2);
    assert_eq!(agent.pairs().last().unwrap().local, ours);
}

#[test]
fn checks_are_paced_and_begin_with_the_best_pair() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    let now = world.now;
    let remotes = (1..=50).map(|n| {
        let remote = address(&format!("198.51.100.{n}:1000"));
        Candidate::new(CandidateKind::Host, remote, remote, n)
    });
    world.nodes[0]
        .agent
        .set_remote_candidates(remotes.collect(), now);
    world.run_for(SECOND);
    let sent = &world.nodes[0].sent;
    let pacing = AgentConfig::default().pacing;
    assert!(sent.windows(2).all(|two| two[1].0 - two[0].0 >= pacing));
    assert!(sent.len() >= 199, "{}", sent.len());
    let first: Vec<_> = sent[..50]
        .iter()
        .map(|(_, sent)| sent.destination)
        .collect();
    let best_first: Vec<_> = (1..=50)
        .rev()
        .map(|n| address(&format!("198.51.100.{n}:1000")))
        .collect();
    assert_eq!(first, best_first);
}

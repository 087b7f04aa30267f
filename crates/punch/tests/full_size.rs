//! A pair is validated by an authenticated round trip at full size, and by nothing less.

mod world;

use std::time::Duration;

use punch::{AgentConfig, Event, PairState, Role};
use sansio::{Datagram, Handled, Transmit};
use world::{Filtering, Mapping, Nat, World, address, credentials, host};

const SECOND: Duration = Duration::from_secs(1);
const FULL: usize = 1200;
/// Longer than any small check, shorter than anything padded.
const SMALL_MAX: usize = 200;

fn without_full_size() -> AgentConfig {
    AgentConfig {
        full_size: 0,
        ..AgentConfig::default()
    }
}

/// Two homes behind port-restricted NATs, 100 ms of round trip apart.
fn two_homes(config: &AgentConfig) -> World {
    homes(config, Mapping::Independent, Filtering::AddressAndPort)
}

fn homes(config: &AgentConfig, mapping: Mapping, filtering: Filtering) -> World {
    let mut world = World::new();
    world.delay = Duration::from_millis(50);
    let apdf = Filtering::AddressAndPort;
    let a = world.lan(Some(Nat::new("198.51.100.1", mapping, apdf)));
    let b = world.lan(Some(Nat::new(
        "198.51.100.2",
        Mapping::Independent,
        filtering,
    )));
    for (lan, base, role) in [
        (a, "192.168.1.5:40000", Role::Controlling),
        (b, "10.0.0.7:41000", Role::Controlled),
    ] {
        world.node_with(lan, base, role, credentials(role), config.clone());
    }
    world
}

fn both_direct(world: &World) -> bool {
    world.nodes.iter().all(world::Node::has_validated_direct)
}

fn is_full(sent: &Transmit) -> bool {
    sent.payload.len() == FULL
}

fn narrowed(world: &World, node: usize) -> usize {
    let events = world.nodes[node].events.iter();
    events
        .filter(|event| matches!(event, Event::PairNarrow { .. }))
        .count()
}

/// Both homes' packets above 1,000 bytes get lost.
fn narrow_homes() -> World {
    let mut world = two_homes(&AgentConfig::default());
    for node in &mut world.nodes {
        node.bytes_max = Some(1000);
    }
    world
}

#[test]
fn request_and_answer_of_the_validating_round_trip_have_full_size() {
    let mut world = two_homes(&AgentConfig::default());
    world.introduce(0, 1);
    assert!(world.run_until(SECOND, both_direct).is_some());
    for node in &world.nodes {
        let full: Vec<_> = node.sent.iter().filter(|(_, sent)| is_full(sent)).collect();
        let requests = full.iter().filter(|(_, sent)| sent.payload[0] == 0);
        assert!(requests.count() >= 1, "no full-size request");
        let answers = full.iter().filter(|(_, sent)| sent.payload[0] == 1);
        assert!(answers.count() >= 1, "no full-size answer");
        assert!(node.sent.iter().all(|(_, sent)| sent.payload.len() <= FULL));
        assert!(node.agent.stats().full_size_answered >= 1);
    }
}

#[test]
fn checks_to_addresses_that_never_answer_stay_small() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    let now = world.now;
    for port in 1..50 {
        world.nodes[0]
            .agent
            .add_remote_candidate(host(&format!("198.51.100.9:{port}")), now);
    }
    world.run_for(100 * SECOND);
    let sent = &world.nodes[0].sent;
    assert!(sent.len() > 1000);
    assert!(sent.iter().all(|(_, sent)| sent.payload.len() < SMALL_MAX));
    assert_eq!(world.nodes[0].agent.stats().full_size_sent, 0);
}

#[test]
fn full_size_costs_no_more_than_one_round_trip() {
    for mapping in [Mapping::Independent, Mapping::PerDestination] {
        for late in [0, 30, 200] {
            let time = |config: &AgentConfig| {
                let mut world = homes(config, mapping, Filtering::Address);
                world.describe(1, 0);
                world.run_for(Duration::from_millis(late));
                world.describe(0, 1);
                world.run_until(3 * SECOND, both_direct).expect("it opens")
            };
            let (plain, full) = (time(&without_full_size()), time(&AgentConfig::default()));
            let extra = full.saturating_sub(plain);
            assert!(
                extra <= Duration::from_millis(100),
                "{mapping:?}, {late} ms late: {plain:?} and {full:?}"
            );
        }
    }
}

#[test]
fn the_side_that_is_heard_first_pays_nothing() {
    let time = |config: &AgentConfig| {
        let mut world = two_homes(config);
        // A's first check for the far side arrives at B while B is still opening its NAT.
        world.describe(1, 0);
        world.run_for(Duration::from_millis(60));
        world.describe(0, 1);
        let valid = |world: &World| world.nodes[1].has_validated_direct();
        world.run_until(SECOND, valid).expect("it opens")
    };
    assert_eq!(time(&AgentConfig::default()), time(&without_full_size()));
}

#[test]
fn at_20_percent_loss_full_size_costs_no_more_than_a_round_trip_either() {
    let time = |config: &AgentConfig, seed: u64| {
        let mut world = two_homes(config);
        world.loss_percent = 20;
        world.reseed(seed);
        world.introduce(0, 1);
        world.run_until(10 * SECOND, both_direct).expect("it opens")
    };
    const RUNS: u32 = 300;
    let mean = |config: &AgentConfig| {
        let total: Duration = (0..RUNS).map(|seed| time(config, u64::from(seed))).sum();
        total / RUNS
    };
    let (plain, full) = (mean(&without_full_size()), mean(&AgentConfig::default()));
    assert!(
        full <= plain + Duration::from_millis(100),
        "{plain:?} without, {full:?} with"
    );
}

#[test]
fn loss_alone_is_not_taken_for_narrowness() {
    for seed in 0..200 {
        let mut world = two_homes(&AgentConfig::default());
        world.loss_percent = 20;
        world.reseed(seed);
        world.introduce(0, 1);
        world.run_until(10 * SECOND, both_direct).expect("it opens");
        assert_eq!((narrowed(&world, 0), narrowed(&world, 1)), (0, 0), "{seed}");
    }
}

#[test]
fn a_path_that_passes_small_packets_only_is_narrow_within_three_seconds_and_named_once() {
    let mut world = narrow_homes();
    world.introduce(0, 1);
    world.run_for(3 * SECOND);
    assert_eq!((narrowed(&world, 0), narrowed(&world, 1)), (1, 1));
    world.run_for(3600 * SECOND);
    for (index, node) in world.nodes.iter().enumerate() {
        assert_eq!(narrowed(&world, index), 1);
        assert!(!node.has(|event| matches!(event, Event::PairValidated { .. })));
        let states: Vec<_> = node
            .agent
            .pairs()
            .filter(|pair| pair.state == PairState::Narrow)
            .collect();
        assert_eq!(states.len(), 1);
        assert!(states[0].rtt.is_some());
        assert_eq!(node.agent.stats().pairs_narrowed, 1);
    }
}

#[test]
fn one_narrow_direction_is_enough() {
    for direction in 0..2 {
        let mut world = two_homes(&AgentConfig::default());
        world.nodes[direction].bytes_max = Some(1000);
        world.introduce(0, 1);
        world.run_for(10 * SECOND);
        for (index, node) in world.nodes.iter().enumerate() {
            assert_eq!(narrowed(&world, index), 1, "{direction} {index}");
            assert!(node.validated().is_empty());
        }
    }
}

#[test]
fn a_narrow_pair_goes_on_being_tried_and_is_validated_when_it_widens() {
    let mut world = narrow_homes();
    world.introduce(0, 1);
    world.run_for(600 * SECOND);
    for node in &mut world.nodes {
        node.bytes_max = None;
    }
    let took = world.run_until(300 * SECOND, both_direct);
    assert!(took.is_some(), "it was given up");
}

#[test]
fn two_ends_of_a_narrow_pair_do_not_keep_each_other_awake() {
    let mut world = narrow_homes();
    world.introduce(0, 1);
    world.run_for(600 * SECOND);
    for node in &mut world.nodes {
        node.sent.clear();
    }
    world.run_for(3600 * SECOND);
    let remote = address("198.51.100.2:41000");
    let requests = world.nodes[0]
        .sent
        .iter()
        .filter(|(_, sent)| sent.destination == remote && sent.payload[0] == 0);
    // One a minute, give or take the jitter.
    let requests = requests.count();
    assert!((40..=90).contains(&requests), "{requests}");
}

#[test]
fn a_narrow_pair_that_answers_no_more_is_not_called_narrow_for_ever() {
    let mut world = narrow_homes();
    world.introduce(0, 1);
    world.run_for(10 * SECOND);
    assert_eq!(narrowed(&world, 0), 1);
    world.loss_percent = 100;
    world.run_for(3600 * SECOND);
    let pairs: Vec<_> = world.nodes[0].agent.pairs().collect();
    assert!(pairs.iter().all(|pair| pair.state == PairState::Checking));
    world.loss_percent = 0;
    world.run_for(600 * SECOND);
    assert_eq!(narrowed(&world, 0), 2, "a new finding is reported anew");
}

#[test]
fn a_relayed_pair_has_to_pass_full_size_too() {
    let symmetric = (Mapping::PerDestination, Filtering::AddressAndPort);
    let world = |narrow: bool| {
        let mut world = homes(&AgentConfig::default(), symmetric.0, symmetric.1);
        world.add_relay(0, "203.0.113.9:49152");
        if narrow {
            world.nodes[0].bytes_max = Some(1000);
        }
        world.introduce(0, 1);
        world.run_for(10 * SECOND);
        world
    };
    let wide = world(false);
    assert!(wide.nodes[1].first_validated().is_some());
    let relayed = address("203.0.113.9:49152");
    let through_relay = wide.nodes[0]
        .sent
        .iter()
        .filter(|(_, sent)| sent.source == relayed && is_full(sent));
    assert!(through_relay.count() >= 1);
    let narrow = world(true);
    assert!(
        narrow
            .nodes
            .iter()
            .all(|node| node.first_validated().is_none())
    );
    assert!(narrowed(&narrow, 0) >= 1);
}

#[test]
fn a_kept_path_that_turns_narrow_is_noticed_by_its_next_check_and_named_after_a_restart() {
    let mut world = two_homes(&AgentConfig::default());
    world.introduce(0, 1);
    assert!(world.run_until(SECOND, both_direct).is_some());
    world.run_for(SECOND);
    for node in &mut world.nodes {
        node.bytes_max = Some(1000);
        node.events.clear();
        node.sent.clear();
    }
    let pair = world.nodes[0].first_validated().expect("a path");
    let now = world.now;
    world.nodes[0].agent.check(pair, now);
    world.drain(0);
    assert!(is_full(&world.nodes[0].sent[0].1));
    world.run_for(3 * SECOND);
    assert_eq!(world.nodes[0].events, [Event::CheckUnanswered { pair }]);
    let now = world.now;
    world.nodes[0].agent.restart(pair, now);
    world.run_for(3 * SECOND);
    assert!(world.nodes[0].has(|event| *event == Event::PairNarrow { pair }));
}

#[test]
fn a_small_check_on_command_tells_a_narrow_path_from_a_dead_one() {
    for (bytes_max, loss_percent, answered) in [(1000, 0, 1), (1000, 100, 0)] {
        let mut world = two_homes(&AgentConfig::default());
        world.introduce(0, 1);
        assert!(world.run_until(SECOND, both_direct).is_some());
        world.run_for(SECOND);
        assert!(!world.nodes[0].has(|event| matches!(event, Event::SmallAnswered { .. })));
        world.loss_percent = loss_percent;
        for node in &mut world.nodes {
            node.bytes_max = Some(bytes_max);
        }
        let pair = world.nodes[0].first_validated().expect("a path");
        let now = world.now;
        world.nodes[0].agent.check_small(pair, now);
        world.drain(0);
        world.run_for(SECOND);
        let small = Event::SmallAnswered { pair };
        let count = world.nodes[0]
            .events
            .iter()
            .filter(|event| **event == small);
        assert_eq!(count.count(), answered);
    }
}

#[test]
fn with_full_size_off_a_small_answer_validates() {
    let mut world = two_homes(&without_full_size());
    for node in &mut world.nodes {
        node.bytes_max = Some(SMALL_MAX);
    }
    world.introduce(0, 1);
    assert!(world.run_until(SECOND, both_direct).is_some());
    assert_eq!(world.nodes[0].agent.stats().full_size_sent, 0);
}

#[test]
fn an_end_that_asks_for_less_answers_in_full_all_the_same() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    let role = Role::Controlled;
    let config = without_full_size();
    world.node_with(lan, "192.0.2.2:4000", role, credentials(role), config);
    world.introduce(0, 1);
    assert!(world.run_until(SECOND, both_direct).is_some());
}

/// Takes the next check of B out of the air.
fn caught(world: &mut World) -> Vec<u8> {
    let now = world.now;
    let due = world.nodes[1].agent.poll_timeout().expect("a check").at;
    world.now = now.max(due);
    world.nodes[1].agent.handle_timeout(world.now);
    let check = world.nodes[1].agent.poll_transmit().expect("a check");
    check.payload
}

fn receive(world: &mut World, remote: &str, payload: &[u8]) -> Vec<Transmit> {
    let datagram = Datagram {
        local: address("192.0.2.1:4000"),
        remote: address(remote),
        payload,
    };
    let now = world.now;
    let agent = &mut world.nodes[0].agent;
    assert_eq!(agent.handle_datagram(datagram, now), Handled::Consumed);
    std::iter::from_fn(|| agent.poll_transmit()).collect()
}

#[test]
fn a_recorded_request_makes_us_send_nothing_longer_than_itself_to_a_stranger() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    world.node(lan, "192.0.2.2:4000", Role::Controlled);
    world.introduce(0, 1);
    // The peer's checks never arrive; a thief sends them on in the name of his victim.
    for _ in 0..50 {
        let request = caught(&mut world);
        assert!(request.len() < SMALL_MAX);
        let sent = receive(&mut world, "198.51.100.66:666", &request);
        assert!(!sent.is_empty());
        for sent in sent {
            assert!(
                sent.payload.len() <= request.len(),
                "{}",
                sent.payload.len()
            );
        }
    }
    // Of a full-size one he gets a full-size answer, and a small question.
    let now = world.now;
    let pair = world.nodes[1].agent.pairs().next().expect("a pair").id;
    world.nodes[1].agent.check(pair, now);
    let request = world.nodes[1]
        .agent
        .poll_transmit()
        .expect("a check")
        .payload;
    let sent = receive(&mut world, "198.51.100.67:667", &request);
    let lengths: Vec<_> = sent.iter().map(|sent| sent.payload.len()).collect();
    assert_eq!(lengths[0], FULL);
    assert!(lengths[1..].iter().all(|length| *length < SMALL_MAX));
}

#[test]
fn an_answer_cut_short_does_not_validate() {
    // The peer's full-size answers are replaced by its answers to small checks: what it may send is 1,000 bytes.
    let mut world = two_homes(&AgentConfig::default());
    world.nodes[1].bytes_max = Some(1000);
    world.introduce(0, 1);
    world.run_for(5 * SECOND);
    let answered = world.nodes[0].agent.stats();
    assert!(answered.answers_verified > 0);
    assert_eq!(answered.full_size_answered, 0);
    assert!(world.nodes[0].validated().is_empty());
}

//! What a stranger sends changes nothing, and what a peer sends stays within bounds.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use punch::{Agent, AgentConfig, Candidate, CandidateKind, Event, PairState, Role};
use sansio::{Datagram, Handled};
use world::{World, address, candidate, credentials, host};

const SECOND: Duration = Duration::from_secs(1);
const OURS: &str = "192.0.2.1:4000";
const THEIRS: &str = "192.0.2.2:4000";

/// Two public hosts that know each other, and nothing has moved yet.
fn introduced() -> World {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, OURS, Role::Controlling);
    world.node(lan, THEIRS, Role::Controlled);
    world.introduce(0, 1);
    world
}

/// A real check of node 1 to node 0 that was caught on its way.
fn caught_request(world: &mut World) -> Vec<u8> {
    let now = world.now;
    let pair = world.nodes[1].agent.pairs().next().expect("a pair").id;
    world.nodes[1].agent.check(pair, now);
    world.nodes[1]
        .agent
        .poll_transmit()
        .expect("a check")
        .payload
}

fn receive(world: &mut World, remote: SocketAddr, payload: &[u8]) -> Handled {
    let now = world.now;
    let datagram = Datagram {
        local: address(OURS),
        remote,
        payload,
    };
    world.nodes[0].agent.handle_datagram(datagram, now)
}

#[test]
fn an_answer_goes_back_to_where_the_request_came_from() {
    let mut world = introduced();
    let request = caught_request(&mut world);
    let elsewhere = address("198.51.100.77:777");
    assert_eq!(receive(&mut world, elsewhere, &request), Handled::Consumed);
    let answer = world.nodes[0].agent.poll_transmit().unwrap();
    assert_eq!(
        (answer.source, answer.destination),
        (address(OURS), elsewhere)
    );
    assert_eq!(answer.ttl, None);
    let triggered = world.nodes[0].agent.poll_transmit().unwrap();
    assert_eq!((triggered.destination, triggered.ttl), (elsewhere, None));
    let Some(Event::RemoteSeen {
        remote,
        remote_kind,
        ..
    }) = world.nodes[0].agent.poll_event()
    else {
        panic!("not seen");
    };
    assert_eq!(
        (remote, remote_kind),
        (elsewhere, CandidateKind::PeerReflexive)
    );
}

#[test]
fn a_request_with_one_bit_changed_is_not_ours() {
    let mut world = introduced();
    let request = caught_request(&mut world);
    for byte in 0..request.len() {
        for bit in 0..8 {
            let mut forged = request.clone();
            forged[byte] ^= 1 << bit;
            assert_eq!(
                receive(&mut world, address(THEIRS), &forged),
                Handled::NotMine,
                "byte {byte} bit {bit}"
            );
        }
    }
    assert!(world.nodes[0].agent.poll_transmit().is_none());
    assert!(world.nodes[0].agent.poll_event().is_none());
    assert!(world.nodes[0].agent.stats().unverified > 0);
}

#[test]
fn truncated_and_extended_messages_are_not_ours() {
    let mut world = introduced();
    let mut request = caught_request(&mut world);
    for len in 0..request.len() {
        assert_eq!(
            receive(&mut world, address(THEIRS), &request[..len]),
            Handled::NotMine
        );
    }
    request.push(0);
    assert_eq!(
        receive(&mut world, address(THEIRS), &request),
        Handled::NotMine
    );
    assert!(world.nodes[0].agent.poll_transmit().is_none());
}

#[test]
fn a_recorded_request_sent_from_elsewhere_is_dropped() {
    let mut world = introduced();
    let request = caught_request(&mut world);
    assert_eq!(
        receive(&mut world, address(THEIRS), &request),
        Handled::Consumed
    );
    let pairs = world.nodes[0].agent.pairs().count();
    while world.nodes[0].agent.poll_transmit().is_some() {}
    let thief = address("198.51.100.66:666");
    assert_eq!(receive(&mut world, thief, &request), Handled::Consumed);
    assert_eq!(world.nodes[0].agent.stats().replayed, 1);
    assert_eq!(world.nodes[0].agent.pairs().count(), pairs);
    assert!(world.nodes[0].agent.poll_transmit().is_none());
}

#[test]
fn an_answer_from_another_address_leaves_the_check_outstanding() {
    let mut world = introduced();
    let now = world.now;
    let pair = world.nodes[0].agent.pairs().next().unwrap().id;
    world.nodes[0].agent.check(pair, now);
    let check = world.nodes[0].agent.poll_transmit().unwrap().payload;
    let datagram = Datagram {
        local: address(THEIRS),
        remote: address(OURS),
        payload: &check,
    };
    assert_eq!(
        world.nodes[1].agent.handle_datagram(datagram, now),
        Handled::Consumed
    );
    let answer = world.nodes[1].agent.poll_transmit().unwrap().payload;

    let mut forged = answer.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(
        receive(&mut world, address(THEIRS), &forged),
        Handled::NotMine
    );
    assert_eq!(
        receive(&mut world, address("198.51.100.1:1"), &answer),
        Handled::Consumed
    );
    assert_eq!(world.nodes[0].agent.stats().misdirected, 1);
    assert_ne!(
        world.nodes[0].agent.pair(pair).unwrap().state,
        PairState::Validated
    );

    assert_eq!(
        receive(&mut world, address(THEIRS), &answer),
        Handled::Consumed
    );
    assert_eq!(
        world.nodes[0].agent.pair(pair).unwrap().state,
        PairState::Validated
    );
    // Once more: the transaction is over.
    assert_eq!(
        receive(&mut world, address(THEIRS), &answer),
        Handled::NotMine
    );
    let validated = std::iter::from_fn(|| world.nodes[0].agent.poll_event())
        .filter(|event| matches!(event, Event::PairValidated { .. }));
    assert_eq!(validated.count(), 1);
}

#[test]
fn our_own_request_come_back_is_dropped_and_counted() {
    let mut world = introduced();
    let now = world.now;
    world.nodes[0].agent.handle_timeout(now);
    let check = world.nodes[0].agent.poll_transmit().unwrap();
    assert_eq!(
        receive(&mut world, check.destination, &check.payload),
        Handled::Consumed
    );
    assert_eq!(world.nodes[0].agent.stats().own_requests, 1);
    assert!(world.nodes[0].agent.poll_transmit().is_none());
    assert!(world.nodes[0].agent.poll_event().is_none());
}

#[test]
fn equal_ufrags_on_both_sides_do_not_let_us_answer_ourselves() {
    let mut world = World::new();
    let lan = world.lan(None);
    let mut same = credentials(Role::Controlling);
    same.remote_ufrag = same.local_ufrag.clone();
    world.node_with(lan, OURS, Role::Controlling, same, AgentConfig::default());
    let now = world.now;
    world.nodes[0].agent.add_remote_candidate(host(THEIRS), now);
    world.nodes[0].agent.handle_timeout(now);
    let check = world.nodes[0].agent.poll_transmit().unwrap();
    assert_eq!(
        receive(&mut world, check.destination, &check.payload),
        Handled::Consumed
    );
    assert_eq!(world.nodes[0].agent.stats().own_requests, 1);
    assert!(world.nodes[0].agent.poll_transmit().is_none());
}

#[test]
fn a_request_at_an_unknown_base_is_dropped_and_counted() {
    let mut world = introduced();
    let request = caught_request(&mut world);
    let now = world.now;
    let (local, remote) = (address("192.0.2.1:9999"), address(THEIRS));
    let datagram = Datagram {
        local,
        remote,
        payload: &request,
    };
    assert_eq!(
        world.nodes[0].agent.handle_datagram(datagram, now),
        Handled::Consumed
    );
    assert_eq!(world.nodes[0].agent.stats().misdirected, 1);
    assert!(world.nodes[0].agent.poll_transmit().is_none());
}

#[test]
fn answers_are_capped_per_second() {
    let mut world = introduced();
    for _ in 0..1500 {
        let request = caught_request(&mut world);
        let _ = receive(&mut world, address(THEIRS), &request);
        while world.nodes[0].agent.poll_transmit().is_some() {}
    }
    let stats = world.nodes[0].agent.stats();
    assert_eq!((stats.answers_sent, stats.answers_capped), (1000, 500));
    world.now += SECOND;
    let request = caught_request(&mut world);
    let _ = receive(&mut world, address(THEIRS), &request);
    assert_eq!(world.nodes[0].agent.stats().answers_sent, 1001);
}

#[test]
fn a_burst_of_requests_triggers_one_check_per_20_ms() {
    let mut world = introduced();
    for _ in 0..100 {
        let request = caught_request(&mut world);
        let _ = receive(&mut world, address(THEIRS), &request);
        world.now += Duration::from_millis(1);
    }
    let stats = world.nodes[0].agent.stats();
    assert_eq!((stats.triggered_sent, stats.triggered_capped), (5, 95));
}

#[test]
fn a_thousand_remote_candidates_make_a_hundred_pairs_and_keep_the_relay() {
    let mut world = introduced();
    let now = world.now;
    let agent = &mut world.nodes[0].agent;
    agent.add_remote_candidate(candidate(CandidateKind::Relayed, "203.0.113.9:49152"), now);
    let many: Vec<_> = (0..1000_u16)
        .map(|n| {
            let remote = SocketAddr::from(([198, 51, 100, 1], 1000 + n));
            Candidate::new(CandidateKind::Host, remote, remote, n)
        })
        .collect();
    for candidate in &many {
        agent.add_remote_candidate(*candidate, now);
    }
    let relay = |agent: &Agent| agent.pairs().filter(|pair| pair.is_relayed()).count();
    assert_eq!(agent.pairs().count(), 100);
    assert_eq!(relay(agent), 1);
    assert!(
        agent.pairs().any(|pair| pair.remote.address.port() == 1999),
        "the best is missing"
    );
    assert!(agent.stats().candidates_refused >= 900);

    let mut with_relay = many;
    with_relay.push(candidate(CandidateKind::Relayed, "203.0.113.9:49152"));
    agent.set_remote_candidates(with_relay, now);
    assert_eq!(agent.pairs().count(), 100);
    assert_eq!(relay(agent), 1);
    for n in 1..100_u16 {
        let base = SocketAddr::from(([192, 0, 2, 1], 5000 + n));
        agent.add_local_candidate(Candidate::new(CandidateKind::Host, base, base, n), now);
    }
    assert_eq!(agent.pairs().count(), 100);
}

#[test]
fn peer_reflexive_pairs_are_bounded_and_never_push_out_a_validated_one() {
    let mut world = introduced();
    world.run_for(SECOND);
    let valid = world.nodes[0].first_validated().unwrap();
    for n in 0..1000_u16 {
        let request = caught_request(&mut world);
        let from = SocketAddr::from(([198, 51, 100, 1], 1000 + n));
        let _ = receive(&mut world, from, &request);
        world.drain(0);
        world.now += Duration::from_millis(20);
    }
    let agent = &world.nodes[0].agent;
    assert!(agent.pairs().count() <= 33, "{}", agent.pairs().count());
    assert!(
        agent
            .pair(valid)
            .is_some_and(punch::CandidatePair::is_validated)
    );
    let removed = world.nodes[0]
        .events
        .iter()
        .filter(|event| matches!(event, Event::PairRemoved { .. }));
    // In 20 s: 128 at once, and two more each second.
    let heard = 128 + 2 * 20;
    assert!((heard - 33..heard).contains(&removed.count()));
    assert!(world.nodes[0].agent.stats().pairs_refused >= 1000 - heard as u64);
}

/// Validates pairs with ever new addresses, as those of a peer that roams for a long time.
fn roam(world: &mut World, places: u16, pause: Duration) {
    for n in 0..places {
        let from = SocketAddr::from(([198, 51, 100, 1], 1000 + n));
        let request = caught_request(world);
        let _ = receive(world, from, &request);
        // The small check that the request triggered, then the full-size one that its answer brings.
        for _ in 0..2 {
            let sent = std::iter::from_fn(|| world.nodes[0].agent.poll_transmit());
            let Some(check) = sent.last() else {
                break; // refused
            };
            let datagram = Datagram {
                local: address(THEIRS),
                remote: address(OURS),
                payload: &check.payload,
            };
            let now = world.now;
            let _ = world.nodes[1].agent.handle_datagram(datagram, now);
            let answer = world.nodes[1].agent.poll_transmit().expect("an answer");
            let _ = receive(world, from, &answer.payload);
            while world.nodes[1].agent.poll_transmit().is_some() {}
        }
        while world.nodes[0].agent.poll_event().is_some() {}
        world.now += pause;
    }
}

#[test]
fn a_peer_that_roams_for_ever_never_fills_the_table_with_paths_it_left() {
    let mut world = introduced();
    roam(&mut world, 300, Duration::from_secs(60));
    let now = world.now;
    let agent = &mut world.nodes[0].agent;
    assert!(agent.pairs().count() <= 100);
    agent.add_remote_candidate(host("203.0.113.7:7"), now);
    assert!(
        agent
            .pairs()
            .any(|pair| pair.remote.address == address("203.0.113.7:7"))
    );
    let newest = SocketAddr::from(([198, 51, 100, 1], 1299));
    assert!(
        agent
            .pairs()
            .any(|pair| pair.remote.address == newest && pair.is_validated())
    );
}

#[test]
fn validated_pairs_that_were_heard_lately_stay_whatever_comes() {
    let mut world = introduced();
    roam(&mut world, 120, Duration::from_millis(20));
    let agent = &world.nodes[0].agent;
    let first = SocketAddr::from(([198, 51, 100, 1], 1000));
    assert!(
        agent
            .pairs()
            .any(|pair| pair.remote.address == first && pair.is_validated())
    );
    assert_eq!(agent.pairs().count(), 100);
    assert!(agent.stats().pairs_refused > 0);
}

#[test]
fn an_agent_that_nobody_drains_keeps_its_queues_bounded() {
    let mut world = introduced();
    for _ in 0..3000 {
        let request = caught_request(&mut world);
        let _ = receive(&mut world, address(THEIRS), &request);
        world.now += Duration::from_millis(5);
    }
    let agent = &mut world.nodes[0].agent;
    assert!(agent.stats().transmits_dropped > 0);
    assert!(agent.stats().events_dropped > 0);
    assert_eq!(std::iter::from_fn(|| agent.poll_transmit()).count(), 256);
    assert_eq!(std::iter::from_fn(|| agent.poll_event()).count(), 1024);
}

#[test]
fn overlong_credentials_send_nothing_and_do_not_panic() {
    let mut world = World::new();
    let lan = world.lan(None);
    let mut long = credentials(Role::Controlling);
    long.remote_ufrag = "x".repeat(5000);
    world.node_with(lan, OURS, Role::Controlling, long, AgentConfig::default());
    let now = world.now;
    world.nodes[0].agent.add_remote_candidate(host(THEIRS), now);
    world.run_for(SECOND);
    assert!(world.nodes[0].sent.is_empty());
    assert!(world.nodes[0].agent.stats().transmits_dropped > 0);
}

#[test]
fn unusable_candidates_are_refused() {
    let mut world = introduced();
    let now = world.now;
    let agent = &mut world.nodes[0].agent;
    let before = agent.pairs().count();
    for text in [
        "0.0.0.0:9",
        "224.0.0.1:9",
        "198.51.100.1:0",
        "255.255.255.255:9",
        OURS,
    ] {
        agent.add_remote_candidate(host(text), now);
    }
    assert_eq!(agent.pairs().count(), before);
    assert_eq!(agent.stats().candidates_refused, 5);
    agent.add_remote_candidate(host("[::ffff:198.51.100.1]:9"), now);
    assert_eq!(
        agent.pairs().last().unwrap().remote.address,
        address("198.51.100.1:9")
    );
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_are_never_ours(
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut world = introduced();
        prop_assert_eq!(receive(&mut world, address(THEIRS), &payload), Handled::NotMine);
    }
}

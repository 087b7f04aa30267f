//! Volleys: many guesses, sent evenly, that cost nothing but their packets.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use punch::{AgentConfig, CandidateKind, Event, Probe, Role, Volley, VolleyId};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sansio::{Datagram, Handled};
use world::{Filtering, Mapping, Nat, World, address, host};

const SECOND: Duration = Duration::from_secs(1);
const OURS: &str = "192.0.2.1:4000";

fn one_host() -> World {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, OURS, Role::Controlling);
    world
}

fn guesses(local: &str, remote_ip: &str, ports: impl IntoIterator<Item = u16>) -> Vec<Probe> {
    let (local, ip) = (address(local), remote_ip.parse().expect("an IP address"));
    ports
        .into_iter()
        .map(|port| Probe {
            local,
            remote: SocketAddr::new(ip, port),
        })
        .collect()
}

fn volley(probes: Vec<Probe>) -> Volley {
    Volley {
        probes,
        kind: CandidateKind::Birthday,
        per_second: 500,
        openers: false,
        passes: 1,
        pass_gap: Duration::from_millis(100),
    }
}

fn start(world: &mut World, node: usize, volley: Volley) -> VolleyId {
    let now = world.now;
    let id = world.nodes[node].agent.start_volley(volley, now);
    world.drain(node);
    id
}

fn ended(world: &World, node: usize) -> Vec<(VolleyId, u32, u32)> {
    let events = world.nodes[node].events.iter();
    events
        .filter_map(|event| {
            if let Event::VolleyEnded {
                volley,
                sent,
                answered,
            } = event
            {
                Some((*volley, *sent, *answered))
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn probes_leave_evenly_and_the_end_is_reported_a_second_after_the_last_one() {
    let mut world = one_host();
    let id = start(
        &mut world,
        0,
        volley(guesses(OURS, "198.51.100.9", 1..=1000)),
    );
    world.run_for(3 * SECOND - Duration::from_millis(5));
    assert_eq!(ended(&world, 0), []);
    world.run_for(Duration::from_millis(5));
    assert_eq!(ended(&world, 0), [(id, 1000, 0)]);
    let sent = &world.nodes[0].sent;
    assert_eq!(sent.len(), 1000);
    assert!(
        sent.windows(2)
            .all(|two| two[1].0 - two[0].0 == Duration::from_millis(2))
    );
    let ports: Vec<_> = sent
        .iter()
        .map(|(_, sent)| sent.destination.port())
        .collect();
    assert!(ports.is_sorted(), "not in their order");
    assert_eq!(world.nodes[0].agent.poll_timeout(), None);
}

#[test]
fn only_the_first_pass_leaves_with_a_low_ttl() {
    let mut world = one_host();
    let openers = Volley {
        openers: true,
        passes: 3,
        ..volley(guesses(OURS, "198.51.100.9", 1..=10))
    };
    let id = start(&mut world, 0, openers);
    world.run_for(3 * SECOND);
    let ttls: Vec<_> = world.nodes[0]
        .sent
        .iter()
        .map(|(_, sent)| sent.ttl)
        .collect();
    assert_eq!(ttls.len(), 30);
    assert!(ttls[..10].iter().all(|ttl| *ttl == Some(2)));
    assert!(ttls[10..].iter().all(Option::is_none));
    let gap = world.nodes[0].sent[10].0 - world.nodes[0].sent[9].0;
    assert_eq!(gap, Duration::from_millis(100));
    assert_eq!(ended(&world, 0), [(id, 30, 0)]);
    assert_eq!(world.nodes[0].agent.stats().volley_openers_sent, 10);
}

#[test]
fn all_volleys_together_keep_the_rate_whatever_each_asks() {
    let mut world = one_host();
    for third in 1..=3 {
        let ip = format!("198.51.100.{third}");
        let greedy = Volley {
            per_second: 100_000,
            ..volley(guesses(OURS, &ip, 1..=2048))
        };
        start(&mut world, 0, greedy);
    }
    world.run_for(5 * SECOND);
    let sent: Vec<_> = world.nodes[0].sent.iter().map(|(at, _)| *at).collect();
    assert!((2490..=2505).contains(&sent.len()), "{}", sent.len());
    let in_a_second = sent.iter().map(|start| {
        sent.iter()
            .filter(|at| *at >= start && **at < *start + SECOND)
            .count()
    });
    assert!(in_a_second.max() <= Some(501));
}

#[test]
fn a_driver_that_slept_does_not_send_what_it_missed_in_one_burst() {
    let mut world = one_host();
    start(
        &mut world,
        0,
        volley(guesses(OURS, "198.51.100.9", 1..=2000)),
    );
    world.run_for(Duration::from_millis(100));
    world.nodes[0].sent.clear();
    world.now += SECOND;
    let now = world.now;
    world.nodes[0].agent.handle_timeout(now);
    world.drain(0);
    assert!(
        world.nodes[0].sent.len() <= 6,
        "{}",
        world.nodes[0].sent.len()
    );
}

#[test]
fn checks_keep_their_pace_beside_a_volley() {
    let checks = |with_volley: bool| {
        let mut world = one_host();
        let now = world.now;
        for last in 1..=30 {
            world.nodes[0]
                .agent
                .add_remote_candidate(host(&format!("203.0.113.{last}:9")), now);
        }
        if with_volley {
            start(
                &mut world,
                0,
                volley(guesses(OURS, "198.51.100.9", 1..=2048)),
            );
        }
        world.run_for(4 * SECOND);
        let sent = world.nodes[0].sent.iter();
        let checks: Vec<_> = sent
            .filter(|(_, sent)| {
                sent.destination.port() == 9 && sent.destination != address("198.51.100.9:9")
            })
            .map(|(at, sent)| (*at, sent.destination))
            .collect();
        checks
    };
    let alone = checks(false);
    assert!(alone.len() > 500);
    assert_eq!(checks(true), alone);
}

#[test]
fn an_answered_probe_makes_a_path_of_its_kind_and_is_not_sent_again() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, OURS, Role::Controlling);
    world.node(lan, "192.0.2.2:4000", Role::Controlled);
    let twice = Volley {
        passes: 2,
        ..volley(guesses(OURS, "192.0.2.2", 3990..=4010))
    };
    let id = start(&mut world, 0, twice);
    world.run_for(2 * SECOND);
    assert_eq!(ended(&world, 0), [(id, 41, 1)]);
    let pair = world.nodes[0].first_validated().expect("a path");
    let pair = world.nodes[0].agent.pair(pair).expect("a path");
    assert_eq!(pair.via, CandidateKind::Birthday);
    assert_eq!(pair.remote.address, address("192.0.2.2:4000"));
    assert!(world.nodes[1].has_validated_direct());
    let stats = world.nodes[0].agent.stats();
    assert_eq!(
        (stats.volley_probes_sent, stats.volley_probes_answered),
        (41, 1)
    );
}

#[test]
fn a_stopped_volley_sends_no_more_and_reports_what_it_did() {
    let mut world = one_host();
    let id = start(
        &mut world,
        0,
        volley(guesses(OURS, "198.51.100.9", 1..=2000)),
    );
    world.run_for(Duration::from_millis(99));
    world.nodes[0].agent.stop_volley(id);
    world.nodes[0].agent.stop_volley(id);
    world.drain(0);
    world.run_for(10 * SECOND);
    assert_eq!(world.nodes[0].sent.len(), 50);
    assert_eq!(ended(&world, 0), [(id, 50, 0)]);
}

#[test]
fn a_volley_of_a_base_that_is_gone_ends_without_sending() {
    let mut world = one_host();
    start(
        &mut world,
        0,
        volley(guesses(OURS, "198.51.100.9", 1..=2000)),
    );
    world.run_for(Duration::from_millis(99));
    let now = world.now;
    world.nodes[0].agent.remove_local_base(address(OURS), now);
    world.run_for(2 * SECOND);
    assert_eq!(world.nodes[0].sent.len(), 50);
    assert_eq!(ended(&world, 0).len(), 1);
}

#[test]
fn what_is_too_much_or_cannot_be_sent_is_refused_and_counted() {
    let mut world = one_host();
    let mut probes = guesses(OURS, "198.51.100.9", 1..=3000);
    probes.extend(guesses("192.0.2.99:1", "198.51.100.9", 1..=10));
    probes.extend(guesses(OURS, "0.0.0.0", 1..=10));
    probes.extend(guesses(OURS, "192.0.2.1", [4000]));
    probes.extend(guesses(OURS, "2001:db8::1", [4000]));
    let first = start(&mut world, 0, volley(probes));
    assert_eq!(world.nodes[0].agent.stats().volley_probes_refused, 952 + 22);
    let others: Vec<_> = (0..4)
        .map(|_| start(&mut world, 0, volley(guesses(OURS, "198.51.100.9", [7]))))
        .collect();
    assert_eq!(ended(&world, 0), [(others[3], 0, 0)]);
    assert_eq!(world.nodes[0].agent.stats().volleys_refused, 1);
    let empty = start(&mut world, 0, volley(Vec::new()));
    assert_eq!(ended(&world, 0)[1], (empty, 0, 0));
    world.run_for(10 * SECOND);
    assert!(ended(&world, 0).contains(&(first, 2048, 0)));
}

#[test]
fn an_answer_to_a_probe_counts_from_where_it_was_sent_and_authenticated() {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, OURS, Role::Controlling);
    world.node(lan, "192.0.2.2:4000", Role::Controlled);
    let now = world.now;
    let one = volley(guesses(OURS, "192.0.2.2", [4000]));
    world.nodes[0].agent.start_volley(one, now);
    world.nodes[0].agent.handle_timeout(now);
    let probe = world.nodes[0]
        .agent
        .poll_transmit()
        .expect("a probe")
        .payload;
    let datagram = Datagram {
        local: address("192.0.2.2:4000"),
        remote: address(OURS),
        payload: &probe,
    };
    assert_eq!(
        world.nodes[1].agent.handle_datagram(datagram, now),
        Handled::Consumed
    );
    let answer = world.nodes[1]
        .agent
        .poll_transmit()
        .expect("an answer")
        .payload;
    let mut receive = |remote: &str, payload: &[u8]| {
        let datagram = Datagram {
            local: address(OURS),
            remote: address(remote),
            payload,
        };
        let agent = &mut world.nodes[0].agent;
        let handled = agent.handle_datagram(datagram, now);
        (handled, agent.pairs().count())
    };
    let mut forged = answer.clone();
    forged[25] ^= 1;
    assert_eq!(receive("192.0.2.2:4000", &forged), (Handled::NotMine, 0));
    assert_eq!(receive("192.0.2.3:4000", &answer), (Handled::Consumed, 0));
    assert_eq!(receive("192.0.2.2:4000", &answer), (Handled::Consumed, 1));
    assert_eq!(world.nodes[0].agent.stats().misdirected, 1);
}

#[test]
fn a_guess_is_answered_even_when_many_arrive_at_once() {
    // Far more hits than a birthday search ever has (eight of 2,048), and fewer than there may be pairs.
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, OURS, Role::Controlling);
    world.node(lan, "192.0.2.2:4000", Role::Controlled);
    world.add_anchors(0, 256, CandidateKind::Birthday);
    let all = volley(guesses("192.0.2.2:4000", "192.0.2.1", 20_000..20_090));
    let id = start(&mut world, 1, all);
    world.run_for(3 * SECOND);
    assert_eq!(ended(&world, 1), [(id, 90, 90)]);
    assert_eq!(world.nodes[0].agent.stats().answers_capped, 0);
    assert_eq!(world.nodes[0].agent.stats().replayed, 0);
    assert!(world.nodes[1].has_validated_direct());
}

fn homes(a: Nat, b: Nat) -> World {
    let mut world = World::new();
    let (a, b) = (world.lan(Some(a)), world.lan(Some(b)));
    world.node(a, "192.168.1.5:40000", Role::Controlling);
    world.node(b, "10.0.0.7:41000", Role::Controlled);
    world
}

fn hard(ip: &str) -> Nat {
    Nat::new(ip, Mapping::PerDestination, Filtering::AddressAndPort)
}

fn both_direct(world: &World) -> bool {
    world.nodes.iter().all(world::Node::has_validated_direct)
}

#[test]
fn two_hundred_and_fifty_six_sockets_and_random_guesses_meet() {
    const RUNS: u64 = 25;
    let mut opened = 0;
    for seed in 0..RUNS {
        let mut random = hard("198.51.100.1");
        random.random = Some(StdRng::seed_from_u64(seed));
        let easy = Nat::new(
            "198.51.100.2",
            Mapping::Independent,
            Filtering::AddressAndPort,
        );
        let mut world = homes(random, easy);
        let anchors = world.add_anchors(0, 256, CandidateKind::Birthday);
        let remote = address("198.51.100.2:41000");
        let openers = Volley {
            openers: true,
            ..volley(
                anchors
                    .iter()
                    .map(|local| Probe {
                        local: *local,
                        remote,
                    })
                    .collect(),
            )
        };
        start(&mut world, 0, openers);
        world.run_for(Duration::from_millis(600));
        let mut rng = StdRng::seed_from_u64(1000 + seed);
        let ports: std::collections::BTreeSet<u16> =
            std::iter::repeat_with(|| rng.random_range(1024..=u16::MAX))
                .take(2048)
                .collect();
        let probes = guesses("10.0.0.7:41000", "198.51.100.1", ports);
        start(&mut world, 1, volley(probes));
        opened += u64::from(world.run_until(5 * SECOND, both_direct).is_some());
        let budget = world.nodes[1].agent.stats();
        assert!(budget.volley_probes_sent <= 2048);
        let nat = world.lans[0].as_ref().expect("a NAT");
        assert!(nat.bindings() <= 260, "{}", nat.bindings());
    }
    assert_eq!(opened, RUNS);
}

#[test]
fn two_sequential_nats_meet_in_paired_windows() {
    let mut a = hard("198.51.100.1");
    a.stride = 1;
    let mut b = hard("198.51.100.2");
    (b.stride, b.next_port) = (1, 30_000);
    let mut world = homes(a, b);
    let ours = [0, 1].map(|node| world.add_anchors(node, 1, CandidateKind::Predicted)[0]);
    let seen = [0, 1].map(|node| world.sample(node, ours[node]));
    for node in [0, 1] {
        let other = seen[1 - node];
        let window = other.port() + 1..=other.port() + 16;
        let paired = Volley {
            kind: CandidateKind::Predicted,
            openers: true,
            passes: 2,
            ..volley(guesses(
                &ours[node].to_string(),
                &other.ip().to_string(),
                window,
            ))
        };
        start(&mut world, node, paired);
    }
    let took = world.run_until(SECOND, both_direct);
    assert!(took.is_some_and(|took| took < SECOND), "{took:?}");
    for node in &world.nodes {
        let via: Vec<_> = node
            .agent
            .pairs()
            .filter(|pair| pair.is_validated())
            .map(|pair| pair.via)
            .collect();
        assert!(via.iter().all(|via| *via == CandidateKind::Predicted));
    }
}

#[test]
fn a_probe_costs_no_memory_of_outstanding_checks() {
    let mut world = one_host();
    let now = world.now;
    world.nodes[0]
        .agent
        .add_remote_candidate(host("203.0.113.9:9"), now);
    let config = AgentConfig::default();
    assert!(u64::from(config.probes_per_second_max) * 3 > 1024);
    let pair = world.nodes[0].agent.pairs().next().expect("a pair").id;
    start(
        &mut world,
        0,
        volley(guesses(OURS, "198.51.100.9", 1..=2048)),
    );
    world.nodes[0].agent.check(pair, now);
    world.run_for(3 * SECOND);
    assert_eq!(world.nodes[0].agent.stats().checks_forgotten, 0);
}

//! What the punching agent costs: one check, small and full-size; one turn of an agent with a hundred pairs; one probe
//! of a volley; and a whole pair, from two agents that know nothing to a path on both sides.

#![expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use punch::{
    Agent, AgentConfig, Candidate, CandidateKind, Event, PairCredentials, Probe, Role,
    VOLLEY_PROBES_MAX, Volley,
};
use sansio::{Datagram, Transmit};

fn host(last: u8, port: u16) -> Candidate {
    let address = SocketAddr::from(([198, 51, 100, last], port));
    Candidate::new(CandidateKind::Host, address, address, 65535)
}

fn agent(role: Role, local: Candidate, config: AgentConfig, now: Instant) -> Agent {
    let (local_ufrag, remote_ufrag) = match role {
        Role::Controlling => ("ingress", "egress"),
        Role::Controlled => ("egress", "ingress"),
    };
    let credentials = PairCredentials {
        local_ufrag: local_ufrag.into(),
        remote_ufrag: remote_ufrag.into(),
        password: "one password for both directions".into(),
    };
    let mut agent = Agent::new(config, role, credentials, [7; 32], now);
    agent.add_local_candidate(local, now);
    agent
}

fn drain(agent: &mut Agent) {
    while let Some(transmit) = agent.poll_transmit() {
        black_box(transmit);
    }
    while let Some(event) = agent.poll_event() {
        black_box(event);
    }
}

fn unlimited() -> AgentConfig {
    AgentConfig {
        answers_per_second: u32::MAX,
        ..AgentConfig::default()
    }
}

/// Two agents of one pair, each with its host address.
fn two_agents(now: Instant) -> [Agent; 2] {
    [
        agent(Role::Controlling, host(1, 1000), unlimited(), now),
        agent(Role::Controlled, host(2, 2000), unlimited(), now),
    ]
}

fn deliver(agent: &mut Agent, transmit: &Transmit, now: Instant) {
    let datagram = Datagram {
        local: transmit.destination,
        remote: transmit.source,
        payload: &transmit.payload,
    };
    black_box(agent.handle_datagram(datagram, now) == sansio::Handled::Consumed);
}

/// Verifies one request and encodes its answer; then a whole check: asked, answered, and the answer verified.
fn check(c: &mut Criterion) {
    for (size, full_size) in [("small", 0), ("full_size", 1200)] {
        let mut now = Instant::now();
        let config = AgentConfig {
            full_size,
            ..unlimited()
        };
        let (ours, theirs) = (host(1, 1000), host(2, 2000));
        let mut asking = agent(Role::Controlling, ours, config.clone(), now);
        let mut answering = agent(Role::Controlled, theirs, config, now);
        asking.add_remote_candidate(theirs, now);
        let pair = asking.pairs().next().expect("one pair").id;

        c.bench_function(&format!("punch/request_answered/{size}"), |b| {
            asking.check(pair, now);
            let request = asking.poll_transmit().expect("a check");
            b.iter(|| {
                deliver(&mut answering, &request, now);
                drain(&mut answering);
            });
        });

        c.bench_function(&format!("punch/check_round_trip/{size}"), |b| {
            b.iter(|| {
                now += Duration::from_millis(100);
                asking.check(pair, now);
                let request = asking.poll_transmit().expect("a check");
                deliver(&mut answering, &request, now);
                let answer = answering.poll_transmit().expect("an answer");
                deliver(&mut asking, &answer, now);
                drain(&mut asking);
                drain(&mut answering);
            });
        });
    }
}

fn volley() -> Volley {
    let local = host(1, 1000).address;
    let remote = |port| SocketAddr::from(([198, 51, 100, 2], port));
    let ports = (1024..).take(VOLLEY_PROBES_MAX);
    Volley {
        probes: ports
            .map(|port| Probe {
                local,
                remote: remote(port),
            })
            .collect(),
        kind: CandidateKind::Birthday,
        per_second: 500,
        openers: false,
        passes: 1,
        pass_gap: Duration::ZERO,
    }
}

/// Sends the probes that are due one by one, as a driver does, until the volley has none left.
fn send_volley(asking: &mut Agent) {
    while asking.stats().volley_probes_sent < VOLLEY_PROBES_MAX as u64 {
        let deadline = asking.poll_timeout().expect("probes are left");
        asking.handle_timeout(deadline.at);
        drain(asking);
    }
}

/// A whole volley that nobody answers; and one probe from its encoding to the pair that its answer makes, with the
/// full-size check that follows.
fn probe(c: &mut Criterion) {
    let now = Instant::now();
    let started = || {
        let [mut asking, answering] = two_agents(now);
        asking.start_volley(volley(), now);
        (asking, answering)
    };
    let mut group = c.benchmark_group("punch/volley");
    group.throughput(Throughput::Elements(VOLLEY_PROBES_MAX as u64));
    group.bench_function("sent", |b| {
        b.iter_batched(
            started,
            |(mut asking, answering)| {
                send_volley(&mut asking);
                (asking, answering)
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();

    c.bench_function("punch/probe_answered", |b| {
        b.iter_batched(
            started,
            |(mut asking, mut answering)| {
                asking.handle_timeout(now);
                let probe = asking.poll_transmit().expect("a probe");
                let probe = Transmit {
                    destination: host(2, 2000).address,
                    ..probe
                };
                deliver(&mut answering, &probe, now);
                let answer = answering.poll_transmit().expect("an answer");
                let answer = Transmit {
                    source: SocketAddr::from(([198, 51, 100, 2], 1024)),
                    ..answer
                };
                deliver(&mut asking, &answer, now);
                (asking, answering)
            },
            BatchSize::LargeInput,
        );
    });
}

/// Two agents that have just learnt each other's addresses, until both have validated the pair: what a simulation
/// of many pairs pays for each beside its own world. Packets take 10 ms here.
fn pair_opened(c: &mut Criterion) {
    let mut group = c.benchmark_group("punch/simulated");
    group.throughput(Throughput::Elements(1));
    group.bench_function("pair_opened", |b| {
        b.iter(|| {
            let mut now = Instant::now();
            let mut agents = two_agents(now);
            agents[0].add_remote_candidate(host(2, 2000), now);
            agents[1].add_remote_candidate(host(1, 1000), now);
            let mut flying: Vec<(Instant, usize, Transmit)> = Vec::new();
            let mut validated = [false; 2];
            while validated != [true; 2] {
                let arrival = flying.iter().map(|(at, ..)| *at);
                let wake = agents.iter().filter_map(Agent::poll_timeout);
                let next = arrival.chain(wake.map(|deadline| deadline.at)).min();
                now = next.expect("attempts never stop").max(now);
                let (arrived, on_their_way) = flying.into_iter().partition(|(at, ..)| *at <= now);
                flying = on_their_way;
                let arrived: Vec<(Instant, usize, Transmit)> = arrived;
                for (_, to, transmit) in arrived {
                    // An opener dies behind the own router.
                    if transmit.ttl.is_none() {
                        deliver(&mut agents[to], &transmit, now);
                    }
                }
                for (index, agent) in agents.iter_mut().enumerate() {
                    agent.handle_timeout(now);
                    while let Some(transmit) = agent.poll_transmit() {
                        flying.push((now + Duration::from_millis(10), 1 - index, transmit));
                    }
                    while let Some(event) = agent.poll_event() {
                        validated[index] |= matches!(event, Event::PairValidated { .. });
                    }
                }
            }
            black_box(agents)
        });
    });
    group.finish();
}

/// One deadline of an agent with a hundred pairs that never open: a check sent, the next deadline found.
fn turn_of_a_hundred_pairs(c: &mut Criterion) {
    let now = Instant::now();
    let mut agent = agent(
        Role::Controlling,
        host(1, 1000),
        AgentConfig::default(),
        now,
    );
    for port in 0..100 {
        agent.add_remote_candidate(host(2, 2000 + port), now);
    }
    assert_eq!(agent.pairs().count(), 100);
    c.bench_function("punch/turn_of_100_pairs", |b| {
        b.iter(|| {
            let deadline = agent.poll_timeout().expect("attempts never stop");
            agent.handle_timeout(deadline.at);
            drain(&mut agent);
        });
    });
}

criterion_group!(benches, check, turn_of_a_hundred_pairs, probe, pair_opened);
criterion_main!(benches);

//! What the punching agent costs: one check answered, and one turn of an agent with a hundred pairs.

#![expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use punch::{Agent, AgentConfig, Candidate, CandidateKind, PairCredentials, Role};
use sansio::Datagram;

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

/// Verifies one request, encodes its answer, verifies that: a whole check on a validated pair.
fn check_round_trip(c: &mut Criterion) {
    let mut now = Instant::now();
    let config = AgentConfig {
        answers_per_second: u32::MAX,
        ..AgentConfig::default()
    };
    let (ours, theirs) = (host(1, 1000), host(2, 2000));
    let mut asking = agent(Role::Controlling, ours, config.clone(), now);
    let mut answering = agent(Role::Controlled, theirs, config, now);
    asking.add_remote_candidate(theirs, now);
    let pair = asking.pairs().next().expect("one pair").id;

    c.bench_function("punch/request_answered", |b| {
        asking.check(pair, now);
        let request = asking.poll_transmit().expect("a check").payload;
        let datagram = Datagram {
            local: theirs.address,
            remote: ours.address,
            payload: &request,
        };
        b.iter(|| {
            black_box(answering.handle_datagram(datagram, now) == sansio::Handled::Consumed);
            drain(&mut answering);
        });
    });

    c.bench_function("punch/check_round_trip", |b| {
        b.iter(|| {
            now += Duration::from_millis(100);
            asking.check(pair, now);
            let request = asking.poll_transmit().expect("a check").payload;
            let datagram = Datagram {
                local: theirs.address,
                remote: ours.address,
                payload: &request,
            };
            black_box(answering.handle_datagram(datagram, now) == sansio::Handled::Consumed);
            let answer = answering.poll_transmit().expect("an answer").payload;
            let datagram = Datagram {
                local: ours.address,
                remote: theirs.address,
                payload: &answer,
            };
            black_box(asking.handle_datagram(datagram, now) == sansio::Handled::Consumed);
            drain(&mut asking);
            drain(&mut answering);
        });
    });
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

criterion_group!(benches, check_round_trip, turn_of_a_hundred_pairs);
criterion_main!(benches);

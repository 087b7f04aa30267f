//! Random operations: invariants hold after each, and the same seed gives the same bytes.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use punch::{AgentConfig, Candidate, CandidateKind, PairId, Probe, Role, Volley};
use world::{Filtering, Mapping, Nat, World, address};

#[derive(Clone, Debug)]
enum Op {
    AddLocal(u8, u8),
    RemoveBase(u8),
    AddRemote(u8, u8, u16),
    SetRemotes(Vec<(u8, u8)>),
    Check(u8),
    Restart(u8),
    RestartUnvalidated,
    AddAnchor(u8),
    Volley(u8, u16),
    StopVolleys,
    Note(u8, u16),
    Narrow(bool),
    Run(u16),
    Late(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (any::<u8>(), any::<u8>()).prop_map(|(kind, n)| Op::AddLocal(kind, n)),
        any::<u8>().prop_map(Op::RemoveBase),
        (any::<u8>(), any::<u8>(), any::<u16>()).prop_map(|(kind, n, p)| Op::AddRemote(kind, n, p)),
        prop::collection::vec((any::<u8>(), any::<u8>()), 0..20).prop_map(Op::SetRemotes),
        any::<u8>().prop_map(Op::Check),
        any::<u8>().prop_map(Op::Restart),
        Just(Op::RestartUnvalidated),
        any::<u8>().prop_map(Op::AddAnchor),
        (any::<u8>(), 0..3000_u16).prop_map(|(n, probes)| Op::Volley(n, probes)),
        Just(Op::StopVolleys),
        (any::<u8>(), 0..700_u16).prop_map(|(n, length)| Op::Note(n, length)),
        any::<bool>().prop_map(Op::Narrow),
        (1..3000_u16).prop_map(Op::Run),
        (1..30_000_u16).prop_map(Op::Late),
    ]
}

fn some_candidate(kind: u8, n: u8, preference: u16) -> Candidate {
    let kind = [
        CandidateKind::Host,
        CandidateKind::PeerReflexive,
        CandidateKind::ServerReflexive,
        CandidateKind::PortMapped,
        CandidateKind::Predicted,
        CandidateKind::Birthday,
        CandidateKind::Relayed,
    ][usize::from(kind % 7)];
    let remote = match n % 8 {
        0 => SocketAddr::from(([192, 168, 1, 5], 40_000)),
        1 => SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(n))),
        2 => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 1000 + u16::from(n))),
        3 => SocketAddr::from(([0, 0, 0, 0], u16::from(n))),
        _ => SocketAddr::from(([198, 51, 100, 99], 1000 + u16::from(n % 64))),
    };
    Candidate::new(kind, remote, remote, preference)
}

fn apply(world: &mut World, op: &Op) {
    let now = world.now;
    let pick = |world: &World, n: u8| -> Option<PairId> {
        let pairs: Vec<_> = world.nodes[0].agent.pairs().map(|pair| pair.id).collect();
        pairs.get(usize::from(n) % pairs.len().max(1)).copied()
    };
    match op {
        Op::AddLocal(kind, n) => {
            let base = world.nodes[0].base;
            let candidate = Candidate {
                base,
                ..some_candidate(kind % 6, *n, 5)
            };
            world.nodes[0].agent.add_local_candidate(candidate, now);
        }
        Op::RemoveBase(n) => {
            let base = if n % 4 == 0 {
                world.nodes[0].base
            } else {
                address("192.0.2.5:5")
            };
            world.nodes[0].agent.remove_local_base(base, now);
        }
        Op::AddRemote(kind, n, preference) => {
            let candidate = some_candidate(*kind, *n, *preference);
            world.nodes[0].agent.add_remote_candidate(candidate, now);
        }
        Op::SetRemotes(all) => {
            let all = all
                .iter()
                .map(|(kind, n)| some_candidate(*kind, *n, u16::from(*n)));
            world.nodes[0]
                .agent
                .set_remote_candidates(all.collect(), now);
        }
        Op::Check(n) => {
            if let Some(pair) = pick(world, *n) {
                world.nodes[0].agent.check(pair, now);
            }
        }
        Op::Restart(n) => {
            if let Some(pair) = pick(world, *n) {
                world.nodes[0].agent.restart(pair, now);
            }
        }
        Op::RestartUnvalidated => world.nodes[0].agent.restart_unvalidated(now),
        Op::AddAnchor(n) => {
            world.add_anchors(0, u16::from(*n), CandidateKind::Birthday);
        }
        Op::Volley(n, probes) => start_volley(world, *n, *probes),
        Op::StopVolleys => {
            for volley in std::mem::take(&mut world.volleys) {
                world.nodes[0].agent.stop_volley(volley);
            }
        }
        Op::Note(n, length) => {
            if let Some(pair) = pick(world, *n) {
                let note = vec![*n; usize::from(*length)];
                let _ = world.nodes[0].agent.send_note(pair, note, now);
            }
        }
        Op::Narrow(narrow) => world.nodes[1].bytes_max = narrow.then_some(1000),
        Op::Run(ms) => world.run_for(Duration::from_millis(u64::from(*ms))),
        // The driver slept through deadlines (`World::run` asserts progress when it wakes).
        Op::Late(ms) => world.now += Duration::from_millis(u64::from(*ms)),
    }
    world.drain(0);
}

/// Guesses from the main socket and the anchors, some of which are right.
fn start_volley(world: &mut World, n: u8, probes: u16) {
    let node = &mut world.nodes[0];
    let bases: Vec<_> = std::iter::once(node.base)
        .chain(node.anchors.clone())
        .collect();
    let probes = (0..probes).map(|port| Probe {
        local: bases[usize::from(port) % bases.len()],
        remote: SocketAddr::from(([198, 51, 100, 2], 40_900 + port)),
    });
    let volley = Volley {
        probes: probes.collect(),
        kind: CandidateKind::Birthday,
        per_second: 1 + 10 * u32::from(n),
        openers: n.is_multiple_of(2),
        passes: n % 4,
        pass_gap: Duration::from_millis(u64::from(n)),
    };
    let id = node.agent.start_volley(volley, world.now);
    world.volleys.push(id);
}

fn simulate(ops: &[Op]) -> World {
    let mut world = World::new();
    world.loss_percent = 10;
    let nat = |ip| {
        Some(Nat::new(
            ip,
            Mapping::Independent,
            Filtering::AddressAndPort,
        ))
    };
    let (home_a, home_b) = (
        world.lan(nat("198.51.100.1")),
        world.lan(nat("198.51.100.2")),
    );
    let config = AgentConfig {
        pairs_max: 20,
        ..AgentConfig::default()
    };
    let credentials = world::credentials(Role::Controlling);
    world.node_with(
        home_a,
        "192.168.1.5:40000",
        Role::Controlling,
        credentials,
        config,
    );
    world.node(home_b, "10.0.0.7:41000", Role::Controlled);
    world.introduce(0, 1);
    for op in ops {
        apply(&mut world, op);
        let agent = &world.nodes[0].agent;
        let mut ends: Vec<_> = agent
            .pairs()
            .map(|pair| (pair.local.base, pair.remote.address))
            .collect();
        assert!(ends.len() <= 20);
        assert!(
            ends.iter()
                .all(|(base, remote)| base.is_ipv4() == remote.is_ipv4())
        );
        assert!(ends.iter().all(|(base, remote)| base != remote));
        ends.sort();
        ends.dedup();
        assert_eq!(
            ends.len(),
            agent.pairs().count(),
            "two pairs have the same ends"
        );
        let stats = agent.stats();
        assert!(stats.anchors_peak <= 256);
        let elapsed = (world.now - world.epoch).as_millis() as u64;
        assert!(
            stats.volley_probes_sent <= elapsed / 2 + 6,
            "too many probes"
        );
        let unvalidated = agent.pairs().any(|pair| !pair.is_validated());
        assert!(
            !unvalidated || agent.poll_timeout().is_some(),
            "attempts stopped"
        );
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn invariants_hold_and_deadlines_progress(ops in prop::collection::vec(op(), 1..40)) {
        simulate(&ops);
    }

    #[test]
    fn the_same_seed_and_inputs_give_the_same_bytes(ops in prop::collection::vec(op(), 1..20)) {
        let (first, second) = (simulate(&ops), simulate(&ops));
        for (one, other) in first.nodes.iter().zip(&second.nodes) {
            prop_assert_eq!(&one.sent, &other.sent);
            prop_assert_eq!(&one.events, &other.events);
        }
    }
}

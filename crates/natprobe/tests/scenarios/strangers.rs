//! Bytes that nobody asked for leave every machine as it is.

use std::net::SocketAddr;
use std::time::Duration;

use natprobe::{
    FilteringBehavior as F, LifetimeSearch, MappingBehavior as M, MappingCheck, MappingVerdict,
    Sampler, SamplerEvent,
};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use sansio::Handled;

use crate::model::{INSIDE, Machine, Nat, OUTSIDE, Ports, World, full, primary, seed};

#[test]
fn noise_and_answers_to_nobodys_questions_are_not_ours() {
    let mut sampler = World::around(nat(), vec![full()], 41, |now| {
        Sampler::new(vec![primary()], vec![inside()], seed(41), now)
    });
    disturb(&mut sampler);
    sampler.run_to_end();
    assert_eq!(
        sampler.events.last().map(|it| it.1),
        Some(SamplerEvent::Finished)
    );
    assert_eq!(sampler.machine.samples().len(), 1);

    let external = SocketAddr::new(OUTSIDE.parse().unwrap(), 6881);
    let mut check = World::around(nat(), vec![full()], 42, |now| {
        MappingCheck::new(vec![primary()], inside(), external, None, seed(42), now)
    });
    disturb(&mut check);
    check.run_to_end();
    assert!(matches!(
        check.machine.verdict(),
        Some(MappingVerdict::Refuted { .. })
    ));

    let mut search = World::around(nat(), vec![full()], 43, |now| {
        let sockets = (5000..5004).map(|port| SocketAddr::from(([10, 0, 0, 2], port)));
        LifetimeSearch::new(
            vec![primary()],
            sockets.collect(),
            Duration::from_secs(20),
            seed(43),
            now,
        )
    });
    disturb(&mut search);
    search.run_to_end();
    assert!(!search.events.is_empty());
}

/// Noise, and our own requests with single bits changed, from the server and from a stranger.
fn disturb<M: Machine>(world: &mut World<M>) {
    world.drain();
    let mut rng = StdRng::from_seed([44; 32]);
    let requests: Vec<Vec<u8>> = world
        .sent
        .iter()
        .map(|(_, it)| it.payload.clone())
        .collect();
    let stranger: SocketAddr = "198.51.100.66:3478".parse().expect("an address");
    for round in 0..2000 {
        let mut bytes = if round % 2 == 0 {
            let mut noise = vec![0; rng.random_range(0..80)];
            rng.fill_bytes(&mut noise);
            noise
        } else {
            requests[round % requests.len()].clone()
        };
        if let Some(byte) = bytes.first_mut() {
            // Of all classes, responses among them; the id is ours in every second round, but for one bit.
            *byte = rng.random_range(0..4);
        }
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        for from in [stranger, primary()] {
            assert_eq!(world.inject(from, &bytes), Handled::NotMine);
        }
    }
}

fn nat() -> Nat {
    let mut nat = Nat::new(M::EndpointIndependent, F::AddressAndPortDependent);
    nat.ports = Ports::Preserving;
    nat
}

fn inside() -> SocketAddr {
    INSIDE.parse().expect("an address")
}

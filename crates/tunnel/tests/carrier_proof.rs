//! The proof of the room, both ends in memory.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tunnel::carrier::{
    CarrierToken, Channel, Credentials, Failures, Hello, Output, PairKeys, Proof, ProofError,
    ProofOutcome, Side,
};

const INGRESS_KEY: [u8; 32] = [1; 32];
const EGRESS_KEY: [u8; 32] = [2; 32];
const INGRESS_INSTANCE: [u8; 16] = [3; 16];
const EGRESS_INSTANCE: [u8; 16] = [4; 16];

struct End {
    hello: Hello,
    password: [u8; 32],
    exporter: [u8; 32],
    own_key: [u8; 32],
    peer_key: [u8; 32],
    pairs: PairKeys,
    failures: Failures,
    now: Instant,
}

#[expect(clippy::disallowed_methods, reason = "a test needs some epoch")]
fn epoch() -> Instant {
    Instant::now()
}

fn hello(side: Side, instance: [u8; 16]) -> Hello {
    Hello {
        side,
        version_min: 1,
        version_max: 1,
        features: 0b11,
        instance,
        resume: Duration::from_secs(3600),
        token: CarrierToken(if side == Side::Ingress { 77 } else { 0 }),
    }
}

fn ends() -> (End, End) {
    let now = epoch();
    let end = |side, instance, own_key, peer_key| End {
        hello: hello(side, instance),
        password: [9; 32],
        exporter: [8; 32],
        own_key,
        peer_key,
        pairs: PairKeys::new(instance),
        failures: Failures::default(),
        now,
    };
    (
        end(Side::Ingress, INGRESS_INSTANCE, INGRESS_KEY, EGRESS_KEY),
        end(Side::Egress, EGRESS_INSTANCE, EGRESS_KEY, INGRESS_KEY),
    )
}

impl End {
    fn begin(&self) -> Proof {
        let credentials = Credentials {
            hello: self.hello,
            password: self.password.into(),
        };
        let channel = Channel {
            exporter: self.exporter,
            own_key: self.own_key,
            peer_key: self.peer_key,
        };
        Proof::new(
            credentials,
            channel,
            None,
            &self.pairs,
            [self.own_key[0]; 32],
        )
    }

    fn handle(&mut self, proof: &mut Proof, bytes: &[u8]) -> Result<(), ProofError> {
        proof.handle_bytes(bytes, &mut self.pairs, &mut self.failures, self.now)
    }
}

/// Runs both ends until they are done; the error says whose it was. Also counts how often the ingress had to wait.
fn prove(
    ingress: &mut End,
    egress: &mut End,
) -> Result<(ProofOutcome, ProofOutcome, u32), (Side, ProofError)> {
    let (mut a, mut b) = (ingress.begin(), egress.begin());
    let mut flights = 0;
    loop {
        if a.output() == Output::Turn {
            a.take_turn(&ingress.pairs);
        }
        let bytes = a.poll_transmit();
        egress
            .handle(&mut b, &bytes)
            .map_err(|error| (Side::Egress, error))?;
        if let (Output::Done(a), Output::Done(b)) = (a.output(), b.output()) {
            return Ok((a, b, flights));
        }
        let bytes = b.poll_transmit();
        assert!(!bytes.is_empty(), "both ends wait for each other");
        flights += 1;
        ingress
            .handle(&mut a, &bytes)
            .map_err(|error| (Side::Ingress, error))?;
    }
}

#[test]
fn the_first_carrier_of_a_pair_runs_spake2_in_one_round_trip() {
    let (mut ingress, mut egress) = ends();
    let (a, b, flights) = prove(&mut ingress, &mut egress).unwrap();
    assert!(a.first_of_pair && b.first_of_pair);
    assert_eq!(
        (a.peer.instance, b.peer.instance),
        (EGRESS_INSTANCE, INGRESS_INSTANCE)
    );
    assert_eq!((a.token, b.token), (CarrierToken(77), CarrierToken(77)));
    assert_eq!((a.version, a.features), (1, 0b11));
    assert_eq!(flights, 1);
    assert_eq!(egress.failures.total(), 0);
}

#[test]
fn later_carriers_of_a_pair_use_a_mac_bound_to_their_own_session() {
    let (mut ingress, mut egress) = ends();
    prove(&mut ingress, &mut egress).unwrap();
    ingress.exporter = [5; 32];
    egress.exporter = [5; 32];
    let (a, b, flights) = prove(&mut ingress, &mut egress).unwrap();
    assert!(!a.first_of_pair && !b.first_of_pair);
    assert_eq!(flights, 1);
}

#[test]
fn a_mac_from_another_tls_session_proves_nothing_and_what_follows_is_counted() {
    let (mut ingress, mut egress) = ends();
    prove(&mut ingress, &mut egress).unwrap();
    ingress.exporter = [5; 32];
    assert_eq!(
        prove(&mut ingress, &mut egress),
        Err((Side::Ingress, ProofError::WrongRoom)),
        "SPAKE2 runs instead, and notices it too"
    );
    assert_eq!(egress.failures.total(), 1);
}

/// Carrier A's last word is late: meanwhile the ingress, which another carrier told that it is unknown, has made a
/// second key of the pair.
#[test]
fn confirmations_that_overtake_each_other_do_not_lock_the_pair_out() {
    let (mut ingress, mut egress) = ends();
    let (mut a, mut b) = (ingress.begin(), egress.begin());
    a.take_turn(&ingress.pairs);
    egress.handle(&mut b, &a.poll_transmit()).unwrap();
    ingress.handle(&mut a, &b.poll_transmit()).unwrap();
    let late = a.poll_transmit();

    ingress.exporter = [5; 32];
    egress.exporter = [5; 32];
    let (second, _, flights) = prove(&mut ingress, &mut egress).unwrap();
    assert_eq!((second.first_of_pair, flights), (true, 2));
    egress.handle(&mut b, &late).unwrap();
    assert!(matches!(b.output(), Output::Done(_)));

    let (third, _, flights) = prove(&mut ingress, &mut egress).unwrap();
    assert_eq!(
        (third.first_of_pair, flights),
        (true, 2),
        "healed by SPAKE2"
    );
    let (fourth, _, flights) = prove(&mut ingress, &mut egress).unwrap();
    assert_eq!((fourth.first_of_pair, flights), (false, 1));
    assert_eq!(egress.failures.total(), 0);
}

/// A client that is restarted, or whose path moves, in the middle of its proof again and again.
#[test]
fn runs_that_were_interrupted_keep_a_rightful_peer_waiting_for_two_seconds_at_most() {
    let (mut ingress, mut egress) = ends();
    for run in 0..100_u8 {
        let (mut cut, mut accepting) = (ends().0, egress.begin());
        cut.hello.instance = [100 + run % 100; 16];
        let mut proof = cut.begin();
        proof.take_turn(&cut.pairs);
        // Refused or answered: either way nothing more is heard of this one.
        let _ = egress.handle(&mut accepting, &proof.poll_transmit());
        egress.now += Duration::from_millis(500);
    }
    egress.now += Duration::from_secs(2);
    assert!(prove(&mut ingress, &mut egress).is_ok());
}

#[test]
fn another_room_is_refused_by_the_ingress_and_counted_by_the_egress() {
    let (mut ingress, mut egress) = ends();
    ingress.password = [10; 32];
    assert_eq!(
        prove(&mut ingress, &mut egress),
        Err((Side::Ingress, ProofError::WrongRoom))
    );
    assert_eq!(
        egress.failures.total(),
        1,
        "leaving without a word is a failed guess too"
    );
    assert!(!ingress.pairs.contains(&EGRESS_KEY, &EGRESS_INSTANCE));
}

#[test]
fn somebody_between_two_tls_sessions_is_refused() {
    let (mut ingress, mut egress) = ends();
    egress.exporter = [5; 32];
    assert_eq!(
        prove(&mut ingress, &mut egress),
        Err((Side::Ingress, ProofError::WrongRoom))
    );
    let (mut ingress, mut egress) = ends();
    egress.peer_key = [6; 32];
    assert_eq!(
        prove(&mut ingress, &mut egress),
        Err((Side::Ingress, ProofError::WrongRoom))
    );
}

#[test]
fn a_restarted_egress_says_unknown_and_spake2_runs_on_the_same_carrier() {
    let (mut ingress, mut egress) = ends();
    prove(&mut ingress, &mut egress).unwrap();
    let (_, mut restarted) = ends();
    restarted.hello.instance = [44; 16];
    restarted.pairs = PairKeys::new([44; 16]);
    let (a, b, flights) = prove(&mut ingress, &mut restarted).unwrap();
    assert!(a.first_of_pair && b.first_of_pair);
    assert_eq!((a.peer.instance, flights), ([44; 16], 2));
    assert!(
        !ingress.pairs.contains(&EGRESS_KEY, &EGRESS_INSTANCE),
        "the old run is forgotten"
    );
    let (a, _, flights) = prove(&mut ingress, &mut restarted).unwrap();
    assert_eq!((a.first_of_pair, flights), (false, 1));
}

#[test]
fn a_pair_that_only_the_egress_forgot_runs_spake2_after_one_unknown() {
    let (mut ingress, mut egress) = ends();
    prove(&mut ingress, &mut egress).unwrap();
    egress.pairs = PairKeys::new(EGRESS_INSTANCE);
    let (a, _, flights) = prove(&mut ingress, &mut egress).unwrap();
    assert_eq!((a.first_of_pair, flights), (true, 2));
}

#[test]
fn a_restarted_ingress_runs_spake2_at_once() {
    let (mut ingress, mut egress) = ends();
    prove(&mut ingress, &mut egress).unwrap();
    let (mut restarted, _) = ends();
    restarted.hello.instance = [33; 16];
    let (a, _, flights) = prove(&mut restarted, &mut egress).unwrap();
    assert_eq!((a.first_of_pair, flights), (true, 1));
}

#[test]
fn a_carrier_that_waited_for_its_turn_uses_the_key_that_was_made_meanwhile() {
    let (mut ingress, mut egress) = ends();
    let mut waiting = ingress.begin();
    assert_eq!(waiting.output(), Output::Turn);
    prove(&mut ingress, &mut egress).unwrap();
    waiting.take_turn(&ingress.pairs);
    let mut accepting = egress.begin();
    egress
        .handle(&mut accepting, &waiting.poll_transmit())
        .unwrap();
    ingress
        .handle(&mut waiting, &accepting.poll_transmit())
        .unwrap();
    let Output::Done(outcome) = waiting.output() else {
        panic!("not done")
    };
    assert!(!outcome.first_of_pair);
}

#[test]
fn reflected_words_are_refused_by_both_ends() {
    let (mut ingress, mut egress) = ends();
    let mut proof = ingress.begin();
    proof.take_turn(&ingress.pairs);
    let bytes = proof.poll_transmit();
    assert_eq!(
        ingress.handle(&mut proof, &bytes),
        Err(ProofError::Reflected)
    );

    let mut first = egress.begin();
    let mut spoken = ingress.begin();
    spoken.take_turn(&ingress.pairs);
    egress.handle(&mut first, &spoken.poll_transmit()).unwrap();
    let answer = first.poll_transmit();
    let mut second = egress.begin();
    assert_eq!(
        egress.handle(&mut second, &answer),
        Err(ProofError::Reflected)
    );
}

#[test]
fn a_hello_with_our_own_instance_is_a_reflection() {
    let (mut ingress, mut egress) = ends();
    ingress.hello.instance = EGRESS_INSTANCE;
    assert_eq!(
        prove(&mut ingress, &mut egress),
        Err((Side::Egress, ProofError::Reflected))
    );
}

#[test]
fn the_highest_common_version_is_spoken_and_none_is_an_error() {
    let (mut ingress, mut egress) = ends();
    ingress.hello.version_max = 3;
    egress.hello.version_max = 2;
    let (a, b, _) = prove(&mut ingress, &mut egress).unwrap();
    assert_eq!((a.version, b.version), (2, 2));

    let (mut ingress, mut egress) = ends();
    ingress.hello.version_min = 2;
    ingress.hello.version_max = 3;
    let error = ProofError::Version {
        own_min: 1,
        own_max: 1,
        peer_min: 2,
        peer_max: 3,
    };
    assert_eq!(prove(&mut ingress, &mut egress), Err((Side::Egress, error)));
}

#[test]
fn a_changed_hello_breaks_the_proof() {
    let (mut ingress, mut egress) = ends();
    let (mut a, mut b) = (ingress.begin(), egress.begin());
    a.take_turn(&ingress.pairs);
    let mut bytes = a.poll_transmit();
    // The last byte of the feature bits: type, length, side, two versions, then eight bytes.
    bytes[3 + 1 + 4 + 7] ^= 1;
    egress.handle(&mut b, &bytes).unwrap();
    assert_eq!(
        ingress.handle(&mut a, &b.poll_transmit()),
        Err(ProofError::WrongRoom)
    );
}

#[test]
fn a_key_that_failed_too_often_waits_and_then_may_try_again() {
    let (mut ingress, mut egress) = ends();
    ingress.password = [10; 32];
    for _ in 0..5 {
        assert_eq!(
            prove(&mut ingress, &mut egress),
            Err((Side::Ingress, ProofError::WrongRoom))
        );
    }
    ingress.password = [9; 32];
    assert_eq!(
        prove(&mut ingress, &mut egress),
        Err((Side::Egress, ProofError::BackOff))
    );
    egress.now += Duration::from_secs(1);
    assert!(prove(&mut ingress, &mut egress).is_ok());
    assert_eq!(
        egress.failures.total(),
        5,
        "the good run is not counted, the bad ones stay"
    );
}

#[test]
fn unknown_frames_with_the_skip_bit_are_skipped_and_others_end_the_proof() {
    let (ingress, mut egress) = ends();
    let mut spoken = ingress.begin();
    spoken.take_turn(&ingress.pairs);
    let words = spoken.poll_transmit();

    let mut proof = egress.begin();
    let skipped = [&[0x99, 0, 2, 7, 7][..], &words].concat();
    assert_eq!(egress.handle(&mut proof, &skipped), Ok(()));
    assert!(!proof.poll_transmit().is_empty());

    let mut proof = egress.begin();
    let refused = [&[0x19, 0, 2, 7, 7][..], &words].concat();
    assert!(matches!(
        egress.handle(&mut proof, &refused),
        Err(ProofError::Frame(_))
    ));
}

#[test]
fn a_mac_is_asked_for_at_most_twice() {
    let (_, mut egress) = ends();
    let mut proof = egress.begin();
    let (ingress, _) = ends();
    let mut spoken = ingress.begin();
    spoken.take_turn(&ingress.pairs);
    let hello_len = 3 + 41;
    egress
        .handle(&mut proof, &spoken.poll_transmit()[..hello_len])
        .unwrap();
    let mac = [&[0x04, 0, 32][..], &[0; 32]].concat();
    assert_eq!(egress.handle(&mut proof, &mac), Ok(()));
    assert_eq!(egress.handle(&mut proof, &mac), Ok(()));
    assert!(matches!(
        egress.handle(&mut proof, &mac),
        Err(ProofError::Frame(_))
    ));
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_never_prove_anything(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
        is_ingress: bool,
        after_hello: bool,
    ) {
        let (mut ingress, mut egress) = ends();
        let end = if is_ingress { &mut ingress } else { &mut egress };
        let mut proof = end.begin();
        proof.take_turn(&end.pairs);
        if after_hello {
            let peer = if is_ingress { hello(Side::Egress, [7; 16]) } else { hello(Side::Ingress, [7; 16]) };
            let mut other = ends().0;
            other.hello = peer;
            if peer.side == Side::Ingress {
                let mut spoken = other.begin();
                spoken.take_turn(&other.pairs);
                let _ = end.handle(&mut proof, &spoken.poll_transmit()[..3 + 41]);
            }
        }
        for chunk in chunks {
            if end.handle(&mut proof, &chunk).is_err() {
                break;
            }
        }
        prop_assert!(!matches!(proof.output(), Output::Done(_)));
    }

    #[test]
    fn no_frame_with_a_chosen_type_panics_or_proves(
        frames in proptest::collection::vec((0_u8..8, proptest::collection::vec(any::<u8>(), 0..60)), 0..6),
        is_ingress: bool,
    ) {
        let (mut ingress, mut egress) = ends();
        let end = if is_ingress { &mut ingress } else { &mut egress };
        let mut proof = end.begin();
        proof.take_turn(&end.pairs);
        for (kind, body) in frames {
            let len = u16::try_from(body.len()).unwrap().to_be_bytes();
            let frame = [&[kind][..], &len, &body].concat();
            if end.handle(&mut proof, &frame).is_err() {
                break;
            }
        }
        prop_assert!(!matches!(proof.output(), Output::Done(_)));
    }
}

//! The mapping table is committed on both ends or on neither, whatever happens in between.
#![expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]

use std::time::Instant;

use mapping_core::{MappingId, PortMapping, WireMapping};
use proptest::prelude::*;
use tunnel::control::{
    Admission, ControlEgress, ControlError, ControlIngress, EgressEvent, Frame, FrameDecoder,
    FrameError, IngressEvent, Proposal, RefusedMapping, VERSION_WAIT,
};

#[test]
fn a_proposed_table_comes_in_force_on_both_ends() {
    let mut pair = Pair::default();
    pair.ingress
        .propose(1, vec![mapping(0, "tcp:8080:22"), mapping(1, "udp:53:53")]);
    pair.run();
    assert_eq!(pair.ingress.committed(), Some(1));
    assert_eq!(pair.egress.committed(), Some(1));
    assert_eq!(
        pair.egress.poll_event(),
        Some(EgressEvent::Committed { version: 1 })
    );
}

#[test]
fn one_refused_mapping_does_not_hold_back_the_others() {
    let mut pair = Pair {
        refuse: Some(MappingId::new(0)),
        ..Pair::default()
    };
    pair.ingress.propose(
        1,
        vec![mapping(0, "tcp:8080:22"), mapping(1, "tcp:8081:80")],
    );
    pair.run();
    let Some(IngressEvent::Agreed { verdicts, .. }) = pair.ingress.poll_event() else {
        panic!("agreed comes first");
    };
    assert_eq!(
        verdicts[0].refused.as_ref().map(|it| it.code.as_str()),
        Some("not-allowed")
    );
    assert_eq!(verdicts[1].refused, None);
    let now = Instant::now();
    assert!(matches!(
        pair.egress.admit(1, MappingId::new(0), now, now),
        Admission::No(_)
    ));
    assert!(matches!(
        pair.egress.admit(1, MappingId::new(1), now, now),
        Admission::Yes(_)
    ));
}

#[test]
fn while_one_version_is_under_way_the_latest_of_the_others_waits() {
    let mut pair = Pair::default();
    for version in 1..=4 {
        pair.ingress
            .propose(version, vec![mapping(0, "tcp:8080:22")]);
    }
    pair.run();
    let versions: Vec<_> = std::iter::from_fn(|| pair.egress.poll_event()).collect();
    let committed = |version| EgressEvent::Committed { version };
    assert_eq!(versions, [committed(1), committed(4)]);
    assert_eq!(pair.ingress.committed(), Some(4));
}

/// Both ends stop talking after any number of frames: neither is on a version that the other could still
/// refuse, and when the conversation goes on both are on the new one.
#[test]
fn no_step_leaves_the_ends_between_two_versions() {
    for stop_after in 0..=8 {
        let mut pair = Pair::default();
        pair.ingress.propose(1, vec![mapping(0, "tcp:8080:22")]);
        pair.run();
        pair.ingress.propose(2, vec![mapping(1, "tcp:8081:80")]);
        for _ in 0..stop_after {
            pair.step();
        }
        let (ingress, egress) = (pair.ingress.agreed(), pair.egress.committed());
        assert!(
            egress <= ingress,
            "the egress is ahead: {ingress:?} {egress:?}"
        );
        if ingress == Some(2) && egress == Some(1) {
            let now = Instant::now();
            let wait = pair.egress.admit(2, MappingId::new(1), now, now);
            assert_eq!(
                wait,
                Admission::Wait(now + VERSION_WAIT),
                "a flow waits for the COMMIT"
            );
        }
        pair.run();
        assert_eq!(pair.ingress.committed(), Some(2));
        assert_eq!(pair.egress.committed(), Some(2));
    }
}

#[test]
fn a_flow_that_names_a_version_never_committed_is_refused_after_the_wait() {
    let egress = ControlEgress::new();
    let asked = Instant::now();
    let late = asked + VERSION_WAIT;
    let Admission::No(refused) = egress.admit(1, MappingId::new(0), asked, late) else {
        panic!("refused");
    };
    assert_eq!(refused.code, "unknown-version");
}

#[test]
fn a_flow_of_an_older_version_is_judged_by_the_present_table() {
    let mut pair = Pair::default();
    pair.ingress.propose(
        1,
        vec![mapping(0, "tcp:8080:22"), mapping(1, "tcp:8081:80")],
    );
    pair.run();
    pair.ingress.propose(2, vec![mapping(1, "tcp:8081:80")]);
    pair.run();
    let now = Instant::now();
    assert!(matches!(
        pair.egress.admit(1, MappingId::new(1), now, now),
        Admission::Yes(_)
    ));
    assert!(matches!(
        pair.egress.admit(1, MappingId::new(0), now, now),
        Admission::No(_)
    ));
}

#[test]
fn frames_out_of_turn_end_the_conversation() {
    let commit = Frame::Commit(tunnel::control::Version { version: 1 });
    let expected = Err(ControlError::OutOfTurn { frame: "COMMIT" });
    assert_eq!(
        ControlEgress::new().handle_frame(commit.clone(), allow),
        expected
    );
    assert_eq!(ControlIngress::new().handle_frame(commit), expected);
    let mut egress = ControlEgress::new();
    let twice = vec![mapping(0, "tcp:1:1"), mapping(0, "tcp:2:2")];
    let proposal = Frame::Propose(Proposal {
        version: 1,
        mappings: twice,
    });
    let repeated = Err(ControlError::RepeatedMapping { id: 0 });
    assert_eq!(egress.handle_frame(proposal, allow), repeated);
}

#[test]
fn an_old_version_cannot_be_proposed_again() {
    let mut pair = Pair::default();
    pair.ingress.propose(5, vec![]);
    pair.run();
    let again = Frame::Propose(Proposal {
        version: 5,
        mappings: vec![],
    });
    let expected = Err(ControlError::OldVersion {
        version: 5,
        committed: 5,
    });
    assert_eq!(pair.egress.handle_frame(again, allow), expected);
}

#[test]
fn the_wire_form_is_fixed() {
    let proposal = Frame::Propose(Proposal {
        version: 3,
        mappings: vec![],
    });
    assert_eq!(
        &proposal.encode()[..],
        b"\x01\0\0\0\x1b{\"version\":3,\"mappings\":[]}"
    );
    let commit = Frame::Commit(tunnel::control::Version { version: 3 });
    assert_eq!(&commit.encode()[..], b"\x03\0\0\0\x0d{\"version\":3}");
}

#[test]
fn an_unknown_frame_is_skipped_only_if_it_says_so() {
    let mut decoder = FrameDecoder::new();
    decoder.push(b"\x99\0\0\0\x02hi\x03\0\0\0\x0d{\"version\":3}");
    let commit = Frame::Commit(tunnel::control::Version { version: 3 });
    assert_eq!(decoder.next_frame(), Ok(Some(commit)));
    decoder.push(b"\x19\0\0\0\0");
    assert_eq!(
        decoder.next_frame(),
        Err(FrameError::UnknownType { kind: 0x19 })
    );
}

#[test]
fn a_frame_above_the_limit_is_refused_before_it_is_read() {
    let mut decoder = FrameDecoder::new();
    decoder.push(b"\x01\x7f\0\0\0");
    assert_eq!(
        decoder.next_frame(),
        Err(FrameError::TooLong {
            length: 0x7f00_0000
        })
    );
}

proptest! {
    #[test]
    fn frames_survive_any_cutting(cuts in prop::collection::vec(1_usize..40, 0..40)) {
        let frames = [
            Frame::Propose(Proposal { version: 1, mappings: vec![mapping(0, "tcp:8080:22")] }),
            Frame::Commit(tunnel::control::Version { version: 1 }),
        ];
        let mut wire: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut decoder = FrameDecoder::new();
        let mut decoded = Vec::new();
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let rest = wire.split_off(cut.min(wire.len()));
            decoder.push(&std::mem::replace(&mut wire, rest));
            while let Some(frame) = decoder.next_frame().unwrap() {
                decoded.push(frame);
            }
        }
        prop_assert_eq!(decoded, frames);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = FrameDecoder::new();
        decoder.push(&bytes);
        while let Ok(Some(frame)) = decoder.next_frame() {
            let _ = ControlEgress::new().handle_frame(frame.clone(), allow);
            let _ = ControlIngress::new().handle_frame(frame);
        }
    }
}

/// Both ends, and the frames between them.
#[derive(Default)]
struct Pair {
    ingress: ControlIngress,
    egress: ControlEgress,
    refuse: Option<MappingId>,
}

impl Pair {
    /// Delivers one frame; returns whether there was one.
    fn step(&mut self) -> bool {
        if let Some(frame) = self.ingress.poll_frame() {
            let refuse = self.refuse;
            let judge = |mapping: &WireMapping| match refuse == Some(mapping.id) {
                true => Err(RefusedMapping {
                    code: "not-allowed".into(),
                    text: "no".into(),
                }),
                false => Ok(()),
            };
            self.egress
                .handle_frame(frame, judge)
                .expect("the ingress keeps the rules");
            return true;
        }
        if let Some(frame) = self.egress.poll_frame() {
            self.ingress
                .handle_frame(frame)
                .expect("the egress keeps the rules");
            return true;
        }
        false
    }

    fn run(&mut self) {
        while self.step() {}
    }
}

fn allow(_: &WireMapping) -> Result<(), RefusedMapping> {
    Ok(())
}

fn mapping(id: u32, spec: &str) -> WireMapping {
    WireMapping::new(
        MappingId::new(id),
        &spec.parse::<PortMapping>().expect("a rule"),
    )
}

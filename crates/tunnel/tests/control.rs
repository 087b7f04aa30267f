//! The mapping table is committed on both ends or on neither, whatever happens in between.
#![expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use mapping_core::{MappingId, PortMapping, WireMapping};
use proptest::prelude::*;
use tunnel::control::{
    Admission, Answer, ControlEgress, ControlError, ControlIngress, EgressEvent, Frame,
    FrameDecoder, FrameError, IngressEvent, Proposal, RefusedMapping, VERSION_WAIT, Verdict,
};

#[test]
fn a_proposed_table_comes_in_force_on_both_ends() {
    let mut pair = Pair::default();
    pair.ingress
        .propose(1, vec![mapping(0, "tcp:8080:22"), mapping(1, "udp:53:53")]);
    pair.run();
    assert_eq!(pair.ingress.committed(), Some(1));
    assert_eq!(pair.egress.committed(), Some(1));
    assert_eq!(pair.egress.poll_event(), Some(committed(1, [])));
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
fn an_ingress_that_proposes_without_reading_the_answers_is_cut_off() {
    let mut egress = ControlEgress::new();
    let broken = (1..=100).find_map(|version| {
        let proposal = Proposal {
            version,
            mappings: vec![mapping(0, "tcp:8080:22")],
        };
        let handled = egress.handle_frame(Frame::Propose(proposal), |_| Ok(()));
        handled.err()
    });
    let frame = "PROPOSE";
    assert_eq!(broken, Some(ControlError::OutOfTurn { frame }));
    let waiting = std::iter::from_fn(|| egress.poll_frame()).count();
    assert!(waiting <= 16, "{waiting}");
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
    assert_eq!(versions, [committed(1, []), committed(4, [])]);
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
fn the_egress_is_told_what_is_in_force_no_more() {
    let mut pair = Pair {
        refuse: Some(MappingId::new(2)),
        ..Pair::default()
    };
    let [first, second, third] = [0, 1, 2].map(|id| mapping(id, "tcp:1:1"));
    pair.ingress
        .propose(1, vec![first, second.clone(), third.clone()]);
    pair.run();
    pair.ingress.propose(2, vec![second]);
    pair.run();
    // It was never accepted, so nothing of it can be over.
    pair.ingress.propose(3, vec![third]);
    pair.run();
    let events: Vec<_> = std::iter::from_fn(|| pair.egress.poll_event()).collect();
    assert_eq!(
        events,
        [committed(1, []), committed(2, [0]), committed(3, [1])]
    );
}

/// The largest table that a person can ask for passes both ways, whatever is said of each mapping.
#[test]
fn the_largest_table_fits_a_frame() {
    let host = ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join(".") + ".example";
    let spec = |port: u32| {
        let bind = format!("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:{port:x}]");
        format!("tcp:{bind}:60000-65535:{host}:60000-65535")
    };
    let mappings: Vec<_> = (0..1024).map(|id| mapping(id, &spec(id))).collect();
    let answer = Answer {
        version: u64::MAX,
        verdicts: mappings.iter().map(verdict_of_two_lines).collect(),
    };
    let proposal = Proposal {
        version: u64::MAX,
        mappings,
    };
    let frames = [Frame::Propose(proposal), Frame::Answer(answer)];
    let mut decoder = FrameDecoder::new();
    for frame in frames {
        decoder.push(&frame.encode());
        assert_eq!(decoder.next_frame(), Ok(Some(frame)));
    }
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

    /// Changes come at any moment, and either process may be lost at any: at every step each end is on a whole
    /// version, the egress on none that the ingress does not know to be agreed, and in the end both are on the
    /// newest.
    #[test]
    fn whatever_is_lost_both_ends_are_on_one_version(happenings in prop::collection::vec(happening(), 0..60)) {
        let mut world = ChangingWorld::default();
        for happening in happenings {
            world.let_happen(happening);
            world.check();
        }
        world.pair.run();
        world.check();
        let newest = (world.version > 0).then_some(world.version);
        prop_assert_eq!(world.pair.ingress.committed(), newest);
        prop_assert_eq!(world.pair.egress.committed(), newest);
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

#[derive(Clone, Debug)]
enum Happening {
    /// A person wants another table.
    Change(BTreeSet<u32>),
    /// One frame arrives.
    Frame,
    /// The egress process is another one, which knows nothing, and frames under way are lost.
    EgressReplaced,
    /// The ingress process is another one, with the table of its file.
    IngressReplaced,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => prop::collection::btree_set(0_u32..6, 0..5).prop_map(Happening::Change),
        8 => Just(Happening::Frame),
        1 => Just(Happening::EgressReplaced),
        1 => Just(Happening::IngressReplaced),
    ]
}

/// What people wanted, version by version, and the two ends.
#[derive(Default)]
struct ChangingWorld {
    version: u64,
    tables: BTreeMap<u64, BTreeSet<u32>>,
    pair: Pair,
}

impl ChangingWorld {
    fn let_happen(&mut self, happening: Happening) {
        match happening {
            Happening::Change(table) => {
                self.version += 1;
                self.tables.insert(self.version, table);
                self.propose();
            }
            Happening::Frame => drop(self.pair.step()),
            Happening::EgressReplaced => {
                self.pair = Pair::default();
                self.propose();
            }
            Happening::IngressReplaced => {
                self.pair = Pair::default();
                self.version = 1;
                self.tables = BTreeMap::from([(1, BTreeSet::from([0, 1]))]);
                self.propose();
            }
        }
    }

    fn propose(&mut self) {
        if let Some(table) = self.tables.get(&self.version) {
            let mappings = table.iter().map(|id| mapping(*id, "tcp:8080:22")).collect();
            self.pair.ingress.propose(self.version, mappings);
        }
    }

    fn check(&self) {
        let Pair {
            ingress, egress, ..
        } = &self.pair;
        assert!(ingress.committed() <= egress.committed());
        assert!(egress.committed() <= ingress.agreed());
        if let Some(version) = egress.committed() {
            let mappings = egress.mappings().iter();
            let in_force: BTreeSet<u32> = mappings.map(|it| it.mapping.id.value()).collect();
            assert_eq!(
                in_force, self.tables[&version],
                "version {version} as a whole"
            );
        }
    }
}

fn committed<const N: usize>(version: u64, removed: [u32; N]) -> EgressEvent {
    let removed = BTreeSet::from(removed);
    EgressEvent::Committed { version, removed }
}

fn verdict_of_two_lines(mapping: &WireMapping) -> Verdict {
    Verdict {
        id: mapping.id,
        refused: Some(RefusedMapping {
            code: "not-allowed".into(),
            text: format!("{} {}", mapping.spec, "x".repeat(160)),
        }),
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

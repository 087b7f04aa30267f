//! Control frames: the decoder in any pieces, and both ends of the conversation.

use std::time::Instant;

use mapping_core::{MappingId, PortMapping, WireMapping};
use tunnel::control::{
    ControlEgress, ControlIngress, EgressEvent, Frame, FrameDecoder, FrameError, IngressEvent,
    RefusedMapping,
};

use crate::pieces::{pieces, split_cuts};
use crate::target::epoch;

/// Reads the bytes as a flow in two ways, then says them to both ends, each in the middle of an honest talk.
pub fn run(data: &[u8]) {
    let (cuts, bytes) = split_cuts(data);
    let whole = read(bytes, &[]);
    assert_eq!(read(bytes, cuts), whole);
    for frame in &whole.0 {
        let wire = frame.encode();
        assert_eq!(read(&wire, &[]), (vec![frame.clone()], None));
    }
    let turns = cuts.first().copied().unwrap_or_default();
    say_to_egress(&whole.0, epoch());
    say_to_ingress(&whole.0, turns);
    commit_on_both(turns);
}

fn read(bytes: &[u8], cuts: &[u8]) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    for piece in pieces(bytes, cuts) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// Refuses every third mapping.
fn judge(mapping: &WireMapping) -> Result<(), RefusedMapping> {
    if mapping.id.value().is_multiple_of(3) {
        let (code, text) = ("not-allowed".to_owned(), "no".to_owned());
        return Err(RefusedMapping { code, text });
    }
    Ok(())
}

fn say_to_egress(frames: &[Frame], now: Instant) {
    let mut egress = ControlEgress::new();
    let mut prepared: Option<u64> = None;
    for frame in frames {
        let before = egress.committed();
        let said = egress.handle_frame(frame.clone(), judge);
        if said.is_err() {
            assert_eq!(egress.committed(), before, "a broken rule changes nothing");
            assert!(egress.poll_frame().is_none());
            return;
        }
        match frame {
            Frame::Propose(proposal) => {
                assert!(before.is_none_or(|before| proposal.version > before));
                let Some(Frame::Answer(answer)) = egress.poll_frame() else {
                    panic!("a proposal is answered");
                };
                assert_eq!(answer.version, proposal.version);
                let ids = answer.verdicts.iter().map(|verdict| verdict.id);
                assert!(ids.eq(proposal.mappings.iter().map(|mapping| mapping.id)));
                prepared = Some(proposal.version);
            }
            Frame::Commit(version) => {
                assert_eq!(
                    prepared.take(),
                    Some(version.version),
                    "only what was answered"
                );
                assert_eq!(egress.committed(), Some(version.version));
                assert_eq!(egress.poll_frame(), Some(Frame::Committed(*version)));
                let Some(EgressEvent::Committed { version: said, .. }) = egress.poll_event() else {
                    panic!("a commit is told");
                };
                assert_eq!(said, version.version);
            }
            Frame::Abort(version) => {
                prepared.take_if(|prepared| *prepared == version.version);
            }
            Frame::Answer(_) | Frame::Committed(_) => panic!("taken out of turn"),
        }
        assert!(egress.poll_frame().is_none() && egress.poll_event().is_none());
        for judged in egress.mappings() {
            let id = judged.mapping.id;
            let _ = egress.admit(egress.committed().unwrap_or_default(), id, now, now);
            assert_eq!(judged.refused.is_some(), id.value().is_multiple_of(3));
        }
    }
}

fn table(version: u64) -> Vec<WireMapping> {
    (0..version % 5)
        .map(|id| {
            let mapping: PortMapping = "tcp:8080:22".parse().expect("it is one");
            WireMapping::new(
                MappingId::new(u32::try_from(id).expect("below 5")),
                &mapping,
            )
        })
        .collect()
}

fn say_to_ingress(frames: &[Frame], turns: u8) {
    let mut ingress = ControlIngress::new();
    let mut version = 0;
    for (step, frame) in frames.iter().enumerate() {
        if turns >> (step % 8) & 1 == 0 {
            version += 1;
            ingress.propose(version, table(version));
        }
        let before = (ingress.agreed(), ingress.committed());
        if ingress.handle_frame(frame.clone()).is_err() {
            assert_eq!((ingress.agreed(), ingress.committed()), before);
            return;
        }
        // Frames wait only while nobody takes them: one proposal, or the COMMIT that follows it.
        let mut waiting = 0;
        while ingress.poll_frame().is_some() {
            waiting += 1;
            assert!(waiting <= 2);
        }
        while ingress.poll_event().is_some() {}
        assert!(ingress.committed() <= ingress.agreed() && ingress.agreed() <= Some(version));
    }
}

/// Two honest ends agree, whatever is proposed while they talk.
fn commit_on_both(turns: u8) {
    let (mut ingress, mut egress) = (ControlIngress::new(), ControlEgress::new());
    let mut version = 0;
    let mut agreed = Vec::new();
    for step in 0..24 {
        if step < 8 && turns >> step & 1 == 1 {
            version += 1;
            ingress.propose(version, table(version));
        }
        if let Some(frame) = ingress.poll_frame() {
            egress
                .handle_frame(frame, judge)
                .expect("an honest ingress");
        }
        if let Some(frame) = egress.poll_frame() {
            ingress.handle_frame(frame).expect("an honest egress");
        }
        while let Some(event) = ingress.poll_event() {
            if let IngressEvent::Agreed { version, .. } = event {
                agreed.push(version);
            }
        }
    }
    assert!(agreed.is_sorted());
    let wanted = (version > 0).then_some(version);
    assert_eq!((ingress.committed(), egress.committed()), (wanted, wanted));
}

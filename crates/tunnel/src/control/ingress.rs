//! The end that proposes.

use std::collections::VecDeque;

use mapping_core::WireMapping;

use super::ControlError;
use super::frame::{Frame, Proposal, Verdict, Version};

/// What the ingress learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngressEvent {
    /// The egress can no longer refuse the version: flows may name it from now on.
    Agreed {
        /// Which version.
        version: u64,
        /// One verdict for each mapping.
        verdicts: Vec<Verdict>,
    },
    /// The version is in force on both ends.
    Committed {
        /// Which version.
        version: u64,
    },
}

#[derive(Debug)]
enum Stage {
    /// Nothing is under way.
    Idle,
    /// Waiting for the verdicts.
    Proposed {
        version: u64,
        ids: Vec<mapping_core::MappingId>,
    },
    /// Waiting for the egress to say that it is in force.
    Committing { version: u64 },
}

/// The ingress end of the control conversation with one instance.
#[derive(Debug)]
pub struct ControlIngress {
    stage: Stage,
    /// The newest table that still has to be proposed; an older one that waits is never sent.
    next: Option<Proposal>,
    agreed: Option<u64>,
    committed: Option<u64>,
    frames: VecDeque<Frame>,
    events: VecDeque<IngressEvent>,
}

impl Default for ControlIngress {
    fn default() -> Self {
        Self::new()
    }
}

impl ControlIngress {
    /// Begins from nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            stage: Stage::Idle,
            next: None,
            agreed: None,
            committed: None,
            frames: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Wants a table in force; while one is under way the latest waits. `version` is higher than any before.
    pub fn propose(&mut self, version: u64, mappings: Vec<WireMapping>) {
        self.next = Some(Proposal { version, mappings });
        self.start_next();
    }

    fn start_next(&mut self) {
        if !matches!(self.stage, Stage::Idle) {
            return;
        }
        if let Some(proposal) = self.next.take() {
            let ids = proposal.mappings.iter().map(|mapping| mapping.id).collect();
            self.stage = Stage::Proposed {
                version: proposal.version,
                ids,
            };
            self.frames.push_back(Frame::Propose(proposal));
        }
    }

    /// Takes a frame of the egress.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when the egress breaks the rules; the conversation is over then.
    pub fn handle_frame(&mut self, frame: Frame) -> Result<(), ControlError> {
        let name = frame.name();
        match (frame, &self.stage) {
            (Frame::Answer(answer), Stage::Proposed { version, ids })
                if answer.version == *version
                    && answer
                        .verdicts
                        .iter()
                        .map(|verdict| verdict.id)
                        .eq(ids.iter().copied()) =>
            {
                let version = answer.version;
                self.agreed = Some(version);
                self.stage = Stage::Committing { version };
                self.frames.push_back(Frame::Commit(Version { version }));
                let verdicts = answer.verdicts;
                self.events
                    .push_back(IngressEvent::Agreed { version, verdicts });
                Ok(())
            }
            (Frame::Committed(Version { version }), Stage::Committing { version: expected })
                if version == *expected =>
            {
                self.committed = Some(version);
                self.stage = Stage::Idle;
                self.events.push_back(IngressEvent::Committed { version });
                self.start_next();
                Ok(())
            }
            _ => Err(ControlError::OutOfTurn { frame: name }),
        }
    }

    /// Returns the next frame to write into flow 0.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// Returns what happened.
    pub fn poll_event(&mut self) -> Option<IngressEvent> {
        self.events.pop_front()
    }

    /// Returns the version that flows may name.
    #[must_use]
    pub const fn agreed(&self) -> Option<u64> {
        self.agreed
    }

    /// Returns the version that is in force on both ends.
    #[must_use]
    pub const fn committed(&self) -> Option<u64> {
        self.committed
    }
}

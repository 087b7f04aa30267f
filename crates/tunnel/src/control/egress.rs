//! The end that judges.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use mapping_core::{MappingId, WireMapping};

use super::ControlError;
use super::frame::{Answer, Frame, Proposal, RefusedMapping, Verdict, Version};

/// A flow that names a version not yet in force waits this long for its COMMIT: flow 0 may be waiting for
/// a carrier while the flow already has one.
pub const VERSION_WAIT: Duration = Duration::from_secs(5);
/// How many answers may wait for the ingress to read them: it proposes one version at a time, and waits for two
/// words about each. One that goes on without reading would have them pile up.
const FRAMES_MAX: usize = 8;
/// A table has at most this many mappings: a range is one.
const MAPPINGS_MAX: usize = 1024;

/// What the egress learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressEvent {
    /// A version is in force.
    Committed {
        /// Which version.
        version: u64,
        /// The mappings of the version before that are not accepted in this one: their flows are over.
        removed: BTreeSet<u32>,
    },
}

/// Whether a flow may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// This is what it leads to.
    Yes(WireMapping),
    /// Ask again when a version comes in force, and at the latest then.
    Wait(Instant),
    /// Never.
    No(RefusedMapping),
}

/// One mapping of a table, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedMapping {
    /// As proposed.
    pub mapping: WireMapping,
    /// Why it is in error, if it is.
    pub refused: Option<RefusedMapping>,
}

#[derive(Debug)]
struct Table {
    version: u64,
    mappings: Vec<JudgedMapping>,
}

/// The egress end of the control conversation with one instance.
#[derive(Debug, Default)]
pub struct ControlEgress {
    prepared: Option<Table>,
    committed: Option<Table>,
    frames: VecDeque<Frame>,
    events: VecDeque<EgressEvent>,
}

impl ControlEgress {
    /// Begins from nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a frame of the ingress; `judge` says whether a mapping may be.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when the ingress breaks the rules; the conversation is over then.
    pub fn handle_frame(
        &mut self,
        frame: Frame,
        judge: impl Fn(&WireMapping) -> Result<(), RefusedMapping>,
    ) -> Result<(), ControlError> {
        let name = frame.name();
        match frame {
            Frame::Propose(proposal) => self.prepare(proposal, judge),
            Frame::Commit(Version { version }) => self.commit(version),
            Frame::Abort(Version { version }) => {
                self.prepared.take_if(|table| table.version == version);
                Ok(())
            }
            Frame::Answer(_) | Frame::Committed(_) => Err(ControlError::OutOfTurn { frame: name }),
        }
    }

    fn prepare(
        &mut self,
        proposal: Proposal,
        judge: impl Fn(&WireMapping) -> Result<(), RefusedMapping>,
    ) -> Result<(), ControlError> {
        let Proposal { version, mappings } = proposal;
        if self.frames.len() >= FRAMES_MAX {
            return Err(ControlError::OutOfTurn { frame: "PROPOSE" });
        }
        if let Some(committed) = self.committed().filter(|committed| version <= *committed) {
            return Err(ControlError::OldVersion { version, committed });
        }
        if mappings.len() > MAPPINGS_MAX {
            let count = mappings.len();
            return Err(ControlError::TooManyMappings {
                count,
                limit: MAPPINGS_MAX,
            });
        }
        let mut ids = BTreeSet::new();
        if let Some(repeated) = mappings.iter().find(|mapping| !ids.insert(mapping.id)) {
            return Err(ControlError::RepeatedMapping {
                id: repeated.id.value(),
            });
        }
        let mappings: Vec<_> = mappings
            .into_iter()
            .map(|mapping| JudgedMapping {
                refused: judge(&mapping).err(),
                mapping,
            })
            .collect();
        let verdicts = mappings
            .iter()
            .map(|judged| Verdict {
                id: judged.mapping.id,
                refused: judged.refused.clone(),
            })
            .collect();
        self.frames
            .push_back(Frame::Answer(Answer { version, verdicts }));
        self.prepared = Some(Table { version, mappings });
        Ok(())
    }

    fn commit(&mut self, version: u64) -> Result<(), ControlError> {
        let Some(table) = self.prepared.take_if(|table| table.version == version) else {
            return Err(ControlError::OutOfTurn { frame: "COMMIT" });
        };
        let accepted = |table: &Table| -> BTreeSet<u32> {
            let mappings = table.mappings.iter();
            mappings
                .filter(|judged| judged.refused.is_none())
                .map(|judged| judged.mapping.id.value())
                .collect()
        };
        let before = self.committed.as_ref().map(accepted).unwrap_or_default();
        let removed = &before - &accepted(&table);
        self.committed = Some(table);
        self.frames.push_back(Frame::Committed(Version { version }));
        self.events
            .push_back(EgressEvent::Committed { version, removed });
        Ok(())
    }

    /// Decides whether a flow may begin that names a version and a mapping; `first_asked` is when the flow
    /// arrived. Ids are never given twice, so a mapping that is in the present table is the one that an
    /// older version named.
    #[must_use]
    pub fn admit(
        &self,
        version: u64,
        mapping: MappingId,
        first_asked: Instant,
        now: Instant,
    ) -> Admission {
        if self.committed().is_none_or(|committed| committed < version) {
            let until = first_asked + VERSION_WAIT;
            if now < until {
                return Admission::Wait(until);
            }
            return Admission::No(refusal(
                "unknown-version",
                format!("version {version} of the mapping table is not in force"),
            ));
        }
        match self
            .mappings()
            .iter()
            .find(|judged| judged.mapping.id == mapping)
        {
            Some(JudgedMapping {
                refused: Some(refused),
                ..
            }) => Admission::No(refused.clone()),
            Some(JudgedMapping {
                mapping,
                refused: None,
            }) => Admission::Yes(mapping.clone()),
            None => Admission::No(refusal(
                "unknown-mapping",
                format!("mapping {} is not in the table", mapping.value()),
            )),
        }
    }

    /// Returns the mappings that are in force, those in error included.
    #[must_use]
    pub fn mappings(&self) -> &[JudgedMapping] {
        self.committed.as_ref().map_or(&[], |table| &table.mappings)
    }

    /// Returns the version in force.
    #[must_use]
    pub fn committed(&self) -> Option<u64> {
        self.committed.as_ref().map(|table| table.version)
    }

    /// Returns the next frame to write into flow 0.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// Returns what happened.
    pub fn poll_event(&mut self) -> Option<EgressEvent> {
        self.events.pop_front()
    }
}

fn refusal(code: &str, text: String) -> RefusedMapping {
    RefusedMapping {
        code: code.to_owned(),
        text,
    }
}

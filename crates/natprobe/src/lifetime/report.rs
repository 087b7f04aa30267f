//! What a search for lifetimes has found: pure judgement.

use std::time::Duration;

/// What a [`crate::LifetimeSearch`] has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifetimeEvent {
    /// A binding outlived a silence of so long, or did not.
    Waited {
        /// How long it was idle.
        idle: Duration,
        /// Whether it was still there.
        alive: bool,
    },
    /// The last event.
    Finished(LifetimeReport),
}

/// How long bindings live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifetimeReport {
    /// The longest silence that a binding outlived. `None` when nothing could be observed.
    pub idle_alive: Option<Duration>,
    /// The shortest silence after which it was gone. `None` when none was, as far as was searched.
    pub idle_gone: Option<Duration>,
    /// The age at which bindings ended although they were used all the time, at most 5 s too high. `None` when none
    /// did as long as was watched, or when it could not be observed.
    pub absolute: Option<Duration>,
    /// How long bindings were used without end, where none ended.
    pub absolute_watched: Option<Duration>,
    /// Why: sentences for a person.
    pub evidence: Vec<String>,
}

/// How a binding is found to be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Not known yet.
    Undecided,
    /// The server answers to its public port when another socket asks (RFC 5780, section 4.6).
    Knock,
    /// The socket itself asks, and sees whether it has another public address.
    Ask,
}

/// What was found of all subjects.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// Silences, and whether the binding outlived them.
    pub(super) waited: Vec<(Duration, bool)>,
    /// Ages at which the watched bindings were found gone.
    pub(super) gone_at_age: Vec<Duration>,
    /// The age to which one was watched and not found gone.
    pub(super) watched: Option<Duration>,
    /// Same public address, but the NAT keeps ports, so that it would be the same anyway.
    pub(super) invisible: bool,
}

/// The ages of two bindings that ended by age, not by an accident that struck both at once, differ by no more: one
/// interval between two looks, and the time that a look takes.
const AGES_ALIKE: Duration = Duration::from_secs(7);

/// A binding that was gone after a silence may have ended by age when it was about that old: the time for making it
/// and for looking.
const AGE_SLACK: Duration = Duration::from_secs(8);

impl Findings {
    /// Returns the shortest silence that ended a binding.
    pub(super) fn shortest_gone(&self) -> Option<Duration> {
        let gone = self.waited.iter().filter(|(_, alive)| !alive);
        gone.map(|(idle, _)| *idle).min()
    }

    pub(super) fn report(&self, method: Method, watchers: usize) -> LifetimeReport {
        let gone = self.shortest_gone();
        let idle_alive = self
            .waited
            .iter()
            .filter(|(idle, alive)| *alive && gone.is_none_or(|gone| *idle < gone))
            .map(|(idle, _)| *idle)
            .max();
        let absolute = self.absolute(watchers);
        let idle_gone = gone.filter(|gone| absolute.is_none_or(|age| *gone + AGE_SLACK < age));
        let mut report = LifetimeReport {
            idle_alive,
            idle_gone,
            absolute,
            absolute_watched: self.watched.filter(|_| absolute.is_none()),
            evidence: Vec::new(),
        };
        report.evidence = self.sentences(&report, method, gone != idle_gone);
        report
    }

    /// All watched bindings ended, and at the same age.
    fn absolute(&self, watchers: usize) -> Option<Duration> {
        let (low, high) = (
            self.gone_at_age.iter().min()?,
            self.gone_at_age.iter().max()?,
        );
        let all = self.gone_at_age.len() >= watchers.max(2);
        (all && *high - *low <= AGES_ALIKE).then_some(*low)
    }

    fn sentences(&self, report: &LifetimeReport, method: Method, cut: bool) -> Vec<String> {
        let mut sentences = vec![match method {
            Method::Knock => "The server knocked at bindings that had been idle.".to_owned(),
            Method::Ask | Method::Undecided => {
                "The server cannot answer to another port, so idle sockets asked whether they have another \
                 public address."
                    .to_owned()
            }
        }];
        if self.invisible {
            sentences.push(
                "The NAT keeps ports: a binding that was made anew looks like the old one, and that it is gone \
                 cannot be seen."
                    .to_owned(),
            );
        }
        match (report.idle_alive, report.idle_gone) {
            (Some(alive), Some(gone)) => sentences.push(format!(
                "Bindings outlived {} of silence and were gone after {}.",
                seconds(alive),
                seconds(gone)
            )),
            (None, Some(gone)) => {
                sentences.push(format!(
                    "Bindings were gone after {} of silence.",
                    seconds(gone)
                ));
            }
            (Some(alive), None) => {
                sentences.push(format!("Bindings outlived {} of silence.", seconds(alive)));
            }
            (None, None) => sentences.push("No binding could be observed.".to_owned()),
        }
        match (report.absolute, report.absolute_watched) {
            (Some(age), _) => {
                sentences.push(format!(
                    "Bindings ended when they were {} old, although they were used.",
                    seconds(age)
                ));
                if cut {
                    sentences.push("So longer silences tell nothing.".to_owned());
                }
            }
            (None, Some(age)) => {
                sentences.push(format!(
                    "Bindings that were used lived for {} at least.",
                    seconds(age)
                ));
            }
            (None, None) => {}
        }
        sentences
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

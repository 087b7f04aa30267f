//! What several rounds of one scenario say together.

use std::time::Duration;

use super::{Row, Scenario};

/// The rounds of one scenario.
#[derive(Debug)]
pub struct Summary<'rows> {
    /// The scenario.
    pub scenario: Scenario,
    /// One row per round.
    pub rounds: Vec<&'rows Row>,
}

impl<'rows> Summary<'rows> {
    /// Puts together what belongs to one scenario, in the order in which the scenarios came first.
    pub fn of(rows: &'rows [Row]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for row in rows {
            let name = row.scenario.to_string();
            match all.iter_mut().find(|it| it.scenario.to_string() == name) {
                Some(summary) => summary.rounds.push(row),
                None => all.push(Self {
                    scenario: row.scenario,
                    rounds: vec![row],
                }),
            }
        }
        all
    }

    /// How many rounds ended with a direct path at both ends.
    pub fn direct(&self) -> usize {
        let is_direct = |row: &&&Row| {
            row.ends
                .iter()
                .all(|end| end.kind.as_deref() == Some("direct"))
        };
        self.rounds.iter().filter(is_direct).count()
    }

    /// The middle one of the rounds in which that was measured.
    pub fn median(&self, what: impl Fn(&Row) -> Option<Duration>) -> Option<Duration> {
        median(sorted(self.rounds.iter().map(|row| what(row))))
    }

    /// What is said of the rounds, each different word once, in the order of the rounds.
    pub fn words(&self, what: impl Fn(&Row) -> String) -> String {
        let mut words: Vec<String> = Vec::new();
        for word in self.rounds.iter().map(|row| what(row)) {
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words.join(", ")
    }

    /// Whether a round had faults.
    pub fn is_at_fault(&self) -> bool {
        self.rounds.iter().any(|row| !row.faults.is_empty())
    }
}

/// Those that were measured, in order.
pub fn sorted(times: impl Iterator<Item = Option<Duration>>) -> Vec<Duration> {
    let mut times: Vec<Duration> = times.flatten().collect();
    times.sort();
    times
}

/// The middle one of sorted times.
pub fn median(sorted: Vec<Duration>) -> Option<Duration> {
    sorted.get(sorted.len() / 2).copied()
}

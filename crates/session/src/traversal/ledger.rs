//! What each strategy has cost and brought, by both ends' word: where the reason of a relayed path comes from.

use super::Strategy;

/// How the last round of a strategy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is being played.
    Running,
    /// It opened a direct path.
    Worked,
    /// It led to no path.
    Failed,
    /// The peer did not answer the notes that set it up.
    PeerSilent,
    /// The peer declined.
    PeerDeclined,
    /// The system gave us no sockets for it.
    NoSockets,
    /// No STUN server told what the NAT gives.
    NoSamples,
    /// The budget of the last minute was used up.
    NoBudget,
}

/// One strategy, all its rounds against one peer together.
///
/// `sent` counts probes of the end that guesses ports (the scout), `arrived` those that the other end saw;
/// each end takes from the other's notes what it cannot count itself. An entry with `planned > 0` and
/// `sent == 0` was never sent; `arrived == Some(0)` never arrived; more arrived than answered: the way back is
/// shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerEntry {
    /// Which one.
    pub strategy: Strategy,
    /// How many rounds were begun.
    pub rounds: u32,
    /// Extra sockets of the last round, at the end that had them.
    pub sockets: u32,
    /// Probes that the rounds were to send.
    pub planned: u32,
    /// Probes that were sent.
    pub sent: u32,
    /// Sockets at which probes arrived, by the word of the end where they did; `None` while it has said nothing.
    pub arrived: Option<u32>,
    /// Probes that were answered.
    pub answered: u32,
    /// How the last round ended.
    pub outcome: Outcome,
}

/// What one round adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) sockets: u32,
    pub(crate) planned: u32,
    pub(crate) sent: u32,
    pub(crate) arrived: Option<u32>,
    pub(crate) answered: u32,
}

/// The entries of one peer: at most one per strategy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<LedgerEntry>,
}

impl Ledger {
    pub(crate) fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    /// A round ended.
    pub(crate) fn add(&mut self, strategy: Strategy, tally: Tally, outcome: Outcome) {
        let entry = self.entry(strategy);
        entry.rounds = entry.rounds.saturating_add(1);
        entry.sockets = tally.sockets;
        entry.planned = entry.planned.saturating_add(tally.planned);
        entry.sent = entry.sent.saturating_add(tally.sent);
        entry.answered = entry.answered.saturating_add(tally.answered);
        if let Some(arrived) = tally.arrived {
            entry.arrived = Some(entry.arrived.unwrap_or(0).saturating_add(arrived));
        }
        entry.outcome = outcome;
    }

    fn entry(&mut self, strategy: Strategy) -> &mut LedgerEntry {
        let known = self.entries.iter().position(|it| it.strategy == strategy);
        let index = known.unwrap_or_else(|| {
            self.entries.push(LedgerEntry {
                strategy,
                rounds: 0,
                sockets: 0,
                planned: 0,
                sent: 0,
                arrived: None,
                answered: 0,
                outcome: Outcome::Running,
            });
            self.entries.len() - 1
        });
        &mut self.entries[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_one_strategy_are_one_entry() {
        let mut ledger = Ledger::default();
        let silent = Tally {
            sockets: 256,
            planned: 2048,
            sent: 2048,
            arrived: None,
            answered: 0,
        };
        ledger.add(Strategy::Birthday, silent, Outcome::PeerSilent);
        let heard = Tally {
            arrived: Some(2),
            answered: 1,
            sent: 100,
            ..silent
        };
        ledger.add(Strategy::Birthday, heard, Outcome::Worked);
        ledger.add(Strategy::Block, Tally::default(), Outcome::NoSockets);
        let [birthday, block] = ledger.entries() else {
            panic!("{:?}", ledger.entries());
        };
        assert_eq!((birthday.rounds, birthday.sent), (2, 2148));
        assert_eq!((birthday.arrived, birthday.answered), (Some(2), 1));
        assert_eq!(birthday.outcome, Outcome::Worked);
        assert_eq!(block.arrived, None);
    }
}

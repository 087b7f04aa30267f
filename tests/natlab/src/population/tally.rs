//! What many pairs say together.

use std::time::Duration;

use session::Strategy;

use super::model::place;
use super::run::{Budget, Record};
use crate::oracle::Possible;

/// In the order of the levels of facts/nat-population.md, section 6.
const STRATEGIES: [Strategy; 6] = [
    Strategy::Plain,
    Strategy::Ipv6,
    Strategy::PortMapped,
    Strategy::Predicted,
    Strategy::Block,
    Strategy::Birthday,
];

/// 95 % of a normal distribution lie within so many deviations.
const Z: f64 = 1.959_964;

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Those counted.
    pub good: usize,
    /// All.
    pub all: usize,
}

impl Share {
    /// Counts.
    pub fn of<'a>(
        records: impl Iterator<Item = &'a Record>,
        is_good: impl Fn(&Record) -> bool,
    ) -> Self {
        let mut share = Self::default();
        for record in records {
            share.all += 1;
            share.good += usize::from(is_good(record));
        }
        share
    }

    /// Returns it in percent; of nothing that is all.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a population is small")]
    pub fn percent(self) -> f64 {
        if self.all == 0 {
            return 100.0;
        }
        100.0 * self.good as f64 / self.all as f64
    }

    /// Returns the interval, in percent, that holds the true share in 95 of 100 such counts (Wilson's: it
    /// stays within 0 and 100, and is right near them).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a population is small")]
    pub fn interval(self) -> (f64, f64) {
        if self.all == 0 {
            return (0.0, 100.0);
        }
        let (n, p) = (self.all as f64, self.good as f64 / self.all as f64);
        let z2 = Z * Z;
        let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        (
            100.0 * (middle - half).max(0.0),
            100.0 * (middle + half).min(1.0),
        )
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.interval();
        write!(f, "{:6.2} % [{low:5.2}, {high:6.2}]", self.percent())
    }
}

/// What one strategy did.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Which one.
    pub strategy: Strategy,
    /// The share of all pairs that it opened.
    pub share: Share,
    /// How long that took, sorted.
    pub times: Vec<Duration>,
}

/// What was spent by one end, sorted.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    /// Packets.
    pub packets: Vec<u64>,
    /// Extra sockets.
    pub sockets: Vec<u64>,
    /// Bindings.
    pub bindings: Vec<u64>,
    /// Packets in the worst second.
    pub packets_per_second: Vec<u64>,
    /// New bindings in the worst minute.
    pub bindings_per_minute: Vec<u64>,
}

/// What many pairs say together.
#[derive(Clone, Debug)]
pub struct Tally {
    /// How many pairs need each way, as [`Possible::ALL`], and how many of them became direct.
    pub by_need: [Share; 7],
    /// All pairs: those that became direct.
    pub direct: Share,
    /// The pairs that the oracle allows: those that became direct.
    pub of_allowed: Share,
    /// All pairs: those that had a path at all.
    pub connected: Share,
    /// What opened the direct paths.
    pub opened: Vec<Opened>,
    /// Times to the direct path, sorted.
    pub times: Vec<Duration>,
    /// What was spent, by both ends of every pair.
    pub spent: Spent,
    /// The pairs that are relayed: those whose cause both ends name.
    pub named: Share,
    /// Pairs that did not stay within the budget.
    pub over_budget: usize,
}

impl Tally {
    /// Counts.
    #[must_use]
    pub fn of(records: &[Record]) -> Self {
        let is_direct = |record: &Record| record.direct.is_some();
        let need = |possible: Possible| {
            records
                .iter()
                .filter(move |record| record.possible == possible)
        };
        let opened = STRATEGIES.map(|strategy| Opened {
            strategy,
            share: Share::of(records.iter(), |record| record.strategy == Some(strategy)),
            times: times(records.iter().filter(|it| it.strategy == Some(strategy))),
        });
        let budget = Budget::PROMISED;
        Self {
            by_need: Possible::ALL.map(|possible| Share::of(need(possible), is_direct)),
            direct: Share::of(records.iter(), is_direct),
            of_allowed: Share::of(
                records.iter().filter(|it| it.possible.is_direct()),
                is_direct,
            ),
            connected: Share::of(records.iter(), |record| record.first.is_some()),
            opened: opened.into(),
            times: times(records.iter()),
            spent: spent(records),
            named: Share::of(
                records.iter().filter(|it| it.direct.is_none()),
                Record::names_its_cause,
            ),
            over_budget: records.iter().filter(|it| !it.is_within(&budget)).count(),
        }
    }

    /// Returns what the oracle allows of these pairs.
    #[must_use]
    pub fn allowed(&self) -> Share {
        let all = self.direct.all;
        let good = all - self.by_need[place(Possible::No)].all;
        Share { good, all }
    }

    /// Returns the share of all pairs that became direct and need no more than this way.
    #[must_use]
    pub fn direct_up_to(&self, possible: Possible) -> Share {
        let good = self.by_need[..=place(possible)].iter();
        Share {
            good: good.map(|share| share.good).sum(),
            all: self.direct.all,
        }
    }
}

fn times<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<Duration> {
    let mut times: Vec<_> = records.filter_map(|record| record.direct).collect();
    times.sort();
    times
}

fn spent(records: &[Record]) -> Spent {
    let loads = || records.iter().flat_map(|record| record.loads);
    let sorted = |values: &mut dyn Iterator<Item = u64>| {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable();
        values
    };
    let sockets = records.iter().flat_map(|record| record.sockets);
    Spent {
        packets: sorted(&mut loads().map(|load| load.packets)),
        sockets: sorted(&mut sockets.map(|sockets| sockets as u64)),
        bindings: sorted(&mut loads().map(|load| load.bindings)),
        packets_per_second: sorted(&mut loads().map(|load| load.packets_per_second_max as u64)),
        bindings_per_minute: sorted(&mut loads().map(|load| load.bindings_per_minute_max as u64)),
    }
}

/// Returns the value below which so many percent of sorted values lie; the default of nothing.
#[must_use]
pub(super) fn percentile<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    let last = sorted.len().saturating_sub(1);
    let at = (sorted.len() * percent / 100).min(last);
    sorted.get(at).copied().unwrap_or_default()
}

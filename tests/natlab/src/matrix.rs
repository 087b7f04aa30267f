//! One pair in a world of its own, from nothing known until there is nothing more to wait for.

use std::time::Duration;

use session::PathKind;

use crate::behavior::Behavior;
use crate::kind::NatKind;
use crate::oracle::{Possible, direct_is_possible};
use crate::world::World;

/// How long a pair may look for its first path, and for a direct one that the oracle promises.
const PATIENCE: Duration = Duration::from_secs(20);
/// A pair without a promise is watched this long: by then all brisk attempts are over, and what has not
/// become direct will not.
const RELAYED_WATCH: Duration = Duration::from_secs(4);

/// One pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// In front of the ingress.
    pub ingress: Behavior,
    /// In front of the egress.
    pub egress: Behavior,
    /// Of all packets on the internet, in percent.
    pub loss: u32,
    /// Of everything that is left to chance.
    pub seed: u64,
}

impl Case {
    /// Makes a case of two kinds.
    #[must_use]
    pub const fn new(ingress: NatKind, egress: NatKind, loss: u32, seed: u64) -> Self {
        Self {
            ingress: ingress.behavior(),
            egress: egress.behavior(),
            loss,
            seed,
        }
    }

    /// Returns what the oracle says.
    #[must_use]
    pub fn possible(&self) -> Possible {
        direct_is_possible(&self.ingress, &self.egress)
    }
}

/// What became of a pair. Times are counted from the start of both processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When the ingress chose its first path.
    pub first: Option<Duration>,
    /// When it chose a direct one.
    pub direct: Option<Duration>,
    /// What kind both ends think the last chosen path is, the ingress first; `None` when no carrier's
    /// packet was ever answered over it.
    pub judged: Option<(PathKind, PathKind)>,
    /// Carriers' packets that came on a path that was not announced yet.
    pub orphans: u32,
    /// See [`World::digest`].
    pub digest: u64,
}

impl Outcome {
    /// Returns the kind of path that both ends agree on.
    #[must_use]
    pub fn kind(&self) -> Option<PathKind> {
        self.judged
            .filter(|(ours, theirs)| ours == theirs)
            .map(|(ours, _)| ours)
    }
}

/// Runs one pair.
///
/// # Panics
///
/// When anything was logged at level ERROR.
#[must_use]
pub fn run(case: Case) -> Outcome {
    let mut world = World::pair_behind(case.seed, case.ingress, case.egress);
    world.internet.link.loss = case.loss;
    let first = world.run_until(PATIENCE, |world| world.chosen(0).is_some());
    let is_direct = |world: &World| world.chosen_kind(0) == Some(PathKind::Direct);
    let patience = match case.possible() {
        Possible::No => RELAYED_WATCH,
        Possible::Plain
        | Possible::Ipv6
        | Possible::PortMapped
        | Possible::OnlyPredicted
        | Possible::OnlyBlock
        | Possible::OnlyBirthday => PATIENCE,
    };
    let limit = patience.saturating_sub(world.elapsed());
    let rest = world.run_until(limit, is_direct);
    let direct = rest.map(|_| world.elapsed());
    world.run_until(PATIENCE, |world| world.both_judge().is_some());
    Outcome {
        first,
        direct,
        judged: world.both_judge(),
        orphans: world.hosts.iter().map(|host| host.orphans).sum(),
        digest: world.digest(),
    }
}

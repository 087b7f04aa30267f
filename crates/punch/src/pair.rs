//! One local × remote candidate: what is known of it.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stunwire::TransactionId;

use crate::candidate::is_private;
use crate::schedule::CheckSchedule;
use crate::width::Width;
use crate::{Candidate, CandidateKind, Role};

/// A peer that was heard on a pair is heard again within the steady phase of its checks, if the pair is any
/// good.
const HEARD_LIFETIME: Duration = Duration::from_secs(30);

/// A path that is kept is checked every 20 s when it is quiet (DESIGN §4); 15 missed checks are enough.
const ABANDONED_AFTER: Duration = Duration::from_secs(300);

/// Names a pair of one agent; never used again for another pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairId(pub(crate) u64);

impl fmt::Display for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pair-{}", self.0)
    }
}

/// How far a pair has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairState {
    /// No check was sent yet.
    Waiting,
    /// Checks are being sent, and it is not known yet whether packets of full size flow both ways.
    Checking,
    /// Small checks are answered and full-size ones are not; both go on being tried.
    Narrow,
    /// A full-size check was answered: packets flow both ways.
    Validated,
}

/// A local base and a remote address, with what the checks have shown.
#[derive(Clone, Debug)]
pub struct CandidatePair {
    /// Names the pair.
    pub id: PairId,
    /// The candidate that stands for the local base: its host or relayed candidate where there is one.
    pub local: Candidate,
    /// The remote candidate; its kind may change from peer-reflexive once signaling names the address.
    pub remote: Candidate,
    /// How it was found: the kind of the remote candidate, or of the anchor or volley that led to it.
    pub via: CandidateKind,
    /// How far the pair has come.
    pub state: PairState,
    /// The round trip of the last answered check.
    pub rtt: Option<Duration>,
    /// The address under which the peer last saw our checks on this pair.
    pub mapped: Option<SocketAddr>,
    /// When a verified check or answer last arrived on this pair.
    pub last_heard: Option<Instant>,
    /// The pair priority of RFC 8445, section 6.1.2.3.
    pub priority: u64,
    /// How many checks were sent.
    pub checks_sent: u64,
    /// The kind of the anchor or volley that led to it.
    pub(crate) found_by: Option<CandidateKind>,
    pub(crate) schedule: CheckSchedule,
    pub(crate) width: Width,
    pub(crate) last_triggered: Option<Instant>,
    /// How many checks the peer has triggered on it.
    pub(crate) triggered: u32,
    pub(crate) commanded: Option<TransactionId>,
}

impl CandidatePair {
    pub(crate) fn new(
        id: PairId,
        local: Candidate,
        remote: Candidate,
        role: Role,
        now: Instant,
    ) -> Self {
        Self {
            id,
            local,
            remote,
            via: remote.kind,
            found_by: None,
            state: PairState::Waiting,
            rtt: None,
            mapped: None,
            last_heard: None,
            priority: pair_priority(role, &local, &remote),
            checks_sent: 0,
            schedule: CheckSchedule::new(now, needs_opener(&local, &remote)),
            width: Width::default(),
            last_triggered: None,
            triggered: 0,
            commanded: None,
        }
    }

    /// Returns whether one of the ends is a relayed address.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        is_relayed(&self.local, &self.remote)
    }

    /// Returns whether a full-size check of this pair was answered.
    #[must_use]
    pub fn is_validated(&self) -> bool {
        self.state == PairState::Validated
    }

    /// The local base and the remote address: no two pairs have the same.
    pub(crate) const fn key(&self) -> (SocketAddr, SocketAddr) {
        (self.local.base, self.remote.address)
    }

    /// Nothing speaks for this pair (any more), so that a better one may take its place.
    pub(crate) fn is_dispensable(&self, now: Instant) -> bool {
        !self.is_validated() && self.was_silent_for(HEARD_LIFETIME, now)
    }

    /// It was validated, but nobody uses it, or it would have been checked.
    pub(crate) fn is_abandoned(&self, now: Instant) -> bool {
        self.is_validated() && self.was_silent_for(ABANDONED_AFTER, now)
    }

    fn was_silent_for(&self, lifetime: Duration, now: Instant) -> bool {
        self.last_heard
            .is_none_or(|heard| now.saturating_duration_since(heard) >= lifetime)
    }

    pub(crate) fn set_ends(&mut self, local: Candidate, remote: Candidate, role: Role) {
        self.local = local;
        self.remote = remote;
        self.priority = pair_priority(role, &local, &remote);
        self.via = self.found_by.unwrap_or(remote.kind);
    }

    /// Says how the pair was found, if nobody has named its remote address.
    pub(crate) fn set_found_by(&mut self, kind: CandidateKind) {
        if self.via == CandidateKind::PeerReflexive {
            self.found_by = Some(kind);
            self.via = kind;
        }
    }

    /// Begins the checks anew, the opener included.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.state = PairState::Waiting;
        self.width = Width::default();
        self.triggered = 0;
        self.schedule = CheckSchedule::new(now, needs_opener(&self.local, &self.remote));
    }
}

/// The pair priority of RFC 8445, section 6.1.2.3: both sides compute the same.
pub(crate) fn pair_priority(role: Role, local: &Candidate, remote: &Candidate) -> u64 {
    let (controlling, controlled) = match role {
        Role::Controlling => (u64::from(local.priority), u64::from(remote.priority)),
        Role::Controlled => (u64::from(remote.priority), u64::from(local.priority)),
    };
    (controlling.min(controlled) << 32)
        + 2 * controlling.max(controlled)
        + u64::from(controlling > controlled)
}

pub(crate) fn is_relayed(local: &Candidate, remote: &Candidate) -> bool {
    local.kind == CandidateKind::Relayed || remote.kind == CandidateKind::Relayed
}

/// A relay has no NAT of ours before it, and neither has a private network: there an opener would only
/// cost time.
fn needs_opener(local: &Candidate, remote: &Candidate) -> bool {
    !is_relayed(local, remote) && !is_private(remote.address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_roles_compute_the_same_pair_priority() {
        let a: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let host = Candidate::new(CandidateKind::Host, a, a, 1);
        let relayed = Candidate::new(CandidateKind::Relayed, a, a, 1);
        assert_eq!(
            pair_priority(Role::Controlling, &host, &relayed),
            pair_priority(Role::Controlled, &relayed, &host)
        );
        assert_ne!(
            pair_priority(Role::Controlling, &host, &relayed),
            pair_priority(Role::Controlling, &relayed, &host)
        );
    }
}

//! Pairs that nobody formed: a request or an answered probe makes them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Checklist, can_pair};
use crate::bucket::Bucket;
use crate::candidate::is_usable;
use crate::schedule::CheckSchedule;
use crate::{Candidate, CandidateKind, CandidatePair, PairId};

/// Pairs that were only heard. Each cost the peer a verified request, or a thief a recorded one; the one
/// heard longest ago makes room.
const HEARD_MAX: usize = 32;

/// Unknown addresses that are heard at once: more than there may be pairs. A birthday search is heard from about eight
/// sockets that met, in bad luck from thirty.
const NEWCOMERS_MAX: u32 = 128;
/// After that, one more in each of these. Between two NATs that map per destination, and let each other in all the
/// same, every check comes from a new address, and checking that makes another one: without a bound they kept each
/// other busy with 1,800 packets a second, for ever.
const NEWCOMER_INTERVAL: Duration = Duration::from_millis(500);

/// How many more unknown addresses may be heard.
pub(super) const fn newcomers() -> Bucket {
    Bucket::new(NEWCOMERS_MAX, NEWCOMER_INTERVAL)
}

/// What a request from an unknown address says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) kind: CandidateKind,
    pub(crate) priority: u32,
}

impl Checklist {
    /// Returns whether a probe may be sent between these addresses at all.
    pub(crate) fn can_probe(&self, base: SocketAddr, remote: SocketAddr) -> bool {
        let Some((local, _)) = self.local(base) else {
            return false;
        };
        let remote = Candidate::new(CandidateKind::PeerReflexive, remote, remote, 0);
        is_usable(remote.address) && !self.is_own(remote.address) && can_pair(&local, &remote)
    }

    pub(crate) fn is_validated(&self, base: SocketAddr, remote: SocketAddr) -> bool {
        let pair = self.by_ends.get(&(base, remote));
        pair.and_then(|id| self.pairs.get(id))
            .is_some_and(CandidatePair::is_validated)
    }

    /// Returns the pair on which a verified request arrived, and makes it where there is none: with the
    /// candidate that signaling named, else with what the request says of its source.
    ///
    /// `None` when the address cannot be a peer's, one too many is unknown, or nothing could make room for it.
    pub(crate) fn hear(
        &mut self,
        base: SocketAddr,
        remote: SocketAddr,
        source: Source,
        now: Instant,
    ) -> Option<PairId> {
        self.pair_between(base, remote, source, None, now)
    }

    /// Returns the pair whose probe was answered, made where there is none.
    pub(crate) fn find_by_probe(
        &mut self,
        base: SocketAddr,
        remote: SocketAddr,
        kind: CandidateKind,
        now: Instant,
    ) -> Option<PairId> {
        let guess = Candidate::new(kind, remote, remote, 0);
        let source = Source {
            kind,
            priority: guess.priority,
        };
        let id = self.pair_between(base, remote, source, Some(kind), now)?;
        self.pairs.get_mut(&id)?.set_found_by(kind);
        Some(id)
    }

    fn pair_between(
        &mut self,
        base: SocketAddr,
        remote: SocketAddr,
        source: Source,
        found_by: Option<CandidateKind>,
        now: Instant,
    ) -> Option<PairId> {
        if let Some(id) = self.by_ends.get(&(base, remote)) {
            return Some(*id);
        }
        let (local, anchor) = self.local(base)?;
        let unknown = Candidate {
            kind: source.kind,
            address: remote,
            base: remote,
            priority: source.priority,
        };
        let named = self.remotes.get(&remote).copied();
        let remote = named.unwrap_or(unknown);
        if !is_usable(remote.address) || self.is_own(remote.address) || !can_pair(&local, &remote) {
            return None;
        }
        if named.is_none() && found_by.is_none() && !self.newcomers.take(now) {
            self.pairs_refused += 1;
            return None;
        }
        self.make_room_for_heard(now)?;
        let id = self.insert_pair(local, remote, found_by.or(anchor), now);
        if named.is_none()
            && let Some(pair) = self.pairs.get_mut(&id)
        {
            pair.schedule = CheckSchedule::calm(now);
        }
        Some(id)
    }

    fn make_room_for_heard(&mut self, now: Instant) -> Option<()> {
        let heard = self
            .pairs
            .values()
            .filter(|pair| !pair.is_validated() && !pair.is_dispensable(now));
        // One whose round trip is proven is about to be validated.
        let longest_ago = heard
            .clone()
            .min_by_key(|pair| (pair.width.is_proven(), pair.last_heard, pair.id));
        let longest_ago = longest_ago.map(|pair| pair.id);
        let heard_is_full = heard.count() >= HEARD_MAX.min(self.pairs_max);
        if !heard_is_full && self.pairs.len() < self.pairs_max {
            return Some(());
        }
        self.pairs_refused += 1;
        let guess = self
            .pairs
            .values()
            .filter(|pair| pair.is_dispensable(now) && !pair.is_relayed());
        let guess = guess
            .min_by_key(|pair| (pair.priority, pair.id))
            .map(|pair| pair.id);
        let victim = if heard_is_full {
            longest_ago?
        } else {
            guess.or(longest_ago).or_else(|| self.abandoned(now))?
        };
        self.remove_pairs(|pair| pair.id == victim);
        Some(())
    }
}

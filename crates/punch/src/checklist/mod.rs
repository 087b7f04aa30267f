//! Which pairs exist, and which is checked next.
//!
//! Pairs are local bases × remote addresses of the same family. Of more pairs than fit the ones with the
//! highest priority stay, with two exceptions: a pair that was validated or heard is worth more than any
//! guess, and a few relayed pairs always stay, because the relay is what works when nothing else does.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::bucket::Bucket;
use crate::candidate::{canonical, is_usable};
use crate::pair::{is_relayed, pair_priority};
use crate::seats::{Seat, victim};
use crate::{Candidate, CandidateKind, CandidatePair, PairId, Role};

mod heard;
mod order;

pub(crate) use heard::Source;

/// Sockets and allocations of one machine: two families, some relays, and room for extra sockets.
const BASES_MAX: usize = 32;
/// Sockets of one birthday search; with 2,048 guesses on the other side they meet with a probability of 99.97 %
/// (facts/nat-population.md §4), and every one is a binding in a router.
const ANCHORS_MAX: usize = 256;
/// Addresses that lead to one base.
const CANDIDATES_PER_BASE_MAX: usize = 16;
#[derive(Debug)]
pub(crate) struct Checklist {
    role: Role,
    pairs_max: usize,
    locals: BTreeMap<SocketAddr, Vec<Candidate>>,
    /// Extra sockets: bases without pairs of their own.
    anchors: BTreeMap<SocketAddr, CandidateKind>,
    remotes: BTreeMap<SocketAddr, Candidate>,
    pairs: BTreeMap<PairId, CandidatePair>,
    by_ends: BTreeMap<(SocketAddr, SocketAddr), PairId>,
    last_id: u64,
    last_was_relayed: bool,
    newcomers: Bucket,
    removed: Vec<PairId>,
    candidates_refused: u64,
    pairs_refused: u64,
}

impl Checklist {
    pub(crate) const fn new(role: Role, pairs_max: usize) -> Self {
        Self {
            role,
            pairs_max,
            locals: BTreeMap::new(),
            anchors: BTreeMap::new(),
            remotes: BTreeMap::new(),
            pairs: BTreeMap::new(),
            by_ends: BTreeMap::new(),
            last_id: 0,
            last_was_relayed: false,
            newcomers: heard::newcomers(),
            removed: Vec::new(),
            candidates_refused: 0,
            pairs_refused: 0,
        }
    }

    pub(crate) fn pair(&self, id: PairId) -> Option<&CandidatePair> {
        self.pairs.get(&id)
    }

    pub(crate) fn pair_mut(&mut self, id: PairId) -> Option<&mut CandidatePair> {
        self.pairs.get_mut(&id)
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = &CandidatePair> {
        self.pairs.values()
    }

    pub(crate) const fn candidates_refused(&self) -> u64 {
        self.candidates_refused
    }

    pub(crate) const fn pairs_refused(&self) -> u64 {
        self.pairs_refused
    }

    /// Takes the ids of the pairs that were removed since the last call.
    pub(crate) fn take_removed(&mut self) -> Vec<PairId> {
        std::mem::take(&mut self.removed)
    }

    // --- local candidates ---

    pub(crate) fn add_local(&mut self, candidate: Candidate, now: Instant) {
        let base = if candidate.kind == CandidateKind::Relayed {
            candidate.address
        } else {
            candidate.base
        };
        let candidate = Candidate { base, ..candidate };
        let is_full = match self.locals.get(&base) {
            Some(known) => {
                let is_known = known.iter().any(|other| other.address == candidate.address);
                !is_known && known.len() >= CANDIDATES_PER_BASE_MAX
            }
            None => self.locals.len() >= BASES_MAX,
        };
        if is_full || base.port() == 0 {
            self.candidates_refused += 1;
            return;
        }
        self.anchors.remove(&base);
        let known = self.locals.entry(base).or_default();
        known.retain(|other| other.address != candidate.address);
        known.push(candidate);
        known.sort_by_key(|other| (other.kind, Reverse(other.priority), other.address));
        let representative = known[0];
        for pair in self
            .pairs
            .values_mut()
            .filter(|pair| pair.local.base == base)
        {
            pair.set_ends(representative, pair.remote, self.role);
        }
        self.drop_pairs_to_ourselves();
        self.form_pairs(Some(base), None, now);
    }

    /// Adds an anchor; refuses one too many.
    pub(crate) fn add_anchor(&mut self, base: SocketAddr, kind: CandidateKind) -> bool {
        if self.has_base(base) {
            return true;
        }
        if self.anchors.len() >= ANCHORS_MAX || base.port() == 0 {
            return false;
        }
        self.anchors.insert(base, kind);
        if self.remotes.contains_key(&base) {
            self.drop_pairs_to_ourselves();
        }
        true
    }

    pub(crate) fn anchors(&self) -> usize {
        self.anchors.len()
    }

    pub(crate) fn remove_base(&mut self, base: SocketAddr, now: Instant) {
        let was_anchor = self.anchors.remove(&base).is_some();
        if !was_anchor && self.locals.remove(&base).is_none() {
            return;
        }
        let before = self.pairs.len();
        self.remove_pairs(|pair| pair.local.base == base);
        if self.pairs.len() < before {
            self.form_pairs(None, None, now);
        }
    }

    pub(crate) fn has_base(&self, base: SocketAddr) -> bool {
        self.locals.contains_key(&base) || self.anchors.contains_key(&base)
    }

    /// Returns the candidate that stands for a base, and how pairs are found with it if it is an anchor.
    fn local(&self, base: SocketAddr) -> Option<(Candidate, Option<CandidateKind>)> {
        if let Some(known) = self.locals.get(&base) {
            return Some((*known.first()?, None));
        }
        let kind = *self.anchors.get(&base)?;
        Some((Candidate::new(kind, base, base, 0), Some(kind)))
    }

    // --- remote candidates ---

    pub(crate) fn add_remote(&mut self, candidate: Candidate, now: Instant) {
        if let Some(address) = self.insert_remote(candidate, now) {
            self.form_pairs(None, Some(address), now);
        }
    }

    /// Replaces the remote candidates: pairs of vanished ones go unless they are validated or heard.
    pub(crate) fn set_remotes(&mut self, mut candidates: Vec<Candidate>, now: Instant) {
        let before = std::mem::take(&mut self.remotes);
        candidates.sort_by_key(|candidate| (Reverse(candidate.priority), candidate.address));
        for candidate in candidates {
            self.insert_remote(candidate, now);
        }
        for address in before.keys() {
            if !self.remotes.contains_key(address) {
                self.drop_dispensable(*address, now);
            }
        }
        self.form_pairs(None, None, now);
    }

    fn insert_remote(&mut self, candidate: Candidate, now: Instant) -> Option<SocketAddr> {
        let address = canonical(candidate.address);
        let candidate = Candidate {
            address,
            base: address,
            ..candidate
        };
        if !is_usable(address) || self.is_own(address) {
            self.candidates_refused += 1;
            return None;
        }
        if !self.remotes.contains_key(&address) && self.remotes.len() >= self.pairs_max {
            self.candidates_refused += 1;
            let relayed = candidate.kind == CandidateKind::Relayed;
            let known = self.remotes.values().map(|other| Seat {
                key: other.address,
                priority: u64::from(other.priority),
                relayed: other.kind == CandidateKind::Relayed,
                dispensable: true,
            });
            let victim = victim(
                known,
                u64::from(candidate.priority),
                relayed,
                self.pairs_max,
            )?;
            self.remotes.remove(&victim);
            self.drop_dispensable(victim, now);
        }
        self.remotes.insert(address, candidate);
        for pair in self
            .pairs
            .values_mut()
            .filter(|pair| pair.remote.address == address)
        {
            pair.set_ends(pair.local, candidate, self.role);
        }
        Some(address)
    }

    /// Returns whether an address is one of our own sockets: a check sent there would come back to us.
    fn is_own(&self, address: SocketAddr) -> bool {
        self.has_base(address)
            || self.locals.values().flatten().any(|local| {
                local.address == address
                    && matches!(local.kind, CandidateKind::Host | CandidateKind::Relayed)
            })
    }

    fn drop_pairs_to_ourselves(&mut self) {
        let own: Vec<SocketAddr> = self
            .remotes
            .keys()
            .copied()
            .chain(self.pairs.values().map(|pair| pair.remote.address))
            .filter(|address| self.is_own(*address))
            .collect();
        self.candidates_refused += own
            .iter()
            .filter(|own| self.remotes.contains_key(own))
            .count() as u64;
        self.remotes.retain(|address, _| !own.contains(address));
        self.remove_pairs(|pair| own.contains(&pair.remote.address));
    }

    /// Returns whether the peer itself has named an address.
    pub(crate) fn is_named(&self, address: SocketAddr) -> bool {
        self.remotes.contains_key(&address)
    }

    // --- pairs ---

    /// Makes the pairs of one base or one remote address, or all that are missing, best first.
    fn form_pairs(&mut self, base: Option<SocketAddr>, remote: Option<SocketAddr>, now: Instant) {
        let mut missing: Vec<(u64, Candidate, Candidate)> = Vec::new();
        for (local_base, local) in self
            .locals
            .iter()
            .filter_map(|(base, known)| Some((*base, *known.first()?)))
        {
            for candidate in self.remotes.values() {
                if base.is_none_or(|base| base == local_base)
                    && remote.is_none_or(|remote| remote == candidate.address)
                    && can_pair(&local, candidate)
                    && !self.by_ends.contains_key(&(local_base, candidate.address))
                {
                    missing.push((
                        pair_priority(self.role, &local, candidate),
                        local,
                        *candidate,
                    ));
                }
            }
        }
        missing.sort_by_key(|(priority, local, remote)| {
            (Reverse(*priority), local.base, remote.address)
        });
        for (priority, local, remote) in missing {
            if self.pairs.len() >= self.pairs_max {
                self.pairs_refused += 1;
                let seats = self.pairs.values().map(|pair| Seat {
                    key: pair.id,
                    priority: pair.priority,
                    relayed: pair.is_relayed(),
                    dispensable: pair.is_dispensable(now),
                });
                let relayed = is_relayed(&local, &remote);
                let victim = victim(seats, priority, relayed, self.pairs_max);
                let Some(victim) = victim.or_else(|| self.abandoned(now)) else {
                    continue;
                };
                self.remove_pairs(|pair| pair.id == victim);
            }
            self.insert_pair(local, remote, None, now);
        }
    }

    fn insert_pair(
        &mut self,
        local: Candidate,
        remote: Candidate,
        found_by: Option<CandidateKind>,
        now: Instant,
    ) -> PairId {
        self.last_id += 1;
        let id = PairId(self.last_id);
        let mut pair = CandidatePair::new(id, local, remote, self.role, now);
        pair.found_by = found_by;
        pair.via = found_by.unwrap_or(remote.kind);
        self.by_ends.insert(pair.key(), id);
        self.pairs.insert(id, pair);
        id
    }

    fn drop_dispensable(&mut self, remote: SocketAddr, now: Instant) {
        self.remove_pairs(|pair| pair.remote.address == remote && pair.is_dispensable(now));
    }

    fn remove_pairs(&mut self, goes: impl Fn(&CandidatePair) -> bool) {
        let Self {
            pairs,
            by_ends,
            removed,
            ..
        } = self;
        pairs.retain(|id, pair| {
            let gone = goes(pair);
            if gone {
                by_ends.remove(&pair.key());
                removed.push(*id);
            }
            !gone
        });
    }

    /// Paths of addresses long left by a roaming peer must not fill the table for good: of more than half
    /// of it the one goes that was silent longest, if it is abandoned and no candidate names it.
    fn abandoned(&self, now: Instant) -> Option<PairId> {
        let validated = self.pairs.values().filter(|pair| pair.is_validated());
        if validated.clone().count() <= self.pairs_max / 2 {
            return None;
        }
        validated
            .filter(|pair| pair.is_abandoned(now))
            .filter(|pair| !self.remotes.contains_key(&pair.remote.address))
            .min_by_key(|pair| (pair.last_heard, pair.id))
            .map(|pair| pair.id)
    }

    pub(crate) fn restart_unvalidated(&mut self, now: Instant) {
        for pair in self.pairs.values_mut().filter(|pair| !pair.is_validated()) {
            pair.restart(now);
        }
    }
}

/// Addresses of different families never pair, and a loopback socket reaches nothing but loopback.
fn can_pair(local: &Candidate, remote: &Candidate) -> bool {
    let (base, address) = (local.base, remote.address);
    let beyond_loopback = base.ip().is_loopback() && !address.ip().is_loopback();
    base.is_ipv4() == address.is_ipv4()
        && base != address
        && (!beyond_loopback || local.kind == CandidateKind::Relayed)
}

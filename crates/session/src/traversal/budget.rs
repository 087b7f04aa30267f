//! What all ladders of a node together may do to the routers on the way: one round at a time, and so much a
//! minute.
//!
//! The numbers are for the weakest router that must survive. Home gateways keep 2,000 to 16,000 sessions and
//! forget a UDP session of one packet after 30 to 60 s; carriers grant a subscriber 1,024 ports or fewer
//! (facts/nat-population.md, sections 2 and 3).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::event::PeerId;

/// Sockets beside the main one. 256 with 2,048 probes find each other in 99.97 of 100 rounds.
pub(crate) const SOCKETS_MAX: u16 = 256;
/// Probes of one round. The 2,048th still raises the chance of a birthday; twice as many would not.
pub(crate) const PROBES_PER_ROUND_MAX: u16 = 2_048;
/// At 100 bytes each that is 0.4 Mbit/s, and a round of 2,048 takes 4 s.
pub(crate) const PACKETS_PER_SECOND: u32 = 500;
/// New bindings on the router of the end that opens sockets: with lifetimes of 30 s at most 600 of them live,
/// and four rounds of 256 sockets, with what finds out the pattern, fit a minute.
pub(crate) const BINDINGS_PER_MINUTE: u32 = 1_200;
/// Probes that one end sends: two full rounds. Each is a session on a router that tracks destinations.
pub(crate) const PROBES_PER_MINUTE: u32 = 4_096;
const MINUTE: Duration = Duration::from_secs(60);
/// A peer that asked for its turn and was told to wait comes before others for this long.
const TICKET_LIFETIME: Duration = Duration::from_secs(5);
/// How long somebody waits before asking again.
pub(crate) const TURN_RETRY: Duration = Duration::from_millis(700);
/// More peers than this do not queue; they ask again all the same.
const QUEUE_MAX: usize = 64;

/// The turn, and what was spent in the last minute.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    holder: Option<PeerId>,
    queue: VecDeque<(PeerId, Instant)>,
    bindings: Spent,
    probes: Spent,
    refused: u64,
    last_round: u32,
}

impl Budget {
    /// Takes the turn for a peer, or says how long to wait before asking again.
    pub(crate) fn take_turn(&mut self, peer: PeerId, now: Instant) -> Result<(), Duration> {
        self.queue.retain(|(_, expires)| now < *expires);
        if self.holder == Some(peer) {
            return Ok(());
        }
        let is_next = self.queue.front().is_none_or(|(next, _)| *next == peer);
        if self.holder.is_none() && is_next {
            self.queue.retain(|(waiting, _)| *waiting != peer);
            self.holder = Some(peer);
            return Ok(());
        }
        let ticket = self.queue.iter_mut().find(|(waiting, _)| *waiting == peer);
        if let Some((_, expires)) = ticket {
            *expires = now + TICKET_LIFETIME;
        } else if self.queue.len() < QUEUE_MAX {
            self.queue.push_back((peer, now + TICKET_LIFETIME));
        }
        self.refused += 1;
        Err(TURN_RETRY)
    }

    /// Names the next round that we lead. The names rise over all ladders, since one that is made anew toward a run of
    /// the peer that still knows the old one must not begin below it: old proposals are void.
    pub(crate) const fn name_round(&mut self) -> u32 {
        self.last_round = self.last_round.wrapping_add(1);
        self.last_round
    }

    /// Returns whether somebody plays.
    pub(crate) const fn is_held(&self) -> bool {
        self.holder.is_some()
    }

    /// Gives the turn back; nothing happens when somebody else has it.
    pub(crate) fn end_turn(&mut self, peer: PeerId) {
        if self.holder == Some(peer) {
            self.holder = None;
        }
    }

    /// The peer is gone.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.end_turn(peer);
        self.queue.retain(|(waiting, _)| *waiting != peer);
    }

    /// Spends new bindings on our router, or says when there will be enough.
    pub(crate) fn spend_bindings(&mut self, count: u32, now: Instant) -> Result<(), Duration> {
        let spent = self.bindings.spend(count, BINDINGS_PER_MINUTE, now);
        self.refused += u64::from(spent.is_err());
        spent
    }

    /// Spends probes, or says when there will be enough.
    pub(crate) fn spend_probes(&mut self, count: u32, now: Instant) -> Result<(), Duration> {
        let spent = self.probes.spend(count, PROBES_PER_MINUTE, now);
        self.refused += u64::from(spent.is_err());
        spent
    }

    /// Probes that were planned and are not needed any more.
    pub(crate) fn refund_probes(&mut self, count: u32) {
        self.probes.refund(count);
    }

    /// How often somebody had to wait.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }
}

/// What was spent, by when.
#[derive(Debug, Default)]
struct Spent(VecDeque<(Instant, u32)>);

impl Spent {
    fn spend(&mut self, count: u32, limit: u32, now: Instant) -> Result<(), Duration> {
        while self.0.front().is_some_and(|(at, _)| *at + MINUTE <= now) {
            self.0.pop_front();
        }
        let spent: u32 = self.0.iter().map(|(_, count)| *count).sum();
        if spent + count > limit {
            let oldest = self.0.front().map_or(now, |(at, _)| *at);
            return Err((oldest + MINUTE).saturating_duration_since(now));
        }
        // Every entry is worth at least one, so the limit bounds their number.
        if count > 0 {
            self.0.push_back((now, count));
        }
        Ok(())
    }

    fn refund(&mut self, mut count: u32) {
        while let Some((_, spent)) = self.0.back_mut().filter(|_| count > 0) {
            let back = count.min(*spent);
            *spent -= back;
            count -= back;
            if *spent == 0 {
                self.0.pop_back();
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_peer_plays_at_a_time_and_the_others_in_the_order_in_which_they_asked() {
        let now = Instant::now();
        let mut budget = Budget::default();
        let [a, b, c] = [1, 2, 3].map(PeerId);
        assert_eq!(budget.take_turn(a, now), Ok(()));
        assert_eq!(budget.take_turn(a, now), Ok(()), "it has it already");
        assert_eq!(budget.take_turn(b, now), Err(TURN_RETRY));
        assert_eq!(budget.take_turn(c, now), Err(TURN_RETRY));
        budget.end_turn(a);
        assert_eq!(budget.take_turn(c, now), Err(TURN_RETRY), "b was first");
        assert_eq!(budget.take_turn(a, now), Err(TURN_RETRY), "and so was c");
        assert_eq!(budget.take_turn(b, now), Ok(()));
        budget.end_turn(b);
        let later = now + TICKET_LIFETIME;
        assert_eq!(budget.take_turn(a, later), Ok(()), "c did not come back");
        assert_eq!(budget.refused(), 4);
    }

    #[test]
    fn a_minute_holds_so_many_bindings_and_no_more() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let mut now = start;
        let mut spent = Vec::new();
        while now < start + 300 * SECOND {
            if budget.spend_bindings(256, now).is_ok() {
                spent.push(now);
            }
            now += SECOND;
            let lately = spent.iter().filter(|at| **at + MINUTE > now).count();
            assert!(lately * 256 <= BINDINGS_PER_MINUTE as usize);
        }
        assert_eq!(spent.len(), 20, "four rounds a minute");
    }

    #[test]
    fn whoever_is_refused_learns_when_to_ask_again() {
        let now = Instant::now();
        let mut budget = Budget::default();
        assert_eq!(budget.spend_probes(PROBES_PER_MINUTE, now), Ok(()));
        let wait = budget.spend_probes(1, now + SECOND).unwrap_err();
        assert_eq!(wait, 59 * SECOND);
        assert_eq!(budget.spend_probes(1, now + SECOND + wait), Ok(()));
    }

    #[test]
    fn a_round_that_was_lucky_leaves_its_probes_to_the_next() {
        let now = Instant::now();
        let mut budget = Budget::default();
        for _ in 0..40 {
            assert_eq!(budget.spend_probes(2_048, now), Ok(()));
            budget.refund_probes(2_000);
        }
        assert_eq!(budget.spend_probes(2_048, now), Ok(()));
        assert!(
            budget.spend_probes(2_048, now).is_err(),
            "40 times 48 were sent, and 2,048"
        );
    }
}

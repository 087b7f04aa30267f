//! Which port mappings do what the gateway promises?
//!
//! A mapping is offered to peers only once a STUN server has come in through it. What cannot be verified (the
//! server does not answer to other ports) is offered only where that can do no harm: when its address is the
//! very one that STUN servers see us at. A peer's checks then go to our own router at worst, and the peer is
//! the judge, since no path counts before it was checked. An address that nobody has seen us at may be a
//! stranger's, and strangers are not to be checked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use natprobe::{MappingCheck, MappingVerdict};
use rand::{Rng, rngs::StdRng};
use sansio::{Datagram, Deadline, Handled, Transmit, earliest};

use crate::event::Event;
use crate::gateway::PortMapping;

/// Mappings beyond this number are ignored: two bases and three protocols make six.
const MAPPINGS_MAX: usize = 8;
/// How often a mapping that works is verified anew: a router that restarted has forgotten it, and a peer that
/// comes now should not be sent to a closed door. Each time costs three packets.
const RECHECK: Duration = Duration::from_secs(300);
/// A mapping that does not work, or could not be judged, is looked at again after this, doubling to
/// [`RECHECK`]: the router may have been slow.
const RETRY_MIN: Duration = Duration::from_secs(20);
/// News do not make it be looked at more often than this.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// What the outside looks like for one base.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside {
    /// The STUN servers that may be asked.
    pub(crate) servers: Vec<SocketAddr>,
    /// Where they see us.
    pub(crate) reflexive: Vec<SocketAddr>,
    /// Who may answer, where that was measured.
    pub(crate) filtering: Option<natprobe::FilteringBehavior>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It was never judged.
    New,
    Verified,
    Refuted,
    Undecided {
        offered: bool,
    },
}

#[derive(Debug)]
struct Entry {
    mapping: PortMapping,
    /// Its external address; where the gateway named no IP address, with the one that STUN servers see.
    external: SocketAddr,
    standing: Standing,
    check: Option<MappingCheck>,
    checked_at: Option<Instant>,
    next_check: Instant,
    retry: Duration,
}

/// The port mappings that the gateway says there are.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    entries: Vec<Entry>,
    events: VecDeque<Event>,
}

impl Mapped {
    /// Takes the whole list. A mapping that was refuted and is still named was made anew.
    pub(crate) fn set(&mut self, mappings: &[PortMapping], now: Instant) {
        self.entries
            .retain(|entry| mappings.contains(&entry.mapping));
        for mapping in mappings {
            let known = self.entries.iter().position(|it| it.mapping == *mapping);
            if let Some(known) = known {
                if self.entries[known].standing == Standing::Refuted {
                    self.entries[known].hasten(now);
                }
            } else if self.entries.len() < MAPPINGS_MAX {
                self.entries.push(Entry::new(*mapping, now));
            } else {
                tracing::debug!(external = %mapping.external, "one port mapping too many");
            }
        }
    }

    /// The NAT, the servers or the network have changed: all are looked at again.
    pub(crate) fn heed_news(&mut self, now: Instant) {
        for entry in &mut self.entries {
            entry.hasten(now);
        }
    }

    /// Returns what may be offered to peers: the external addresses, each with its base.
    pub(crate) fn offered(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let offered = self.entries.iter().filter(|it| it.is_offered());
        offered.map(|it| (it.external, it.mapping.base)).collect()
    }

    /// Returns the word that peers are told (see [`NatSummary`](crate::NatSummary)); `None` without mappings.
    pub(crate) fn word(&self) -> Option<&'static str> {
        let any = |wanted: fn(&Entry) -> bool| self.entries.iter().any(wanted);
        if any(|it| it.standing == Standing::Verified) {
            Some("active")
        } else if any(|it| matches!(it.standing, Standing::Undecided { .. })) {
            Some("unverified")
        } else if any(|it| it.standing == Standing::Refuted) {
            Some("refuted")
        } else {
            None
        }
    }

    /// Begins the checks that are due; `outside` tells what is known for a base.
    pub(crate) fn start_checks(
        &mut self,
        outside: impl Fn(SocketAddr) -> Outside,
        rng: &mut StdRng,
        now: Instant,
    ) {
        for entry in &mut self.entries {
            if entry.check.is_some() || now < entry.next_check {
                continue;
            }
            let outside = outside(entry.mapping.base);
            // Who is not known to the internet yet has nothing to compare with; the NAT's verdict is news.
            if outside.reflexive.is_empty() && entry.checked_at.is_none() {
                entry.next_check = now + CHECK_INTERVAL;
                continue;
            }
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            entry.begin(outside, seed, now);
        }
    }

    // --- the machine ---

    pub(crate) fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled {
        let mut checks = self
            .entries
            .iter_mut()
            .filter(|it| it.mapping.base == datagram.local)
            .filter_map(|it| it.check.as_mut());
        if checks.any(|check| check.handle_datagram(datagram, now) == Handled::Consumed) {
            Handled::Consumed
        } else {
            Handled::NotMine
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for check in self.entries.iter_mut().filter_map(|it| it.check.as_mut()) {
            check.handle_timeout(now);
        }
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        let mut checks = self.entries.iter_mut().filter_map(|it| it.check.as_mut());
        checks.find_map(MappingCheck::poll_transmit)
    }

    /// Takes the verdicts; `outside` tells what is known for a base. Returns whether what is offered, or what
    /// peers are told, may have changed.
    pub(crate) fn take_verdicts(
        &mut self,
        outside: impl Fn(SocketAddr) -> Outside,
        now: Instant,
    ) -> bool {
        let mut changed = false;
        for entry in &mut self.entries {
            let Some(verdict) = entry.check.as_mut().and_then(MappingCheck::poll_event) else {
                continue;
            };
            entry.check = None;
            let former = entry.standing;
            let event = entry.judge(verdict, &outside(entry.mapping.base), now);
            // A refusal is told each time: the one who makes mappings repairs them each time.
            if former != entry.standing || entry.standing == Standing::Refuted {
                self.events.push_back(event);
            }
            changed |= former != entry.standing;
        }
        changed
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        earliest(self.entries.iter().map(|entry| match &entry.check {
            Some(check) => check.poll_timeout(),
            None => Some(Deadline::new(entry.next_check, "verify a port mapping")),
        }))
    }
}

impl Entry {
    const fn new(mapping: PortMapping, now: Instant) -> Self {
        Self {
            mapping,
            external: mapping.external,
            standing: Standing::New,
            check: None,
            checked_at: None,
            next_check: now,
            retry: RETRY_MIN,
        }
    }

    const fn is_offered(&self) -> bool {
        match self.standing {
            Standing::Verified => true,
            Standing::Undecided { offered } => offered,
            Standing::New | Standing::Refuted => false,
        }
    }

    fn hasten(&mut self, now: Instant) {
        let earliest = self
            .checked_at
            .map_or(now, |at| (at + CHECK_INTERVAL).max(now));
        self.next_check = self.next_check.min(earliest);
    }

    fn begin(&mut self, outside: Outside, seed: [u8; 32], now: Instant) {
        let PortMapping {
            base, mut external, ..
        } = self.mapping;
        if let Some(seen) = outside.reflexive.last()
            && external.ip().is_unspecified()
        {
            external.set_ip(seen.ip());
        }
        self.external = external;
        let same_ip = |it: &&SocketAddr| it.ip() == external.ip();
        let reflexive = outside.reflexive.iter().find(same_ip);
        let reflexive = reflexive.or_else(|| outside.reflexive.last()).copied();
        let mut check = MappingCheck::new(outside.servers, base, external, reflexive, seed, now);
        if let Some(filtering) = outside.filtering {
            check = check.behind(filtering);
        }
        self.check = Some(check);
        self.checked_at = Some(now);
    }

    fn judge(&mut self, verdict: MappingVerdict, outside: &Outside, now: Instant) -> Event {
        let external = self.mapping.external;
        let (standing, event) = match verdict {
            MappingVerdict::Verified => {
                (Standing::Verified, Event::PortMappingVerified { external })
            }
            MappingVerdict::Refuted { reason } => {
                let reason = reason.to_string();
                (
                    Standing::Refuted,
                    Event::PortMappingRefuted { external, reason },
                )
            }
            MappingVerdict::Undecided { reason } => {
                let ip = self.external.ip();
                let offered = outside.reflexive.iter().any(|it| it.ip() == ip);
                let reason = reason.to_string();
                let event = Event::PortMappingUndecided {
                    external,
                    offered,
                    reason,
                };
                (Standing::Undecided { offered }, event)
            }
        };
        self.next_check = if standing == Standing::Verified {
            self.retry = RETRY_MIN;
            now + RECHECK
        } else {
            let pause = self.retry;
            self.retry = (pause * 2).min(RECHECK);
            now + pause
        };
        // A mapping that worked, and that nobody can ask about just now, is believed until somebody can.
        if standing != Standing::Verified
            && self.standing == Standing::Verified
            && standing != Standing::Refuted
        {
            return event;
        }
        self.standing = standing;
        event
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use natprobe::{Indecision, Refutation};

    use super::*;
    use crate::gateway::GatewayProtocol;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn mapping(external: &str) -> PortMapping {
        PortMapping {
            base: address("0.0.0.0:5000"),
            external: address(external),
            protocol: GatewayProtocol::Upnp,
        }
    }

    fn seen_at(reflexive: &str) -> Outside {
        Outside {
            reflexive: vec![address(reflexive)],
            ..Outside::default()
        }
    }

    const UNDECIDED: MappingVerdict = MappingVerdict::Undecided {
        reason: Indecision::NotSupported,
    };
    const REFUTED: MappingVerdict = MappingVerdict::Refuted {
        reason: Refutation::Unreachable,
    };

    #[test]
    fn what_nobody_can_judge_is_offered_only_at_our_own_address() {
        let now = Instant::now();
        for (seen, expected) in [("203.0.113.2:61000", true), ("203.0.113.3:61000", false)] {
            let mut entry = Entry::new(mapping("203.0.113.2:5000"), now);
            let event = entry.judge(UNDECIDED, &seen_at(seen), now);
            assert_eq!(entry.is_offered(), expected, "{seen}");
            assert!(
                matches!(event, Event::PortMappingUndecided { offered, .. } if offered == expected)
            );
        }
    }

    #[test]
    fn a_mapping_that_worked_is_believed_until_somebody_says_otherwise() {
        let now = Instant::now();
        let outside = seen_at("198.51.100.9:61000");
        let mut entry = Entry::new(mapping("203.0.113.2:5000"), now);
        assert!(!entry.is_offered());
        entry.judge(MappingVerdict::Verified, &outside, now);
        assert!(entry.is_offered());
        assert_eq!(entry.next_check, now + RECHECK);
        entry.judge(UNDECIDED, &outside, now);
        assert!(entry.is_offered());
        assert_eq!(entry.next_check, now + RETRY_MIN);
        entry.judge(REFUTED, &outside, now);
        assert!(!entry.is_offered());
    }

    #[test]
    fn a_refuted_mapping_is_looked_at_ever_more_seldom_and_soon_when_it_was_made_anew() {
        let now = Instant::now();
        let mut mapped = Mapped::default();
        mapped.set(&[mapping("203.0.113.2:5000")], now);
        let entry = &mut mapped.entries[0];
        entry.checked_at = Some(now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            entry.judge(REFUTED, &Outside::default(), now);
            pauses.push((entry.next_check - now).as_secs());
        }
        assert_eq!(pauses, [20, 40, 80, 160, 300, 300]);
        mapped.set(&[mapping("203.0.113.2:5000")], now + RETRY_MIN);
        assert_eq!(mapped.entries[0].next_check, now + RETRY_MIN);
        mapped.set(&[], now + RETRY_MIN);
        assert!(mapped.poll_timeout().is_none());
    }

    #[test]
    fn a_gateway_with_hundreds_of_mappings_costs_eight_checks() {
        let now = Instant::now();
        let mappings: Vec<_> = (1..300)
            .map(|port| mapping(&format!("203.0.113.2:{port}")))
            .collect();
        let mut mapped = Mapped::default();
        mapped.set(&mappings, now);
        assert_eq!(mapped.entries.len(), MAPPINGS_MAX);
    }
}

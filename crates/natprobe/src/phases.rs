//! What is done when: reaching, filtering, mapping, watching.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sansio::Deadline;
use tracing::debug;

use crate::classify::classify_mapping;
use crate::filtering::FilteringTest;
use crate::probe::ProbeKind;
use crate::prober::{Event, Prober};
use crate::silence::Round;
use crate::verdict::{blocked_report, report};
use crate::{MappingBehavior, Report};

/// How long a server may be silent before the next is asked. Not at once: the next one may be the alternate
/// address of this one, and a packet to it would open the filter that is to be tested. Three requests go out in
/// this time.
const STAGGER: Duration = Duration::from_millis(400);

/// Silence of all servers for so long means that UDP is blocked.
const BLOCKED_AFTER: Duration = Duration::from_secs(3);

/// The first pause before all servers are asked again; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(2);

/// The longest such pause: what a person waits for who has just fixed the firewall.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// How long the verdict waits for servers that are not needed for it.
const STRAGGLERS: Duration = Duration::from_millis(500);

/// Where a run is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// There is nobody to ask.
    Idle,
    /// Looking for a server that answers, best with an alternate address.
    Reaching {
        since: Instant,
        next_server: Instant,
    },
    /// Testing who may answer.
    Filtering(FilteringTest),
    /// Asking everybody else; `stragglers` is when the verdict no longer waits.
    Mapping { stragglers: Option<Instant> },
    /// Asking one server now and then.
    Watching { next: Instant },
    /// Nobody answers.
    Blocked { retry: Instant, pause: Duration },
}

impl Phase {
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        match self {
            Self::Idle | Self::Mapping { stragglers: None } => None,
            Self::Reaching { since, next_server } => {
                let at = (*next_server).min(*since + BLOCKED_AFTER);
                Some(Deadline::new(at, "natprobe: next server"))
            }
            Self::Filtering(test) => {
                Some(Deadline::new(test.deadline(), "natprobe: filtering round"))
            }
            Self::Mapping {
                stragglers: Some(at),
            } => Some(Deadline::new(*at, "natprobe: verdict")),
            Self::Watching { next } => Some(Deadline::new(*next, "natprobe: keep the binding")),
            Self::Blocked { retry, .. } => Some(Deadline::new(*retry, "natprobe: retry")),
        }
    }

    pub(crate) const fn filtering(&self) -> Option<&FilteringTest> {
        if let Self::Filtering(test) = self {
            Some(test)
        } else {
            None
        }
    }

    pub(crate) const fn filtering_mut(&mut self) -> Option<&mut FilteringTest> {
        if let Self::Filtering(test) = self {
            Some(test)
        } else {
            None
        }
    }
}

impl Prober {
    /// Begins to ask all servers. What was observed of the binding stays: the filter is open where it was
    /// opened, and as long as nobody sees another address the verdicts hold.
    pub(crate) fn begin_run(&mut self, now: Instant) {
        for server in &mut self.servers {
            server.asked = false;
            server.answered = false;
        }
        self.phase = if self.servers.is_empty() {
            Phase::Idle
        } else {
            Phase::Reaching {
                since: now,
                next_server: now,
            }
        };
    }

    /// Goes through as many phases as can be left now.
    pub(crate) fn advance(&mut self, now: Instant) {
        while self.step(now) {}
        self.announce_mapping();
    }

    /// Returns whether something changed that makes another step worthwhile.
    fn step(&mut self, now: Instant) -> bool {
        match &self.phase {
            Phase::Idle => false,
            Phase::Reaching { since, next_server } => {
                let (since, next_server) = (*since, *next_server);
                self.step_reaching(since, next_server, now)
            }
            Phase::Filtering(_) => self.step_filtering(now),
            Phase::Mapping { stragglers } => {
                let stragglers = *stragglers;
                self.step_mapping(stragglers, now)
            }
            Phase::Watching { next } => {
                let next = *next;
                self.step_watching(next, now)
            }
            Phase::Blocked { retry, pause } => {
                let (retry, pause) = (*retry, *pause);
                self.step_blocked(retry, pause, now)
            }
        }
    }

    fn step_reaching(&mut self, since: Instant, next_server: Instant, now: Instant) -> bool {
        if self.begin_filtering(now) {
            return true;
        }
        let tested = self.evidence.filtering.is_some();
        let any_answered = self.servers.iter().any(|server| server.answered);
        if tested && any_answered {
            self.begin_mapping(now);
            return true;
        }
        let settled = self
            .servers
            .iter()
            .filter(|server| server.asked)
            .all(|server| server.answered || !self.is_outstanding(server.address));
        let unasked = self.servers.iter().position(|server| !server.asked);
        match unasked {
            Some(index) if settled || now >= next_server => {
                self.servers[index].asked = true;
                self.ask(self.servers[index].address, now);
                self.phase = Phase::Reaching {
                    since,
                    next_server: now + STAGGER,
                };
                true
            }
            Some(_) if now < since + BLOCKED_AFTER => false,
            None if any_answered && (settled || now >= next_server) => {
                self.begin_mapping(now);
                true
            }
            None if now < since + BLOCKED_AFTER => {
                if now >= next_server {
                    // Nothing more to do until the end: no earlier deadline.
                    self.phase = Phase::Reaching {
                        since,
                        next_server: since + BLOCKED_AFTER,
                    };
                }
                false
            }
            Some(_) | None if any_answered => {
                self.begin_mapping(now);
                true
            }
            Some(_) | None => {
                self.publish(blocked_report(self));
                self.phase = Phase::Blocked {
                    retry: now + RETRY_MIN,
                    pause: RETRY_MIN,
                };
                false
            }
        }
    }

    /// Tests the filtering, once per binding, when there is a server for it; another one after a server that does not
    /// do what it promised.
    fn begin_filtering(&mut self, now: Instant) -> bool {
        if self
            .evidence
            .filtering
            .is_some_and(|test| !test.unsupported)
        {
            return false;
        }
        let Some((server, alternate, rtt)) = self.server_to_test() else {
            return false;
        };
        self.phase = Phase::Filtering(FilteringTest::new(server, alternate, rtt, now));
        // Servers that have nothing to do with this one tell the mapping meanwhile.
        for index in 0..self.servers.len() {
            let address = self.servers[index].address;
            let apart = ![server.ip(), alternate.ip()].contains(&address.ip());
            if apart && !self.servers[index].asked {
                self.servers[index].asked = true;
                self.ask(address, now);
            }
        }
        true
    }

    /// Returns the first server that can test the filtering, with its alternate and its round trip.
    fn server_to_test(&self) -> Option<(SocketAddr, SocketAddr, Option<Duration>)> {
        self.servers
            .iter()
            .filter(|server| server.answered && !server.never_changes)
            .find_map(|server| {
                let alternate = server.alternate?;
                let tainted = self.evidence.is_tainted(server.address, alternate);
                (!tainted).then_some((server.address, alternate, server.rtt))
            })
    }

    fn step_filtering(&mut self, now: Instant) -> bool {
        let Phase::Filtering(test) = &mut self.phase else {
            return false;
        };
        let own = self
            .evidence
            .observations()
            .next()
            .map(|(_, mapped)| mapped);
        // Without translation our own address never leaves this machine.
        let own = own.filter(|own| !self.local.contain(*own) && !self.evidence.hairpinned);
        let round = test.advance(own.is_some(), now);
        let (server, seen) = (test.server, test.evidence);
        if seen.both_answered {
            // The filter is open to everybody: nothing is left that a packet to the other address could open.
            let first = SocketAddr::new(seen.both_changed.ip(), server.port());
            if !self.evidence.is_touched(first) {
                self.ask(first, now);
            }
        }
        match round {
            Round::Wait => false,
            Round::Send => {
                if !seen.both_answered {
                    self.ask_in_round(ProbeKind::ChangeBoth, server, now);
                }
                if !seen.port_answered {
                    self.ask_in_round(ProbeKind::ChangePort, server, now);
                }
                self.ask_in_round(ProbeKind::Control, server, now);
                if let Some(own) = own {
                    self.ask_in_round(ProbeKind::Hairpin, own, now);
                }
                false
            }
            Round::Done => {
                for known in &mut self.servers {
                    known.never_changes |= seen.unsupported && known.address == server;
                }
                self.evidence.hairpin_silence_counts = seen.silence_counts;
                self.evidence.filtering = Some(seen);
                self.transactions
                    .retain(|probe| probe.kind == ProbeKind::Plain);
                self.begin_mapping(now);
                true
            }
        }
    }

    /// Asks whoever was not asked yet: alternates first, in the order of RFC 5780, section 4.3.
    fn begin_mapping(&mut self, now: Instant) {
        self.ask_alternates(false, now);
        for index in 0..self.servers.len() {
            if !self.servers[index].asked {
                self.servers[index].asked = true;
                let address = self.servers[index].address;
                if !self.is_outstanding(address) {
                    self.ask(address, now);
                }
            }
        }
        let own = self
            .evidence
            .observations()
            .next()
            .map(|(_, mapped)| mapped);
        if let Some(own) = own
            && !self.evidence.hairpinned
            && !self.evidence.hairpin_silence_counts
            && !self.local.contain(own)
            && !self.is_asking_ourselves()
        {
            self.ask_ourselves(own, now);
        }
        self.phase = Phase::Mapping {
            stragglers: Some(now + STRAGGLERS),
        };
    }

    /// Asks the other addresses of the server that tested the filtering, else of the first that has some.
    /// Returns whether any was asked; with `new_only` none that was asked before.
    fn ask_alternates(&mut self, new_only: bool, now: Instant) -> bool {
        let tested = self.evidence.filtering.map(|test| test.port_changed.ip());
        let with_alternate = self
            .servers
            .iter()
            .filter(|server| server.answered)
            .filter_map(|server| Some((server.address, server.alternate?)))
            .find(|(server, _)| tested.is_none_or(|ip| ip == server.ip()));
        let Some((server, other)) = with_alternate else {
            return false;
        };
        let mut asked = false;
        for address in alternates(server, other) {
            let wanted = if new_only {
                !self.evidence.is_touched(address)
            } else {
                self.evidence.mapped(address).is_none() && !self.is_outstanding(address)
            };
            if wanted {
                self.ask(address, now);
                asked = true;
            }
        }
        asked
    }

    /// A server with an alternate address has answered late: goes back to what it can tell.
    fn go_back(&mut self, now: Instant) -> bool {
        if self.begin_filtering(now) {
            return true;
        }
        let asked = self.ask_alternates(true, now);
        if asked {
            self.phase = Phase::Mapping {
                stragglers: Some(now + STRAGGLERS),
            };
        }
        asked
    }

    fn step_mapping(&mut self, stragglers: Option<Instant>, now: Instant) -> bool {
        if self.go_back(now) {
            return true;
        }
        let waiting = self
            .transactions
            .iter()
            .any(|(_, probe)| probe.kind == ProbeKind::Plain);
        let due = stragglers.is_none_or(|at| now >= at);
        if !due && (waiting || self.is_asking_ourselves()) {
            return false;
        }
        if waiting && !self.is_enough() {
            // From here on only an answer or the end of a request changes anything.
            self.phase = Phase::Mapping { stragglers: None };
            return false;
        }
        self.publish(report(self));
        self.phase = Phase::Watching {
            next: now + self.config.keepalive,
        };
        true
    }

    /// Returns whether the servers that still may answer cannot change the verdict.
    fn is_enough(&self) -> bool {
        let mapping_known = classify_mapping(&self.evidence) != MappingBehavior::Unknown;
        let alternates_known = self
            .servers
            .iter()
            .filter(|server| server.answered)
            .all(|server| {
                server.alternate.is_none_or(|other| {
                    alternates(server.address, other)
                        .iter()
                        .all(|address| !self.is_outstanding(*address))
                })
            });
        mapping_known && alternates_known
    }

    fn step_watching(&mut self, next: Instant, now: Instant) -> bool {
        if self.go_back(now) {
            return true;
        }
        // An answer that came late may say more.
        self.publish(report(self));
        if now < next {
            return false;
        }
        let Some(address) = self.watched() else {
            self.begin_run(now);
            return true;
        };
        if !self.is_outstanding(address) {
            self.ask(address, now);
        }
        self.phase = Phase::Watching {
            next: now + self.config.keepalive,
        };
        false
    }

    /// Returns the server that is asked to hold the binding: the first that answered.
    pub(crate) fn watched(&self) -> Option<SocketAddr> {
        if !matches!(self.phase, Phase::Watching { .. }) {
            return None;
        }
        self.servers
            .iter()
            .find(|server| server.answered)
            .map(|server| server.address)
    }

    fn step_blocked(&mut self, retry: Instant, pause: Duration, now: Instant) -> bool {
        if self.servers.iter().any(|server| server.answered) {
            debug!("a server answers again");
            self.phase = Phase::Reaching {
                since: now,
                next_server: now,
            };
            return true;
        }
        if now < retry {
            return false;
        }
        for index in 0..self.servers.len() {
            let address = self.servers[index].address;
            if !self.is_outstanding(address) {
                self.ask(address, now);
            }
        }
        let pause = (pause * 2).min(RETRY_MAX);
        self.phase = Phase::Blocked {
            retry: now + pause,
            pause,
        };
        false
    }

    pub(crate) fn is_outstanding(&self, address: SocketAddr) -> bool {
        self.transactions
            .iter()
            .any(|(_, probe)| probe.kind == ProbeKind::Plain && probe.destination == address)
    }

    fn is_asking_ourselves(&self) -> bool {
        self.transactions
            .iter()
            .any(|(_, probe)| probe.kind == ProbeKind::Hairpin)
    }

    /// Tells the mapping as soon as it is known, before the rest is: whoever chooses how to punch waits for it.
    fn announce_mapping(&mut self) {
        let early = match self.phase {
            Phase::Reaching { .. } | Phase::Filtering(_) | Phase::Mapping { .. } => true,
            Phase::Idle | Phase::Watching { .. } | Phase::Blocked { .. } => false,
        };
        let mapping = classify_mapping(&self.evidence);
        if early && mapping != MappingBehavior::Unknown && self.announced != Some(mapping) {
            self.announced = Some(mapping);
            debug!(%mapping, "mapping known");
            self.push_event(Event::MappingKnown(report(self)));
        }
    }

    fn publish(&mut self, report: Report) {
        let differs = self
            .report
            .as_ref()
            .is_none_or(|before| before.differs_from(&report));
        if differs {
            debug!(nat = %report.nat_type(), mapping = %report.mapping,
                filtering = %report.filtering, "classified");
            self.push_event(Event::Classified(report.clone()));
        }
        self.report = Some(report);
    }
}

/// The other addresses of a server, in the order in which RFC 5780, section 4.3, asks them. The fourth, its other port
/// on its own address, is never written to: see [`crate::classify`].
const fn alternates(server: SocketAddr, other: SocketAddr) -> [SocketAddr; 2] {
    [SocketAddr::new(other.ip(), server.port()), other]
}

//! The machine: what comes in, what goes out.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use sansio::{Datagram, Deadline, Handled, Retransmission, Transactions, Transmit, earliest};
use stunwire::{Class, Message, Method, TransactionId};
use tracing::{debug, trace};

use crate::evidence::{Evidence, LocalAddresses, Observed};
use crate::phases::Phase;
use crate::probe::{Answer, ONCE, Probe, ProbeKind, REPEATED, is_usable_alternate};
use crate::verdict::report;
use crate::{MappingBehavior, ProbeConfig, Report};

/// See [`ProbeConfig::servers`].
const SERVERS_MAX: usize = 4;

/// Four servers, two alternates, three tests and thirty controls, twice.
const TRANSACTIONS_MAX: usize = 128;

/// What one input can put into a queue is far less; a driver that never drains fills it.
const QUEUE_MAX: usize = 256;

/// A NAT that shows another address all the time is not probed anew all the time.
const RESTART_INTERVAL: Duration = Duration::from_secs(5);

/// What a [`Prober`] has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An address was seen for the first time, or for the first time since the binding changed.
    Reflexive {
        /// Who saw it: a server, or the alternate address of one.
        server: SocketAddr,
        /// The address.
        address: SocketAddr,
    },
    /// How the binding depends on the destination is known before anything else, usually one round trip after the
    /// first answer where there are two servers, else after the filtering test. What is not known yet is `Unknown`
    /// in the report; a [`Event::Classified`] follows. Address-and-port-dependent may turn into address-dependent.
    MappingKnown(Report),
    /// There is a verdict, the first or a different one.
    Classified(Report),
}

/// What a [`Prober`] has refused or dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProberStats {
    /// Answers to our requests that came from where they could not come from.
    pub foreign_answers: u64,
    /// Answers to our requests that said nothing.
    pub malformed_answers: u64,
    /// Requests that were not sent since too many were outstanding.
    pub transactions_refused: u64,
    /// Datagrams and events that were dropped since nobody drained them.
    pub queue_overflows: u64,
    /// How often the binding was another one.
    pub binding_changes: u64,
}

/// Finds out which NAT one socket is behind, and watches it. See the crate's documentation.
#[derive(Debug)]
pub struct Prober {
    pub(crate) config: ProbeConfig,
    pub(crate) servers: Vec<Server>,
    pub(crate) local: LocalAddresses,
    pub(crate) transactions: Transactions<Probe>,
    pub(crate) evidence: Evidence,
    pub(crate) phase: Phase,
    pub(crate) report: Option<Report>,
    /// The mapping that was told since the binding began.
    pub(crate) announced: Option<MappingBehavior>,
    rng: StdRng,
    // Whose answer says nothing about the round trip (Karn).
    repeated: BTreeSet<TransactionId>,
    restarted_at: Option<Instant>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stats: ProberStats,
}

/// A configured server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Its other address and port, when they can be tested with.
    pub(crate) alternate: Option<SocketAddr>,
    /// It has shown that it does not answer from there.
    pub(crate) never_changes: bool,
    pub(crate) rtt: Option<Duration>,
    /// Asked in this run.
    pub(crate) asked: bool,
    /// Has answered in this run.
    pub(crate) answered: bool,
}

impl Prober {
    /// Makes a prober for the socket bound to `local`, and begins. Without servers it does nothing.
    #[must_use]
    pub fn new(config: ProbeConfig, local: SocketAddr, seed: [u8; 32], now: Instant) -> Self {
        let mut servers: Vec<Server> = Vec::new();
        for address in config.servers.iter().copied() {
            let known = servers.iter().any(|server| server.address == address);
            if address.is_ipv4() == local.is_ipv4() && !known && servers.len() < SERVERS_MAX {
                servers.push(Server {
                    address,
                    alternate: None,
                    never_changes: false,
                    rtt: None,
                    asked: false,
                    answered: false,
                });
            }
        }
        let interfaces = config.local_addresses.clone();
        let mut prober = Self {
            config,
            servers,
            local: LocalAddresses {
                socket: local,
                interfaces,
            },
            transactions: Transactions::new(TRANSACTIONS_MAX, "natprobe: repeat a request"),
            evidence: Evidence::default(),
            phase: Phase::Idle,
            report: None,
            announced: None,
            rng: StdRng::from_seed(seed),
            repeated: BTreeSet::new(),
            restarted_at: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            stats: ProberStats::default(),
        };
        prober.refresh(now);
        prober
    }

    /// Asks all servers again now: something about the network has changed.
    pub fn refresh(&mut self, now: Instant) {
        self.begin_run(now);
        self.advance(now);
    }

    /// Takes a datagram that arrived at the socket.
    ///
    /// Consumes answers to our own requests, and our own request when it comes back; anything else is not ours.
    pub fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled {
        let Ok(message) = Message::decode(datagram.payload) else {
            return Handled::NotMine;
        };
        if message.method() != Method::BINDING {
            return Handled::NotMine;
        }
        let id = message.transaction_id();
        let Some(probe) = self.transactions.get(&id).copied() else {
            return Handled::NotMine;
        };
        match message.class() {
            Class::Indication => return Handled::NotMine,
            Class::Request if probe.kind == ProbeKind::Hairpin => self.evidence.hairpinned = true,
            Class::Request => return Handled::NotMine,
            Class::SuccessResponse | Class::ErrorResponse => {
                self.handle_answer(id, probe, datagram.remote, &message, now);
            }
        }
        self.advance(now);
        Handled::Consumed
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut again = Vec::new();
        let given_up = self
            .transactions
            .advance(now, |id, probe| again.push((*id, *probe)));
        for (id, probe) in again {
            self.repeated.insert(id);
            self.transmit(id, probe);
        }
        for (id, probe) in given_up {
            self.repeated.remove(&id);
            trace!(kind = ?probe.kind, "no answer");
            if probe.kind == ProbeKind::Plain && self.watched() == Some(probe.destination) {
                debug!("the watched server is silent");
                self.begin_run(now);
            }
        }
        self.advance(now);
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when to call [`Prober::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        earliest([self.transactions.poll_timeout(), self.phase.deadline()])
    }

    /// Returns the last verdict.
    #[must_use]
    pub const fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Returns what can be said now, for who cannot wait for the verdict; what is not known yet is `Unknown` in it.
    /// `None` while nobody has answered and nobody is known to be silent.
    #[must_use]
    pub fn report_so_far(&self) -> Option<Report> {
        let anybody = self.evidence.observations().next().is_some();
        match &self.report {
            Some(report) if !report.udp || !anybody => Some(report.clone()),
            Some(_) | None => anybody.then(|| report(self)),
        }
    }

    /// Returns what was refused or dropped.
    #[must_use]
    pub const fn stats(&self) -> ProberStats {
        ProberStats {
            transactions_refused: self.transactions.refused(),
            ..self.stats
        }
    }

    fn handle_answer(
        &mut self,
        id: TransactionId,
        probe: Probe,
        from: SocketAddr,
        message: &Message<'_>,
        now: Instant,
    ) {
        let changed = self.phase.filtering().and_then(|test| match probe.kind {
            ProbeKind::ChangeBoth => Some(test.evidence.both_changed),
            ProbeKind::ChangePort => Some(test.evidence.port_changed),
            ProbeKind::Plain | ProbeKind::Control | ProbeKind::Hairpin => None,
        });
        if from != probe.destination && Some(from) != changed {
            self.stats.foreign_answers += 1;
            return;
        }
        let Some(answer) = Answer::read(message) else {
            self.stats.malformed_answers += 1;
            return;
        };
        self.transactions.take(&id);
        let repeated = self.repeated.remove(&id);
        match probe.kind {
            ProbeKind::Plain | ProbeKind::Control => {
                self.handle_plain_answer(probe, answer, repeated, now);
            }
            ProbeKind::ChangeBoth | ProbeKind::ChangePort => {
                self.handle_changed_answer(probe.kind, from == probe.destination, answer);
            }
            // Somebody answers at our own public address; that it is not us is all we learn.
            ProbeKind::Hairpin => {}
        }
    }

    fn handle_plain_answer(&mut self, probe: Probe, answer: Answer, repeated: bool, now: Instant) {
        let elapsed = now.saturating_duration_since(probe.sent_at);
        if probe.kind == ProbeKind::Control
            && let Some(test) = self.phase.filtering_mut()
        {
            test.control_answered(elapsed);
        }
        let server = self
            .servers
            .iter_mut()
            .find(|server| server.address == probe.destination);
        if let Some(server) = server {
            server.answered = true;
            if !repeated {
                server.rtt = Some(elapsed);
            }
            if let Answer::Success {
                other: Some(other), ..
            } = answer
            {
                let usable = is_usable_alternate(server.address, other);
                server.alternate = usable.then_some(other);
            }
        }
        let Answer::Success {
            mapped, rewritten, ..
        } = answer
        else {
            return;
        };
        let before = self.evidence.rewritten.unwrap_or(false);
        self.evidence.rewritten = rewritten
            .map(|now| now || before)
            .or(self.evidence.rewritten);
        let new_address = !self
            .evidence
            .observations()
            .any(|(_, known)| known == mapped);
        match self.evidence.observe(probe.destination, mapped) {
            Observed::Changed if self.may_restart(now) => {
                self.restart(probe.destination, mapped, now);
            }
            Observed::New | Observed::Known | Observed::Changed => {}
        }
        if new_address {
            debug!(server = %probe.destination, %mapped, "reflexive address");
            self.push_event(Event::Reflexive {
                server: probe.destination,
                address: mapped,
            });
        }
    }

    fn handle_changed_answer(&mut self, kind: ProbeKind, unchanged: bool, answer: Answer) {
        let Some(test) = self.phase.filtering_mut() else {
            return;
        };
        if unchanged || matches!(answer, Answer::Error { .. }) {
            test.evidence.unsupported = true;
        } else if kind == ProbeKind::ChangeBoth {
            test.evidence.both_answered = true;
        } else {
            test.evidence.port_answered = true;
        }
    }

    fn may_restart(&self, now: Instant) -> bool {
        self.restarted_at
            .is_none_or(|at| now.saturating_duration_since(at) >= RESTART_INTERVAL)
    }

    /// The binding is another one: nothing observed before holds, and its filter is open to `seen_by` alone.
    fn restart(&mut self, seen_by: SocketAddr, mapped: SocketAddr, now: Instant) {
        debug!("binding changed");
        self.restarted_at = Some(now);
        self.stats.binding_changes += 1;
        self.transactions.retain(|_| false);
        self.repeated.clear();
        self.evidence = Evidence::default();
        self.announced = None;
        self.evidence.touch(seen_by);
        self.evidence.observe(seen_by, mapped);
        self.begin_run(now);
    }

    /// Sends a request that is repeated until it is answered.
    pub(crate) fn ask(&mut self, destination: SocketAddr, now: Instant) {
        self.evidence.touch(destination);
        self.start(
            Probe {
                kind: ProbeKind::Plain,
                destination,
                sent_at: now,
            },
            REPEATED,
            now,
        );
    }

    /// Sends a packet to ourselves until it comes back.
    pub(crate) fn ask_ourselves(&mut self, address: SocketAddr, now: Instant) {
        let probe = Probe {
            kind: ProbeKind::Hairpin,
            destination: address,
            sent_at: now,
        };
        self.start(probe, REPEATED, now);
    }

    /// Sends a request of a filtering test: a control each time anew, others under the id they have.
    pub(crate) fn ask_in_round(&mut self, kind: ProbeKind, destination: SocketAddr, now: Instant) {
        let known = self.transactions.iter().find(|(_, probe)| {
            probe.kind == kind && probe.destination == destination && kind != ProbeKind::Control
        });
        if let Some((id, probe)) = known.map(|(id, probe)| (*id, *probe)) {
            self.transmit(id, probe);
        } else {
            self.start(
                Probe {
                    kind,
                    destination,
                    sent_at: now,
                },
                ONCE,
                now,
            );
        }
    }

    fn start(&mut self, probe: Probe, policy: Retransmission, now: Instant) {
        let id = Transactions::<Probe>::draw_id(&mut self.rng);
        if self.transactions.start(id, probe, policy, now) {
            self.transmit(id, probe);
        }
    }

    fn transmit(&mut self, id: TransactionId, probe: Probe) {
        if self.transmits.len() >= QUEUE_MAX {
            self.stats.queue_overflows += 1;
            return;
        }
        self.transmits.push_back(Transmit {
            source: self.local.socket,
            destination: probe.destination,
            ttl: None,
            payload: probe.kind.encode(id),
        });
    }

    pub(crate) fn push_event(&mut self, event: Event) {
        if self.events.len() >= QUEUE_MAX {
            self.stats.queue_overflows += 1;
            return;
        }
        self.events.push_back(event);
    }
}

//! Is a port mapping that a gateway promised really there?
//!
//! The base asks a STUN server to answer to the external port (RESPONSE-PORT; RFC 5780, section 7.5), and waits for
//! that answer to arrive. Three things could make it arrive, or not, for another reason:
//!
//! * The server may ignore the attribute. A **decoy** that asks for an answer to the discard port tells: nobody has
//!   that, so an answer means that the server sends to where it was asked from.
//! * The external port may be that of the NAT's own binding, whose filter is open to the server. The **question** asks
//!   for the server's other port, which nobody here writes to ([`crate::Prober`] keeps to that); only a server that
//!   has one can tell then. Another external port is asked for from both: an answer from either counts, silence only
//!   of the other port, since the way back to where we wrote is taken.
//! * Packets get lost. **Controls** beside each question tell how much silence means.

mod verdict;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use sansio::{Datagram, Deadline, Handled, Transactions, Transmit, earliest};
use stunwire::{ChangeRequest, TransactionId};
use tracing::debug;

use crate::FilteringBehavior;
use crate::probe::{Answer, ONCE, REPEATED, encode_request, question};
use crate::silence::{Round, Rounds};

pub use verdict::{Indecision, MappingVerdict, Refutation};

/// Servers beyond these are not asked.
const SERVERS_MAX: usize = 4;

/// One to reach the server, thirty controls, two questions and a decoy, twice.
const TRANSACTIONS_MAX: usize = 80;

/// What one input can put into the queue is four; a driver that never drains fills it.
const QUEUE_MAX: usize = 256;

/// A server that is silent for so long is given up: nine requests by then.
const NEXT_SERVER_AFTER: Duration = Duration::from_millis(1300);

/// Where the decoy's answer goes: discard (RFC 863), which no NAT gives to anybody.
const DECOY_PORT: u16 = 9;

/// Checks from outside whether an external address leads to one of our sockets.
///
/// Asks at most four servers, one after the other, until one can tell; takes about a second on a clean network.
#[derive(Debug)]
pub struct MappingCheck {
    servers: Vec<SocketAddr>,
    base: SocketAddr,
    external: SocketAddr,
    filtering: FilteringBehavior,
    phase: Phase,
    transactions: Transactions<Ask>,
    rng: StdRng,
    /// Index of the server that is asked.
    server: usize,
    /// The most telling reason why the servers so far could not tell.
    indecision: Indecision,
    verdict: Option<MappingVerdict>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<MappingVerdict>,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Waiting for a server to answer at all.
    Reaching {
        since: Instant,
    },
    Asking(Asking),
    Done,
}

/// What is known of one server that answers.
#[derive(Clone, Debug)]
struct Asking {
    rounds: Rounds,
    /// The external port is that of our own binding with this server.
    same_binding: bool,
    /// The server answers from another port when it is asked to.
    changes_port: bool,
    /// An answer came that only the port mapping can have let in.
    arrived: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ask {
    what: What,
    server: SocketAddr,
    sent_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Reach,
    Control,
    Decoy,
    /// Answer to the external port, from your other port.
    QuestionFromOther,
    /// Answer to the external port.
    Question,
}

impl MappingCheck {
    /// Begins to check whether `external` leads to the socket `base`, through the first of `servers` that can tell.
    ///
    /// `reflexive` is what a server saw of `base` lately: where its IP address is another than that of `external`, the
    /// answer is known before anything is sent. An unspecified `external` IP address, where the gateway did not say, is
    /// taken to be the one that the server sees.
    #[must_use]
    pub fn new(
        mut servers: Vec<SocketAddr>,
        base: SocketAddr,
        external: SocketAddr,
        reflexive: Option<SocketAddr>,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        servers.retain(|server| server.is_ipv4() == base.is_ipv4());
        servers.truncate(SERVERS_MAX);
        let mut check = Self {
            servers,
            base,
            external,
            filtering: FilteringBehavior::Unknown,
            phase: Phase::Reaching { since: now },
            transactions: Transactions::new(TRANSACTIONS_MAX, "natprobe: repeat a check's request"),
            rng: StdRng::from_seed(seed),
            server: 0,
            indecision: Indecision::NoServer,
            verdict: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        if let Some(reflexive) = reflexive.filter(|it| it.is_ipv4() == external.is_ipv4()) {
            check.refute_other_address(reflexive);
        }
        check.reach(now);
        check
    }

    /// Says what the filtering of the NAT is, where it was measured: behind address-dependent filtering the server's
    /// other port proves nothing. Where it is not known that is left aside: the external address is then the
    /// server-reflexive one, which peers are told anyway.
    #[must_use]
    pub const fn behind(mut self, filtering: FilteringBehavior) -> Self {
        self.filtering = filtering;
        self
    }

    /// Takes a datagram that arrived at the base. Consumes answers to its own requests, wherever they come from.
    pub fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled {
        let Some((id, ask, message)) = question(&self.transactions, datagram.payload) else {
            return Handled::NotMine;
        };
        if let Some(answer) = Answer::read(&message) {
            self.transactions.take(&id);
            self.handle_answer(ask, answer, datagram.remote, now);
            self.advance(now);
        }
        Handled::Consumed
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut again = Vec::new();
        self.transactions
            .advance(now, |id, ask| again.push((*id, *ask)));
        for (id, ask) in again {
            self.transmit(id, ask);
        }
        self.advance(now);
    }

    /// Returns the next datagram to send from the base.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the verdict, once.
    pub fn poll_event(&mut self) -> Option<MappingVerdict> {
        self.events.pop_front()
    }

    /// Returns when to call [`MappingCheck::handle_timeout`]; `None` once there is a verdict.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let at = match &self.phase {
            Phase::Done => return None,
            Phase::Reaching { since } => *since + NEXT_SERVER_AFTER,
            Phase::Asking(asking) => asking.rounds.deadline(),
        };
        earliest([
            self.transactions.poll_timeout(),
            Some(Deadline::new(at, "natprobe: check a port mapping")),
        ])
    }

    /// Returns the verdict, if there is one.
    #[must_use]
    pub const fn verdict(&self) -> Option<MappingVerdict> {
        self.verdict
    }

    fn handle_answer(&mut self, ask: Ask, answer: Answer, from: SocketAddr, now: Instant) {
        let rtt = now.saturating_duration_since(ask.sent_at);
        match (ask.what, answer) {
            (What::Reach, Answer::Success { mapped, .. }) => {
                if from == ask.server && !self.refute_other_address(mapped) {
                    self.phase = Phase::Asking(Asking {
                        rounds: Rounds::new(Some(rtt), now),
                        same_binding: mapped.port() == self.external.port(),
                        changes_port: true,
                        arrived: false,
                    });
                }
            }
            (What::Reach, Answer::Error { .. }) => {
                self.give_up_server(Indecision::NotSupported, now)
            }
            (What::Control, _) => {
                if let Some(asking) = self.asking() {
                    asking.rounds.control_answered(rtt);
                }
            }
            (What::Decoy, Answer::Success { .. })
            | (
                What::Decoy,
                Answer::Error {
                    not_understood: true,
                },
            ) => self.give_up_server(Indecision::NotSupported, now),
            // It was understood, and the port disliked.
            (What::Decoy, Answer::Error { .. }) => {}
            (What::QuestionFromOther | What::Question, Answer::Success { .. }) => {
                if let Some(asking) = self.asking() {
                    let proves = !asking.same_binding
                        || (ask.what == What::QuestionFromOther && from != ask.server);
                    asking.arrived |= proves;
                    asking.changes_port &=
                        ask.what != What::QuestionFromOther || from != ask.server;
                }
            }
            (What::QuestionFromOther, Answer::Error { .. }) => {
                if let Some(asking) = self.asking() {
                    asking.changes_port = false;
                }
            }
            (What::Question, Answer::Error { .. }) => {
                self.give_up_server(Indecision::NotSupported, now);
            }
        }
    }

    fn advance(&mut self, now: Instant) {
        loop {
            match &mut self.phase {
                Phase::Done => return,
                Phase::Reaching { since } => {
                    if now < *since + NEXT_SERVER_AFTER {
                        return;
                    }
                    self.give_up_server(Indecision::NoAnswer, now);
                }
                Phase::Asking(asking) => {
                    if asking.same_binding && !asking.changes_port {
                        self.give_up_server(Indecision::NoStranger, now);
                        continue;
                    }
                    match asking.rounds.advance(false, now) {
                        Round::Wait => return,
                        Round::Send => self.send_round(now),
                        Round::Done => self.judge(now),
                    }
                }
            }
        }
    }

    fn send_round(&mut self, now: Instant) {
        let Some(asking) = self.asking() else { return };
        let (same_binding, changes_port) = (asking.same_binding, asking.changes_port);
        let arrived = asking.arrived;
        self.ask_in_round(What::Control, now);
        self.ask_in_round(What::Decoy, now);
        if changes_port && !arrived {
            self.ask_in_round(What::QuestionFromOther, now);
        }
        if !same_binding && !arrived {
            self.ask_in_round(What::Question, now);
        }
    }

    /// The rounds are over, and nothing has shown that the server does not do what it is asked.
    fn judge(&mut self, now: Instant) {
        let Some(asking) = self.asking() else { return };
        let (counts, arrived, same_binding, changes_port) = (
            asking.rounds.silence_counts(),
            asking.arrived,
            asking.same_binding,
            asking.changes_port,
        );
        if !counts {
            self.give_up_server(Indecision::TooMuchLoss, now);
        } else if !arrived && !changes_port {
            self.give_up_server(Indecision::NoStranger, now);
        } else if !arrived {
            self.conclude(MappingVerdict::Refuted {
                reason: Refutation::Unreachable,
            });
        } else if same_binding && self.filtering == FilteringBehavior::AddressDependent {
            self.give_up_server(Indecision::NoStranger, now);
        } else {
            self.conclude(MappingVerdict::Verified);
        }
    }

    /// Returns whether `seen` shows that the gateway's external address is wrong.
    fn refute_other_address(&mut self, seen: SocketAddr) -> bool {
        let (claimed, seen) = (self.external.ip(), seen.ip());
        let other = claimed != seen && !claimed.is_unspecified();
        if other {
            self.conclude(MappingVerdict::Refuted {
                reason: Refutation::OtherAddress { claimed, seen },
            });
        }
        other
    }

    fn give_up_server(&mut self, reason: Indecision, now: Instant) {
        self.indecision = self.indecision.max(reason);
        self.transactions.retain(|_| false);
        self.server += 1;
        self.reach(now);
    }

    /// Asks the server whose turn it is whether it is there.
    fn reach(&mut self, now: Instant) {
        if self.verdict.is_some() {
            return;
        }
        let Some(server) = self.servers.get(self.server).copied() else {
            let reason = self.indecision;
            self.conclude(MappingVerdict::Undecided { reason });
            return;
        };
        self.phase = Phase::Reaching { since: now };
        let ask = Ask {
            what: What::Reach,
            server,
            sent_at: now,
        };
        let id = Transactions::<Ask>::draw_id(&mut self.rng);
        if self.transactions.start(id, ask, REPEATED, now) {
            self.transmit(id, ask);
        }
    }

    /// Asks once more: a control under a new id, the others under theirs.
    fn ask_in_round(&mut self, what: What, now: Instant) {
        let Some(server) = self.servers.get(self.server).copied() else {
            return;
        };
        let known = self
            .transactions
            .iter()
            .find(|(_, ask)| ask.what == what && what != What::Control)
            .map(|(id, ask)| (*id, *ask));
        if let Some((id, ask)) = known {
            self.transmit(id, ask);
            return;
        }
        let ask = Ask {
            what,
            server,
            sent_at: now,
        };
        let id = Transactions::<Ask>::draw_id(&mut self.rng);
        if self.transactions.start(id, ask, ONCE, now) {
            self.transmit(id, ask);
        }
    }

    fn transmit(&mut self, id: TransactionId, ask: Ask) {
        let other_port = ChangeRequest {
            ip: false,
            port: true,
        };
        let external = Some(self.external.port());
        let payload = match ask.what {
            What::Reach | What::Control => encode_request(id, None, None),
            What::Decoy => encode_request(id, None, Some(DECOY_PORT)),
            What::QuestionFromOther => encode_request(id, Some(other_port), external),
            What::Question => encode_request(id, None, external),
        };
        if self.transmits.len() < QUEUE_MAX {
            self.transmits.push_back(Transmit {
                source: self.base,
                destination: ask.server,
                ttl: None,
                payload,
            });
        }
    }

    fn conclude(&mut self, verdict: MappingVerdict) {
        debug!(?verdict, "port mapping checked");
        self.transactions.retain(|_| false);
        self.phase = Phase::Done;
        self.verdict = Some(verdict);
        self.events.push_back(verdict);
    }

    const fn asking(&mut self) -> Option<&mut Asking> {
        match &mut self.phase {
            Phase::Asking(asking) => Some(asking),
            Phase::Reaching { .. } | Phase::Done => None,
        }
    }
}

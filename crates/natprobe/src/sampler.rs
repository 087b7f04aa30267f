//! Fresh sockets, one server: what does the NAT give?

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use sansio::{Datagram, Deadline, Handled, Retransmission, Transactions, Transmit, earliest};
use tracing::debug;

use crate::allocation::{PortSample, infer_allocation};
use crate::probe::{Answer, ProbeKind, REPEATED, question};
use crate::{Pooling, PortAllocation, infer_pooling};

/// Sockets beyond these are not asked: a block is known after sixteen samples, and each costs a binding.
const SOCKETS_MAX: usize = 64;

/// Between the first requests of two sockets, so that they reach the NAT in the order in which they are counted.
const GAP: Duration = Duration::from_millis(10);

/// A server that has answered nobody for so long is given up for the next: five requests of each socket by then.
const NEXT_SERVER_AFTER: Duration = Duration::from_secs(1);

/// Samples what a NAT gives to fresh sockets, one after the other.
///
/// Fresh, since a socket that has a binding shows it again. The samples are as good as they are new: take them
/// right before they are used.
#[derive(Debug)]
pub struct Sampler {
    servers: Vec<SocketAddr>,
    sockets: Vec<Sampled>,
    transactions: Transactions<Ask>,
    rng: StdRng,
    /// Index of the server that is asked.
    server: usize,
    /// Index of the socket that is asked next, and when.
    next: usize,
    next_at: Instant,
    give_up_server: Option<Instant>,
    finished: bool,
    transmits: VecDeque<Transmit>,
    events: VecDeque<SamplerEvent>,
}

/// What a [`Sampler`] has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SamplerEvent {
    /// A socket's mapping is known.
    Sampled {
        /// The local socket.
        socket: SocketAddr,
        /// What the server sees.
        mapped: SocketAddr,
    },
    /// No more samples will come: all sockets were sampled, or the servers are silent. The last event.
    Finished,
}

#[derive(Clone, Copy, Debug)]
struct Sampled {
    socket: SocketAddr,
    mapped: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    socket: SocketAddr,
    server: SocketAddr,
}

impl Sampler {
    /// Begins to sample: asks the first server, from each socket once in the order given, and the next server where
    /// the first is silent for a second. Servers of another address family than the first socket's are left out.
    #[must_use]
    pub fn new(
        mut servers: Vec<SocketAddr>,
        mut sockets: Vec<SocketAddr>,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        sockets.truncate(SOCKETS_MAX);
        servers.retain(|server| {
            sockets
                .first()
                .is_some_and(|socket| socket.is_ipv4() == server.is_ipv4())
        });
        let mut sampler = Self {
            servers,
            sockets: sockets
                .into_iter()
                .map(|socket| Sampled {
                    socket,
                    mapped: None,
                })
                .collect(),
            transactions: Transactions::new(SOCKETS_MAX, "natprobe: repeat a sample's request"),
            rng: StdRng::from_seed(seed),
            server: 0,
            next: 0,
            next_at: now,
            give_up_server: Some(now + NEXT_SERVER_AFTER),
            finished: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        sampler.advance(now);
        sampler
    }

    /// Takes a datagram that arrived at one of the sockets. Consumes answers to its own requests.
    pub fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled {
        let Some((id, ask, message)) = question(&self.transactions, datagram.payload) else {
            return Handled::NotMine;
        };
        if datagram.remote != ask.server || datagram.local != ask.socket {
            return Handled::Consumed;
        }
        if let Some(Answer::Success { mapped, .. }) = Answer::read(&message) {
            self.transactions.take(&id);
            self.give_up_server = None;
            if let Some(sampled) = self.sockets.iter_mut().find(|it| it.socket == ask.socket) {
                sampled.mapped = Some(mapped);
            }
            self.events.push_back(SamplerEvent::Sampled {
                socket: ask.socket,
                mapped,
            });
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

    /// Returns the next datagram to send, from one of the sockets.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<SamplerEvent> {
        self.events.pop_front()
    }

    /// Returns when to call [`Sampler::handle_timeout`]; `None` when it has finished.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.finished {
            return None;
        }
        let more = self.next < self.sockets.len();
        earliest([
            self.transactions.poll_timeout(),
            more.then(|| Deadline::new(self.next_at, "natprobe: next sample")),
            self.give_up_server
                .map(|at| Deadline::new(at, "natprobe: sample at another server")),
        ])
    }

    /// Returns whether no more samples will come.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Returns what was sampled so far, as pairs of socket and public address in the order of the sockets.
    pub fn mappings(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        self.sockets
            .iter()
            .filter_map(|it| Some((it.socket, it.mapped?)))
    }

    /// Returns the ports sampled so far, for [`infer_allocation`].
    #[must_use]
    pub fn samples(&self) -> Vec<PortSample> {
        self.mappings()
            .map(|(socket, mapped)| PortSample {
                local: socket.port(),
                mapped: mapped.port(),
            })
            .collect()
    }

    /// Returns how the NAT chooses ports, as far as it was sampled.
    #[must_use]
    pub fn allocation(&self) -> PortAllocation {
        infer_allocation(&self.samples())
    }

    /// Returns how the NAT gives out public addresses, as far as it was sampled.
    #[must_use]
    pub fn pooling(&self) -> Option<Pooling> {
        let mapped: Vec<_> = self.mappings().map(|(_, mapped)| mapped).collect();
        infer_pooling(&mapped)
    }

    fn advance(&mut self, now: Instant) {
        if self.give_up_server.is_some_and(|at| now >= at) {
            self.ask_next_server(now);
        }
        if let Some(server) = self.servers.get(self.server).copied() {
            while self.next < self.sockets.len() && now >= self.next_at {
                let socket = self.sockets[self.next].socket;
                self.next += 1;
                self.next_at = now + GAP;
                self.ask(Ask { socket, server }, REPEATED, now);
            }
        }
        let none_left = self.server >= self.servers.len();
        let all_asked = self.next >= self.sockets.len();
        if !self.finished && (none_left || (all_asked && self.transactions.is_empty())) {
            self.finished = true;
            self.transactions.retain(|_| false);
            self.events.push_back(SamplerEvent::Finished);
        }
    }

    fn ask_next_server(&mut self, now: Instant) {
        debug!("no sample: the server is silent");
        self.transactions.retain(|_| false);
        self.server += 1;
        self.next = 0;
        self.next_at = now;
        self.give_up_server = Some(now + NEXT_SERVER_AFTER);
    }

    fn ask(&mut self, ask: Ask, policy: Retransmission, now: Instant) {
        let id = Transactions::<Ask>::draw_id(&mut self.rng);
        if self.transactions.start(id, ask, policy, now) {
            self.transmit(id, ask);
        }
    }

    fn transmit(&mut self, id: stunwire::TransactionId, ask: Ask) {
        // Nobody drains: each socket's last request is repeated anyway.
        if self.transmits.len() < SOCKETS_MAX * 4 {
            self.transmits.push_back(Transmit {
                source: ask.socket,
                destination: ask.server,
                ttl: None,
                payload: ProbeKind::Plain.encode(id),
            });
        }
    }
}

//! How long does a binding live?
//!
//! Many sockets make a binding each at the same time, are silent for different times, and are looked at then; so the
//! search takes as long as the answer. One more socket is the **asker**: it asks the server to answer to the public
//! port of the idle one (RESPONSE-PORT; RFC 5780, section 4.6), which uses nothing but that binding. Where the server
//! cannot, the idle socket asks by itself and sees whether its public address has changed; behind a NAT that keeps
//! ports nothing can be seen that way.
//!
//! Two sockets more are **watched**: they are used every five seconds, and should live for ever. Some carriers end a
//! binding at an age. The two begin ten seconds apart, so that a reboot is not taken for that.

mod report;
mod subject;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use sansio::{Datagram, Deadline, Handled, Transactions, Transmit, earliest};
use stunwire::TransactionId;
use tracing::debug;

use crate::probe::{Answer, REPEATED, encode_request, question};
use report::{Findings, Method};
use subject::{Role, State, Subject};

pub use report::{LifetimeEvent, LifetimeReport};

/// Silences that are tried, in seconds: below and above what devices have, 20, 30, 60, 90, 120, 180 and 300.
const WAITS_SECS: [u64; 17] = [
    10, 15, 19, 22, 28, 33, 45, 57, 65, 85, 95, 115, 130, 170, 190, 290, 310,
];

/// Sockets that are not left idle: the asker, and the watched ones.
const WATCHED: usize = 2;

/// Between the first requests of two sockets.
const STAGGER: Duration = Duration::from_millis(20);

/// Between the first requests of the two watched sockets; more than the ages of bindings that end by age differ.
const WATCHED_APART: Duration = Duration::from_secs(10);

/// Between the first and the second request of a socket; Linux counts a flow as lasting after 2 s.
const WARM_AFTER: Duration = Duration::from_millis(2500);

/// Between two uses of a watched binding. Shorter than any idle lifetime that was ever reported.
const USED_EVERY: Duration = Duration::from_secs(5);

/// How old a watched binding grows: twice and a half the 60 s that one carrier is known for.
const WATCH_FOR: Duration = Duration::from_secs(150);

/// Two requests for each socket, and as many again.
const TRANSACTIONS_MAX: usize = 128;

/// What one input can put into the queue is far less; a driver that never drains fills it.
const QUEUE_MAX: usize = 512;

/// Searches how long a NAT keeps a binding: idle, and whatever happens.
#[derive(Debug)]
pub struct LifetimeSearch {
    servers: Vec<SocketAddr>,
    /// Index of the server that is asked.
    server: usize,
    asker: Option<SocketAddr>,
    asker_mapped: Option<SocketAddr>,
    subjects: Vec<Subject>,
    watchers: usize,
    method: Method,
    findings: Findings,
    finished: bool,
    transactions: Transactions<Ask>,
    rng: StdRng,
    transmits: VecDeque<Transmit>,
    events: VecDeque<LifetimeEvent>,
}

/// A request, sent from `socket`; `subject` is an index.
#[derive(Clone, Copy, Debug)]
struct Ask {
    what: What,
    socket: SocketAddr,
    sent_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Is the server there? From the asker.
    Find,
    /// From the subject: first, second, or to keep it in use.
    Use { subject: usize },
    /// From the asker, to be answered to the subject, right after its binding was made: can the server do that?
    Try { subject: usize, port: u16 },
    /// The same, to see whether the binding is there.
    Knock { subject: usize, port: u16 },
    /// From the asker, beside a knock.
    Control { subject: usize },
    /// From the subject: which address have I now?
    Query { subject: usize },
}

impl LifetimeSearch {
    /// How many sockets make the best use of it; it works with four and more, more coarsely.
    pub const SOCKETS: usize = 1 + WATCHED + WAITS_SECS.len();

    /// Begins to search with the first of the servers that answers, for idle times up to `longest`, with sockets that
    /// have no binding yet. Takes as long as the lifetime that it finds, and 2 min 45 s at least.
    #[must_use]
    pub fn new(
        mut servers: Vec<SocketAddr>,
        mut sockets: Vec<SocketAddr>,
        longest: Duration,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        sockets.truncate(Self::SOCKETS);
        let asker = sockets.first().copied();
        servers.retain(|server| asker.is_some_and(|asker| asker.is_ipv4() == server.is_ipv4()));
        let mut search = Self {
            servers,
            server: 0,
            asker,
            asker_mapped: None,
            subjects: subjects(&sockets, longest, now),
            watchers: WATCHED,
            method: Method::Undecided,
            findings: Findings::default(),
            finished: false,
            transactions: Transactions::new(TRANSACTIONS_MAX, "natprobe: repeat a request"),
            rng: StdRng::from_seed(seed),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        search.find(now);
        search
    }

    /// Takes a datagram that arrived at one of the sockets. Consumes answers to its own requests.
    pub fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled {
        let Some((id, ask, message)) = question(&self.transactions, datagram.payload) else {
            return Handled::NotMine;
        };
        if self.servers.get(self.server) != Some(&datagram.remote) {
            return Handled::Consumed;
        }
        if let Some(answer) = Answer::read(&message) {
            self.transactions.take(&id);
            self.handle_answer(ask, answer, datagram.local, now);
            self.advance(now);
        }
        Handled::Consumed
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut again = Vec::new();
        let given_up = self
            .transactions
            .advance(now, |id, ask| again.push((*id, *ask)));
        for (id, ask) in again {
            self.transmit(id, ask);
        }
        for (_, ask) in given_up {
            self.handle_silence(ask.what, now);
        }
        self.advance(now);
    }

    /// Returns the next datagram to send, from one of the sockets.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<LifetimeEvent> {
        self.events.pop_front()
    }

    /// Returns when to call [`LifetimeSearch::handle_timeout`]; `None` when it has finished.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.finished {
            return None;
        }
        let found = self.asker_mapped.is_some();
        let subjects = self.subjects.iter().filter_map(Subject::due);
        earliest([
            self.transactions.poll_timeout(),
            subjects
                .min()
                .filter(|_| found)
                .map(|at| Deadline::new(at, "natprobe: look at a binding")),
        ])
    }

    fn handle_answer(&mut self, ask: Ask, answer: Answer, local: SocketAddr, now: Instant) {
        let mapped = match answer {
            Answer::Success { mapped, .. } => Some(mapped),
            Answer::Error { .. } => None,
        };
        match (ask.what, mapped) {
            (What::Find, None) => self.find_next(now),
            (What::Find, Some(mapped)) => self.begin(mapped, now),
            (What::Use { subject }, Some(mapped)) => self.used(subject, mapped, ask.sent_at, now),
            (What::Use { subject }, None) => self.drop_subject(subject),
            (What::Try { subject, .. }, _) => {
                let arrived = mapped.is_some() && local == self.subjects[subject].socket;
                self.method = if arrived { Method::Knock } else { Method::Ask };
                debug!(method = ?self.method, "how bindings are looked at");
            }
            (What::Knock { subject, .. }, _) => {
                let arrived = mapped.is_some() && local == self.subjects[subject].socket;
                let alive = arrived.then_some(true);
                self.looked(subject, alive, now);
            }
            (What::Control { subject }, _) => {
                if let State::Questioned { network_works, .. } = &mut self.subjects[subject].state {
                    *network_works = true;
                }
            }
            (What::Query { subject }, Some(mapped)) => {
                let alive = self.is_unchanged(subject, mapped);
                self.looked(subject, alive, now);
            }
            (What::Query { subject }, None) => self.looked(subject, None, now),
        }
    }

    /// A request was repeated in vain.
    fn handle_silence(&mut self, what: What, now: Instant) {
        match what {
            What::Find => self.find_next(now),
            What::Use { subject } => self.drop_subject(subject),
            What::Try { .. } => self.method = Method::Ask,
            What::Knock { subject, .. } => {
                let State::Questioned { network_works, .. } = self.subjects[subject].state else {
                    return;
                };
                self.looked(subject, network_works.then_some(false), now);
            }
            What::Query { subject } => self.looked(subject, None, now),
            What::Control { .. } => {}
        }
    }

    /// A server answers: every socket makes its binding.
    fn begin(&mut self, mapped: SocketAddr, now: Instant) {
        self.asker_mapped = Some(mapped);
        let started = self.subjects.iter().filter_map(Subject::due).min();
        let delay = started.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        for subject in &mut self.subjects {
            if let State::New(at) = subject.state {
                subject.state = State::New(at + delay);
            }
        }
    }

    /// A socket's own request was answered.
    fn used(&mut self, index: usize, mapped: SocketAddr, sent_at: Instant, now: Instant) {
        let Some(before) = self.subjects[index].mapped else {
            let subject = &mut self.subjects[index];
            subject.mapped = Some(mapped);
            subject.born = sent_at;
            subject.state = State::Warm(now + WARM_AFTER);
            if self.method == Method::Undecided && !self.is_trying() {
                self.try_to_knock(index, mapped, now);
            }
            return;
        };
        if before != mapped {
            match self.subjects[index].role {
                Role::Watched => self.ended(index, now),
                Role::Idle(_) => self.drop_subject(index),
            }
            return;
        }
        let subject = &mut self.subjects[index];
        let rest = subject.wait().unwrap_or(USED_EVERY);
        subject.state = State::Resting(now + rest);
    }

    /// A binding was looked at; `None` when that told nothing.
    fn looked(&mut self, index: usize, alive: Option<bool>, now: Instant) {
        let subject = &mut self.subjects[index];
        match (subject.role, alive) {
            (Role::Idle(idle), _) => {
                subject.state = State::Done;
                if let Some(alive) = alive {
                    debug!(?idle, alive, "waited");
                    self.findings.waited.push((idle, alive));
                    self.events.push_back(LifetimeEvent::Waited { idle, alive });
                }
            }
            (Role::Watched, Some(false)) => self.ended(index, now),
            (Role::Watched, _) => {
                let age = now.saturating_duration_since(subject.born);
                if age < WATCH_FOR {
                    subject.state = State::Refreshing;
                    let socket = subject.socket;
                    self.ask(What::Use { subject: index }, socket, now);
                    return;
                }
                subject.state = State::Done;
                if alive == Some(true) {
                    self.findings.watched = self.findings.watched.max(Some(age));
                }
            }
        }
    }

    /// A watched binding is not there any more.
    fn ended(&mut self, index: usize, now: Instant) {
        let subject = &mut self.subjects[index];
        let looked_at = match subject.state {
            State::Questioned { since, .. } => since,
            State::New(_)
            | State::Warming
            | State::Warm(_)
            | State::Resting(_)
            | State::Refreshing
            | State::Done => now,
        };
        subject.state = State::Done;
        let age = looked_at.saturating_duration_since(subject.born);
        self.findings.gone_at_age.push(age);
    }

    fn drop_subject(&mut self, index: usize) {
        self.subjects[index].state = State::Done;
        if self.subjects[index].role == Role::Watched {
            self.watchers = self.watchers.saturating_sub(1);
        }
    }

    /// Judges by the public address: another one means another binding. The same one means the old one, unless the
    /// NAT keeps ports.
    fn is_unchanged(&mut self, index: usize, mapped: SocketAddr) -> Option<bool> {
        let subject = &self.subjects[index];
        if subject.mapped != Some(mapped) {
            return Some(false);
        }
        if mapped.port() == subject.socket.port() {
            self.findings.invisible = true;
            return None;
        }
        Some(true)
    }

    fn advance(&mut self, now: Instant) {
        if self.finished {
            return;
        }
        if self.asker_mapped.is_some() {
            for index in 0..self.subjects.len() {
                if self.subjects[index].due().is_some_and(|at| now >= at) {
                    self.step(index, now);
                }
            }
            self.stop_when_known();
        }
        let nobody = self.servers.get(self.server).is_none();
        let all_done = self.subjects.iter().all(|it| it.state == State::Done);
        if nobody || all_done {
            self.finish();
        }
    }

    /// A subject's time has come.
    fn step(&mut self, index: usize, now: Instant) {
        let subject = &mut self.subjects[index];
        let socket = subject.socket;
        match subject.state {
            State::New(_) | State::Warm(_) => {
                subject.state = State::Warming;
                self.ask(What::Use { subject: index }, socket, now);
            }
            State::Resting(_) => {
                subject.state = State::Questioned {
                    since: now,
                    network_works: false,
                };
                self.question(index, now);
            }
            State::Warming | State::Questioned { .. } | State::Refreshing | State::Done => {}
        }
    }

    fn question(&mut self, index: usize, now: Instant) {
        let subject = &self.subjects[index];
        let mapped = subject.mapped;
        let same_ip = mapped.map(|it| it.ip()) == self.asker_mapped.map(|it| it.ip());
        match (self.method, self.asker, mapped) {
            // From another address of a pool the answer would go to that.
            (Method::Knock, Some(asker), Some(mapped)) if same_ip => {
                let port = mapped.port();
                let subject = index;
                self.ask(What::Knock { subject, port }, asker, now);
                self.ask(What::Control { subject }, asker, now);
            }
            _ => {
                let socket = subject.socket;
                self.ask(What::Query { subject: index }, socket, now);
            }
        }
    }

    /// Once a binding was gone after a silence, longer ones tell nothing.
    fn stop_when_known(&mut self) {
        let Some(gone) = self.findings.shortest_gone() else {
            return;
        };
        let is_open = |it: &Subject, longer: bool| {
            it.state != State::Done && it.wait().is_some_and(|wait| (wait > gone) == longer)
        };
        if self.subjects.iter().any(|it| is_open(it, false)) {
            return;
        }
        for subject in &mut self.subjects {
            if is_open(subject, true) {
                subject.state = State::Done;
            }
        }
    }

    fn finish(&mut self) {
        self.finished = true;
        self.transactions.retain(|_| false);
        let report = if self.asker_mapped.is_some() {
            self.findings.report(self.method, self.watchers)
        } else {
            LifetimeReport {
                evidence: vec!["No server answered.".to_owned()],
                ..LifetimeReport::default()
            }
        };
        self.events.push_back(LifetimeEvent::Finished(report));
    }

    fn find(&mut self, now: Instant) {
        match (self.asker, self.servers.get(self.server)) {
            (Some(asker), Some(_)) => self.ask(What::Find, asker, now),
            _ => self.finish(),
        }
    }

    fn find_next(&mut self, now: Instant) {
        self.server += 1;
        self.find(now);
    }

    fn is_trying(&self) -> bool {
        let mut asks = self.transactions.iter();
        asks.any(|(_, ask)| matches!(ask.what, What::Try { .. }))
    }

    fn try_to_knock(&mut self, subject: usize, mapped: SocketAddr, now: Instant) {
        let same_ip = Some(mapped.ip()) == self.asker_mapped.map(|it| it.ip());
        if let Some(asker) = self.asker.filter(|_| same_ip) {
            let port = mapped.port();
            self.ask(What::Try { subject, port }, asker, now);
        }
    }

    fn ask(&mut self, what: What, socket: SocketAddr, now: Instant) {
        let id = Transactions::<Ask>::draw_id(&mut self.rng);
        let ask = Ask {
            what,
            socket,
            sent_at: now,
        };
        if self.transactions.start(id, ask, REPEATED, now) {
            self.transmit(id, ask);
        }
    }

    fn transmit(&mut self, id: TransactionId, ask: Ask) {
        let Some(server) = self.servers.get(self.server).copied() else {
            return;
        };
        let port = match ask.what {
            What::Try { port, .. } | What::Knock { port, .. } => Some(port),
            What::Find | What::Use { .. } | What::Control { .. } | What::Query { .. } => None,
        };
        if self.transmits.len() < QUEUE_MAX {
            self.transmits.push_back(Transmit {
                source: ask.socket,
                destination: server,
                ttl: None,
                payload: encode_request(id, None, port),
            });
        }
    }
}

/// Gives each socket but the first, which asks, its part.
fn subjects(sockets: &[SocketAddr], longest: Duration, now: Instant) -> Vec<Subject> {
    let waits: Vec<Duration> = WAITS_SECS
        .into_iter()
        .map(Duration::from_secs)
        .filter(|wait| *wait <= longest)
        .collect();
    let idle = sockets.len().saturating_sub(1 + WATCHED).min(waits.len());
    let waits = (0..idle).map(|index| {
        // With fewer sockets than waits: evenly chosen, the longest among them.
        let place = (index + 1) * waits.len() / idle - 1;
        Role::Idle(waits[place])
    });
    let roles = [Role::Watched; WATCHED].into_iter().chain(waits);
    let mut start = now;
    sockets
        .iter()
        .skip(1)
        .zip(roles)
        .enumerate()
        .map(|(index, (socket, role))| {
            start += STAGGER;
            let apart = if index == 1 {
                WATCHED_APART
            } else {
                Duration::ZERO
            };
            Subject {
                socket: *socket,
                role,
                state: State::New(start + apart),
                mapped: None,
                born: now,
            }
        })
        .collect()
}

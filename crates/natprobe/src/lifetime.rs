//! How long does a binding live?

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sansio::{Datagram, Deadline, Handled, Transmit};

/// Searches how long a NAT keeps a binding: idle, and whatever happens.
#[derive(Debug)]
pub struct LifetimeSearch {
    transmits: VecDeque<Transmit>,
    events: VecDeque<LifetimeEvent>,
}

/// What a [`LifetimeSearch`] has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifetimeEvent {
    /// A binding outlived a silence of so long, or did not.
    Waited {
        /// How long it was idle.
        idle: Duration,
        /// Whether it was still there.
        alive: bool,
    },
    /// The last event.
    Finished(LifetimeReport),
}

/// How long bindings live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifetimeReport {
    /// The longest silence that a binding outlived. `None` when nothing could be observed.
    pub idle_alive: Option<Duration>,
    /// The shortest silence after which it was gone. `None` when none was, as far as was searched.
    pub idle_gone: Option<Duration>,
    /// The age at which a binding ended although it was used all the time.
    pub absolute: Option<Duration>,
    /// How long bindings were used without end, where none ended.
    pub absolute_watched: Option<Duration>,
    /// Why: sentences for a person.
    pub evidence: Vec<String>,
}

impl LifetimeSearch {
    /// How many sockets make the best use of it; it works with four and more.
    pub const SOCKETS: usize = 20;

    /// Begins to search with the first of the servers that answers, for idle times up to `longest`.
    #[must_use]
    pub fn new(
        servers: Vec<SocketAddr>,
        sockets: Vec<SocketAddr>,
        longest: Duration,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        let _ = (servers, sockets, longest, seed, now);
        Self {
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes a datagram that arrived at one of the sockets.
    pub fn handle_datagram(&mut self, _datagram: Datagram<'_>, _now: Instant) -> Handled {
        Handled::NotMine
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Instant) {}

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
    pub const fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

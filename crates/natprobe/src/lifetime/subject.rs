//! A socket whose binding is observed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A socket whose binding is observed.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) socket: SocketAddr,
    pub(super) role: Role,
    pub(super) state: State,
    /// Its public address, once it is known.
    pub(super) mapped: Option<SocketAddr>,
    /// When the request was sent that made the binding.
    pub(super) born: Instant,
}

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It is left idle for so long, once.
    Idle(Duration),
    /// It is used all the time.
    Watched,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It begins then.
    New(Instant),
    /// It asks for the first or the second time.
    Warming,
    /// It asks a second time then: some NATs give a binding its full lifetime only when it is used for more than
    /// two seconds (Linux).
    Warm(Instant),
    /// It is silent until then.
    Resting(Instant),
    /// Somebody looks whether its binding is there.
    Questioned {
        since: Instant,
        /// An ordinary request was answered meanwhile.
        network_works: bool,
    },
    /// It asks, so that its binding is used.
    Refreshing,
    Done,
}

impl Subject {
    /// Returns when it wants something by itself.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.state {
            State::New(at) | State::Warm(at) | State::Resting(at) => Some(at),
            State::Warming | State::Questioned { .. } | State::Refreshing | State::Done => None,
        }
    }

    /// Returns whether it is idle on purpose, and for how long.
    pub(super) const fn wait(&self) -> Option<Duration> {
        match self.role {
            Role::Idle(wait) => Some(wait),
            Role::Watched => None,
        }
    }
}

//! One binding: whom it belongs to, who may use it, and until when.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::behavior::{Filtering, Lifetime};

/// What tells the bindings of one inside socket apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// There is one.
    All,
    Address(IpAddr),
    AddressAndPort(SocketAddr),
    /// An endpoint-independent binding that this one flow could not use, because the router itself holds
    /// its port toward that remote.
    Displaced(SocketAddr),
}

#[derive(Debug)]
pub(super) struct Binding {
    pub(super) inside: SocketAddr,
    pub(super) scope: Scope,
    made: Instant,
    expires: Instant,
    /// Remotes that were written to, each until when it may answer.
    contacted: BTreeMap<SocketAddr, Instant>,
}

impl Binding {
    pub(super) const fn new(inside: SocketAddr, scope: Scope, now: Instant) -> Self {
        Self {
            inside,
            scope,
            made: now,
            expires: now,
            contacted: BTreeMap::new(),
        }
    }

    pub(super) fn lives(&self, lifetime: Lifetime, now: Instant) -> bool {
        let too_old = lifetime
            .absolute
            .is_some_and(|absolute| now >= self.made + absolute);
        now < self.expires && !too_old
    }

    pub(super) fn lets_in(&self, from: SocketAddr, filtering: Filtering, now: Instant) -> bool {
        match filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => {
                let ip = from.ip();
                let ports = SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX);
                self.contacted.range(ports).any(|(_, until)| now < *until)
            }
            Filtering::AddressAndPortDependent => self.has_written_to(from, now),
        }
    }

    pub(super) fn has_written_to(&self, remote: SocketAddr, now: Instant) -> bool {
        let until = self.contacted.get(&remote);
        until.is_some_and(|until| now < *until)
    }

    pub(super) fn sent(&mut self, to: SocketAddr, idle: Duration, now: Instant) {
        self.expires = now + idle;
        self.contacted.insert(to, now + idle);
    }

    pub(super) fn received(&mut self, from: SocketAddr, idle: Duration, now: Instant) {
        self.expires = now + idle;
        if let Some(until) = self.contacted.get_mut(&from) {
            *until = now + idle;
        }
    }

    pub(super) fn forget_strangers(&mut self, now: Instant) {
        self.contacted.retain(|_, until| now < *until);
    }
}

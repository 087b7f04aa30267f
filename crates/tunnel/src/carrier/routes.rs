//! Which real route stands behind which virtual address, and what has passed over it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::demux::{CHANNEL_FIRST, CHANNEL_LAST};
use super::traffic::Traffic;
use super::virtual_addr::{RelayStreamId, Route, VirtualAddr};

/// The most routes at once: every peer has a path and a standby, and a server has at most some hundred peers.
const ROUTES_MAX: usize = 4096;

/// Why a route was not installed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The virtual address has a route already: `replace` changes it.
    #[error("virtual address {0} has a route already")]
    Installed(VirtualAddr),
    /// The virtual address has no route to replace.
    #[error("virtual address {0} has no route")]
    NotInstalled(VirtualAddr),
    /// The virtual address was not given out by `allocate`, or was used before: none is used twice.
    #[error("virtual address {0} was used before")]
    Used(VirtualAddr),
    /// Another virtual address has exactly this route.
    #[error("the route belongs to virtual address {0}")]
    Taken(VirtualAddr),
    /// A route of another kind needs a carrier of its own, since congestion state does not move with it.
    #[error("the kind of route under virtual address {0} cannot change")]
    KindChanged(VirtualAddr),
    /// The channel number is outside 0x4000 to 0x4FFF (RFC 8656, section 12).
    #[error("channel number {0:#06x} is outside 0x4000..=0x4FFF")]
    BadChannel(u16),
    /// The table holds as many routes as it may.
    #[error("{ROUTES_MAX} routes are installed already")]
    Full,
}

/// One installed route.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) route: Route,
    pub(super) traffic: Arc<Traffic>,
}

/// The map in both directions. All addresses in it are canonical.
#[derive(Debug)]
pub(super) struct RouteTable {
    epoch: Instant,
    entries: BTreeMap<VirtualAddr, Entry>,
    direct: HashMap<(SocketAddr, SocketAddr), VirtualAddr>,
    channels: HashMap<(SocketAddr, SocketAddr, u16), VirtualAddr>,
    stream_channels: HashMap<(RelayStreamId, u16), VirtualAddr>,
    /// Given out and not yet installed.
    fresh: BTreeSet<VirtualAddr>,
    next: u64,
}

impl RouteTable {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            entries: BTreeMap::new(),
            direct: HashMap::new(),
            channels: HashMap::new(),
            stream_channels: HashMap::new(),
            fresh: BTreeSet::new(),
            next: 1,
        }
    }

    pub(super) fn allocate(&mut self) -> VirtualAddr {
        let addr = VirtualAddr::new(self.next);
        self.next += 1;
        self.fresh.insert(addr);
        if self.fresh.len() > ROUTES_MAX {
            self.fresh.pop_first();
        }
        addr
    }

    pub(super) fn install(&mut self, addr: VirtualAddr, route: Route) -> Result<(), RouteError> {
        let route = checked(route)?;
        if self.entries.contains_key(&addr) {
            return Err(RouteError::Installed(addr));
        }
        if !self.fresh.contains(&addr) {
            return Err(RouteError::Used(addr));
        }
        if self.entries.len() >= ROUTES_MAX {
            return Err(RouteError::Full);
        }
        if let Some(owner) = self.owner(&route) {
            return Err(RouteError::Taken(owner));
        }
        self.link(addr, &route);
        self.entries.insert(
            addr,
            Entry {
                route,
                traffic: Arc::new(Traffic::new(self.epoch)),
            },
        );
        self.fresh.remove(&addr);
        Ok(())
    }

    /// Changes the route behind an address to another of the same kind: a NAT rebinding, a new allocation.
    pub(super) fn replace(&mut self, addr: VirtualAddr, route: Route) -> Result<(), RouteError> {
        let route = checked(route)?;
        let Some(entry) = self.entries.get(&addr) else {
            return Err(RouteError::NotInstalled(addr));
        };
        if std::mem::discriminant(&entry.route) != std::mem::discriminant(&route) {
            return Err(RouteError::KindChanged(addr));
        }
        if let Some(owner) = self.owner(&route).filter(|owner| *owner != addr) {
            return Err(RouteError::Taken(owner));
        }
        let old = entry.route;
        self.unlink(&old);
        self.link(addr, &route);
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.route = route;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, addr: VirtualAddr) -> bool {
        let Some(entry) = self.entries.remove(&addr) else {
            return false;
        };
        self.unlink(&entry.route);
        true
    }

    /// Moves every route of one socket to another, after the socket was replaced.
    pub(super) fn rename_local(&mut self, old: SocketAddr, new: SocketAddr) {
        let moved: Vec<(VirtualAddr, Route)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.route.local() == Some(old))
            .map(|(addr, entry)| (*addr, entry.route))
            .collect();
        for (addr, route) in moved {
            let route = match route {
                Route::Direct { remote, .. } => Route::Direct { local: new, remote },
                Route::RelayedUdp {
                    server, channel, ..
                } => Route::RelayedUdp {
                    local: new,
                    server,
                    channel,
                },
                Route::RelayedStream { .. } => continue,
            };
            // The new socket has no routes of its own yet, so nothing can be taken.
            let _ = self.replace(addr, route);
        }
    }

    pub(super) fn get(&self, addr: VirtualAddr) -> Option<&Entry> {
        self.entries.get(&addr)
    }

    pub(super) fn direct(&self, local: SocketAddr, remote: SocketAddr) -> Option<VirtualAddr> {
        self.direct.get(&(local, remote)).copied()
    }

    pub(super) fn channel(
        &self,
        local: SocketAddr,
        server: SocketAddr,
        channel: u16,
    ) -> Option<VirtualAddr> {
        self.channels.get(&(local, server, channel)).copied()
    }

    pub(super) fn stream_channel(
        &self,
        stream: RelayStreamId,
        channel: u16,
    ) -> Option<VirtualAddr> {
        self.stream_channels.get(&(stream, channel)).copied()
    }

    fn owner(&self, route: &Route) -> Option<VirtualAddr> {
        match *route {
            Route::Direct { local, remote } => self.direct(local, remote),
            Route::RelayedUdp {
                local,
                server,
                channel,
            } => self.channel(local, server, channel),
            Route::RelayedStream { stream, channel } => self.stream_channel(stream, channel),
        }
    }

    fn link(&mut self, addr: VirtualAddr, route: &Route) {
        match *route {
            Route::Direct { local, remote } => self.direct.insert((local, remote), addr),
            Route::RelayedUdp {
                local,
                server,
                channel,
            } => self.channels.insert((local, server, channel), addr),
            Route::RelayedStream { stream, channel } => {
                self.stream_channels.insert((stream, channel), addr)
            }
        };
    }

    fn unlink(&mut self, route: &Route) {
        match *route {
            Route::Direct { local, remote } => self.direct.remove(&(local, remote)),
            Route::RelayedUdp {
                local,
                server,
                channel,
            } => self.channels.remove(&(local, server, channel)),
            Route::RelayedStream { stream, channel } => {
                self.stream_channels.remove(&(stream, channel))
            }
        };
    }
}

fn checked(route: Route) -> Result<Route, RouteError> {
    match route {
        Route::Direct { .. } => {}
        Route::RelayedUdp { channel, .. } | Route::RelayedStream { channel, .. } => {
            if !(CHANNEL_FIRST..=CHANNEL_LAST).contains(&channel) {
                return Err(RouteError::BadChannel(channel));
            }
        }
    }
    Ok(route.canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(port: u16) -> Route {
        Route::Direct {
            local: "0.0.0.0:1000".parse().unwrap(),
            remote: SocketAddr::from(([192, 0, 2, 1], port)),
        }
    }

    fn relayed(channel: u16) -> Route {
        Route::RelayedUdp {
            local: "0.0.0.0:1000".parse().unwrap(),
            server: "192.0.2.9:3478".parse().unwrap(),
            channel,
        }
    }

    fn table() -> RouteTable {
        RouteTable::new(tokio::time::Instant::now().into_std())
    }

    #[test]
    fn a_virtual_address_is_never_used_twice() {
        let mut table = table();
        let addr = table.allocate();
        assert_eq!(table.install(addr, direct(1)), Ok(()));
        assert_eq!(
            table.install(addr, direct(2)),
            Err(RouteError::Installed(addr))
        );
        assert!(table.remove(addr));
        assert_eq!(table.install(addr, direct(1)), Err(RouteError::Used(addr)));
        assert_ne!(table.allocate(), addr);
    }

    #[test]
    fn one_route_belongs_to_one_address() {
        let mut table = table();
        let (first, second) = (table.allocate(), table.allocate());
        table.install(first, direct(1)).unwrap();
        assert_eq!(
            table.install(second, direct(1)),
            Err(RouteError::Taken(first))
        );
        assert_eq!(table.install(second, direct(2)), Ok(()));
        assert_eq!(
            table.replace(second, direct(1)),
            Err(RouteError::Taken(first))
        );
    }

    #[test]
    fn a_replaced_route_is_found_under_its_new_address_only() {
        let mut table = table();
        let addr = table.allocate();
        assert_eq!(
            table.replace(addr, direct(1)),
            Err(RouteError::NotInstalled(addr))
        );
        table.install(addr, direct(1)).unwrap();
        table.replace(addr, direct(2)).unwrap();
        let local = "0.0.0.0:1000".parse().unwrap();
        assert_eq!(table.direct(local, "192.0.2.1:1".parse().unwrap()), None);
        assert_eq!(
            table.direct(local, "192.0.2.1:2".parse().unwrap()),
            Some(addr)
        );
        assert_eq!(
            table.replace(addr, relayed(0x4000)),
            Err(RouteError::KindChanged(addr))
        );
    }

    #[test]
    fn a_channel_number_outside_rfc_8656_is_refused() {
        let mut table = table();
        let addr = table.allocate();
        assert_eq!(
            table.install(addr, relayed(0x5000)),
            Err(RouteError::BadChannel(0x5000))
        );
        assert_eq!(
            table.install(addr, relayed(0x3fff)),
            Err(RouteError::BadChannel(0x3fff))
        );
        assert_eq!(table.install(addr, relayed(0x4fff)), Ok(()));
    }

    #[test]
    fn the_routes_of_a_replaced_socket_move_with_it() {
        let mut table = table();
        let (first, second) = (table.allocate(), table.allocate());
        table.install(first, direct(1)).unwrap();
        table.install(second, relayed(0x4001)).unwrap();
        let new: SocketAddr = "0.0.0.0:2000".parse().unwrap();
        table.rename_local("0.0.0.0:1000".parse().unwrap(), new);
        assert_eq!(
            table.direct(new, "192.0.2.1:1".parse().unwrap()),
            Some(first)
        );
        assert_eq!(
            table.channel(new, "192.0.2.9:3478".parse().unwrap(), 0x4001),
            Some(second)
        );
    }
}

//! The way of a datagram: out through the boxes, across the internet, in through the boxes.

use std::hash::Hash;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sansio::{Datagram, Transmit};
use session::{PathId, Route};

use super::{Arrival, SiteId, World};
use crate::host::bound;
use crate::ping::{Ping, channel_data, in_channel};
use crate::server_box::Output;

const LAN_DELAY: Duration = Duration::from_millis(1);
/// What operating systems send with.
const DEFAULT_TTL: u8 = 64;

impl World {
    /// Sends a datagram from a host's socket.
    ///
    /// # Panics
    ///
    /// When the node names a socket that the host does not have.
    pub fn send_udp(&mut self, index: usize, transmit: Transmit) {
        let (site, from) = {
            let host = &mut self.hosts[index];
            host.sent += 1;
            (host.config.site, host.address_of(transmit.source))
        };
        let ttl = transmit.ttl.unwrap_or(DEFAULT_TTL);
        self.elapsed().hash(&mut self.digest);
        (from, transmit.destination, ttl, &transmit.payload).hash(&mut self.digest);
        self.send_from(site, from, transmit.destination, ttl, transmit.payload);
    }

    /// A packet stands inside a site's network.
    fn send_from(
        &mut self,
        site: SiteId,
        from: SocketAddr,
        to: SocketAddr,
        ttl: u8,
        payload: Vec<u8>,
    ) {
        if self.sites[site.0].contains(to.ip()) {
            let arrival = Arrival::Lan {
                site,
                from,
                to,
                payload,
            };
            self.after(LAN_DELAY, arrival);
            return;
        }
        // A router that would forward with a TTL of nothing drops, before it binds anything.
        if ttl <= 1 {
            return;
        }
        let now = self.now;
        let is_ipv6 = to.is_ipv6();
        let nat = self.sites[site.0].gate(to.ip());
        let Some(outside) = nat.outbound(from, to, now, &mut self.rng) else {
            return;
        };
        let turns_round = nat.is_outside(to.ip());
        if turns_round && nat.behavior().hairpin {
            self.enter(site, outside, to, payload);
        } else if !turns_round {
            match self.sites[site.0].parent {
                Some(_) if is_ipv6 => {
                    let root = self.root_of(site);
                    self.leave_site(root, outside, to, ttl - 1, payload);
                }
                Some(carrier) => self.send_from(carrier, outside, to, ttl - 1, payload),
                None => self.leave_site(site, outside, to, ttl - 1, payload),
            }
        }
    }

    /// A packet stands at the outside of a box.
    fn enter(&mut self, site: SiteId, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        let now = self.now;
        let gate = self.sites[site.0].gate(to.ip());
        if let Some(inside) = gate.inbound(from, to, now) {
            self.deliver_in(site, from, inside, payload);
        }
    }

    /// A packet is in the network of whom it is for.
    fn deliver_in(&mut self, site: SiteId, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        if let Some(host) = self.host_at(site, to) {
            self.deliver(host, bound(to), from, &payload);
        } else if let Some(home) = self.seen_as(Some(site), to.ip()) {
            self.enter(home, from, to, payload);
        }
    }

    fn leave_site(
        &mut self,
        site: SiteId,
        from: SocketAddr,
        to: SocketAddr,
        ttl: u8,
        payload: Vec<u8>,
    ) {
        // The first router of the internet is where the openers end.
        if ttl <= 1 {
            return;
        }
        let now = self.now;
        let line = &mut self.sites[site.0].up;
        let copies = line.send(payload.len(), now, &mut self.rng);
        copies_of(payload, copies, |payload, at| {
            self.cross_internet(from, to, payload, at);
        });
    }

    fn cross_internet(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>, at: Instant) {
        let ends = (from.ip(), to.ip());
        let is_too_big =
            |(here, there, max): &(_, _, usize)| (*here, *there) == ends && payload.len() > *max;
        if self.cut.contains(&ends) || self.narrowed.iter().any(is_too_big) {
            return;
        }
        let copies = self.internet.send(payload.len(), at, &mut self.rng);
        copies_of(payload, copies, |payload, at| {
            self.schedule(at, Arrival::Internet { from, to, payload });
        });
    }

    pub(super) fn on_packet(&mut self, arrival: Arrival) -> Option<Arrival> {
        match arrival {
            Arrival::Internet { from, to, payload } => self.on_internet(from, to, payload),
            Arrival::Site {
                site,
                from,
                to,
                payload,
            } => self.enter(site, from, to, payload),
            Arrival::Lan {
                site,
                from,
                to,
                payload,
            } => self.deliver_in(site, from, to, payload),
            other @ (Arrival::Description { .. }
            | Arrival::StreamOpened { .. }
            | Arrival::StreamFailed { .. }
            | Arrival::FrameToServer { .. }
            | Arrival::FrameToHost { .. }
            | Arrival::StreamEnded { .. }
            | Arrival::Gateway { .. }) => return Some(other),
        }
        None
    }

    fn on_internet(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        let now = self.now;
        if let Some(server) = self.servers.iter_mut().find(|it| it.is_here(to.ip())) {
            let outputs = server.handle_udp(from, to, &payload, now);
            self.send_outputs(outputs);
        } else if let Some(site) = self.seen_as(None, to.ip()) {
            let root = self.root_of(site);
            let line = &mut self.sites[root.0].down;
            let copies = line.send(payload.len(), now, &mut self.rng);
            copies_of(payload, copies, |payload, at| {
                let arrival = Arrival::Site {
                    site,
                    from,
                    to,
                    payload,
                };
                self.schedule(at, arrival);
            });
        }
    }

    pub(super) fn send_outputs(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Udp { from, to, payload } => {
                    (from, to, &payload).hash(&mut self.digest);
                    self.cross_internet(from, to, payload, self.now);
                }
                Output::Stream { client, frame } => self.send_from_server(client, frame),
            }
        }
    }

    // --- at the host ---

    /// Hands a datagram to a host, telling carriers' packets from the rest as the product's socket does:
    /// first by source address, then by first byte.
    pub fn deliver(&mut self, index: usize, local: SocketAddr, from: SocketAddr, payload: &[u8]) {
        let host = &self.hosts[index];
        let mut servers = self.servers.iter();
        let is_relay = servers.any(|it| it.address() == from || it.address6() == from);
        let in_channel = is_relay.then(|| channel_data(payload)).flatten();
        let (path, ping) = match in_channel {
            Some(data) => {
                let path = host.relayed_path(local, from, data.channel.value());
                (path, Ping::decode(data.payload))
            }
            None => {
                let ping = Ping::decode(payload);
                let path = ping.and_then(|_| host.direct_path(local, from));
                (path, ping)
            }
        };
        if let Some(ping) = ping {
            self.on_carrier(index, path, ping);
        } else {
            let datagram = Datagram {
                local,
                remote: from,
                payload,
            };
            self.hosts[index].node.handle_datagram(datagram, self.now);
        }
        self.drain(index);
    }

    pub(super) fn on_carrier(&mut self, index: usize, path: Option<PathId>, ping: Ping) {
        let now = self.now;
        if let Some((path, answer)) = self.hosts[index].on_carrier(path, ping, now) {
            self.send_on(index, path, answer);
        }
    }

    /// Sends a carrier's packet over the route of a path.
    pub(super) fn send_on(&mut self, index: usize, path: PathId, ping: Ping) {
        let Some((_, route)) = self.hosts[index].routes.get(&path).copied() else {
            return;
        };
        let payload = ping.encode();
        match route {
            Route::Direct { local, remote } => self.send_udp(index, udp(local, remote, payload)),
            Route::RelayedUdp {
                local,
                server,
                channel,
            } => {
                if let Some(payload) = in_channel(channel, &payload) {
                    self.send_udp(index, udp(local, server, payload));
                }
            }
            Route::RelayedStream { stream, channel } => {
                if let Some(mut frame) = in_channel(channel, &payload) {
                    frame.resize(frame.len().next_multiple_of(4), 0);
                    self.send_to_server(index, stream, frame);
                }
            }
        }
    }
}

/// A payload is copied only for the packets that arrive twice.
fn copies_of(
    payload: Vec<u8>,
    copies: [Option<Instant>; 2],
    mut each: impl FnMut(Vec<u8>, Instant),
) {
    match copies {
        [Some(first), Some(second)] => {
            each(payload.clone(), first);
            each(payload, second);
        }
        [Some(at), None] | [None, Some(at)] => each(payload, at),
        [None, None] => {}
    }
}

const fn udp(source: SocketAddr, destination: SocketAddr, payload: Vec<u8>) -> Transmit {
    Transmit {
        source,
        destination,
        ttl: None,
        payload,
    }
}

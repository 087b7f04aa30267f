//! Which relays are tried, over which transport, and when.
//!
//! UDP is tried at once. When it has not allocated after a moment, TCP is tried beside it; an attempt over
//! TCP that has not allocated is given up when UDP turns out to work, and begun again when UDP fails.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use relay::{Client, ClientConfig, Credential, Transport};

use super::entry::Entry;
use super::{RelayEvent, RelayId, Relays};

/// How long UDP may stay unanswered before TCP is tried too: two retransmissions of the brisk Allocate.
const TCP_AFTER: Duration = Duration::from_millis(400);
/// Relays beyond this number are not used.
const SERVERS_MAX: usize = 4;

/// A relay that signaling or the configuration offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayServer {
    /// Where it answers over UDP, if it does.
    pub udp: Option<SocketAddr>,
    /// Where it answers over TCP, if it does.
    pub tcp: Option<SocketAddr>,
    /// The user name of the credential.
    pub username: String,
    /// The password of the credential.
    pub credential: Credential,
}

/// A relay whose TCP attempt waits for UDP to fail.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) server: RelayServer,
    /// When UDP was last asked; what is heard over it from now on shows that it works.
    since: Instant,
    pub(super) start_at: Instant,
}

impl Relays {
    /// Tells which relays are offered; `base_for` names the socket to use toward a server. Those in use stay
    /// although they are offered no longer, for as long as they serve.
    pub(crate) fn set_servers(
        &mut self,
        servers: Vec<RelayServer>,
        base_for: impl Fn(SocketAddr) -> Option<SocketAddr>,
        now: Instant,
    ) {
        for server in servers.into_iter().take(SERVERS_MAX) {
            if self.renew(&server, now) || !self.make_room() {
                continue;
            }
            if let Some((address, base)) = server.udp.and_then(|udp| Some((udp, base_for(udp)?))) {
                self.start(address, Transport::Udp, base, &server, now);
            }
            if server.tcp.is_some() {
                let wait = if server.udp.is_some() {
                    TCP_AFTER
                } else {
                    Duration::ZERO
                };
                self.pending_tcp.push(Pending {
                    server: server.clone(),
                    since: now,
                    start_at: now + wait,
                });
            }
            self.offered.push(server);
        }
    }

    /// Forgets a relay without an allocation when there are too many; returns whether there is room.
    fn make_room(&mut self) -> bool {
        if self.offered.len() < SERVERS_MAX {
            return true;
        }
        let serves = |server: &RelayServer| {
            let is_of = |entry: &Entry| [server.udp, server.tcp].contains(&Some(entry.server));
            self.entries
                .values()
                .any(|entry| is_of(entry) && entry.relayed.is_some())
        };
        let Some(idle) = self.offered.iter().position(|server| !serves(server)) else {
            return false;
        };
        let idle = self.offered.remove(idle);
        self.pending_tcp.retain(|pending| pending.server != idle);
        let addresses = [idle.udp, idle.tcp];
        self.remove_entries(|entry| addresses.contains(&Some(entry.server)));
        true
    }

    fn remove_entries(&mut self, goes: impl Fn(&Entry) -> bool) {
        let gone = self.entries.extract_if(.., |_, entry| goes(entry));
        for stream in gone.filter_map(|(_, entry)| entry.stream) {
            self.events.push_back(RelayEvent::CloseStream { stream });
        }
    }

    /// Hands newer credentials to a relay that is already in use; returns whether it is one.
    fn renew(&mut self, server: &RelayServer, now: Instant) -> bool {
        let known = self
            .offered
            .iter_mut()
            .find(|offered| offered.udp == server.udp && offered.tcp == server.tcp);
        let Some(known) = known else { return false };
        if known == server {
            return true;
        }
        *known = server.clone();
        for pending in &mut self.pending_tcp {
            if pending.server.tcp == server.tcp {
                pending.server = server.clone();
            }
        }
        for entry in self.entries.values_mut() {
            if Some(entry.server) == server.udp || Some(entry.server) == server.tcp {
                entry.client.set_credentials(
                    server.username.clone(),
                    server.credential.clone(),
                    now,
                );
            }
        }
        true
    }

    fn start(
        &mut self,
        address: SocketAddr,
        transport: Transport,
        local: SocketAddr,
        server: &RelayServer,
        now: Instant,
    ) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let config = ClientConfig {
            server: address,
            transport,
            local,
            username: server.username.clone(),
            credential: server.credential.clone(),
        };
        let id = RelayId(self.next_id);
        self.next_id += 1;
        let is_stream = transport == Transport::Tcp;
        let client = Client::new(config, seed, now);
        let redial_at = is_stream.then_some(now);
        let entry = Entry::new(client, address, transport, local, redial_at);
        self.entries.insert(id, entry);
        self.handle_timeout(now);
    }

    /// Nothing is heard of a peer on any path: do the relays still answer?
    pub(crate) fn doubt(&mut self, now: Instant) {
        let mut asked = Vec::new();
        for entry in self
            .entries
            .values_mut()
            .filter(|entry| entry.relayed.is_some())
        {
            entry.client.check(now);
            if entry.transport == Transport::Udp {
                asked.push(entry.server);
            }
        }
        for udp in asked {
            self.try_tcp_beside(udp, now);
        }
        self.drain_all(now);
    }

    /// UDP does not work, or no longer, or perhaps: TCP is tried unless UDP answers in a moment.
    pub(super) fn try_tcp_beside(&mut self, udp: SocketAddr, now: Instant) {
        let Some(server) = self.offered.iter().find(|server| server.udp == Some(udp)) else {
            return;
        };
        let is_pending = self
            .pending_tcp
            .iter()
            .any(|pending| pending.server.tcp == server.tcp);
        let is_tried = self
            .entries
            .values()
            .any(|entry| entry.transport == Transport::Tcp && Some(entry.server) == server.tcp);
        if server.tcp.is_some() && !is_pending && !is_tried {
            let server = server.clone();
            self.pending_tcp.push(Pending {
                server,
                since: now,
                start_at: now + TCP_AFTER,
            });
        }
    }

    /// TCP is tried only when UDP does not serve by now.
    pub(super) fn start_tcp(&mut self, pending: &Pending, now: Instant) {
        let Pending { server, since, .. } = pending;
        let udp_serves = self.entries.values().any(|entry| {
            entry.transport == Transport::Udp
                && Some(entry.server) == server.udp
                && entry.relayed.is_some()
                && entry.client.last_heard() >= *since
        });
        if udp_serves {
            return;
        }
        if let Some(address) = server.tcp {
            // The base of a TCP allocation is the connection itself; the server's address family is all
            // that matters of it.
            let unspecified = match address {
                SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
                SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
            };
            self.start(address, Transport::Tcp, unspecified, server, now);
        }
    }

    /// UDP works after all: a TCP attempt that has not allocated yet is not needed.
    pub(super) fn give_up_unused_tcp(&mut self, udp: SocketAddr) {
        let tcp = self
            .offered
            .iter()
            .find(|s| s.udp == Some(udp))
            .and_then(|server| server.tcp);
        self.remove_entries(|entry| {
            entry.transport == Transport::Tcp
                && Some(entry.server) == tcp
                && entry.relayed.is_none()
        });
    }
}

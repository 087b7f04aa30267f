//! What STUN servers and relays bring: our addresses, and the channels to peers.

use std::net::SocketAddr;
use std::time::Instant;

use natprobe::{ProbeConfig, Prober};
use rand::Rng;

use super::Node;
use crate::event::Event;
use crate::reason::Policy;
use crate::relays::{RelayEvent, RelayServer};

impl Node {
    /// Examines the NAT with these servers (IPv4 first come); the same servers again change nothing.
    pub fn set_stun_servers(&mut self, servers: Vec<SocketAddr>, now: Instant) {
        let servers: Vec<_> = servers.into_iter().filter(SocketAddr::is_ipv4).collect();
        let is_known = servers.len() == self.probed.len()
            && servers.iter().all(|server| self.probed.contains(server));
        if servers.is_empty() || is_known {
            return;
        }
        let Some(base) = self.gathered.base_for(servers[0]) else {
            return;
        };
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let config = ProbeConfig {
            servers: servers.clone(),
            local_addresses: self.gathered.host_addresses().to_vec(),
            ..ProbeConfig::default()
        };
        self.prober = Some(Prober::new(config, base, seed, now));
        self.probed = servers;
        self.drain_prober(now);
    }

    /// Allocates at these relays, or renews the credentials of those in use.
    pub fn set_relay_servers(&mut self, servers: Vec<RelayServer>, now: Instant) {
        if self.config.policy == Policy::DirectOnly {
            return;
        }
        let gathered = &self.gathered;
        self.relays
            .set_servers(servers, |server| gathered.base_for(server), now);
        self.drain_relays(now);
    }

    pub(super) fn drain_prober(&mut self, now: Instant) {
        let Some(prober) = &mut self.prober else {
            return;
        };
        let Some(base) = self.gathered.base_for(self.probed[0]) else {
            return;
        };
        let mut changed = false;
        while let Some(event) = prober.poll_event() {
            match event {
                natprobe::Event::Reflexive { address, .. } => {
                    changed |= self.gathered.add_reflexive(address, base);
                }
                natprobe::Event::Classified(report) => {
                    self.gathered.retain_reflexive(base, &report.reflexive);
                    self.report = Some(report.clone());
                    self.events.push_back(Event::NatClassified(report));
                    changed = true;
                }
                _ => {}
            }
        }
        if changed {
            self.offer_local_candidates(now);
        }
    }

    /// Gives back the channels that nobody wants any more.
    pub(super) fn release_channels(&mut self, now: Instant) {
        if std::mem::take(&mut self.channels_stale) {
            let relayed = self.gathered.relayed();
            let peers = self.peers.values();
            let wanted = peers
                .flat_map(|peer| peer.wanted_channels(relayed, now))
                .collect();
            self.relays.retain_channels(&wanted);
        }
    }

    /// Hands what the allocations report to the peers, until nothing is left.
    pub(super) fn drain_relays(&mut self, now: Instant) {
        while let Some(event) = self.relays.poll_event() {
            match event {
                RelayEvent::Allocated {
                    server,
                    transport,
                    relayed,
                } => {
                    self.gathered.add_relayed(relayed);
                    self.events.push_back(Event::RelayReady {
                        server,
                        transport,
                        relayed,
                    });
                    self.offer_local_candidates(now);
                }
                RelayEvent::Lost {
                    server,
                    transport,
                    relayed,
                    reason,
                    credentials_refused,
                } => {
                    if let Some(relayed) = relayed {
                        self.relay_lost(relayed, now);
                    }
                    let unavailable = Event::RelayUnavailable {
                        server,
                        transport,
                        reason,
                        credentials_refused,
                    };
                    self.events.push_back(unavailable);
                }
                RelayEvent::Bound {
                    relayed,
                    peer,
                    route,
                } => {
                    self.with_peers(|peers, surroundings| {
                        for it in peers.values_mut() {
                            it.relay_bound(relayed, peer, route, surroundings, now);
                        }
                    });
                }
                RelayEvent::Refused {
                    relayed,
                    peer,
                    code,
                } => {
                    tracing::debug!(%relayed, %peer, code, "relay refused a channel");
                }
                RelayEvent::OpenStream {
                    stream,
                    server,
                    tls_name,
                } => {
                    self.events.push_back(Event::OpenRelayStream {
                        stream,
                        server,
                        tls_name,
                    });
                }
                RelayEvent::CloseStream { stream } => {
                    self.events.push_back(Event::CloseRelayStream { stream });
                }
            }
        }
    }

    fn offer_local_candidates(&mut self, now: Instant) {
        let locals = self.local_candidates();
        self.with_peers(|peers, surroundings| {
            for peer in peers.values_mut() {
                peer.set_local_candidates(&locals, surroundings, now);
                peer.heed_news(now);
            }
        });
        self.events.push_back(Event::DescriptionChanged);
    }

    fn relay_lost(&mut self, relayed: SocketAddr, now: Instant) {
        self.gathered.remove_relayed(relayed);
        self.with_peers(|peers, surroundings| {
            for peer in peers.values_mut() {
                peer.relay_lost(relayed, surroundings, now);
            }
        });
        self.events.push_back(Event::DescriptionChanged);
    }
}

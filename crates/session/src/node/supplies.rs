//! What STUN servers, relays and the gateway bring: our addresses, and the channels to peers.

use std::net::SocketAddr;
use std::time::Instant;

use natprobe::Report;
use rand::Rng;
use sansio::{Datagram, Handled};

use super::Node;
use crate::description::NatSummary;
use crate::event::Event;
use crate::gateway::{GatewayView, PortMapping};
use crate::kind::{is_private, is_shared};
use crate::mapped::Outside;
use crate::reason::{Policy, summary};
use crate::relays::{RelayEvent, RelayServer};

impl Node {
    /// Returns the last classification of the NAT: that of IPv4, unless this machine has IPv6 only.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.probing.report(self.is_ipv6_only())
    }

    /// Returns what lies before our IPv6 socket, if there is one and a STUN server was asked over it.
    #[must_use]
    pub fn ipv6_report(&self) -> Option<&Report> {
        self.probing.report(true)
    }

    /// Returns whether IPv6 leads to the internet: a STUN server answered over it. `None` while nobody knows.
    #[must_use]
    pub fn ipv6(&self) -> Option<bool> {
        if !self.gathered.has_host_of(true) {
            return Some(false);
        }
        self.ipv6_report().map(|report| report.udp)
    }

    fn is_ipv6_only(&self) -> bool {
        self.gathered.has_host_of(true) && !self.gathered.has_host_of(false)
    }

    /// Examines the NAT with these servers, in each address family that we have; the same servers again change
    /// nothing.
    pub fn set_stun_servers(&mut self, servers: Vec<SocketAddr>, now: Instant) {
        let (v4, v6): (Vec<_>, Vec<_>) = servers.into_iter().partition(SocketAddr::is_ipv4);
        // Where the interfaces cannot be listed there is probably IPv4 all the same.
        if !self.is_ipv6_only() {
            self.probe_with(v4, now);
        }
        if self.gathered.has_host_of(true) {
            self.probe_with(v6, now);
        }
        self.drain_probing(now);
    }

    fn probe_with(&mut self, servers: Vec<SocketAddr>, now: Instant) {
        let base = servers.first().and_then(|it| self.gathered.base_for(*it));
        let Some(base) = base.filter(|base| !self.probing.is_known(*base, &servers)) else {
            return;
        };
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let ours = self.gathered.interfaces().addresses().collect();
        self.probing.start(base, servers, ours, seed, now);
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

    /// Takes what the gateway says it forwards to us, whole: what is missing is gone, and a mapping that was
    /// refuted and is still named has been made anew.
    ///
    /// Each is verified from outside before it is offered to peers, every few minutes, and whenever the NAT
    /// or the servers have changed: [`Event::PortMappingVerified`], [`Event::PortMappingRefuted`] or
    /// [`Event::PortMappingUndecided`].
    pub fn set_port_mappings(&mut self, mappings: Vec<PortMapping>, now: Instant) {
        let told = self.nat_summary();
        self.mapped.set(&mappings, now);
        self.drain_mapped(now);
        self.tell_if_changed(&told);
    }

    /// Takes what is known of the gateway.
    pub fn set_gateway(&mut self, gateway: GatewayView, _now: Instant) {
        let told = self.nat_summary();
        self.gateway = gateway;
        self.tell_if_changed(&told);
    }

    fn tell_if_changed(&mut self, told: &NatSummary) {
        if self.nat_summary() != *told {
            self.events.push_back(Event::DescriptionChanged);
        }
    }

    /// Returns what peers are told of our NAT.
    pub(super) fn nat_summary(&self) -> NatSummary {
        let report = self.probing.latest(self.is_ipv6_only()).cloned();
        let report = report.map(|report| self.with_surveyed_ports(report));
        let mut nat = report.as_ref().map(summary).unwrap_or_default();
        nat.ipv6 = self.ipv6();
        // One family that works is enough for a direct path.
        if nat.ipv6 == Some(true) {
            nat.udp = Some(true);
        }
        nat.double_nat = self.has_foreign_nat();
        let is_present = self.gateway.is_present();
        let presence = is_present.map(|present| if present { "present" } else { "absent" });
        let word = self.mapped.word().or(presence);
        nat.port_mapping = word.unwrap_or_default().to_owned();
        nat
    }

    /// Returns whether a NAT that is not the person's own stands between us and the internet.
    fn has_foreign_nat(&self) -> Option<bool> {
        if self.gathered.has_carrier_address() {
            return Some(true);
        }
        let outside = self.gateway.external_ip?.to_canonical();
        if is_private(outside) || is_shared(outside) {
            return Some(true);
        }
        let base = self.gathered.base_of(outside.is_ipv6())?;
        let mut seen = self.gathered.seen_from_outside(base).peekable();
        seen.peek()?;
        Some(!seen.any(|it| it.ip() == outside))
    }

    /// Offers a datagram to those who ask STUN servers.
    pub(super) fn offer_to_probers(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled {
        let probed = self.probing.handle_datagram(datagram, now);
        if probed == Handled::Consumed {
            self.drain_probing(now);
            return probed;
        }
        let verified = self.mapped.handle_datagram(datagram, now);
        if verified == Handled::Consumed {
            self.drain_mapped(now);
        }
        verified
    }

    /// Begins the checks of port mappings that are due, and takes the verdicts of those that have ended.
    fn drain_mapped(&mut self, now: Instant) {
        let (probing, gathered) = (&self.probing, &self.gathered);
        let outside = |base: SocketAddr| Outside {
            servers: probing.servers(base).to_vec(),
            reflexive: gathered.seen_from_outside(base).collect(),
            filtering: probing.report(base.is_ipv6()).map(|it| it.filtering),
        };
        self.mapped.start_checks(outside, &mut self.rng, now);
        let judged = self.mapped.take_verdicts(outside, now);
        while let Some(event) = self.mapped.poll_event() {
            self.events.push_back(event);
        }
        if self.gathered.set_mapped(self.mapped.offered()) {
            self.offer_local_candidates(now);
        } else if judged {
            self.events.push_back(Event::DescriptionChanged);
        }
    }

    pub(super) fn drain_probing(&mut self, now: Instant) {
        let is_ipv6_only = self.is_ipv6_only();
        let mut changed = false;
        while let Some((base, event)) = self.probing.poll_event() {
            match event {
                natprobe::Event::Reflexive { address, .. } => {
                    changed |= self.gathered.add_reflexive(address, base);
                }
                natprobe::Event::Classified(report) => {
                    self.gathered.retain_reflexive(base, &report.reflexive);
                    self.events.push_back(if base.is_ipv6() == is_ipv6_only {
                        Event::NatClassified(self.with_surveyed_ports(report))
                    } else {
                        Event::Ipv6Classified(report)
                    });
                    changed = true;
                }
                // The ladder begins with the mapping, and so does the peer's.
                natprobe::Event::MappingKnown(_) => changed = true,
                _ => {}
            }
        }
        if changed {
            self.update_standing();
            self.mapped.heed_news(now);
            self.offer_local_candidates(now);
            self.survey_when_due(now);
        }
        self.drain_mapped(now);
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

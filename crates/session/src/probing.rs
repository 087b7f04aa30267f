//! Which NAT is in front of each of our sockets: one prober per base.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use natprobe::{ProbeConfig, Prober, Report};
use sansio::{Datagram, Deadline, Handled, Transmit, earliest};

/// The prober of one base.
#[derive(Debug)]
struct Probed {
    base: SocketAddr,
    servers: Vec<SocketAddr>,
    prober: Prober,
    report: Option<Report>,
    /// What is known of the mapping while there is no verdict yet.
    early: Option<Report>,
}

/// The probers: at most one per address family, as there is one base of each.
#[derive(Debug, Default)]
pub(crate) struct Probing {
    probed: Vec<Probed>,
}

impl Probing {
    /// Returns whether a base is examined with exactly these servers already.
    pub(crate) fn is_known(&self, base: SocketAddr, servers: &[SocketAddr]) -> bool {
        let known = self.probed.iter().find(|it| it.base == base);
        known.is_some_and(|it| {
            it.servers.len() == servers.len()
                && servers.iter().all(|it_is| it.servers.contains(it_is))
        })
    }

    /// Examines what is in front of a base anew, with these servers; what was known of it stays known until
    /// there is a verdict.
    pub(crate) fn start(
        &mut self,
        base: SocketAddr,
        servers: Vec<SocketAddr>,
        local_addresses: Vec<IpAddr>,
        seed: [u8; 32],
        now: Instant,
    ) {
        let config = ProbeConfig {
            servers: servers.clone(),
            local_addresses,
            ..ProbeConfig::default()
        };
        let prober = Prober::new(config, base, seed, now);
        match self.probed.iter_mut().find(|it| it.base == base) {
            Some(probed) => {
                probed.servers = servers;
                probed.prober = prober;
            }
            None => self.probed.push(Probed {
                base,
                servers,
                prober,
                report: None,
                early: None,
            }),
        }
    }

    /// Returns the servers that a base is examined with.
    pub(crate) fn servers(&self, base: SocketAddr) -> &[SocketAddr] {
        let probed = self.probed.iter().find(|it| it.base == base);
        probed.map_or(&[], |it| &it.servers)
    }

    /// Returns the last verdict on the base of a family.
    pub(crate) fn report(&self, ipv6: bool) -> Option<&Report> {
        let mut of_family = self.probed.iter().filter(|it| it.base.is_ipv6() == ipv6);
        of_family.find_map(|it| it.report.as_ref())
    }

    /// Returns the last verdict on the base of a family, or what is known before the first.
    pub(crate) fn latest(&self, ipv6: bool) -> Option<&Report> {
        let mut of_family = self.probed.iter().filter(|it| it.base.is_ipv6() == ipv6);
        of_family.find_map(|it| it.report.as_ref().or(it.early.as_ref()))
    }

    // --- the machine ---

    pub(crate) fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Handled {
        let mut probed = self.probed.iter_mut();
        probed
            .find(|it| it.base == datagram.local)
            .map_or(Handled::NotMine, |it| {
                it.prober.handle_datagram(datagram, now)
            })
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for probed in &mut self.probed {
            probed.prober.handle_timeout(now);
        }
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        let mut probed = self.probed.iter_mut();
        probed.find_map(|it| it.prober.poll_transmit())
    }

    /// Returns what a prober has to tell, and about which base.
    pub(crate) fn poll_event(&mut self) -> Option<(SocketAddr, natprobe::Event)> {
        for probed in &mut self.probed {
            let Some(event) = probed.prober.poll_event() else {
                continue;
            };
            if let natprobe::Event::Classified(report) = &event {
                probed.report = Some(report.clone());
            } else if let natprobe::Event::MappingKnown(report) = &event {
                probed.early = Some(report.clone());
            }
            return Some((probed.base, event));
        }
        None
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        earliest(self.probed.iter().map(|it| it.prober.poll_timeout()))
    }
}

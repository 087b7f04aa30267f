//! What a gateway speaks: all three questions at once, none of which asks for anything.

use std::net::{IpAddr, SocketAddr};

use tokio::task::JoinSet;

use crate::ask::{AskError, ask};
use crate::igd::Igd;
use crate::port_control::{Refusal, Request};
use crate::route::{Gateway, Gateways};
use crate::timing::Timing;
use crate::view::{Presence, Protocol};

/// One protocol's answer.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) protocol: Protocol,
    pub(crate) present: bool,
    pub(crate) external_ip: Option<IpAddr>,
    /// The device to talk to, for UPnP.
    pub(crate) igd: Option<Igd>,
}

impl Probed {
    /// Writes it down.
    pub(crate) fn note(&self, presence: &mut Presence) {
        presence.set(self.protocol, self.present);
        if self.external_ip.is_some() {
            presence.external_ip = self.external_ip;
        }
    }
}

/// Asks which protocols a gateway speaks. NAT-PMP and UPnP are for IPv4; an IPv6 gateway is asked for PCP only.
pub(crate) fn probe(gateway: &Gateway, timing: &Timing) -> JoinSet<Probed> {
    let mut probes = JoinSet::new();
    let protocols: &[Protocol] = if gateway.local.is_ipv4() {
        &Protocol::ALL
    } else {
        &[Protocol::Pcp]
    };
    for protocol in protocols {
        let (gateway, timing) = (*gateway, timing.clone());
        match protocol {
            Protocol::Pcp => probes.spawn(async move { pcp(&gateway, &timing).await }),
            Protocol::NatPmp => probes.spawn(async move { nat_pmp(&gateway, &timing).await }),
            Protocol::Upnp => probes.spawn(async move { upnp(&gateway, &timing).await }),
        };
    }
    probes
}

async fn pcp(gateway: &Gateway, timing: &Timing) -> Probed {
    let client = gateway.local;
    let answer = ask(gateway, &Request::Announce { client }, timing).await;
    Probed {
        protocol: Protocol::Pcp,
        present: speaks(&answer),
        external_ip: None,
        igd: None,
    }
}

async fn nat_pmp(gateway: &Gateway, timing: &Timing) -> Probed {
    let answer = ask(gateway, &Request::ExternalAddress, timing).await;
    let external_ip = answer.as_ref().ok().and_then(|grant| grant.external_ip);
    Probed {
        protocol: Protocol::NatPmp,
        present: speaks(&answer),
        external_ip: external_ip.filter(|ip| !ip.is_unspecified()),
        igd: None,
    }
}

async fn upnp(gateway: &Gateway, timing: &Timing) -> Probed {
    let igd = Igd::find(gateway, timing).await;
    Probed {
        protocol: Protocol::Upnp,
        present: igd.is_some(),
        external_ip: igd.as_ref().and_then(|igd| igd.external_ip),
        igd,
    }
}

/// Whoever refuses in a protocol speaks it.
fn speaks<T>(answer: &Result<T, AskError>) -> bool {
    match answer {
        Ok(_) | Err(AskError::Refused(Refusal::Result(_) | Refusal::AddressMismatch)) => true,
        Err(AskError::Refused(Refusal::Version) | AskError::Silent | AskError::Socket(_)) => false,
    }
}

/// Asks the default gateways what they speak, and for nothing else; it takes a few seconds at most.
///
/// Without a gateway everything is absent.
pub async fn probe_presence(gateways: &Gateways, timing: &Timing) -> Presence {
    let mut all = Presence::absent();
    let bases = ["0.0.0.0:0", "[::]:0"].map(|base| base.parse::<SocketAddr>());
    let mut probes = JoinSet::new();
    for base in bases.into_iter().flatten() {
        if let Some(gateway) = gateways.for_base(base).await {
            let timing = timing.clone();
            probes.spawn(async move {
                let mut presence = Presence::absent();
                let mut probes = probe(&gateway, &timing);
                while let Some(probed) = probes.join_next().await {
                    if let Ok(probed) = probed {
                        probed.note(&mut presence);
                    }
                }
                presence
            });
        }
    }
    while let Some(presence) = probes.join_next().await {
        all = all.or(presence.unwrap_or(Presence::absent()));
    }
    all
}

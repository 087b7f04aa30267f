//! What kind of network is this, and with whom will direct connections work? (`netcheck`)
//!
//! Nothing has to run for it: [`Netcheck::run`] opens sockets of its own, one per address family for the
//! classification, and some more, one after the other, for the pattern of the NAT's ports. What is asked is asked
//! at once wherever one question does not disturb another:
//!
//! * `servers`: whom to ask, from the configuration, from signaling, or as a last resort a public server;
//! * `sockets`, `drive`: sockets for natprobe's machines, and the loop around each;
//! * `examine`: one address family; then how long a binding lives, when asked;
//! * `outlook`: with which peers direct connections will work, and how;
//! * `findings`: the answer, as JSON and for people.

mod drive;
mod examine;
mod findings;
mod outlook;
mod servers;
mod sockets;

use std::time::Duration;

use mapping_core::HostPort;
use mapping_core::config::CommonConfig;
use natprobe::Report;
use session::GatewayView;
use tokio::time::timeout;

use self::examine::Examined;
pub use self::findings::{Certainties, Findings, ServerFinding};
pub use self::outlook::{Outlook, Prospect};
use crate::nat_status::NatStatus;
use crate::port_mapping;

/// How long the gateway may take to answer in all, however many devices call themselves one.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(4);

/// Whom to ask.
#[derive(Clone, Debug)]
pub enum ServerChoice {
    /// These STUN servers.
    Named(Vec<HostPort>),
    /// Those of a configuration: `stunServer`, else what its signaling servers offer, else a public one.
    Configured(Box<CommonConfig>),
    /// A public one, since nobody says anything else.
    Fallback,
}

/// What a netcheck is to find out.
#[derive(Clone, Debug)]
pub struct Netcheck {
    /// Whom to ask.
    pub servers: ServerChoice,
    /// Also how long a binding lives, which takes minutes.
    pub lifetime: bool,
}

/// What a netcheck does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Looking for servers to ask.
    FindingServers,
    /// Asking them.
    Asking,
    /// Waiting to see which bindings are still there.
    WaitingForBindings {
        /// How long that has taken.
        waited: Duration,
        /// How long it takes at most.
        longest: Duration,
    },
}

impl Netcheck {
    /// Finds out what there is to be found out, and says through `progress` how far it is. A network that answers
    /// nothing is an answer, too.
    ///
    /// It takes 2 s where little is lost, 5 s where much is; the lifetime takes up to three minutes more.
    pub async fn run(self, progress: impl Fn(Step)) -> Findings {
        progress(Step::FindingServers);
        let found = servers::find(self.servers).await;
        progress(Step::Asking);
        let (v4, v6, gateway) = tokio::join!(
            examine::examine(found.of_family(false)),
            examine::examine(found.of_family(true)),
            gateway(&found)
        );
        let lifetime = match (self.lifetime, &v4.report, &v6.report) {
            (true, Some(report), _) if report.udp => {
                examine::lifetime(&v4.answering(), &progress).await
            }
            (true, _, Some(report)) if report.udp => {
                examine::lifetime(&v6.answering(), &progress).await
            }
            _ => None,
        };
        findings(found, &v4, &v6, &gateway, lifetime)
    }
}

/// Asks the router what it speaks. There is none between us and a server on this machine.
async fn gateway(found: &servers::Found) -> GatewayView {
    if found.are_here() {
        return GatewayView::default();
    }
    let asked = timeout(GATEWAY_TIMEOUT, port_mapping::probe_presence()).await;
    asked.unwrap_or_default()
}

fn findings(
    found: servers::Found,
    v4: &Examined,
    v6: &Examined,
    gateway: &GatewayView,
    lifetime: Option<natprobe::LifetimeReport>,
) -> Findings {
    let ipv6_works = v6.works();
    // A network without IPv4 is judged by what it has.
    let main = match (&v4.report, &v6.report) {
        (Some(v4), Some(v6)) if !v4.udp && v6.udp => Some(v6),
        (Some(v4), _) => Some(v4),
        (None, v6) => v6.as_ref(),
    };
    let unasked = Report::default();
    let report = main.unwrap_or(&unasked);
    let nat = NatStatus::of(report, gateway);
    let nat = if main.is_some() {
        nat
    } else {
        // Nobody was asked, so nothing is blocked; what the router said holds all the same.
        nat.with_kind(natprobe::NatType::Unknown)
    };
    let mut notes = found.notes.clone();
    if main.is_none() {
        notes.push("there was no server to ask: nothing is known".to_owned());
    }
    let outlook = outlook::outlook(
        main,
        ipv6_works == Some(true),
        gateway.is_present(),
        nat.double_nat,
    );
    Findings {
        udp: report.udp,
        nat: nat.with_ipv6(ipv6_works, v6.report.as_ref()),
        ipv6_filtering: v6
            .report
            .as_ref()
            .filter(|it| it.udp)
            .map(|it| it.filtering.to_string()),
        pooling: report.pooling.map(|it| it.to_string()),
        alg: report.alg,
        confidence: findings::Certainties::of(report),
        evidence: report.evidence.clone(),
        binding_lifetime_secs: lifetime.as_ref().and_then(findings::idle_secs),
        absolute_lifetime_secs: lifetime.as_ref().and_then(findings::absolute_secs),
        lifetime_evidence: lifetime.map(|it| it.evidence).unwrap_or_default(),
        servers: found.results([v4, v6]),
        direct: outlook,
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_router_speaks_is_told_though_there_is_no_server_to_ask() {
        let gateway = GatewayView {
            upnp: Some(true),
            ..GatewayView::default()
        };
        let nobody = [Examined::default(), Examined::default()];
        let found = servers::Found::default();
        let findings = findings(found, &nobody[0], &nobody[1], &gateway, None);
        assert_eq!(findings.nat.port_mapping.upnp, Some(true));
        assert_eq!(findings.nat.kind, "Unknown");
    }
}

//! Whom to ask: from names to addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use mapping_core::config::{ADDRESSES_MAX, CommonConfig, FALLBACK_STUN_SERVER};
use mapping_core::{Host, HostPort};
use signal_client::{Identity, RendezvousId, RoomClient, SlotName};
use tokio::time::timeout;

use super::ServerChoice;
use super::examine::Examined;
use super::findings::ServerFinding;
use crate::resolve::host_port;
use crate::shell::api_base;
use crate::status::millis;

/// How long a resolver may take, and signaling: a person waits.
const FIND_TIMEOUT: Duration = Duration::from_secs(3);

/// The servers, and what there is to say about finding them.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Each server with its addresses, as far as they are known.
    servers: Vec<(HostPort, Vec<SocketAddr>)>,
    pub(super) notes: Vec<String>,
}

impl Found {
    /// Returns the addresses of one family, one of every server first.
    pub(super) fn of_family(&self, ipv6: bool) -> (bool, Vec<SocketAddr>) {
        let of_family = |(_, addresses): &(_, Vec<SocketAddr>)| {
            let those = addresses.iter().filter(|it| it.is_ipv6() == ipv6);
            those.copied().collect()
        };
        let lists = self.servers.iter().map(of_family).collect();
        (ipv6, crate::resolve::in_turn(lists))
    }

    /// Returns whether all of them are on this machine.
    pub(super) fn are_here(&self) -> bool {
        let mut addresses = self
            .servers
            .iter()
            .flat_map(|(_, addresses)| addresses)
            .peekable();
        addresses.peek().is_some() && addresses.all(|address| address.ip().is_loopback())
    }

    /// Returns what each server said, those that were not asked left out.
    pub(super) fn results(&self, examined: [&Examined; 2]) -> Vec<ServerFinding> {
        let names: BTreeMap<SocketAddr, &HostPort> = self
            .servers
            .iter()
            .flat_map(|(name, addresses)| addresses.iter().map(move |address| (*address, name)))
            .collect();
        let reports = examined.into_iter().filter_map(|it| it.report.as_ref());
        let results = reports.flat_map(|report| &report.servers);
        results
            .map(|result| ServerFinding {
                name: names.get(&result.server).map(ToString::to_string),
                server: result.server,
                answered: result.reflexive.is_some(),
                rtt_ms: result.rtt.map(millis),
                public: result.reflexive,
            })
            .collect()
    }
}

/// Finds the servers of a choice, and their addresses.
pub(super) async fn find(choice: ServerChoice) -> Found {
    let mut found = Found::default();
    let names = match choice {
        ServerChoice::Named(names) => names,
        ServerChoice::Configured(common) if !common.stun_servers.is_empty() => common.stun_servers,
        ServerChoice::Configured(common) => offered(&common, &mut found.notes).await,
        ServerChoice::Fallback => Vec::new(),
    };
    let names = if names.is_empty() {
        found.notes.push(format!(
            "{FALLBACK_STUN_SERVER} is asked, since no server is named"
        ));
        host_port(FALLBACK_STUN_SERVER).into_iter().collect()
    } else {
        names
    };
    let looked_up = join_all(names.iter().map(addresses)).await;
    for (name, looked_up) in names.into_iter().zip(looked_up) {
        let addresses = looked_up.unwrap_or_else(|reason| {
            found.notes.push(format!("{name}: {reason}"));
            Vec::new()
        });
        found.servers.push((name, addresses));
    }
    found
}

/// Asks the signaling servers of a configuration what they offer. What they see of us is a key that is used once.
async fn offered(common: &CommonConfig, notes: &mut Vec<String>) -> Vec<HostPort> {
    let ask = |url: &String| {
        let client = RoomClient::new(
            api_base(url).0,
            common.access_token.clone(),
            // Only /v1/info is asked for, which belongs to no room.
            RendezvousId([0; 32]),
            SlotName::server(),
            Identity::generate(),
        );
        async move {
            let client = client.map_err(|error| error.to_string())?;
            match timeout(FIND_TIMEOUT, client.info()).await {
                Ok(Ok(info)) => Ok(info.stun),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer".to_owned()),
            }
        }
    };
    let mut servers: Vec<HostPort> = Vec::new();
    let answers = join_all(common.signaling_urls.iter().map(ask)).await;
    for (url, answer) in common.signaling_urls.iter().zip(answers) {
        match answer {
            Ok(stun) => {
                let offered = stun
                    .iter()
                    .take(ADDRESSES_MAX)
                    .filter_map(|text| host_port(text));
                for server in offered {
                    if !servers.contains(&server) {
                        servers.push(server);
                    }
                }
            }
            Err(error) => notes.push(format!("signaling at {url} offers no server: {error}")),
        }
    }
    servers
}

async fn addresses(server: &HostPort) -> Result<Vec<SocketAddr>, String> {
    let at = |ip: IpAddr| SocketAddr::new(ip.to_canonical(), server.port);
    match &server.host {
        Host::Ip(ip) => Ok(vec![at(*ip)]),
        Host::Name(name) => {
            let asked = tokio::net::lookup_host((name.as_str(), server.port));
            match timeout(FIND_TIMEOUT, asked).await {
                Ok(Ok(addresses)) => {
                    let addresses = addresses.map(|address| at(address.ip()));
                    Ok(addresses.take(ADDRESSES_MAX).collect())
                }
                Ok(Err(error)) => Err(format!("does not resolve: {error}")),
                Err(_) => Err("does not resolve: the resolver does not answer".to_owned()),
            }
        }
    }
}

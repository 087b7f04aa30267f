//! A gateway that speaks UPnP IGD: finding it, and its port mappings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use igd_next::aio::Gateway as Device;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, PortMappingProtocol, RequestError, SearchOptions};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::route::Gateway;
use crate::ssdp;
use crate::timing::Timing;

/// How the mapping is called in the router's list.
const DESCRIPTION: &str = "stunfwd";

/// How many AddPortMapping requests may be sent for one mapping: each oddity below costs one, and a few taken ports.
const ADDS_MAX: usize = 6;

/// What a vendor answers who means "not with a lifetime": 402 (invalid arguments) and 501 (action failed), where the
/// standard has 725.
const LEASE_ODDITIES: [u16; 2] = [402, 501];

/// A UPnP IGD at our gateway's address.
#[derive(Clone, Debug)]
pub(crate) struct Igd {
    device: Device<Tokio>,
    local: IpAddr,
    pub(crate) external_ip: Option<IpAddr>,
}

/// Why an IGD made no mapping.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IgdError {
    #[error("it does not answer")]
    Silent,
    #[error("it does not say its outside address")]
    NoExternalIp,
    #[error("it refuses: {0}")]
    Refused(#[from] AddPortError),
    #[error("it finds every port taken")]
    PortsTaken,
}

/// What it granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) external: SocketAddr,
    /// `None` is "until deleted".
    pub(crate) lifetime: Option<Duration>,
}

impl Igd {
    /// Finds the IGD of a gateway and asks for its outside address.
    pub(crate) async fn find(gateway: &Gateway, timing: &Timing) -> Option<Self> {
        let answer = ssdp::search(gateway, timing.search).await?;
        let device = describe(answer, gateway, timing).await?;
        let mut igd = Self {
            device,
            local: gateway.local,
            external_ip: None,
        };
        igd.external_ip = igd.ask_external_ip(timing).await;
        Some(igd)
    }

    async fn ask_external_ip(&self, timing: &Timing) -> Option<IpAddr> {
        let answer = timeout(timing.http, self.device.get_external_ip()).await;
        let ip = answer.ok()?.ok()?;
        // What a router says that is not connected.
        (!ip.is_unspecified()).then_some(ip)
    }

    /// Asks for a mapping to one of our ports, at `port` outside or, if that is taken, at another one.
    ///
    /// With `only` a taken port is an error: it is the renewal of a mapping.
    pub(crate) async fn add(
        &self,
        internal_port: u16,
        port: u16,
        only: bool,
        timing: &Timing,
    ) -> Result<Added, IgdError> {
        let ip = self.ask_external_ip(timing).await;
        let ip = ip.ok_or(IgdError::NoExternalIp)?;
        let (mut port, mut lifetime) = (port, Some(timing.lifetime));
        let mut same_port_only = false;
        for _ in 0..ADDS_MAX {
            let answer = self.add_once(internal_port, port, lifetime, timing).await;
            if answer.is_err() && !only {
                // A slow one may make it all the same, and nobody would ever give it back.
                self.remove(port, timing).await;
            }
            let refusal = match answer? {
                Ok(()) => {
                    let external = SocketAddr::new(ip, port);
                    return Ok(Added { external, lifetime });
                }
                Err(refusal) => refusal,
            };
            tracing::debug!(port, ?lifetime, %refusal, "the IGD refuses");
            if lifetime.is_some() && wants_no_lifetime(&refusal) {
                lifetime = None;
            } else if only {
                return Err(refusal.into());
            } else if matches!(refusal, AddPortError::SamePortValuesRequired)
                && port != internal_port
            {
                port = internal_port;
                same_port_only = true;
            } else if matches!(refusal, AddPortError::PortInUse) && !same_port_only {
                port = any_port();
            } else {
                return Err(refusal.into());
            }
        }
        Err(IgdError::PortsTaken)
    }

    async fn add_once(
        &self,
        internal_port: u16,
        port: u16,
        lifetime: Option<Duration>,
        timing: &Timing,
    ) -> Result<Result<(), AddPortError>, IgdError> {
        let local = SocketAddr::new(self.local, internal_port);
        let secs = lifetime.map_or(0, |lifetime| lifetime.as_secs());
        let secs = u32::try_from(secs).unwrap_or(u32::MAX);
        let adding = self
            .device
            .add_port(PortMappingProtocol::UDP, port, local, secs, DESCRIPTION);
        timeout(timing.http, adding)
            .await
            .map_err(|_| IgdError::Silent)
    }

    /// Deletes a mapping.
    pub(crate) async fn remove(&self, port: u16, timing: &Timing) -> bool {
        let removing = self.device.remove_port(PortMappingProtocol::UDP, port);
        matches!(timeout(timing.http, removing).await, Ok(Ok(())))
    }
}

/// Error 725 of IGD:1, in its own words or in a vendor's.
fn wants_no_lifetime(refusal: &AddPortError) -> bool {
    match refusal {
        AddPortError::OnlyPermanentLeasesSupported => true,
        AddPortError::RequestError(error) => {
            matches!(error, RequestError::ErrorCode(code, _) if LEASE_ODDITIES.contains(code))
        }
        AddPortError::ActionNotAuthorized
        | AddPortError::InternalPortZeroInvalid
        | AddPortError::ExternalPortZeroInvalid
        | AddPortError::PortInUse
        | AddPortError::SamePortValuesRequired
        | AddPortError::DescriptionTooLong => false,
    }
}

/// A port for which no service is expected (RFC 6335: above the registered ones).
pub(crate) fn any_port() -> u16 {
    rand::random_range(49152..=u16::MAX)
}

/// Reads the device's description, which its answer to the search names.
///
/// The library only takes descriptions through a search of its own, so it is given one on loopback, whose one answer is
/// the gateway's; it follows no address but the gateway's.
async fn describe(answer: Vec<u8>, gateway: &Gateway, timing: &Timing) -> Option<Device<Tokio>> {
    let stand_in = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    let mut options = SearchOptions::default();
    options.bind_addr = (Ipv4Addr::LOCALHOST, 0).into();
    options.broadcast_address = stand_in.local_addr().ok()?;
    options.timeout = Some(timing.http);
    options.single_search_timeout = Some(timing.http);
    options.allowed_gateway_ips = vec![gateway.address];
    let hand_over = async {
        let mut request = [0; 1];
        if let Ok((_, library)) = stand_in.recv_from(&mut request).await {
            let _ = stand_in.send_to(&answer, library).await;
        }
        // The search ends by itself.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        found = search_gateway(options) => match found {
            Ok(device) => (device.addr.ip() == gateway.address).then_some(device),
            Err(error) => {
                tracing::debug!(%gateway, %error, "the gateway's UPnP description cannot be used");
                None
            }
        },
        () = hand_over => None,
    }
}

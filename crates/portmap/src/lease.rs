//! A mapping that a gateway granted, whatever it was asked by.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::ask::{AskError, ask};
use crate::epoch::Epoch;
use crate::igd::{Igd, IgdError};
use crate::port_control::{Grant, Nonce, Request};
use crate::route::Gateway;
use crate::timing::Timing;
use crate::view::Protocol;

/// Longer grants are renewed as if they were this long: RFC 6887 §15 has a day as the longest useful one.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What stays the same however often it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) internal_port: u16,
    /// What is asked for first.
    pub(crate) external_port: u16,
    pub(crate) nonce: Nonce,
}

/// A granted mapping.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) external: SocketAddr,
    pub(crate) protocol: Protocol,
    /// `None` is "until deleted".
    pub(crate) lifetime: Option<Duration>,
    epoch: Option<Epoch>,
    wish: Wish,
    igd: Option<Igd>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Igd(#[from] IgdError),
    #[error("it granted {0}, which is no mapping")]
    Useless(&'static str),
}

impl Lease {
    /// Asks for a mapping.
    pub(crate) async fn take(
        protocol: Protocol,
        gateway: &Gateway,
        igd: Option<Igd>,
        wish: Wish,
        timing: &Timing,
    ) -> Result<Self, LeaseError> {
        let mut lease = Self {
            external: SocketAddr::new(unspecified(gateway), wish.external_port),
            protocol,
            lifetime: None,
            epoch: None,
            wish,
            igd,
        };
        if let Err(error) = lease.obtain(gateway, true, timing).await {
            if matches!(error, LeaseError::Useless(_)) {
                // It is there for two hours all the same, unless it is given back.
                lease.delete(gateway, timing).await;
            }
            return Err(error);
        }
        Ok(lease)
    }

    /// Asks for the same mapping again; it may come back as another.
    pub(crate) async fn renew(
        &mut self,
        gateway: &Gateway,
        timing: &Timing,
    ) -> Result<(), LeaseError> {
        self.obtain(gateway, false, timing).await
    }

    async fn obtain(
        &mut self,
        gateway: &Gateway,
        is_new: bool,
        timing: &Timing,
    ) -> Result<(), LeaseError> {
        match self.protocol {
            Protocol::Pcp => {
                let request = self.pcp_request(gateway, timing.lifetime);
                let grant = ask(gateway, &request, timing).await?;
                let ip = grant.external_ip.ok_or(LeaseError::Useless("no address"))?;
                self.granted(SocketAddr::new(ip, grant.external_port), grant)
            }
            Protocol::NatPmp => {
                // First, since a mapping at an address that is not told would stay there unused.
                let outside = ask(gateway, &Request::ExternalAddress, timing).await?;
                let request = self.nat_pmp_request(timing.lifetime);
                let grant = ask(gateway, &request, timing).await?;
                let ip = outside
                    .external_ip
                    .ok_or(LeaseError::Useless("no address"))?;
                self.granted(SocketAddr::new(ip, grant.external_port), grant)
            }
            Protocol::Upnp => {
                let igd = self.igd.as_ref().ok_or(IgdError::Silent)?;
                let added = igd
                    .add(
                        self.wish.internal_port,
                        self.external.port(),
                        !is_new,
                        timing,
                    )
                    .await?;
                self.external = added.external;
                self.lifetime = added.lifetime;
                Ok(())
            }
        }
    }

    fn granted(&mut self, external: SocketAddr, grant: Grant) -> Result<(), LeaseError> {
        if external.port() == 0 {
            return Err(LeaseError::Useless("port 0"));
        }
        if external.ip().is_unspecified() {
            return Err(LeaseError::Useless("the address of nobody"));
        }
        if grant.lifetime_secs == 0 {
            return Err(LeaseError::Useless("a lifetime of 0"));
        }
        let lifetime = Duration::from_secs(u64::from(grant.lifetime_secs));
        self.external = external;
        self.lifetime = Some(lifetime.min(LIFETIME_MAX));
        self.epoch = Some(Epoch::new(grant.epoch_secs, Instant::now()));
        Ok(())
    }

    /// Returns how long after it was granted it is to be renewed.
    pub(crate) fn renew_after(&self, timing: &Timing) -> Duration {
        // Half of it (RFC 6886 §3.3, RFC 6887 §11.2.1). One without an end may be lost too, by a reboot.
        let lifetime = self.lifetime.unwrap_or(timing.lifetime);
        (lifetime / 2).max(timing.renew_min)
    }

    /// Asks the gateway how long it has been there, and returns whether it still knows of the mapping.
    ///
    /// One that does not answer has lost nothing: that is for the renewal to find out. UPnP has no such question.
    pub(crate) async fn is_remembered(&mut self, gateway: &Gateway, timing: &Timing) -> bool {
        let request = match self.protocol {
            Protocol::Pcp => Request::Announce {
                client: gateway.local,
            },
            Protocol::NatPmp => Request::ExternalAddress,
            Protocol::Upnp => return true,
        };
        let (Ok(grant), Some(epoch)) = (ask(gateway, &request, timing).await, self.epoch) else {
            return true;
        };
        let now = Instant::now();
        let continues = epoch.continues(grant.epoch_secs, now);
        self.epoch = Some(Epoch::new(grant.epoch_secs, now));
        let ip = grant.external_ip;
        continues && ip.is_none_or(|ip| ip == self.external.ip())
    }

    /// Gives it back.
    pub(crate) async fn delete(&self, gateway: &Gateway, timing: &Timing) {
        let is_gone = match self.protocol {
            Protocol::Pcp => {
                let request = self.pcp_request(gateway, Duration::ZERO);
                ask(gateway, &request, timing).await.is_ok()
            }
            Protocol::NatPmp => {
                let request = self.nat_pmp_request(Duration::ZERO);
                ask(gateway, &request, timing).await.is_ok()
            }
            Protocol::Upnp => match &self.igd {
                Some(igd) => igd.remove(self.external.port(), timing).await,
                None => false,
            },
        };
        let (external, protocol) = (self.external, self.protocol);
        tracing::debug!(%external, %protocol, is_gone, "port mapping given back");
    }

    fn pcp_request(&self, gateway: &Gateway, lifetime: Duration) -> Request {
        let deletes = lifetime.is_zero();
        let ip = self.external.ip();
        Request::Map {
            client: gateway.local,
            nonce: self.wish.nonce,
            internal_port: self.wish.internal_port,
            // RFC 6887 §15: nothing is suggested to a deletion.
            suggested_port: if deletes { 0 } else { self.external.port() },
            suggested_ip: (!deletes && !ip.is_unspecified()).then_some(ip),
            lifetime_secs: secs(lifetime),
        }
    }

    fn nat_pmp_request(&self, lifetime: Duration) -> Request {
        let deletes = lifetime.is_zero();
        Request::MapNatPmp {
            internal_port: self.wish.internal_port,
            // RFC 6886 §3.4: 0 in a deletion.
            suggested_port: if deletes { 0 } else { self.external.port() },
            lifetime_secs: secs(lifetime),
        }
    }
}

fn secs(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

fn unspecified(gateway: &Gateway) -> std::net::IpAddr {
    if gateway.local.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    }
}

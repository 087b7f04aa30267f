//! From an incoming handshake to a proven carrier, on the egress.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use quinn::{Endpoint, Incoming, ServerConfig, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::carrier::Carrier;
use super::counters::Counter;
use super::error::{CarrierClosedInTls, CarrierError};
use super::proof_stream::{CLOSE_PROOF, Prover};
use super::settings::{HANDSHAKE_LIMIT, STREAMS_BESIDE_FLOWS};
use super::socket::DemuxSocket;
use super::virtual_addr::VirtualAddr;

/// Carriers that are not proven yet: sixteen peers with four paths each, all at once.
const UNPROVEN_MAX: usize = 64;

/// Of these, how many may come over one route. Who can forge a peer's address, or runs its relay, can begin
/// handshakes in its name; that costs this peer its carriers, and no other.
const UNPROVEN_PER_ROUTE_MAX: usize = 16;

/// What became of the peers' handshakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptStats {
    /// Handshakes that began.
    pub begun: u64,
    /// Carriers whose peer proved the room.
    pub proven: u64,
    /// Handshakes refused because too many were under way.
    pub refused: u64,
    /// Handshakes that failed in TLS or took too long.
    pub tls_failed: u64,
    /// Carriers whose proof failed or took too long.
    pub proof_failed: u64,
}

#[derive(Debug, Default)]
pub(super) struct AcceptCounters {
    begun: Counter,
    proven: Counter,
    refused: Counter,
    tls_failed: Counter,
    proof_failed: Counter,
}

impl AcceptCounters {
    pub(super) fn snapshot(&self) -> AcceptStats {
        AcceptStats {
            begun: self.begun.get(),
            proven: self.proven.get(),
            refused: self.refused.get(),
            tls_failed: self.tls_failed.get(),
            proof_failed: self.proof_failed.get(),
        }
    }
}

#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) endpoint: Endpoint,
    pub(super) socket: Arc<DemuxSocket>,
    pub(super) prover: Arc<Prover>,
    pub(super) direct: Arc<ServerConfig>,
    pub(super) relayed: Arc<ServerConfig>,
    pub(super) max_connections: u32,
    pub(super) proven: mpsc::Sender<Carrier>,
    pub(super) counters: Arc<AcceptCounters>,
}

impl Acceptor {
    /// Takes every handshake off quinn's queue at once; nothing in here waits for a peer.
    pub(super) async fn run(self, stop: CancellationToken) {
        let unproven = Arc::new(Semaphore::new(UNPROVEN_MAX));
        let routes = Arc::new(RouteQuota::default());
        loop {
            let incoming = tokio::select! {
                () = stop.cancelled() => return,
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            self.counters.begun.increment();
            let Some(addr) = VirtualAddr::from_socket_addr(incoming.remote_address()) else {
                incoming.ignore();
                continue;
            };
            let seat = routes.clone().take(addr);
            match (seat, unproven.clone().try_acquire_owned()) {
                (Some(seat), Ok(permit)) => {
                    tokio::spawn(self.clone().accept(incoming, addr, (seat, permit)));
                }
                (None, _) | (_, Err(_)) => {
                    self.counters.refused.increment();
                    incoming.refuse();
                }
            }
        }
    }

    /// One handshake and one proof. The permits are held until the carrier was handed over.
    async fn accept(
        self,
        incoming: Incoming,
        addr: VirtualAddr,
        _permits: (RouteSeat, OwnedSemaphorePermit),
    ) {
        let connection = match self.handshake(incoming, addr).await {
            Ok(connection) => connection,
            Err(error) => {
                self.counters.tls_failed.increment();
                debug!(%error, %addr, "handshake failed");
                return;
            }
        };
        match self
            .prover
            .prove_accepted(connection.clone(), self.socket.clone(), addr)
            .await
        {
            Ok(carrier) => {
                self.counters.proven.increment();
                let streams = self.max_connections.saturating_add(STREAMS_BESIDE_FLOWS);
                connection
                    .set_max_concurrent_bi_streams(VarInt::from_u32(streams.min(STREAMS_MAX)));
                // An error means that the endpoint is gone, and the carrier goes with it.
                let _ = self.proven.send(carrier).await;
            }
            Err(error) => {
                self.counters.proof_failed.increment();
                debug!(%error, %addr, "proof failed");
                connection.close(VarInt::from_u32(CLOSE_PROOF), error.to_string().as_bytes());
            }
        }
    }

    async fn handshake(
        &self,
        incoming: Incoming,
        addr: VirtualAddr,
    ) -> Result<quinn::Connection, CarrierError> {
        let relayed = self
            .socket
            .route(addr)
            .is_some_and(|route| route.is_relayed());
        let config = if relayed {
            self.relayed.clone()
        } else {
            self.direct.clone()
        };
        let closed =
            |error: quinn::ConnectionError| CarrierError::from(CarrierClosedInTls(error.into()));
        let connecting = incoming.accept_with(config).map_err(closed)?;
        tokio::time::timeout(HANDSHAKE_LIMIT, connecting)
            .await
            .map_err(|_| CarrierError::HandshakeTimeout)?
            .map_err(closed)
    }
}

/// Far above any `maxConnections`, and below what a stream id can count.
const STREAMS_MAX: u32 = 1 << 20;

/// Counts the unproven carriers of every route. Routes without any take no memory.
#[derive(Default)]
struct RouteQuota(Mutex<BTreeMap<VirtualAddr, usize>>);

/// One of a route's unproven carriers, until it is dropped.
struct RouteSeat {
    quota: Arc<RouteQuota>,
    addr: VirtualAddr,
}

impl RouteQuota {
    /// `None` when the route has as many as it may.
    fn take(self: Arc<Self>, addr: VirtualAddr) -> Option<RouteSeat> {
        {
            let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = routes.entry(addr).or_default();
            if *count >= UNPROVEN_PER_ROUTE_MAX {
                return None;
            }
            *count += 1;
        }
        Some(RouteSeat { quota: self, addr })
    }
}

impl Drop for RouteSeat {
    fn drop(&mut self) {
        let mut routes = self.quota.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = routes.get_mut(&self.addr) {
            *count -= 1;
            if *count == 0 {
                routes.remove(&self.addr);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_route_cannot_take_the_places_of_the_others() {
        let quota = Arc::new(RouteQuota::default());
        let (busy, other) = (VirtualAddr::new(1), VirtualAddr::new(2));
        let mut seats: Vec<_> = (0..100).filter_map(|_| quota.clone().take(busy)).collect();
        assert_eq!(seats.len(), UNPROVEN_PER_ROUTE_MAX);
        assert!(quota.clone().take(other).is_some());
        seats.pop();
        assert!(quota.clone().take(busy).is_some(), "a place that was left");
        seats.clear();
        assert!(quota.0.lock().unwrap().is_empty());
    }
}

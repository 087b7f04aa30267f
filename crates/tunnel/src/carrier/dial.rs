//! From a virtual address to a proven carrier, on the ingress.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, VarInt};

use super::carrier::Carrier;
use super::endpoint::{CarrierEndpoint, Side};
use super::error::{CarrierClosedInTls, CarrierError};
use super::hello::InstanceId;
use super::identity::PublicKey;
use super::proof_stream::{CLOSE_PROOF, peer_key};
use super::settings::{HANDSHAKE_LIMIT, transport_config};
use super::tls::SERVER_NAME;
use super::virtual_addr::VirtualAddr;

/// What is known about the peer and the path that are dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DialOptions {
    /// The key that must answer; any known one otherwise.
    pub peer_key: Option<PublicKey>,
    /// The run that should answer, from its description; otherwise the one that last proved the room.
    pub peer_instance: Option<InstanceId>,
    /// The round trip that the path's check measured, so that a lost first packet is repeated soon.
    pub rtt: Option<Duration>,
}

impl CarrierEndpoint {
    /// Dials a carrier: TLS within 5 s, then the proof within 5 s, between them the wait for a first proof that is
    /// under way with the same peer. The route must be installed. Dropping the future gives up.
    ///
    /// # Errors
    /// See [`CarrierError`].
    pub async fn dial(
        &self,
        addr: VirtualAddr,
        options: DialOptions,
    ) -> Result<Carrier, CarrierError> {
        let inner = &self.inner;
        if inner.side != Side::Ingress {
            return Err(CarrierError::Stopped);
        }
        let relayed = inner
            .socket
            .route(addr)
            .is_some_and(|route| route.is_relayed());
        let mut config = ClientConfig::new(inner.client_crypto.clone());
        config.transport_config(Arc::new(transport_config(
            Side::Ingress,
            relayed,
            options.rtt,
        )));
        let connecting = inner
            .endpoint
            .connect_with(config, addr.to_socket_addr(), SERVER_NAME)
            .map_err(|_| CarrierError::Stopped)?;
        let connection = tokio::time::timeout(HANDSHAKE_LIMIT, connecting)
            .await
            .map_err(|_| CarrierError::HandshakeTimeout)?
            .map_err(|error| CarrierError::from(CarrierClosedInTls(error.into())))?;
        if let (Some(wanted), Some(answered)) = (options.peer_key, peer_key(&connection))
            && wanted != answered
        {
            connection.close(VarInt::from_u32(CLOSE_PROOF), b"wrong peer");
            return Err(CarrierError::WrongPeer(answered));
        }
        let proven = inner
            .prover
            .prove_dialed(
                connection.clone(),
                inner.socket.clone(),
                addr,
                options.peer_instance,
            )
            .await;
        if let Err(error) = &proven {
            connection.close(VarInt::from_u32(CLOSE_PROOF), error.to_string().as_bytes());
        }
        proven
    }
}

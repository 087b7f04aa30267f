//! One question to the gateway by PCP or NAT-PMP, on a socket of its own.

use std::io;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::port_control::{Grant, MESSAGE_MAX, Refusal, Request, SERVER_PORT};
use crate::route::Gateway;
use crate::timing::Timing;

/// Why there is no grant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("it does not answer")]
    Silent,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("no socket for it")]
    Socket(#[from] io::Error),
}

/// Asks until there is an answer or the attempts are used up.
///
/// The socket is bound to the address that the gateway knows us by, and connected: the system drops what anybody else
/// sends to it.
pub(crate) async fn ask(
    gateway: &Gateway,
    request: &Request,
    timing: &Timing,
) -> Result<Grant, AskError> {
    let socket = UdpSocket::bind((gateway.local, 0)).await?;
    socket.connect(gateway.at(SERVER_PORT)).await?;
    let bytes = request.encode();
    for wait in &timing.attempts {
        socket.send(&bytes).await.map_err(silence)?;
        if let Ok(answer) = timeout(*wait, answer(&socket, request)).await {
            return Ok(answer??);
        }
    }
    Err(AskError::Silent)
}

/// Waits for an answer to this request; what is none is passed over.
async fn answer(socket: &UdpSocket, request: &Request) -> Result<Result<Grant, Refusal>, AskError> {
    let mut buffer = [0; MESSAGE_MAX];
    loop {
        let len = socket.recv(&mut buffer).await.map_err(silence)?;
        if let Some(answer) = request.read(&buffer[..len]) {
            return Ok(answer);
        }
        tracing::trace!(len, "the gateway sent something else");
    }
}

/// A closed port (ICMP) is a gateway without the protocol.
fn silence(error: io::Error) -> AskError {
    let closed = [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
    ];
    if closed.contains(&error.kind()) {
        AskError::Silent
    } else {
        AskError::Socket(error)
    }
}

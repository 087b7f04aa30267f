//! Where a mapping leads: the service's addresses, and the connection to one of them.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mapping_core::{AllowList, Host, Protocol, WireMapping};
use tokio::net::{TcpSocket, TcpStream, UdpSocket, lookup_host};

use super::local;
use super::udp_ingress::widen_buffers;
use crate::flow::RefuseCode;

/// How many of a name's addresses are tried.
const ADDRESSES_MAX: usize = 8;

/// Why a service was not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: RefuseCode,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(code: RefuseCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    fn from_io(target: &dyn std::fmt::Display, error: &io::Error) -> Self {
        let unreachable = [
            io::ErrorKind::HostUnreachable,
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::NetworkDown,
            io::ErrorKind::AddrNotAvailable,
        ];
        let kind = error.kind();
        let code = if kind == io::ErrorKind::ConnectionRefused {
            RefuseCode::ConnectionRefused
        } else if kind == io::ErrorKind::TimedOut {
            RefuseCode::TimedOut
        } else if unreachable.contains(&kind) {
            RefuseCode::Unreachable
        } else {
            RefuseCode::Failed
        };
        Self::new(code, format!("{target}: {error}"))
    }
}

/// Resolves the target and leaves out what the allow-list does not permit, now that the address is known.
pub(super) async fn resolve(
    mapping: &WireMapping,
    port_offset: u16,
    allow: &AllowList,
) -> Result<Vec<SocketAddr>, Refusal> {
    let Some(port) = mapping.target_ports.at(port_offset) else {
        let text = format!("port {port_offset} of the range is not in the mapping");
        return Err(Refusal::new(RefuseCode::NoMapping, text));
    };
    let (addresses, name) = match &mapping.target_host {
        None => (loopback(port), None),
        Some(text) => match text.parse::<Host>() {
            Ok(Host::Ip(ip)) => (vec![SocketAddr::new(ip, port)], None),
            Ok(Host::Name(_)) => (look_up(text, port).await?, Some(text.as_str())),
            Err(error) => {
                return Err(Refusal::new(
                    RefuseCode::NotResolved,
                    format!("{text}: {error}"),
                ));
            }
        },
    };
    let permitted: Vec<SocketAddr> = addresses
        .iter()
        .filter(|a| allow.permits(mapping.protocol, **a, name))
        .copied()
        .collect();
    if permitted.is_empty() {
        let target = name.map_or_else(|| addresses[0].to_string(), |name| format!("{name}:{port}"));
        let text = format!("{} {target} is not allowed", mapping.protocol);
        return Err(Refusal::new(RefuseCode::NotAllowed, text));
    }
    Ok(permitted)
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    let ips = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    ips.map(|ip| SocketAddr::new(ip, port)).to_vec()
}

async fn look_up(name: &str, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
    let not_resolved =
        |why: String| Refusal::new(RefuseCode::NotResolved, format!("{name}: {why}"));
    let found = lookup_host((name, port))
        .await
        .map_err(|error| not_resolved(error.to_string()))?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        Err(not_resolved("no address".to_owned()))
    } else {
        Ok(addresses)
    }
}

/// Connects to the first address that answers, in `limit` altogether. Until [`local::close_on_drop`], whoever
/// drops the connection resets it: a service must not take the end of an attempt for the end of a request.
pub(super) async fn connect_tcp(
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<TcpStream, Refusal> {
    let attempts = async {
        let mut first = None;
        for address in addresses {
            match connect_or_reset(*address).await {
                Ok(socket) => return Ok(socket),
                // The first address is the one that people mean.
                Err(error) => {
                    first.get_or_insert_with(|| Refusal::from_io(address, &error));
                }
            }
        }
        Err(first.unwrap_or_else(|| Refusal::new(RefuseCode::NotResolved, "no address")))
    };
    match tokio::time::timeout(limit, attempts).await {
        Ok(result) => result,
        Err(_) => {
            let target = addresses
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            let text = format!("{target}: no answer in {} s", limit.as_secs());
            Err(Refusal::new(RefuseCode::TimedOut, text))
        }
    }
}

async fn connect_or_reset(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    local::reset_on_drop(&socket);
    socket.connect(address).await
}

/// Makes one socket for each address to which the system has a route, in the same order: the first, and the
/// others.
pub(super) async fn connect_udp(
    addresses: &[SocketAddr],
) -> Result<(UdpSocket, VecDeque<UdpSocket>), Refusal> {
    let mut sockets = VecDeque::new();
    let mut refusal = None;
    for address in addresses {
        match connect_udp_to(*address).await {
            Ok(socket) => sockets.push_back(socket),
            Err(error) => {
                refusal.get_or_insert_with(|| Refusal::from_io(address, &error));
            }
        }
    }
    match sockets.pop_front() {
        Some(first) => Ok((first, sockets)),
        None => Err(refusal.unwrap_or_else(|| Refusal::new(RefuseCode::NotResolved, "no address"))),
    }
}

async fn connect_udp_to(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let kind = socket2::Type::DGRAM;
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), kind, None)?;
    socket.set_nonblocking(true)?;
    widen_buffers(&socket);
    socket.bind(&SocketAddr::new(any, 0).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Says what a mapping's protocol must be for a flow of this kind.
pub(super) fn check_protocol(mapping: &WireMapping, protocol: Protocol) -> Result<(), Refusal> {
    if mapping.protocol == protocol {
        return Ok(());
    }
    let text = format!(
        "mapping {} is {}, not {protocol}",
        mapping.id.value(),
        mapping.protocol
    );
    Err(Refusal::new(RefuseCode::NoMapping, text))
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_dial_that_is_given_up_resets_the_connection_that_the_service_has_already() {
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [service.local_addr().unwrap()];
        tokio::select! {
            biased;
            _ = connect_tcp(&addresses, Duration::from_secs(10)) => panic!("it is not asked twice"),
            () = ready(()) => {}
        }
        let (mut socket, _) = service.accept().await.unwrap();
        let end = socket.read_u8().await.map_err(|error| error.kind());
        assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
    }

    #[tokio::test]
    async fn a_connection_that_is_handed_over_is_closed_and_not_reset() {
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [service.local_addr().unwrap()];
        let dialled = connect_tcp(&addresses, Duration::from_secs(10))
            .await
            .unwrap();
        local::close_on_drop(&dialled);
        drop(dialled);
        let (mut socket, _) = service.accept().await.unwrap();
        let end = socket.read_u8().await.map_err(|error| error.kind());
        assert_eq!(end, Err(io::ErrorKind::UnexpectedEof));
    }
}

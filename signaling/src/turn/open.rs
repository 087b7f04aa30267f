//! Opening the sockets that the operator named.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use relay::server::BindingAddresses;
use socket2::{Domain, Protocol, Socket, Type};

/// With port 0 the system picks a free UDP port, whose neighbour, and the same one for TCP, may be taken.
const ATTEMPTS: u32 = 64;
/// Pending connections; the kernel caps it by itself.
const BACKLOG: i32 = 1024;
/// Receive and send buffer of the socket that all clients share, which the kernel may cap: 30 ms of 1 Gbit/s.
const SHARED_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// All sockets of the STUN and TURN side, before any runtime.
#[derive(Debug)]
pub(crate) struct DataSockets {
    /// The primary first.
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: Vec<TcpListener>,
    /// What clients are told, with actual ports: one address per IP.
    pub(crate) primary: Vec<SocketAddr>,
    /// For RFC 5780, when there are two.
    pub(crate) alternates: Option<BindingAddresses>,
    /// The port of the last UDP socket when there is one address: what is sent from there comes from a stranger.
    pub(crate) second_port: Option<u16>,
}

/// A socket that cannot be opened.
#[derive(Debug)]
pub(crate) struct OpenError {
    pub(crate) what: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) source: io::Error,
}

impl DataSockets {
    /// Opens the two sockets of one address, or the four of two.
    pub(crate) fn open(stun: &[SocketAddr]) -> Result<Self, OpenError> {
        let any_port = stun.first().is_some_and(|first| first.port() == 0);
        let mut attempt = 1;
        loop {
            match Self::try_open(stun) {
                Err(error)
                    if any_port
                        && attempt < ATTEMPTS
                        && error.source.kind() == io::ErrorKind::AddrInUse =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn try_open(stun: &[SocketAddr]) -> Result<Self, OpenError> {
        let Some(&first) = stun.first() else {
            return Ok(Self {
                udp: vec![],
                tcp: vec![],
                primary: vec![],
                alternates: None,
                second_port: None,
            });
        };
        let first_udp = open_udp(first)?;
        let port = first_udp
            .local_addr()
            .map_err(|source| OpenError {
                what: "STUN over UDP",
                address: first,
                source,
            })?
            .port();
        let ips: Vec<IpAddr> = stun.iter().map(SocketAddr::ip).collect();
        let alternates = match ips[..] {
            [one, two] => {
                let taken = io::ErrorKind::AddrInUse;
                let alternate = port.checked_add(1).ok_or_else(|| OpenError {
                    what: "STUN's alternate port",
                    address: first,
                    source: taken.into(),
                })?;
                Some(BindingAddresses {
                    ips: [one, two],
                    ports: [port, alternate],
                })
            }
            _ => None,
        };
        let mut udp = vec![first_udp];
        let mut second_port = None;
        if let Some(alternates) = &alternates {
            for address in &alternates.sockets()[1..] {
                udp.push(open_udp(*address)?);
            }
        } else {
            // Any port will do: it is for sending.
            let second = open_udp(SocketAddr::new(first.ip(), 0))?;
            second_port = second.local_addr().ok().map(|local| local.port());
            udp.push(second);
        }
        let primary: Vec<_> = ips.iter().map(|&ip| SocketAddr::new(ip, port)).collect();
        let tcp = primary
            .iter()
            .map(|&address| open_tcp(address, "STUN over TCP"))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            udp,
            tcp,
            primary,
            alternates,
            second_port,
        })
    }
}

/// Opens a listening TCP socket.
pub(crate) fn open_tcp(address: SocketAddr, what: &'static str) -> Result<TcpListener, OpenError> {
    let open = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        accept_both_families(&socket, address)?;
        // A restart must not wait for the connections of the last run to time out.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    open().map_err(|source| OpenError {
        what,
        address,
        source,
    })
}

fn open_udp(address: SocketAddr) -> Result<UdpSocket, OpenError> {
    bind_udp(address, SHARED_BUFFER_BYTES).map_err(|source| OpenError {
        what: "STUN over UDP",
        address,
        source,
    })
}

/// Binds a non-blocking UDP socket.
pub(super) fn bind_udp(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    accept_both_families(&socket, address)?;
    // Larger buffers are a wish: the kernel's cap is the operator's to raise.
    let _ = socket.set_recv_buffer_size(buffer_bytes);
    let _ = socket.set_send_buffer_size(buffer_bytes);
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// `[::]` means both families; another IPv6 address is of its own.
fn accept_both_families(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_addresses_open_four_udp_sockets_and_two_listeners() {
        let stun = ["127.0.0.1:0", "127.0.0.2:0"].map(|text| text.parse().unwrap());
        let sockets = DataSockets::open(&stun).unwrap();
        let udp: Vec<_> = sockets
            .udp
            .iter()
            .map(|udp| udp.local_addr().unwrap())
            .collect();
        assert_eq!(udp, sockets.alternates.unwrap().sockets());
        let tcp: Vec<_> = sockets
            .tcp
            .iter()
            .map(|tcp| tcp.local_addr().unwrap())
            .collect();
        assert_eq!(tcp, sockets.primary);
    }

    #[test]
    fn one_address_opens_a_second_udp_socket_to_send_from() {
        let sockets = DataSockets::open(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let udp: Vec<_> = sockets
            .udp
            .iter()
            .map(|udp| udp.local_addr().unwrap().port())
            .collect();
        let second = sockets.second_port.unwrap();
        assert_eq!(udp, [sockets.primary[0].port(), second]);
        assert_eq!((sockets.primary.len(), sockets.tcp.len()), (1, 1));
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = DataSockets::open(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let error = DataSockets::open(&taken.primary).unwrap_err();
        assert_eq!(
            (error.address, error.source.kind()),
            (taken.primary[0], io::ErrorKind::AddrInUse)
        );
    }
}

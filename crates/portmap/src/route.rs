//! The gateway of the default route, and the address by which it knows us.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::Arc;

/// Where the default route is looked up: routed like the internet, of ranges that nobody has (RFC 5737, RFC 3849). Nothing
/// is sent there.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// A default gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address on our network.
    pub address: IpAddr,
    /// The interface towards it, which a link-local address needs; 0 for any other.
    pub scope_id: u32,
    /// Our address towards it: what it may forward to.
    pub local: IpAddr,
}

impl Gateway {
    /// Returns the address of one of its ports.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        match self.address {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope_id).into(),
        }
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// Where gateways are learnt from; asked again whenever the network may have changed.
#[derive(Clone)]
pub struct Gateways(Arc<dyn Fn() -> Vec<Gateway> + Send + Sync>);

impl fmt::Debug for Gateways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gateways(..)")
    }
}

impl Gateways {
    /// The default routes of this machine.
    #[must_use]
    pub fn of_system() -> Self {
        Self::from_fn(default_gateways)
    }

    /// Whatever a function says; it may block for moments.
    #[must_use]
    pub fn from_fn(find: impl Fn() -> Vec<Gateway> + Send + Sync + 'static) -> Self {
        Self(Arc::new(find))
    }

    /// Finds the gateway that a socket's packets leave by.
    pub(crate) async fn for_base(&self, base: SocketAddr) -> Option<Gateway> {
        let find = self.0.clone();
        let gateways = tokio::task::spawn_blocking(move || find()).await.ok()?;
        gateways.into_iter().find(|gateway| {
            let is_bound_there = base.ip().is_unspecified() || base.ip() == gateway.local;
            gateway.local.is_ipv4() == base.is_ipv4() && is_bound_there
        })
    }
}

/// Finds the default gateways of this machine, at most one of each family.
///
/// A machine that only has itself, or is its own gateway, has none.
fn default_gateways() -> Vec<Gateway> {
    let locals: Vec<IpAddr> = [FAR_V4.into(), FAR_V6.into()]
        .into_iter()
        .filter_map(source_towards)
        .collect();
    if locals.is_empty() {
        return Vec::new();
    }
    let interfaces = netdev::get_interfaces();
    let is_ours = |ip: IpAddr| {
        let mut all = interfaces.iter();
        all.any(|interface| has(interface, ip))
    };
    let gateways = locals.into_iter().filter_map(|local| {
        let interface = interfaces.iter().find(|interface| has(interface, local))?;
        let device = interface.gateway.as_ref()?;
        let (address, scope_id) = match local {
            IpAddr::V4(_) => (IpAddr::V4(*device.ipv4.first()?), 0),
            IpAddr::V6(_) => {
                let address = *device.ipv6.first()?;
                let scope_id = if address.is_unicast_link_local() {
                    interface.index
                } else {
                    0
                };
                (IpAddr::V6(address), scope_id)
            }
        };
        Some(Gateway {
            address,
            scope_id,
            local,
        })
    });
    gateways
        .filter(|gateway| {
            let address = gateway.address;
            !(address.is_loopback() || address.is_unspecified() || is_ours(address))
        })
        .collect()
}

fn has(interface: &netdev::Interface, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => interface.ipv4.iter().any(|net| net.addr() == ip),
        IpAddr::V6(ip) => interface.ipv6.iter().any(|net| net.addr() == ip),
    }
}

/// Returns the address with which packets to `far` would leave; connecting a UDP socket sends nothing.
fn source_towards(far: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match far {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    let local = socket.local_addr().ok()?.ip();
    (!local.is_loopback() && !local.is_unspecified()).then_some(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(address: &str, local: &str) -> Gateway {
        Gateway {
            address: address.parse().unwrap(),
            scope_id: 0,
            local: local.parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_socket_has_the_gateway_of_its_family_and_address() {
        let v4 = gateway("192.168.1.1", "192.168.1.2");
        let v6 = gateway("fe80::1", "2001:db8::2");
        let gateways = Gateways::from_fn(move || vec![v4, v6]);
        for (base, expected) in [
            ("0.0.0.0:1", Some(v4)),
            ("[::]:1", Some(v6)),
            ("192.168.1.2:1", Some(v4)),
            ("192.168.9.9:1", None),
            ("127.0.0.1:1", None),
        ] {
            let found = gateways.for_base(base.parse().unwrap()).await;
            assert_eq!(found, expected, "{base}");
        }
    }

    #[test]
    fn a_link_local_gateway_is_reached_through_its_interface() {
        let mut gateway = gateway("fe80::1", "2001:db8::2");
        gateway.scope_id = 3;
        assert_eq!(gateway.at(5351).to_string(), "[fe80::1%3]:5351");
    }
}

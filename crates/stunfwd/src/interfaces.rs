//! The addresses of this machine.

use ipnet::IpNet;
use session::Interface;

/// Lists the addresses of the interfaces that are up; empty, and traced, when the system refuses.
pub(crate) fn list() -> Vec<Interface> {
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "the network interfaces cannot be listed");
            return Vec::new();
        }
    };
    interfaces
        .into_iter()
        .filter_map(|interface| {
            let prefix_len = match &interface.addr {
                if_addrs::IfAddr::V4(v4) => u32::from(v4.netmask).count_ones(),
                if_addrs::IfAddr::V6(v6) => u128::from(v6.netmask).count_ones(),
            };
            let prefix_len = u8::try_from(prefix_len).ok()?;
            let net = IpNet::new(interface.ip(), prefix_len).ok()?;
            Some(Interface {
                name: interface.name,
                net,
            })
        })
        .collect()
}

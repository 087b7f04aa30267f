//! Port mappings: what the product's driver asks of a router, and what routers make of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use session::{GatewayProtocol, GatewayView, PortMapping};

use super::{Arrival, World};
use crate::behavior::Gateway;
use crate::host::Host;
use crate::nat::NatBox;

/// From the start of the program until a router has answered and made a mapping.
const ANSWER: Duration = Duration::from_millis(300);
/// After that long nobody answers any more.
const SILENCE: Duration = Duration::from_secs(2);
/// Before a mapping that does not work is made anew, at another port.
const REPAIR: Duration = Duration::from_secs(1);
/// A router that has failed so often will not do.
const TRIES_MAX: u16 = 3;
/// Somebody else's.
const WRONG_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 250));

impl World {
    /// A host asks its router for a port mapping, as the driver does at the start.
    pub(super) fn ask_gateway(&mut self, index: usize) {
        let site = self.hosts[index].config.site;
        let gateway = self.sites[site.0].nat.behavior().gateway;
        let delay = gateway.map_or(SILENCE, |_| ANSWER);
        self.after(delay, Arrival::Gateway { host: index });
    }

    pub(super) fn repair_port_mapping(&mut self, index: usize) {
        if self.hosts[index].port_mapping_tries < TRIES_MAX {
            self.after(REPAIR, Arrival::Gateway { host: index });
        }
    }

    pub(super) fn on_gateway(&mut self, index: usize) {
        let now = self.now;
        let site = self.hosts[index].config.site;
        let nat = &mut self.sites[site.0].nat;
        let gateway = nat.behavior().gateway;
        let view = view(nat, gateway);
        let host = &mut self.hosts[index];
        host.node.set_gateway(view, now);
        let Some(gateway) = gateway else {
            return;
        };
        let inside = host.address();
        let port = inside.port() + host.port_mapping_tries;
        host.port_mapping_tries += 1;
        let external = match gateway {
            Gateway::Refuses => None,
            Gateway::Honest => nat.map_port(inside, port, None, now),
            Gateway::Forgets { after } => nat.map_port(inside, port, Some(now + after), now),
            Gateway::LiesAboutSuccess => Some(SocketAddr::new(nat.outside(), port)),
            Gateway::WrongExternalAddress => nat
                .map_port(inside, port, None, now)
                .map(|external| SocketAddr::new(WRONG_ADDRESS, external.port())),
        };
        let mappings = external.map(|external| PortMapping {
            base: Host::base(),
            external,
            protocol: GatewayProtocol::Upnp,
        });
        host.node
            .set_port_mappings(mappings.into_iter().collect(), now);
    }
}

fn view(nat: &NatBox, gateway: Option<Gateway>) -> GatewayView {
    let external_ip = gateway.map(|gateway| match gateway {
        Gateway::WrongExternalAddress => WRONG_ADDRESS,
        Gateway::Honest
        | Gateway::Refuses
        | Gateway::LiesAboutSuccess
        | Gateway::Forgets { .. } => nat.outside(),
    });
    GatewayView {
        pcp: Some(false),
        nat_pmp: Some(false),
        upnp: Some(gateway.is_some()),
        external_ip,
    }
}

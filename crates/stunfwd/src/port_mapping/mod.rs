//! Port mappings at our own router, in the words of [`session`].
//!
//! The asking, renewing and giving back is crate `portmap`'s; whether a mapping works is for the session to find out, from
//! outside. Here the two meet.

use std::net::SocketAddr;
use std::time::Duration;

use session::{GatewayProtocol, GatewayView, PortMapping};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::info;

/// Events that wait for the driver.
const EVENTS_MAX: usize = 16;

/// What the router has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortMapperEvent {
    /// What it speaks, and its outside address.
    Gateway(GatewayView),
    /// Everything it claims to forward to us; none of it is verified.
    Mappings(Vec<PortMapping>),
}

/// The mappings of our sockets. Dropped, it gives them back in the background.
#[derive(Debug)]
pub(crate) struct PortMapper {
    inner: portmap::PortMapper,
}

impl PortMapper {
    /// Starts asking for a mapping to each of the sockets, as bound, with tasks of this runtime, which must not be the
    /// data thread's.
    pub(crate) fn spawn(
        runtime: &Handle,
        bases: &[SocketAddr],
        events_tx: mpsc::Sender<PortMapperEvent>,
    ) -> Self {
        let (inner_tx, inner_rx) = mpsc::channel(EVENTS_MAX);
        runtime.spawn(translate(inner_rx, events_tx));
        Self {
            inner: portmap::PortMapper::spawn(runtime, bases, inner_tx),
        }
    }

    /// Says that a mapping does not work: it is made again elsewhere, a few times.
    pub(crate) fn refuted(&self, external: SocketAddr) {
        self.inner.refuted(external);
    }

    /// Gives every mapping back, in at most 1.5 s.
    pub(crate) async fn release(self) {
        self.inner.release().await;
    }
}

async fn translate(
    mut inner_rx: mpsc::Receiver<portmap::PortMapperEvent>,
    events_tx: mpsc::Sender<PortMapperEvent>,
) {
    while let Some(event) = inner_rx.recv().await {
        let event = match event {
            portmap::PortMapperEvent::Presence(presence) => {
                PortMapperEvent::Gateway(gateway_view(presence))
            }
            portmap::PortMapperEvent::Mappings(mappings) => {
                PortMapperEvent::Mappings(mappings.into_iter().map(port_mapping).collect())
            }
            portmap::PortMapperEvent::GaveUp(mapping) => {
                info!(
                    protocol = %mapping.protocol,
                    "the router says that it forwards a port, and does not: it is not asked again until the network changes"
                );
                continue;
            }
            // The enum may grow.
            _ => continue,
        };
        if events_tx.send(event).await.is_err() {
            return;
        }
    }
}

/// Returns what the default gateways speak, in the session's words.
pub(crate) const fn gateway_view(presence: portmap::Presence) -> GatewayView {
    GatewayView {
        pcp: presence.pcp,
        nat_pmp: presence.nat_pmp,
        upnp: presence.upnp,
        external_ip: presence.external_ip,
    }
}

/// How long a gateway may take that is only asked what it speaks, while a person waits: as long as the classification of a
/// NAT takes on a clean network. It is one hop away, and small routers take a second for HTTP.
const GLANCE: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

/// Asks the default gateways what they speak, and for nothing else; it takes 1.4 s, and 3 s where one is slow.
pub(crate) async fn probe_presence() -> GatewayView {
    let gateways = portmap::Gateways::of_system();
    let timing = portmap::Timing {
        attempts: GLANCE.into(),
        search: GLANCE.iter().sum(),
        http: Duration::from_millis(1500),
        ..portmap::Timing::default()
    };
    gateway_view(portmap::probe_presence(&gateways, &timing).await)
}

const fn port_mapping(mapping: portmap::Mapping) -> PortMapping {
    PortMapping {
        base: mapping.base,
        external: mapping.external,
        protocol: match mapping.protocol {
            portmap::Protocol::Pcp => GatewayProtocol::Pcp,
            portmap::Protocol::NatPmp => GatewayProtocol::NatPmp,
            portmap::Protocol::Upnp => GatewayProtocol::Upnp,
        },
    }
}

//! What a prober is told.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How to probe.
#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// STUN servers, best first. At most four are used, and only those of the socket's address family: two
    /// with an alternate address tell everything, and each one more costs a binding in the NAT. Default: none.
    pub servers: Vec<SocketAddr>,
    /// The IP addresses of this machine, for telling whether there is a NAT when the socket is bound to the
    /// unspecified address. Default: none.
    pub local_addresses: Vec<IpAddr>,
    /// How often the binding is refreshed and watched. Default: 15 s, half of the shortest timeouts seen in the
    /// field (RFC 4787, REQ-5, asks for 2 min). Raising it loses bindings, lowering it costs batteries.
    pub keepalive: Duration,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            local_addresses: Vec::new(),
            keepalive: Duration::from_secs(15),
        }
    }
}

//! Which machines a lab has, and how they are joined.
//!
//! ```text
//!  a   a2                                             b   b2
//!   └─┬─┘                                              └─┬─┘
//!     ra ──── (carrier a) ──── inet ──── (carrier b) ──── rb
//!                                │
//!                               pub   203.0.113.10, 203.0.113.11
//! ```
//!
//! Both homes may also lie behind one carrier's NAT: `ra` and `rb` are joined to it, and it to `inet`.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use natlab::{Behavior, Filtering, Gateway};
use tempfile::TempDir;

use super::{construction::Construction, host::Host, nat::Nat, world};

/// The first public address: HTTP, and the main STUN address.
pub const PUBLIC_ONE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The second public address, for the mapping and filtering tests of RFC 5780.
pub const PUBLIC_TWO: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
/// The first public address of a lab with IPv6.
pub const PUBLIC_ONE_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// The second public address of a lab with IPv6.
pub const PUBLIC_TWO_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);
pub(super) const PUBLIC_GATEWAY_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(super) const PUBLIC_GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The last octet of `a` and `b` in a private home network; `a2` and `b2` follow.
const PRIVATE_HOST: u8 = 10;

/// One home: its router's NAT, its private network, and perhaps a carrier's NAT in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    pub(super) nat: Nat,
    pub(super) carrier: Option<Nat>,
    pub(super) subnet: Option<u8>,
    pub(super) udp_timeout: Option<Duration>,
    pub(super) wan_firewall: bool,
    pub(super) ipv6: bool,
    pub(super) gateway: bool,
}

/// A carrier's NAT that several homes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier {
    /// What it does.
    pub nat: Nat,
    /// Whether its customers reach each other by their outside addresses (RFC 6888, REQ-1).
    pub hairpin: bool,
}

impl Home {
    /// A home whose router does `nat`.
    pub const fn behind(nat: Nat) -> Self {
        Self {
            nat,
            carrier: None,
            subnet: None,
            udp_timeout: None,
            wan_firewall: true,
            ipv6: false,
            gateway: false,
        }
    }

    /// Gives the home IPv6 beside IPv4, with a router that lets only answers in (RFC 6092). Not together with a carrier.
    #[must_use]
    pub const fn with_ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// Says that the home's router opens ports when it is asked by UPnP, NAT-PMP or PCP. Whoever uses such a home starts
    /// the daemon on the router.
    #[must_use]
    pub const fn with_gateway(mut self) -> Self {
        self.gateway = true;
        self
    }

    /// Gives the home a router that takes packets nobody asked for instead of dropping them, as a plain Linux machine with
    /// masquerading does: its connection tracking then has an entry that the same flow outbound collides with.
    #[must_use]
    pub const fn without_wan_firewall(mut self) -> Self {
        self.wan_firewall = false;
        self
    }

    /// Puts a carrier's NAT in front of the home; between the two lies 100.64.0.0/10.
    #[must_use]
    pub const fn with_carrier(mut self, nat: Nat) -> Self {
        self.carrier = Some(nat);
        self
    }

    /// Uses 192.168.`subnet`.0/24 at home. By default home A has 192.168.1.0/24, home B 192.168.2.0/24; the hosts are .10
    /// and .11 in either, so two homes with one subnet have hosts of one address.
    #[must_use]
    pub const fn with_subnet(mut self, subnet: u8) -> Self {
        self.subnet = Some(subnet);
        self
    }

    /// Makes the home router forget a silent UDP mapping after `idle` (whole seconds).
    #[must_use]
    pub const fn with_udp_timeout(mut self, idle: Duration) -> Self {
        self.udp_timeout = Some(idle);
        self
    }

    /// What its router does.
    pub const fn nat(&self) -> Nat {
        self.nat
    }

    /// What the carrier in front of it does, if it has one.
    pub const fn carrier(&self) -> Option<Nat> {
        self.carrier
    }

    /// Whether its router drops what nobody asked for.
    pub const fn has_wan_firewall(&self) -> bool {
        self.wan_firewall
    }

    /// Whether it has IPv6 too.
    pub const fn has_ipv6(&self) -> bool {
        self.ipv6
    }

    /// Whether its router opens ports when it is asked.
    pub const fn has_gateway(&self) -> bool {
        self.gateway
    }

    /// What the internet sees of it, in the words of the oracle: the worse of router and carrier.
    pub fn behavior(&self) -> Behavior {
        let mut router = self.nat.behavior();
        if !self.wan_firewall {
            router = router.without_wan_firewall();
        }
        if self.ipv6 {
            router = router.with_ipv6(Filtering::AddressAndPortDependent);
        }
        if self.gateway {
            router = router.with_gateway(Gateway::Honest);
        }
        self.carrier
            .map_or(router, |carrier| router.behind(&carrier.behavior()))
    }
}

/// The addresses of one home, worked out from its description.
pub(super) struct Plan {
    pub(super) home: Home,
    pub(super) has_carrier: bool,
    /// Prefix of the network between `inet` and the home: `inet` is .1, the home's edge .2.
    pub(super) outside: [u8; 3],
    pub(super) carrier_net: [u8; 3],
    /// Last octet of the router in its carrier's network.
    pub(super) carrier_host: u8,
    pub(super) lan_prefix: [u8; 3],
    pub(super) lan_len: u8,
    /// Last octets of the router and the two hosts.
    pub(super) lan_router: u8,
    pub(super) lan_hosts: [u8; 2],
    /// Third group of its IPv6 addresses.
    prefix_6: u16,
}

pub(super) fn at([a, b, c]: [u8; 3], d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

impl Plan {
    /// A home of its own, or one that shares its carrier with the other one.
    pub(super) fn new(home: Home, side: u8, shared: bool) -> Self {
        let outside = if side == 0 || shared {
            [198, 51, 100]
        } else {
            [192, 0, 2]
        };
        let has_carrier = shared || home.carrier.is_some();
        // Without any translation on the way the hosts themselves are public: the upper half of the outside network.
        let public = home.nat.is_routed() && !has_carrier;
        let subnet = home.subnet.unwrap_or(side + 1);
        Self {
            home,
            outside,
            has_carrier,
            carrier_net: [100, 64, if shared { 0 } else { side }],
            carrier_host: if shared { 2 + side } else { 2 },
            lan_prefix: if public { outside } else { [192, 168, subnet] },
            lan_len: if public { 25 } else { 24 },
            lan_router: if public { 129 } else { 1 },
            lan_hosts: if public {
                [130, 131]
            } else {
                [PRIVATE_HOST, PRIVATE_HOST + 1]
            },
            prefix_6: 0xa + u16::from(side),
        }
    }

    pub(super) fn edge(&self) -> Ipv4Addr {
        at(self.outside, 2)
    }

    pub(super) fn router_wan(&self) -> Ipv4Addr {
        if self.has_carrier {
            at(self.carrier_net, self.carrier_host)
        } else {
            self.edge()
        }
    }

    pub(super) fn lan_network(&self) -> String {
        format!(
            "{}/{}",
            at(self.lan_prefix, self.lan_router & 0x80),
            self.lan_len
        )
    }

    /// The IPv6 prefix of the home: subnet 0 lies between the internet and its router, subnet 1 is the LAN.
    pub(super) fn at_6(&self, subnet: u16, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, self.prefix_6, subnet, 0, 0, 0, host)
    }

    /// The route that the machine in front of the router needs when the router does not translate.
    pub(super) fn route_to_lan(&self) -> String {
        if self.home.nat.is_routed() {
            format!(
                "route add {} via {}\n",
                self.lan_network(),
                self.router_wan()
            )
        } else {
            String::new()
        }
    }
}

/// A whole laboratory. Dropping it takes down what it made.
#[derive(Debug)]
pub struct Lab {
    pub(super) inet: Host,
    pub(super) public: Host,
    pub(super) homes: [HomeHosts; 2],
    pub(super) shared_carrier: Option<Host>,
    pub(super) names: Vec<String>,
    pub(super) folder: Option<TempDir>,
}

#[derive(Debug)]
pub(super) struct HomeHosts {
    pub(super) router: Host,
    pub(super) carrier: Option<Host>,
    pub(super) hosts: [Host; 2],
}

/// Numbers the labs of this process.
static BUILT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// Builds the lab: about 0.2 s.
    ///
    /// # Panics
    /// Outside [`super::test`], and when the kernel refuses any part of it, with what it said.
    pub fn new(a: Home, b: Home) -> Self {
        Self::build(a, b, None)
    }

    /// Builds a lab whose two homes are customers of one carrier; they have no other one.
    ///
    /// # Panics
    /// As [`Lab::new`], and when a home has a carrier of its own.
    pub fn behind_one_carrier(a: Home, b: Home, carrier: Carrier) -> Self {
        assert!(
            a.carrier.is_none() && b.carrier.is_none(),
            "a home has one carrier"
        );
        Self::build(a, b, Some(carrier))
    }

    fn build(a: Home, b: Home, shared: Option<Carrier>) -> Self {
        assert!(world::is_inside(), "a lab is built inside lab::test");
        let folder = tempfile::Builder::new().prefix("stunfwd-lab-").tempdir();
        let folder = folder.expect("a temporary folder can be made");
        let prefix = format!(
            "sf{}n{}",
            std::process::id(),
            BUILT.fetch_add(1, Ordering::Relaxed)
        );
        Construction::new(&prefix, folder.path().to_owned()).build([a, b], shared, folder)
    }

    /// The router in the middle.
    pub const fn inet(&self) -> &Host {
        &self.inet
    }

    /// The public machine, with [`PUBLIC_ONE`] and [`PUBLIC_TWO`].
    pub const fn public(&self) -> &Host {
        &self.public
    }

    /// Home A's first host.
    pub const fn a(&self) -> &Host {
        &self.homes[0].hosts[0]
    }

    /// Home A's second host.
    pub const fn a2(&self) -> &Host {
        &self.homes[0].hosts[1]
    }

    /// Home B's first host.
    pub const fn b(&self) -> &Host {
        &self.homes[1].hosts[0]
    }

    /// Home B's second host.
    pub const fn b2(&self) -> &Host {
        &self.homes[1].hosts[1]
    }

    /// Home A's router.
    pub const fn router_a(&self) -> &Host {
        &self.homes[0].router
    }

    /// Home B's router.
    pub const fn router_b(&self) -> &Host {
        &self.homes[1].router
    }

    /// The carrier's NAT in front of home A, if it has one.
    pub const fn carrier_a(&self) -> Option<&Host> {
        self.homes[0].carrier.as_ref()
    }

    /// The carrier's NAT in front of home B, if it has one.
    pub const fn carrier_b(&self) -> Option<&Host> {
        self.homes[1].carrier.as_ref()
    }

    /// The carrier's NAT that both homes are behind, if they share one.
    pub const fn shared_carrier(&self) -> Option<&Host> {
        self.shared_carrier.as_ref()
    }

    /// Keeps the folder of logs, captures and configurations when the lab is taken down, and returns it.
    ///
    /// # Panics
    /// Never: the folder lives as long as the lab.
    pub fn keep(&mut self) -> PathBuf {
        let folder = self.folder.as_mut();
        let folder = folder.expect("the folder lives as long as the lab");
        folder.disable_cleanup(true);
        folder.path().to_owned()
    }

    /// The folder of logs, captures and configurations; removed at the end, kept and named when the test fails.
    ///
    /// # Panics
    /// Never: the folder lives as long as the lab.
    pub fn folder(&self) -> &Path {
        self.folder
            .as_ref()
            .expect("the folder lives as long as the lab")
            .path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!(
                "lab: logs, captures and configurations are kept in {}",
                folder.keep().display()
            );
        }
        let mut batch = String::new();
        for name in &self.names {
            writeln!(batch, "netns del {name}").expect("a String takes it");
        }
        let mut command = Command::new("ip");
        command.args(["-force", "-batch", "-"]);
        if let Ok(mut child) = command.stdin(Stdio::piped()).spawn() {
            if let Some(mut stdin) = child.stdin.take() {
                let _ = stdin.write_all(batch.as_bytes());
            }
            let _ = child.wait();
        }
    }
}

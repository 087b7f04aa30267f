//! Routers that open ports when they are asked: a real miniupnpd on a router of the lab, and one that lies.
//!
//! [`Miniupnpd`] speaks UPnP IGD, NAT-PMP and PCP, as a home router does; it comes with Debian's package `miniupnpd`.
//! [`lie`] starts a gateway of `lab-tool` that grants everything and forwards nothing.

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::{
    lab::{Host, Lab},
    process::Process,
    tool, wait,
};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(5);

/// Numbers the daemons of this process, so that each has files of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// One of the lab's homes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Home A.
    A,
    /// Home B.
    B,
}

impl Side {
    const fn router(self, lab: &Lab) -> &Host {
        match self {
            Self::A => lab.router_a(),
            Self::B => lab.router_b(),
        }
    }

    /// The interface of the router in the middle toward this home.
    const fn port(self) -> &'static str {
        match self {
            Self::A => "home-a",
            Self::B => "home-b",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// The router's address at home.
    pub const fn lan(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, self.number(), 1)
    }
}

/// What a miniupnpd answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// All three.
    Everything,
    /// PCP, as a router without UPnP does, whose NAT-PMP is filtered away.
    Pcp,
    /// NAT-PMP, the same with PCP.
    NatPmp,
    /// UPnP IGD.
    Upnp,
}

/// A running miniupnpd.
#[derive(Debug)]
pub struct Miniupnpd<'a> {
    router: &'a Host,
    outside: Ipv4Addr,
    process: Process,
}

impl<'a> Miniupnpd<'a> {
    /// Starts it on the router of a home with the network 192.168.1.0/24 (A) or 192.168.2.0/24 (B), whose outside address
    /// it changes, and waits until it listens. No lease is longer than `lifetime_max_secs`.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn start(lab: &'a Lab, side: Side, speaks: Speaks, lifetime_max_secs: u32) -> Self {
        let router = side.router(lab);
        let outside = give_public_address(lab, side);
        router.nft(CHAINS);
        match speaks {
            Speaks::Pcp => router.nft(&unheard(0)),
            Speaks::NatPmp => router.nft(&unheard(2)),
            Speaks::Everything | Speaks::Upnp => {}
        }
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| router.folder().join(format!("miniupnpd-{number}.{kind}"));
        let yes = |condition: bool| if condition { "yes" } else { "no" };
        let (upnp, control) = (
            yes(matches!(speaks, Speaks::Everything | Speaks::Upnp)),
            yes(speaks != Speaks::Upnp),
        );
        let net = Ipv4Addr::new(192, 168, side.number(), 0);
        let config = format!(
            "ext_ifname=wan\nlistening_ip=lan\nhttp_port=0\nipv6_disable=yes\nsecure_mode=yes\n\
             enable_upnp={upnp}\nenable_natpmp={control}\n\
             min_lifetime=2\nmax_lifetime={lifetime_max_secs}\nsystem_uptime=no\n\
             upnp_table_name=miniupnpd\nupnp_nat_table_name=miniupnpd\n\
             uuid=5a9c6f2e-9d1f-4c5e-8a44-{number:012}\n\
             allow 1024-65535 {net}/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
        );
        let config_file = file("conf");
        fs::write(&config_file, config).expect("the configuration can be written");
        let [config_file, pid_file] = [config_file, file("pid")].map(|it| it.display().to_string());
        let args = ["-d", "-f", &config_file, "-P", &pid_file];
        let process = router.spawn(program(), &args, &[]);
        let listens = if speaks == Speaks::Upnp {
            "HTTP listening on port"
        } else {
            "Listening for NAT-PMP/PCP traffic"
        };
        wait::until(START, "miniupnpd to listen", || {
            process.stderr().contains(listens)
        });
        Self {
            router,
            outside,
            process,
        }
    }

    /// The outside address of its router.
    pub const fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// Everything it has said so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// The rules by which it forwards ports now, one for each.
    pub fn forwarded(&self) -> Vec<String> {
        let chain = ["list", "chain", "inet", "miniupnpd", "prerouting_miniupnpd"];
        let rules = self.router.run("nft", &chain);
        rules
            .lines()
            .filter(|line| line.contains("dnat"))
            .map(|line| line.trim().to_owned())
            .collect()
    }
}

/// The chains that miniupnpd fills, as its package makes them; and the lab's own chain lets in what was forwarded.
const CHAINS: &str = "table inet miniupnpd {\n\
    chain forward {\n type filter hook forward priority 0; policy accept; jump miniupnpd\n}\n\
    chain prerouting {\n type nat hook prerouting priority -100; policy accept; jump prerouting_miniupnpd\n}\n\
    chain postrouting {\n type nat hook postrouting priority 90; policy accept; jump postrouting_miniupnpd\n}\n\
    chain miniupnpd {\n}\nchain prerouting_miniupnpd {\n}\nchain postrouting_miniupnpd {\n}\n}\n\
    insert rule ip lab forward ct status dnat accept\n";

/// Rules under which one of the two protocols of port 5351 is never heard: their first byte is the version.
fn unheard(version: u8) -> String {
    format!(
        "table inet unheard {{\nchain input {{\n type filter hook input priority -10; policy accept;\n \
         udp dport 5351 @th,64,8 {version} drop\n}}\n}}\n"
    )
}

/// Gives a router an outside address that miniupnpd takes for a public one: it refuses to work with those that are for
/// documentation, as all of the lab's are. Nothing leaves the lab's namespaces.
fn give_public_address(lab: &Lab, side: Side) -> Ipv4Addr {
    let net = [25, 0, side.number()];
    let address = |last: u8| Ipv4Addr::new(net[0], net[1], net[2], last);
    let (above, outside) = (address(1).to_string(), address(2));
    let ip = |host: &Host, args: &str| {
        let args: Vec<&str> = args.split(' ').collect();
        host.run("ip", &args);
    };
    ip(
        lab.inet(),
        &format!("addr add {above}/24 dev {}", side.port()),
    );
    let router = side.router(lab);
    ip(router, "-4 addr flush dev wan");
    ip(router, &format!("addr add {outside}/24 dev wan"));
    ip(router, &format!("route add default via {above}"));
    outside
}

/// Starts a gateway on a home's router that grants every PCP and NAT-PMP request at the router's outside address, and
/// forwards nothing.
pub fn lie(lab: &Lab, side: Side) -> Process {
    let router = side.router(lab);
    let [at, outside] = [side.lan(), router.address()].map(|ip| ip.to_string());
    tool::serve_args(router, &["lying-gateway", &at, &outside])
}

/// Finds miniupnpd.
///
/// # Panics
/// When it is not installed: a test that did not run has proven nothing.
fn program() -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"];
    folders
        .into_iter()
        .map(|folder| PathBuf::from(folder).join("miniupnpd"))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!(
                "`miniupnpd` IS NOT INSTALLED, so this test has proven nothing: apt-get install miniupnpd"
            )
        })
}

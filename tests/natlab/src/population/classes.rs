//! Who is out there: the class tables of facts/nat-population.md, section 6, as data.
//!
//! Bold figures there are anchored in a source; the rest is assumption, to be varied. What that table does
//! not say (strides, block sizes, flows of others, lines) is here too, marked as ours.

/// A share of something, with its share.
pub(crate) type Shares<T> = &'static [(T, f64)];

/// One kind of place where a host may stand.
#[derive(Debug)]
pub struct Class {
    /// Its name in tables.
    pub name: &'static str,
    /// Whether addresses are translated.
    pub(crate) translates: bool,
    /// Endpoint-independent, address-dependent, address-and-port-dependent mapping.
    pub(crate) mapping: [f64; 3],
    /// Endpoint-independent, address-dependent, address-and-port-dependent filtering.
    pub(crate) filtering: [f64; 3],
    /// Sequential, block, random ports of those that map per destination.
    pub(crate) moving_ports: [f64; 3],
    /// Preserving, block, random ports of those that do not (ours: homes keep ports, carriers have blocks).
    pub(crate) staying_ports: [f64; 3],
    /// Whether a port mapping works.
    pub(crate) port_mapping: f64,
    /// Whether UDP is blocked.
    pub(crate) udp_blocked: f64,
    /// Whether there is usable IPv6.
    pub(crate) ipv6: f64,
    /// Seconds until an idle binding goes.
    pub(crate) idle_secs: Shares<u16>,
    /// Whether bindings die at 60 s whatever is sent.
    pub(crate) absolute_60_secs: f64,
    /// Flows of others per second, at most (ours).
    pub(crate) other_flows_max: u16,
    /// Bindings that one host may have (ours: what carriers grant a customer).
    pub(crate) bindings_max: Option<u16>,
    /// Outside addresses (ours); paired, as the table assumes.
    pub(crate) addresses: u8,
    /// Milliseconds one way from the host to the internet, least and most (ours).
    pub(crate) line_ms: (u16, u16),
}

/// Sizes of port blocks (section 2: Juniper's defaults 128 and 256, TNSR's 1,000; the shares are ours).
pub(crate) const BLOCK_SIZES: Shares<u16> = &[(128, 0.4), (256, 0.25), (512, 0.15), (1_000, 0.2)];
/// Steps of NATs that count (ours: those of the kernel laboratory).
pub(crate) const STRIDES: Shares<u16> = &[(1, 0.8), (2, 0.2)];
/// Percent of packets that the internet between two hosts loses (ours).
pub(crate) const LOSSES: Shares<u32> = &[(0, 0.7), (1, 0.25), (3, 0.05)];
/// Of the homes whose gateway is of no use: those that refuse, that lie, and that tell a wrong address (ours).
pub(crate) const BAD_GATEWAYS: [f64; 3] = [0.03, 0.02, 0.02];
/// Homes that turn packets round (section 1: 24 %).
pub(crate) const HAIRPIN: f64 = 0.24;
/// Routers without a WAN firewall (ours).
pub(crate) const NO_WAN_FIREWALL: f64 = 0.05;

/// A home with its own router.
pub const HOME: Class = Class {
    name: "home",
    translates: true,
    mapping: [0.975, 0.005, 0.02],
    filtering: [0.10, 0.10, 0.80],
    moving_ports: [0.45, 0.0, 0.55],
    staying_ports: [0.8, 0.0, 0.2],
    port_mapping: 0.35,
    udp_blocked: 0.01,
    ipv6: 0.48,
    idle_secs: &[
        (30, 0.10),
        (60, 0.20),
        (120, 0.30),
        (180, 0.25),
        (300, 0.15),
    ],
    absolute_60_secs: 0.0,
    other_flows_max: 5,
    bindings_max: None,
    addresses: 1,
    line_ms: (3, 15),
};

/// A home behind its provider's NAT.
pub const FIXED_CGN: Class = Class {
    name: "fixed CGN",
    translates: true,
    mapping: [0.89, 0.02, 0.09],
    filtering: [0.30, 0.15, 0.55],
    moving_ports: [0.20, 0.50, 0.30],
    staying_ports: [0.0, 0.7, 0.3],
    port_mapping: 0.0,
    udp_blocked: 0.01,
    ipv6: 0.45,
    idle_secs: &[(30, 0.40), (60, 0.35), (120, 0.15), (300, 0.10)],
    absolute_60_secs: 0.0,
    other_flows_max: 20,
    bindings_max: Some(1_000),
    addresses: 4,
    line_ms: (5, 20),
};

/// A telephone.
pub const CELLULAR: Class = Class {
    name: "cellular",
    translates: true,
    mapping: [0.60, 0.02, 0.38],
    filtering: [0.20, 0.10, 0.70],
    moving_ports: [0.20, 0.45, 0.35],
    staying_ports: [0.0, 0.7, 0.3],
    port_mapping: 0.0,
    udp_blocked: 0.02,
    ipv6: 0.55,
    // A median of 65 s.
    idle_secs: &[(30, 0.20), (60, 0.30), (120, 0.40), (300, 0.10)],
    absolute_60_secs: 0.10,
    other_flows_max: 20,
    bindings_max: Some(1_000),
    addresses: 4,
    line_ms: (15, 40),
};

/// An office.
pub const CORPORATE: Class = Class {
    name: "corporate",
    translates: true,
    mapping: [0.30, 0.05, 0.65],
    filtering: [0.02, 0.05, 0.93],
    moving_ports: [0.20, 0.0, 0.80],
    staying_ports: [0.5, 0.0, 0.5],
    port_mapping: 0.02,
    udp_blocked: 0.25,
    ipv6: 0.20,
    idle_secs: &[(30, 0.5), (60, 0.5)],
    absolute_60_secs: 0.0,
    other_flows_max: 20,
    bindings_max: None,
    addresses: 1,
    line_ms: (3, 12),
};

/// A virtual machine behind its provider's NAT gateway.
pub const CLOUD: Class = Class {
    name: "cloud NAT",
    translates: true,
    mapping: [0.05, 0.0, 0.95],
    filtering: [0.0, 0.0, 1.0],
    moving_ports: [0.0, 0.3, 0.7],
    staying_ports: [0.0, 0.0, 1.0],
    port_mapping: 0.0,
    udp_blocked: 0.02,
    ipv6: 0.15,
    idle_secs: &[(30, 1.0)],
    absolute_60_secs: 0.0,
    other_flows_max: 0,
    bindings_max: None,
    addresses: 1,
    line_ms: (1, 3),
};

/// A public address and nothing before it.
pub const PUBLIC: Class = Class {
    name: "public",
    translates: false,
    mapping: [1.0, 0.0, 0.0],
    filtering: [1.0, 0.0, 0.0],
    moving_ports: [0.0, 0.0, 1.0],
    staying_ports: [1.0, 0.0, 0.0],
    port_mapping: 0.0,
    udp_blocked: 0.0,
    ipv6: 0.5,
    idle_secs: &[(300, 1.0)],
    absolute_60_secs: 0.0,
    other_flows_max: 0,
    bindings_max: None,
    addresses: 1,
    line_ms: (1, 3),
};

/// A public address behind the host's own firewall.
pub const HOST_FIREWALL: Class = Class {
    name: "host firewall",
    filtering: [0.0, 0.0, 1.0],
    udp_blocked: 0.02,
    ipv6: 0.4,
    idle_secs: &[(30, 0.25), (60, 0.25), (120, 0.25), (180, 0.25)],
    ..PUBLIC
};

/// Who meets whom.
#[derive(Debug)]
pub struct Mix {
    /// Its name on the command line.
    pub name: &'static str,
    /// The end that listens: the person's own machine.
    pub(crate) ingress: Shares<&'static Class>,
    /// The end that has the services.
    pub(crate) egress: Shares<&'static Class>,
    /// Percent of pairs that become direct by levels S1, S2, S3 and S5 of the model there, with its
    /// reliabilities: plain over IPv4, with IPv6, with port mappings, with everything.
    pub modelled: [f64; 4],
    /// Percent that its tables allow when every technique works (issue 4).
    pub promised: f64,
}

const HOMES: Shares<&'static Class> = &[(&HOME, 0.80), (&FIXED_CGN, 0.18), (&HOST_FIREWALL, 0.02)];
const ANYBODY: Shares<&'static Class> = &[
    (&HOME, 0.50),
    (&FIXED_CGN, 0.15),
    (&CELLULAR, 0.15),
    (&CORPORATE, 0.12),
    (&CLOUD, 0.03),
    (&PUBLIC, 0.02),
    (&HOST_FIREWALL, 0.03),
];

/// The mixes for which a figure is promised.
pub const MIXES: [Mix; 4] = [
    Mix {
        name: "home-home",
        ingress: HOMES,
        egress: HOMES,
        modelled: [89.4, 91.2, 93.9, 96.5],
        promised: 97.9,
    },
    Mix {
        name: "home-roaming",
        ingress: &[
            (&HOME, 0.40),
            (&FIXED_CGN, 0.10),
            (&CELLULAR, 0.35),
            (&CORPORATE, 0.12),
            (&PUBLIC, 0.03),
        ],
        egress: &[(&HOME, 0.78), (&FIXED_CGN, 0.18), (&HOST_FIREWALL, 0.04)],
        modelled: [73.3, 77.6, 82.5, 92.4],
        promised: 94.1,
    },
    Mix {
        name: "home-mobile",
        ingress: &[(&CELLULAR, 1.0)],
        egress: &[(&HOME, 0.80), (&FIXED_CGN, 0.20)],
        modelled: [63.6, 72.1, 78.5, 94.1],
        promised: 96.2,
    },
    Mix {
        name: "internet",
        ingress: ANYBODY,
        egress: ANYBODY,
        modelled: [66.2, 70.2, 74.9, 87.5],
        promised: 89.4,
    },
];

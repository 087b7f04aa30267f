//! What a box between a site and the internet does, as a point in the space of RFC 4787.

use std::time::Duration;

/// How the outside address of one inside socket depends on whom it talks to (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mapping {
    /// Addresses are not translated at all.
    Untranslated,
    /// One outside address for all destinations.
    EndpointIndependent,
    /// One per destination address.
    AddressDependent,
    /// One per destination address and port.
    AddressAndPortDependent,
}

impl Mapping {
    /// Returns whether everybody sees the same address: that of the STUN server is good for the peer.
    #[must_use]
    pub const fn stays_put(self) -> bool {
        matches!(self, Self::Untranslated | Self::EndpointIndependent)
    }
}

/// Who may answer (RFC 4787, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtering {
    /// Everybody who knows the address.
    EndpointIndependent,
    /// An IP address that was written to.
    AddressDependent,
    /// An IP address and port that was written to.
    AddressAndPortDependent,
}

/// How outside ports are chosen (RFC 4787, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortAllocation {
    /// The inside port, where it is free; else a random one.
    Preserving,
    /// The port of the last binding plus `stride`.
    Sequential {
        /// At least 1.
        stride: u16,
    },
    /// Uniform from 1024 to 65535.
    Random,
}

/// How long a binding lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Without a packet that refreshes it.
    pub idle: Duration,
    /// Whether packets from outside refresh it too (RFC 4787, REQ-6 makes that optional).
    pub inbound_refreshes: bool,
    /// From its first packet, whatever is sent.
    pub absolute: Option<Duration>,
}

/// Which TCP connections may be opened to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpAccess {
    /// All.
    Anywhere,
    /// Those to these ports.
    Ports(&'static [u16]),
}

impl TcpAccess {
    /// Returns whether a connection to `port` may be opened.
    #[must_use]
    pub fn permits(self, port: u16) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Ports(ports) => ports.contains(&port),
        }
    }
}

/// Everything a box does to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behavior {
    /// Translation of addresses.
    pub mapping: Mapping,
    /// Who may answer.
    pub filtering: Filtering,
    /// Choice of outside ports.
    pub ports: PortAllocation,
    /// How long bindings live.
    pub lifetime: Lifetime,
    /// Whether an inside host reaches another (or itself) by its outside address (RFC 4787, REQ-9).
    pub hairpin: bool,
    /// Whether the box itself takes packets that belong to no binding, as a router without a WAN firewall
    /// does: its connection tracking confirms them, and the same flow outbound must then take another port.
    pub accepts_unsolicited: bool,
    /// Whether UDP passes.
    pub udp: bool,
    /// Which TCP connections pass.
    pub tcp: TcpAccess,
}

/// Of the shortest-lived bindings of home gateways (facts/nat-population.md, section 3).
const SHORTEST_IDLE: Duration = Duration::from_secs(30);

impl Behavior {
    /// No box at all: what is sent arrives.
    pub const OPEN: Self = Self {
        mapping: Mapping::Untranslated,
        filtering: Filtering::EndpointIndependent,
        ports: PortAllocation::Preserving,
        lifetime: Lifetime {
            idle: SHORTEST_IDLE,
            inbound_refreshes: false,
            absolute: None,
        },
        hairpin: false,
        accepts_unsolicited: false,
        udp: true,
        tcp: TcpAccess::Anywhere,
    };

    /// Makes a NAT of the three behaviours; for the rest it is the least helpful one allowed: bindings of
    /// 30 s that only outbound packets refresh, no hairpin.
    #[must_use]
    pub const fn nat(mapping: Mapping, filtering: Filtering, ports: PortAllocation) -> Self {
        Self {
            mapping,
            filtering,
            ports,
            ..Self::OPEN
        }
    }

    /// The same, with hairpin.
    #[must_use]
    pub const fn with_hairpin(self) -> Self {
        Self {
            hairpin: true,
            ..self
        }
    }

    /// The same, with bindings that live as told.
    #[must_use]
    pub const fn with_lifetime(self, lifetime: Lifetime) -> Self {
        Self { lifetime, ..self }
    }

    /// The same on a router without a WAN firewall.
    #[must_use]
    pub const fn without_wan_firewall(self) -> Self {
        Self {
            accepts_unsolicited: true,
            ..self
        }
    }

    /// Returns whether the box keeps nothing and changes nothing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.mapping == Mapping::Untranslated && self.filtering == Filtering::EndpointIndependent
    }

    /// Returns what the internet sees of this box behind `outer`, a carrier's: the worse of the two in
    /// everything. The outer box sees one socket per binding of the inner one.
    #[must_use]
    pub fn behind(&self, outer: &Self) -> Self {
        let ports = match outer.ports {
            PortAllocation::Preserving => self.ports,
            PortAllocation::Sequential { .. } | PortAllocation::Random => outer.ports,
        };
        let tcp = match outer.tcp {
            TcpAccess::Anywhere => self.tcp,
            TcpAccess::Ports(_) => outer.tcp,
        };
        Self {
            mapping: self.mapping.max(outer.mapping),
            filtering: self.filtering.max(outer.filtering),
            ports,
            lifetime: Lifetime {
                idle: self.lifetime.idle.min(outer.lifetime.idle),
                inbound_refreshes: self.lifetime.inbound_refreshes
                    && outer.lifetime.inbound_refreshes,
                absolute: [self.lifetime.absolute, outer.lifetime.absolute]
                    .into_iter()
                    .flatten()
                    .min(),
            },
            hairpin: outer.hairpin,
            accepts_unsolicited: self.accepts_unsolicited || outer.accepts_unsolicited,
            udp: self.udp && outer.udp,
            tcp,
        }
    }
}

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
    /// Uniform from the ports of one block that belongs to the inside host, as carriers do that want to log
    /// little; a full block is followed by another.
    Block {
        /// How many ports; blocks lie side by side from 1024 on.
        size: u16,
    },
    /// Uniform from 1024 to 65535.
    Random,
}

/// How a box with several outside addresses picks one (RFC 4787, REQ-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// One inside host always has the same.
    Paired,
    /// Each binding has any of them.
    Arbitrary,
}

/// The outside addresses of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// How many; at least 1.
    pub addresses: u8,
    /// Who gets which.
    pub pooling: Pooling,
}

impl Pool {
    /// One address, as every home has it.
    pub const ONE: Self = Self {
        addresses: 1,
        pooling: Pooling::Paired,
    };

    /// Returns whether two bindings of one host may lie at two addresses.
    #[must_use]
    pub const fn scatters(self) -> bool {
        self.addresses > 1 && matches!(self.pooling, Pooling::Arbitrary)
    }
}

/// What a box refuses to do for one inside host; `None` has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Bindings at a time: a packet that needs one more is dropped.
    pub bindings: Option<u16>,
    /// Packets to the outside within any second: those above it are dropped.
    pub packets_per_second: Option<u16>,
}

/// A router that is asked for port mappings (UPnP IGD, NAT-PMP or PCP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Does what it says.
    Honest,
    /// Answers, and grants nothing.
    Refuses,
    /// Says that the mapping is made, and makes none.
    LiesAboutSuccess,
    /// Makes the mapping, and tells an outside address that is not its own.
    WrongExternalAddress,
    /// Makes the mapping, and forgets it while its lease runs.
    Forgets {
        /// How long it lasts.
        after: Duration,
    },
}

impl Gateway {
    /// Returns whether a peer gets in by what it says it has mapped.
    #[must_use]
    pub const fn is_of_use(self) -> bool {
        match self {
            Self::Honest | Self::Forgets { .. } => true,
            Self::Refuses | Self::LiesAboutSuccess | Self::WrongExternalAddress => false,
        }
    }
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
    /// The outside addresses.
    pub pool: Pool,
    /// What one inside host may have.
    pub limits: Limits,
    /// New flows per second of others behind the same box, which take the next ports of one that counts.
    pub other_flows: u16,
    /// Whether the site has IPv6, and then what the firewall in front of it lets in.
    pub ipv6: Option<Filtering>,
    /// What answers requests for port mappings.
    pub gateway: Option<Gateway>,
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
        pool: Pool::ONE,
        limits: Limits {
            bindings: None,
            packets_per_second: None,
        },
        other_flows: 0,
        ipv6: None,
        gateway: None,
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

    /// The same with IPv6, behind a firewall that filters so.
    #[must_use]
    pub const fn with_ipv6(self, firewall: Filtering) -> Self {
        Self {
            ipv6: Some(firewall),
            ..self
        }
    }

    /// The same with a gateway that is asked for port mappings.
    #[must_use]
    pub const fn with_gateway(self, gateway: Gateway) -> Self {
        Self {
            gateway: Some(gateway),
            ..self
        }
    }

    /// The same with several outside addresses.
    #[must_use]
    pub const fn with_pool(self, addresses: u8, pooling: Pooling) -> Self {
        let pool = Pool { addresses, pooling };
        Self { pool, ..self }
    }

    /// The same with others at home, who open this many flows a second.
    #[must_use]
    pub const fn with_other_flows(self, per_second: u16) -> Self {
        Self {
            other_flows: per_second,
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
            PortAllocation::Sequential { .. }
            | PortAllocation::Block { .. }
            | PortAllocation::Random => outer.ports,
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
            pool: outer.pool,
            limits: Limits {
                bindings: least(self.limits.bindings, outer.limits.bindings),
                packets_per_second: least(
                    self.limits.packets_per_second,
                    outer.limits.packets_per_second,
                ),
            },
            other_flows: self.other_flows.saturating_add(outer.other_flows),
            ipv6: self.ipv6,
            // The inner one maps to an address of the carrier's, which is of no use outside.
            gateway: None,
        }
    }
}

fn least(one: Option<u16>, other: Option<u16>) -> Option<u16> {
    [one, other].into_iter().flatten().min()
}

/// In a word each: what tells boxes apart, for a line in a list.
impl std::fmt::Display for Behavior {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dependence = |mapping| match mapping {
            Mapping::Untranslated => "none",
            Mapping::EndpointIndependent => "EI",
            Mapping::AddressDependent => "AD",
            Mapping::AddressAndPortDependent => "APD",
        };
        let filter = |filtering| match filtering {
            Filtering::EndpointIndependent => "EI",
            Filtering::AddressDependent => "AD",
            Filtering::AddressAndPortDependent => "APD",
        };
        let (mapping, filtering) = (dependence(self.mapping), filter(self.filtering));
        write!(f, "{mapping}M/{filtering}F ")?;
        match self.ports {
            PortAllocation::Preserving => write!(f, "preserving")?,
            PortAllocation::Sequential { stride } => write!(f, "+{stride}")?,
            PortAllocation::Block { size } => write!(f, "block {size}")?,
            PortAllocation::Random => write!(f, "random")?,
        }
        if !self.udp {
            write!(f, ", no UDP")?;
        }
        if self.accepts_unsolicited {
            write!(f, ", no WAN firewall")?;
        }
        if self.other_flows > 0 {
            write!(f, ", {} flows/s of others", self.other_flows)?;
        }
        if let Some(filtering) = self.ipv6 {
            write!(f, ", IPv6 {}F", filter(filtering))?;
        }
        if let Some(gateway) = self.gateway {
            write!(f, ", gateway {gateway:?}")?;
        }
        let Lifetime { idle, absolute, .. } = self.lifetime;
        write!(f, ", {} s", idle.as_secs())?;
        if let Some(absolute) = absolute {
            write!(f, " and at most {} s", absolute.as_secs())?;
        }
        Ok(())
    }
}

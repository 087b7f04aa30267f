//! The kinds of NAT that a router of the lab can do, and what each is in the space of RFC 4787.

use natlab::{Behavior, Filtering, Mapping, NatKind, PortAllocation};

/// What a router does to the traffic of its home. The words are those of RFC 4787.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nat {
    /// Routed, public addresses, everything passes.
    None,
    /// Routed, public addresses, only answers come in.
    Firewall,
    /// Endpoint-independent mapping (ports kept) and filtering.
    FullCone,
    /// As [`Nat::FullCone`], with random outside ports: what a carrier should have (RFC 6888).
    FullConeRandom,
    /// Endpoint-independent mapping (ports kept), address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping (ports kept), address-and-port-dependent filtering: the usual home router.
    PortRestricted,
    /// As [`Nat::PortRestricted`], with random outside ports.
    PortRestrictedRandom,
    /// Address-dependent mapping with random outside ports, address-and-port-dependent filtering.
    SymmetricAddressDependent,
    /// Address-and-port-dependent mapping with sequential outside ports, and filtering of the same kind.
    SymmetricSequential,
    /// As [`Nat::SymmetricSequential`], every second port.
    SymmetricSequentialByTwo,
    /// Address-and-port-dependent mapping with random outside ports of one small block, as a carrier gives each customer.
    SymmetricBlock,
    /// Address-and-port-dependent mapping with random outside ports, and filtering of the same kind.
    Symmetric,
    /// Port-restricted for TCP; UDP does not pass.
    UdpBlocked,
    /// Only TCP to ports 80 and 443 passes.
    WebOnly,
}

/// How many ports the block of a [`Nat::SymmetricBlock`] has: within the sizes that carriers give out
/// (facts/nat-population.md, section 2).
pub(super) const BLOCK_PORTS: u16 = 512;

impl Nat {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::None,
        Self::Firewall,
        Self::FullCone,
        Self::FullConeRandom,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::PortRestrictedRandom,
        Self::SymmetricAddressDependent,
        Self::SymmetricSequential,
        Self::SymmetricSequentialByTwo,
        Self::SymmetricBlock,
        Self::Symmetric,
        Self::UdpBlocked,
        Self::WebOnly,
    ];

    /// Whether the hosts behind it have addresses of their own on the outside.
    pub const fn is_routed(self) -> bool {
        matches!(self, Self::None | Self::Firewall)
    }

    /// What it does, in the words of the oracle.
    pub const fn behavior(self) -> Behavior {
        let kind = match self {
            Self::None => NatKind::None,
            Self::Firewall => NatKind::Firewall,
            Self::FullCone => NatKind::FullCone,
            Self::FullConeRandom => {
                return Behavior::nat(
                    Mapping::EndpointIndependent,
                    Filtering::EndpointIndependent,
                    PortAllocation::Random,
                );
            }
            Self::AddressRestricted => NatKind::AddressRestricted,
            Self::PortRestricted => NatKind::PortRestricted,
            Self::PortRestrictedRandom => NatKind::PortRestrictedRandom,
            Self::SymmetricAddressDependent => NatKind::SymmetricAddressDependent,
            Self::SymmetricSequential => NatKind::SymmetricSequential,
            Self::SymmetricSequentialByTwo => {
                return symmetric(PortAllocation::Sequential { stride: 2 });
            }
            Self::SymmetricBlock => return symmetric(PortAllocation::Block { size: BLOCK_PORTS }),
            Self::Symmetric => NatKind::Symmetric,
            Self::UdpBlocked => NatKind::UdpBlocked,
            Self::WebOnly => NatKind::TcpOnly,
        };
        kind.behavior()
    }

    /// Its name on a command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Firewall => "firewall",
            Self::FullCone => "full-cone",
            Self::FullConeRandom => "full-cone-random",
            Self::AddressRestricted => "address-restricted",
            Self::PortRestricted => "port-restricted",
            Self::PortRestrictedRandom => "port-restricted-random",
            Self::SymmetricAddressDependent => "symmetric-address-dependent",
            Self::SymmetricSequential => "symmetric-sequential",
            Self::SymmetricSequentialByTwo => "symmetric-sequential-2",
            Self::SymmetricBlock => "symmetric-block",
            Self::Symmetric => "symmetric",
            Self::UdpBlocked => "udp-blocked",
            Self::WebOnly => "web-only",
        }
    }
}

const fn symmetric(ports: PortAllocation) -> Behavior {
    Behavior::nat(
        Mapping::AddressAndPortDependent,
        Filtering::AddressAndPortDependent,
        ports,
    )
}

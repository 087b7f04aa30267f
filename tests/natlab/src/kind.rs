//! The kinds of box that the kernel laboratory has too (facts/lab.md), by name.

use crate::behavior::{Behavior, Filtering, Mapping, PortAllocation, TcpAccess};

/// A named [`Behavior`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// A public address and nothing in front of it.
    None,
    /// A public address behind a stateful firewall.
    Firewall,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping, address-and-port-dependent filtering, ports kept: most homes.
    PortRestricted,
    /// The same with random outside ports.
    PortRestrictedRandom,
    /// A random port for every destination address.
    SymmetricAddressDependent,
    /// The next port for every destination.
    SymmetricSequential,
    /// A random port for every destination.
    Symmetric,
    /// No UDP at all.
    UdpBlocked,
    /// No UDP, and TCP to ports 80 and 443 only.
    TcpOnly,
}

impl NatKind {
    /// All kinds, in the order of the table in facts/lab.md.
    pub const ALL: [Self; 11] = [
        Self::None,
        Self::Firewall,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::PortRestrictedRandom,
        Self::SymmetricAddressDependent,
        Self::SymmetricSequential,
        Self::Symmetric,
        Self::UdpBlocked,
        Self::TcpOnly,
    ];

    /// Returns what a box of this kind does.
    #[must_use]
    pub const fn behavior(self) -> Behavior {
        use Filtering as F;
        use Mapping as M;
        use PortAllocation as P;
        match self {
            Self::None => Behavior::OPEN,
            Self::Firewall => Behavior {
                filtering: F::AddressAndPortDependent,
                ..Behavior::OPEN
            },
            Self::FullCone => Behavior::nat(
                M::EndpointIndependent,
                F::EndpointIndependent,
                P::Preserving,
            ),
            Self::AddressRestricted => {
                Behavior::nat(M::EndpointIndependent, F::AddressDependent, P::Preserving)
            }
            Self::PortRestricted => home(P::Preserving),
            Self::PortRestrictedRandom => home(P::Random),
            Self::SymmetricAddressDependent => {
                Behavior::nat(M::AddressDependent, F::AddressAndPortDependent, P::Random)
            }
            Self::SymmetricSequential => symmetric(P::Sequential { stride: 1 }),
            Self::Symmetric => symmetric(P::Random),
            Self::UdpBlocked => Behavior {
                udp: false,
                ..home(P::Preserving)
            },
            Self::TcpOnly => Behavior {
                udp: false,
                tcp: TcpAccess::Ports(&[80, 443]),
                ..home(P::Preserving)
            },
        }
    }

    /// Returns its name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Firewall => "firewall",
            Self::FullCone => "full-cone",
            Self::AddressRestricted => "addr-restr",
            Self::PortRestricted => "port-restr",
            Self::PortRestrictedRandom => "port-restr-rnd",
            Self::SymmetricAddressDependent => "sym-adm",
            Self::SymmetricSequential => "sym-seq",
            Self::Symmetric => "symmetric",
            Self::UdpBlocked => "udp-blocked",
            Self::TcpOnly => "tcp-only",
        }
    }
}

impl std::fmt::Display for NatKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

const fn home(ports: PortAllocation) -> Behavior {
    Behavior::nat(
        Mapping::EndpointIndependent,
        Filtering::AddressAndPortDependent,
        ports,
    )
}

const fn symmetric(ports: PortAllocation) -> Behavior {
    Behavior::nat(
        Mapping::AddressAndPortDependent,
        Filtering::AddressAndPortDependent,
        ports,
    )
}

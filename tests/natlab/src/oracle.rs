//! What is possible between two boxes, reasoned from their behaviours alone.
//!
//! Both ends know the other's server-reflexive address (signaling), send to it from the socket that was
//! probed, answer whatever arrives to where it came from, and begin with a low TTL, so that a router
//! without a WAN firewall is no obstacle. The rest is RFC 4787, and arithmetic for what is left to chance
//! (facts/nat-population.md, section 4).

use crate::behavior::{Behavior, Filtering, Gateway, Mapping, PortAllocation};

/// What a direct path between two hosts takes, the cheapest that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Possible {
    /// Nothing but to send at the same time and to answer what arrives.
    Plain,
    /// IPv6 on both sides, whose firewalls are opened from inside.
    Ipv6,
    /// A port mapping on either side.
    PortMapped,
    /// Guessing the next port of a NAT that counts.
    OnlyPredicted,
    /// Some sockets on one side and some probes from the other, since the ports lie in a block.
    OnlyBlock,
    /// Many sockets on one side and many probes from the other.
    OnlyBirthday,
    /// There is no way over UDP.
    No,
}

impl Possible {
    /// All, the cheapest first.
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::Ipv6,
        Self::PortMapped,
        Self::OnlyPredicted,
        Self::OnlyBlock,
        Self::OnlyBirthday,
        Self::No,
    ];

    /// Returns the letter that facts/lab.md uses; it has none for IPv6, port mappings and blocks.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Plain => 'P',
            Self::Ipv6 => '6',
            Self::PortMapped => 'M',
            Self::OnlyPredicted => 'p',
            Self::OnlyBlock => 'b',
            Self::OnlyBirthday => 'B',
            Self::No => '-',
        }
    }

    /// Returns whether there is a way at all.
    #[must_use]
    pub fn is_direct(self) -> bool {
        self != Self::No
    }
}

impl std::fmt::Display for Possible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Plain => "plain",
            Self::Ipv6 => "ipv6",
            Self::PortMapped => "port-mapped",
            Self::OnlyPredicted => "predicted",
            Self::OnlyBlock => "block",
            Self::OnlyBirthday => "birthday",
            Self::No => "none",
        })
    }
}

/// A window of 16 ports after a sample that is a tenth of a second old holds the next one for certain up to
/// this many ports taken by others a second (facts/lab.md: 50 flows a second were no obstacle, 200 were).
const OTHERS_MAX: u32 = 50;
/// In larger blocks 64 sockets and 128 probes find each other too seldom; then it is a birthday.
const BLOCK_MAX: u16 = 2_048;
/// With fewer bindings than this a round of 2,048 probes among all ports hits in less than seven of eight
/// cases, so that several rounds leave more than a few percent.
const BIRTHDAY_BINDINGS_MIN: u16 = 80;
/// A block of 128 needs eight sockets at least, beside what the program holds anyway.
const BLOCK_BINDINGS_MIN: u16 = 24;
/// Probes go to one address: of a pool so large at least 64 of 256 sockets lie there.
const POOL_MAX: u8 = 4;

/// Returns what a direct path between hosts behind two boxes takes; for a chain of boxes pass what
/// [`Behavior::behind`] makes of it.
#[must_use]
pub fn direct_is_possible(a: &Behavior, b: &Behavior) -> Possible {
    if !a.udp || !b.udp {
        return Possible::No;
    }
    if opens_with(a, b) || opens_with(b, a) {
        return Possible::Plain;
    }
    // A firewall without translation keeps nobody apart: each end sends to where the other is.
    if a.ipv6.is_some() && b.ipv6.is_some() {
        return Possible::Ipv6;
    }
    // Whoever is reached by everybody at one place is reached by this peer, wherever it sends from.
    if [a, b]
        .iter()
        .any(|end| end.gateway.is_some_and(Gateway::is_of_use))
    {
        return Possible::PortMapped;
    }
    // From here on at least one end moves, and what it sends is not let in from an unknown port.
    if is_findable(a) && is_findable(b) {
        return Possible::OnlyPredicted;
    }
    // Random ports are found by chance when the other end stays where it is: its probes open its own
    // filter for the very port that one of them hits. Two ends that move never meet.
    match (a.mapping.stays_put(), b.mapping.stays_put()) {
        (true, false) => by_chance(b),
        (false, true) => by_chance(a),
        (true, true) | (false, false) => Possible::No,
    }
}

/// Returns the same for two homes behind one carrier's NAT: their packets to each other's outside
/// addresses must turn round there.
#[must_use]
pub fn direct_is_possible_behind_one(a: &Behavior, b: &Behavior, carrier: &Behavior) -> Possible {
    let translated = !matches!(carrier.mapping, Mapping::Untranslated);
    let over_ipv6 = a.udp && b.udp && a.ipv6.is_some() && b.ipv6.is_some();
    if translated && !carrier.hairpin {
        return if over_ipv6 {
            Possible::Ipv6
        } else {
            Possible::No
        };
    }
    direct_is_possible(&a.behind(carrier), &b.behind(carrier))
}

/// Returns whether an exchange works whose first packet to arrive goes from `first` to `second`.
fn opens_with(first: &Behavior, second: &Behavior) -> bool {
    is_let_in(first, second) && answer_is_let_in(first, second)
}

/// Is a packet let in at the reflexive address of `receiver`, which has written to that of `sender`?
fn is_let_in(sender: &Behavior, receiver: &Behavior) -> bool {
    match receiver.filtering {
        Filtering::EndpointIndependent => true,
        // A receiver that moves has written to the sender from another binding than the one it is known by.
        Filtering::AddressDependent => receiver.mapping.stays_put() && !leaves_its_address(sender),
        Filtering::AddressAndPortDependent => {
            receiver.mapping.stays_put() && sender.mapping.stays_put()
        }
    }
}

/// Is the answer of `second` let in by `first`, and the one to that by `second`?
fn answer_is_let_in(first: &Behavior, second: &Behavior) -> bool {
    if second.mapping.stays_put() {
        // It comes from where the first packet went.
        return true;
    }
    // It comes from a new port of the known address; `first` then writes to that port, from a new port of
    // its own if it is bound by port. So is what `second` writes to that, then: two that are both bound by
    // port hear each other, each time from elsewhere, and never settle.
    let keeps = |end: &Behavior| end.mapping != Mapping::AddressAndPortDependent;
    let settles = keeps(first) || (keeps(second) && accepts_other_port(second, first));
    accepts_other_port(first, second) && settles
}

/// Does `receiver` let in a packet from another port of `sender` than the one it has written to?
fn accepts_other_port(receiver: &Behavior, sender: &Behavior) -> bool {
    match receiver.filtering {
        Filtering::EndpointIndependent => true,
        Filtering::AddressDependent => !leaves_its_address(sender),
        Filtering::AddressAndPortDependent => false,
    }
}

/// Does a new binding lie at another address than the last one?
const fn leaves_its_address(end: &Behavior) -> bool {
    end.pool.scatters() && !end.mapping.stays_put()
}

/// Can the port be told that a packet to the peer will come from?
fn is_findable(end: &Behavior) -> bool {
    if end.mapping.stays_put() {
        return true;
    }
    let counts = match end.ports {
        PortAllocation::Preserving => true,
        PortAllocation::Sequential { stride } => {
            u32::from(stride) * u32::from(end.other_flows) <= OTHERS_MAX
        }
        PortAllocation::Block { .. } | PortAllocation::Random => false,
    };
    counts && !leaves_its_address(end)
}

/// What does it take to hit one of the sockets of an end that moves?
fn by_chance(moving: &Behavior) -> Possible {
    let bindings = moving.limits.bindings.unwrap_or(u16::MAX);
    let in_block = matches!(moving.ports, PortAllocation::Block { size } if size <= BLOCK_MAX);
    if in_block && bindings >= BLOCK_BINDINGS_MIN && !leaves_its_address(moving) {
        return Possible::OnlyBlock;
    }
    let is_near = !leaves_its_address(moving) || moving.pool.addresses <= POOL_MAX;
    if is_near && bindings >= BIRTHDAY_BINDINGS_MIN {
        return Possible::OnlyBirthday;
    }
    Possible::No
}

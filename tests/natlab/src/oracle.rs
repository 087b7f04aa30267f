//! What is possible between two boxes, reasoned from their behaviours alone.
//!
//! Both ends know the other's server-reflexive address (signaling), send to it from the socket that was
//! probed, answer whatever arrives to where it came from, and begin with a low TTL, so that a router
//! without a WAN firewall is no obstacle. The rest is RFC 4787.

use crate::behavior::{Behavior, Filtering, Mapping, PortAllocation};

/// What a direct path between two hosts takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Possible {
    /// Nothing but to send at the same time and to answer what arrives.
    Plain,
    /// Guessing the next port of a NAT that counts.
    OnlyPredicted,
    /// Many sockets on one side and many probes from the other.
    OnlyBirthday,
    /// There is no way over UDP.
    No,
}

impl Possible {
    /// Returns the letter that facts/lab.md uses.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Plain => 'P',
            Self::OnlyPredicted => 'p',
            Self::OnlyBirthday => 'B',
            Self::No => '-',
        }
    }
}

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
    // From here on at least one end moves, and what it sends is not let in from an unknown port.
    let findable = |end: &Behavior| end.mapping.stays_put() || is_predictable(end);
    if findable(a) && findable(b) {
        return Possible::OnlyPredicted;
    }
    // Random ports are found by chance when the other end stays where it is: its probes open its own
    // filter for the very port that one of them hits. Two ends that move never meet.
    if a.mapping.stays_put() || b.mapping.stays_put() {
        return Possible::OnlyBirthday;
    }
    Possible::No
}

/// Returns the same for two homes behind one carrier's NAT: their packets to each other's outside
/// addresses must turn round there.
#[must_use]
pub fn direct_is_possible_behind_one(a: &Behavior, b: &Behavior, carrier: &Behavior) -> Possible {
    let translated = !matches!(carrier.mapping, Mapping::Untranslated);
    if translated && !carrier.hairpin {
        return Possible::No;
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
        Filtering::AddressDependent => receiver.mapping.stays_put(),
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
    // its own if it is bound by port.
    let first_accepts = first.filtering != Filtering::AddressAndPortDependent;
    let first_keeps = first.mapping != Mapping::AddressAndPortDependent;
    let second_accepts = second.filtering != Filtering::AddressAndPortDependent;
    first_accepts && (first_keeps || second_accepts)
}

/// Can the port of the next binding be told from the last ones?
const fn is_predictable(end: &Behavior) -> bool {
    match end.ports {
        PortAllocation::Preserving | PortAllocation::Sequential { .. } => true,
        PortAllocation::Random => false,
    }
}

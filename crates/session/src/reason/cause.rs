//! Why no direct path works.

use super::end::{End, Ends, Seen};
use crate::description::Side;
use crate::traversal::{LedgerEntry, Outcome};

/// Why no direct path works: one of a closed set, the same by both ends' judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It is too early to say.
    Trying,
    /// No STUN server has said yet what lies before these.
    Examining(Ends),
    /// These are configured with `direct: false`.
    Configured(Ends),
    /// No UDP leaves the networks of these.
    UdpBlocked(Ends),
    /// One end has IPv6 only, the other IPv4 only.
    NoCommonFamily {
        /// Who has IPv6 only.
        ipv6_only: Side,
    },
    /// Small packets pass between the ends, and those of 1,200 bytes do not.
    SmallPacketsOnly,
    /// Packets pass in one direction only.
    OneDirection {
        /// Where they arrive.
        arrives_at: Side,
    },
    /// The NATs of these use several public addresses for one socket, so that none that is known is right.
    PooledAddresses(Ends),
    /// Both NATs pick a new port for every destination, and not both can be predicted: no way is known.
    BothUnpredictable,
    /// Both NATs pick a new port for every destination, one after the other; the guesses have not met.
    BothSequential(Tried),
    /// One NAT picks a new port for every destination, and the other lets in only ports that it was written to
    /// from: the port has to be found.
    PortUnknown {
        /// Whose NAT picks the ports.
        picks: Side,
        /// What became of the search.
        tried: Tried,
    },
    /// Both NATs should let the packets through, and nothing arrives: a firewall stands between.
    NothingArrives,
}

/// What became of a search for ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tried {
    /// It is going on, or soon will.
    Running,
    /// No probe was sent: no sockets, no budget, or no agreement with the peer.
    NeverSent,
    /// Probes were sent, and none arrived.
    NeverArrived,
    /// Probes arrived, and none was answered.
    Unanswered,
}

impl Cause {
    pub(super) fn of(ingress: &End, egress: &End, is_early: bool, ledger: &[LedgerEntry]) -> Self {
        let those = |holds: fn(&End) -> bool| Ends::those(holds(ingress), holds(egress));
        if let Some(ends) = those(|end| end.relays_only) {
            return Self::Configured(ends);
        }
        if let Some(ends) = those(End::is_blocked) {
            return Self::UdpBlocked(ends);
        }
        if let Some(cause) = without_common_family(ingress, egress) {
            return cause;
        }
        let nats = from_nats(ingress, egress, is_early, ledger);
        if let Some(cause) = from_what_was_seen(ingress.seen, egress.seen, nats) {
            return cause;
        }
        if let Some(ends) = those(|end| !end.is_examined()) {
            return Self::Examining(ends);
        }
        nats
    }
}

fn without_common_family(ingress: &End, egress: &End) -> Option<Cause> {
    let v6_alone = |end: &End| end.has_v6 && (!end.has_v4 || end.nat.udp == Some(false));
    let v4_alone = |end: &End| end.has_v4 && (!end.has_v6 || end.nat.ipv6 == Some(false));
    let ipv6_only = match (ingress, egress) {
        (v6, v4) if v6_alone(v6) && v4_alone(v4) => Side::Ingress,
        (v4, v6) if v6_alone(v6) && v4_alone(v4) => Side::Egress,
        _ => return None,
    };
    Some(Cause::NoCommonFamily { ipv6_only })
}

/// Who is behind a NAT that lets everybody in hears the other end, and its answers come from a port that is not
/// let in there: where the NATs explain what was seen, they are the cause.
const fn from_what_was_seen(ingress: Seen, egress: Seen, nats: Cause) -> Option<Cause> {
    let is_explained = !matches!(nats, Cause::NothingArrives | Cause::Trying);
    match (ingress, egress) {
        (Seen::Narrow, _) | (_, Seen::Narrow) => Some(Cause::SmallPacketsOnly),
        _ if is_explained => None,
        (Seen::Arrives, Seen::Nothing) => Some(Cause::OneDirection {
            arrives_at: Side::Ingress,
        }),
        (Seen::Nothing, Seen::Arrives) => Some(Cause::OneDirection {
            arrives_at: Side::Egress,
        }),
        (Seen::Arrives, Seen::Arrives) | (Seen::Nothing, Seen::Nothing) => None,
    }
}

fn from_nats(ingress: &End, egress: &End, is_early: bool, ledger: &[LedgerEntry]) -> Cause {
    let pooled = |end: &End| end.nat.pooled == Some(true);
    if let Some(ends) = Ends::those(pooled(ingress), pooled(egress)) {
        return Cause::PooledAddresses(ends);
    }
    let tried = tried(ledger);
    match (
        ingress.maps_per_destination(),
        egress.maps_per_destination(),
    ) {
        (true, true) if ingress.is_sequential() && egress.is_sequential() => {
            Cause::BothSequential(tried)
        }
        (true, true) => Cause::BothUnpredictable,
        (true, false) if egress.filters_by_port() => Cause::PortUnknown {
            picks: Side::Ingress,
            tried,
        },
        (false, true) if ingress.filters_by_port() => Cause::PortUnknown {
            picks: Side::Egress,
            tried,
        },
        _ if is_early => Cause::Trying,
        _ => Cause::NothingArrives,
    }
}

/// Sums up the rounds of every strategy that guesses ports.
fn tried(ledger: &[LedgerEntry]) -> Tried {
    let mut rounds = ledger
        .iter()
        .filter(|it| it.strategy.is_aggressive())
        .peekable();
    if rounds.peek().is_none() {
        return Tried::Running;
    }
    let mut sum = Tried::NeverSent;
    for entry in rounds {
        let of_entry = if entry.arrived.is_some_and(|arrived| arrived > 0) {
            Tried::Unanswered
        } else if entry.sent > 0 {
            Tried::NeverArrived
        } else if entry.outcome == Outcome::Running {
            Tried::Running
        } else {
            Tried::NeverSent
        };
        sum = match (sum, of_entry) {
            (Tried::NeverSent, other) => other,
            (sum, Tried::NeverSent) => sum,
            (sum, other) => sum.max(other),
        };
    }
    sum
}

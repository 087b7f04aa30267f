//! Why a pair that is relayed is not direct: what is simulated, to be held against what sessions say.

use session::{Cause, Ends, Side, Tried};

use super::draw::Pair;
use crate::behavior::{Behavior, Filtering, PortAllocation};

/// Returns what keeps the ends of a pair apart when plain checks, IPv6 and port mappings do not help.
#[must_use]
pub fn simulated(pair: &Pair) -> Cause {
    let (ingress, egress) = (&pair.ingress.behavior, &pair.egress.behavior);
    match (ingress.udp, egress.udp) {
        (false, false) => return Cause::UdpBlocked(Ends::Both),
        (false, true) => return Cause::UdpBlocked(Ends::Ingress),
        (true, false) => return Cause::UdpBlocked(Ends::Egress),
        (true, true) => {}
    }
    let tried = Tried::Running;
    let filters = |end: &Behavior| end.filtering == Filtering::AddressAndPortDependent;
    let counts = |end: &Behavior| matches!(end.ports, PortAllocation::Sequential { .. });
    match (ingress.mapping.stays_put(), egress.mapping.stays_put()) {
        (false, false) if counts(ingress) && counts(egress) => Cause::BothSequential(tried),
        (false, false) => Cause::BothUnpredictable,
        (false, true) if filters(egress) => Cause::PortUnknown {
            picks: Side::Ingress,
            tried,
        },
        (true, false) if filters(ingress) => Cause::PortUnknown {
            picks: Side::Egress,
            tried,
        },
        _ => Cause::NothingArrives,
    }
}

/// Returns whether two causes are the same, whatever became of a search.
#[must_use]
pub fn agrees(named: Cause, simulated: Cause) -> bool {
    let without_search = |cause| match cause {
        Cause::BothSequential(_) => Cause::BothSequential(Tried::Running),
        Cause::PortUnknown { picks, .. } => Cause::PortUnknown {
            picks,
            tried: Tried::Running,
        },
        other @ (Cause::Trying
        | Cause::Examining(_)
        | Cause::Configured(_)
        | Cause::UdpBlocked(_)
        | Cause::NoCommonFamily { .. }
        | Cause::SmallPacketsOnly
        | Cause::OneDirection { .. }
        | Cause::PooledAddresses(_)
        | Cause::BothUnpredictable
        | Cause::NothingArrives) => other,
    };
    without_search(named) == without_search(simulated)
}

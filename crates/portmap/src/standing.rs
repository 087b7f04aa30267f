//! How far a gateway is still believed after its mappings were found not to work.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::timing::Timing;
use crate::view::{Protocol, is_global};

/// How many mappings of one network may be refuted in a row. The second is on another port, the third by another protocol
/// where there is one: a gateway that lies three times has nothing else to offer.
const REFUTED_MAX: u32 = 3;

/// A mapping that worked for so long was no lie: its gateway lost it since (tailscale#21208), and begins anew.
const WORKED: Duration = Duration::from_secs(600);

/// What was refuted in this network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    refuted: u32,
    avoided: BTreeSet<Protocol>,
}

/// What follows from a refuted mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Make it again on another port, after a wait.
    Again(Duration),
    /// Leave it until the network changes.
    GiveUp,
}

impl Standing {
    /// Judges a refuted mapping that was held for a time.
    pub(crate) fn refute(
        &mut self,
        protocol: Protocol,
        external: IpAddr,
        held: Duration,
        timing: &Timing,
    ) -> Verdict {
        if held >= WORKED {
            *self = Self::default();
        }
        self.refuted += 1;
        // Another port of a gateway behind another NAT is no more reachable.
        if self.refuted >= REFUTED_MAX || !is_global(external) {
            return Verdict::GiveUp;
        }
        if self.refuted >= 2 {
            self.avoided.insert(protocol);
        }
        Verdict::Again(timing.refuted * 2_u32.pow(self.refuted - 1))
    }

    /// Returns whether the port of the socket itself was refuted, so that any other is better.
    pub(crate) const fn wants_another_port(&self) -> bool {
        self.refuted > 0
    }

    /// The protocols to be asked last.
    pub(crate) const fn avoided(&self) -> &BTreeSet<Protocol> {
        &self.avoided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTERNAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    #[test]
    fn a_liar_is_asked_for_another_port_then_by_another_protocol_then_no_more() {
        let timing = Timing::default();
        let mut standing = Standing::default();
        let mut refute = || {
            let verdict = standing.refute(Protocol::Pcp, EXTERNAL, Duration::ZERO, &timing);
            (verdict, standing.avoided().len())
        };
        assert_eq!(refute(), (Verdict::Again(timing.refuted), 0));
        assert_eq!(refute(), (Verdict::Again(timing.refuted * 2), 1));
        assert_eq!(refute().0, Verdict::GiveUp);
    }

    #[test]
    fn a_gateway_behind_another_nat_is_left_at_once() {
        let external = IpAddr::from([100, 64, 0, 2]);
        let mut standing = Standing::default();
        let verdict = standing.refute(Protocol::Upnp, external, Duration::ZERO, &Timing::default());
        assert_eq!(verdict, Verdict::GiveUp);
    }

    #[test]
    fn a_mapping_that_worked_for_long_begins_anew() {
        let timing = Timing::default();
        let mut standing = Standing::default();
        for _ in 0..2 {
            standing.refute(Protocol::Pcp, EXTERNAL, Duration::ZERO, &timing);
        }
        let verdict = standing.refute(Protocol::Pcp, EXTERNAL, WORKED, &timing);
        assert_eq!(verdict, Verdict::Again(timing.refuted));
    }
}

//! Which protocol to ask next, while the gateway's answers come in.

use std::collections::BTreeSet;

use crate::view::{Presence, Protocol};

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask for a mapping by this protocol.
    Ask(Protocol),
    /// Wait for the next answer.
    Wait,
    /// There is nothing left to ask.
    Nothing,
}

/// Chooses the first protocol that is there, in the order of preference.
///
/// A protocol of which nothing is known yet holds back those after it until `grace_over`. `avoided` ones come last.
pub(crate) fn next(
    presence: &Presence,
    tried: &BTreeSet<Protocol>,
    avoided: &BTreeSet<Protocol>,
    grace_over: bool,
) -> Step {
    let mut undecided = false;
    for pass in [false, true] {
        for protocol in Protocol::ALL {
            if tried.contains(&protocol) || avoided.contains(&protocol) != pass {
                continue;
            }
            match presence.of(protocol) {
                Some(true) if !undecided || grace_over => return Step::Ask(protocol),
                None => undecided = true,
                Some(_) => {}
            }
        }
    }
    if undecided { Step::Wait } else { Step::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPNP_ONLY_KNOWN: Presence = Presence {
        pcp: None,
        nat_pmp: None,
        upnp: Some(true),
        external_ip: None,
    };

    fn set<const N: usize>(protocols: [Protocol; N]) -> BTreeSet<Protocol> {
        protocols.into()
    }

    #[test]
    fn a_worse_protocol_waits_for_the_better_one_but_not_for_ever() {
        let none = set([]);
        assert_eq!(next(&UPNP_ONLY_KNOWN, &none, &none, false), Step::Wait);
        let step = next(&UPNP_ONLY_KNOWN, &none, &none, true);
        assert_eq!(step, Step::Ask(Protocol::Upnp));
    }

    #[test]
    fn pcp_is_asked_as_soon_as_it_is_there_and_the_next_one_when_it_failed() {
        let all = Presence {
            pcp: Some(true),
            nat_pmp: Some(true),
            upnp: None,
            external_ip: None,
        };
        let none = set([]);
        assert_eq!(next(&all, &none, &none, false), Step::Ask(Protocol::Pcp));
        let tried = set([Protocol::Pcp]);
        assert_eq!(
            next(&all, &tried, &none, false),
            Step::Ask(Protocol::NatPmp)
        );
        let tried = set([Protocol::Pcp, Protocol::NatPmp]);
        assert_eq!(next(&all, &tried, &none, false), Step::Wait);
    }

    #[test]
    fn an_avoided_protocol_is_asked_when_there_is_no_other() {
        let pcp_only = Presence {
            pcp: Some(true),
            ..Presence::absent()
        };
        let avoided = set([Protocol::Pcp]);
        assert_eq!(
            next(&pcp_only, &set([]), &avoided, false),
            Step::Ask(Protocol::Pcp)
        );
        let both = Presence {
            upnp: Some(true),
            ..pcp_only
        };
        assert_eq!(
            next(&both, &set([]), &avoided, false),
            Step::Ask(Protocol::Upnp)
        );
    }

    #[test]
    fn a_network_without_any_ends_the_search() {
        let step = next(&Presence::absent(), &set([]), &set([]), false);
        assert_eq!(step, Step::Nothing);
        let step = next(&Presence::default(), &set([]), &set([]), true);
        assert_eq!(step, Step::Wait);
    }
}

//! What is known of one end.

use punch::CandidateKind;

use crate::description::{Description, InstanceId, NatSummary, Side};

/// One end of a path, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ends {
    /// The ingress side, for people the client.
    Ingress,
    /// The egress side, for people the server.
    Egress,
    /// Each of them.
    Both,
}

impl Ends {
    /// Returns those for which something holds; `None` when it holds for neither.
    pub(crate) const fn those(ingress: bool, egress: bool) -> Option<Self> {
        match (ingress, egress) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Ingress),
            (false, true) => Some(Self::Egress),
            (false, false) => None,
        }
    }
}

impl From<Side> for Ends {
    fn from(side: Side) -> Self {
        match side {
            Side::Ingress => Self::Ingress,
            Side::Egress => Self::Egress,
        }
    }
}

/// What one end has seen of the other's packets on pairs without a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing, or nothing yet.
    #[default]
    Nothing,
    /// Checks arrive, and its own stay unanswered.
    Arrives,
    /// Small checks are answered, full-size ones are not.
    Narrow,
}

impl Seen {
    /// Returns the word of the description; empty for nothing.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Arrives => "arrives",
            Self::Narrow => "narrow",
        }
    }

    fn parse(word: &str) -> Self {
        let known = [Self::Arrives, Self::Narrow];
        let found = known.into_iter().find(|it| it.as_str() == word);
        found.unwrap_or_default()
    }
}

/// What is known of one end, by its own word.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    pub(crate) nat: NatSummary,
    /// It offers no direct address at all. Whoever has a network has a host candidate, so that is a decision.
    pub(crate) relays_only: bool,
    /// Which address families its direct candidates have.
    pub(crate) has_v4: bool,
    pub(crate) has_v6: bool,
    /// Whether its IPv4 address is translated.
    pub(crate) is_translated: bool,
    /// The UDP port of its socket.
    pub(crate) port: Option<u16>,
    pub(crate) seen: Seen,
}

impl End {
    /// Gathers what a description says; `seen` is what it says of its peer, or what we have seen ourselves.
    pub(crate) fn of(description: &Description, seen: Seen) -> Self {
        let candidates = description.remote_candidates();
        let direct = || {
            let direct = candidates.iter();
            direct.filter(|it| it.kind != CandidateKind::Relayed)
        };
        let is_host = |kind: CandidateKind| kind == CandidateKind::Host;
        let v4_host = direct().find(|it| is_host(it.kind) && it.address.is_ipv4());
        Self {
            nat: description.nat.clone(),
            relays_only: direct().next().is_none(),
            has_v4: direct().any(|it| it.address.is_ipv4()),
            has_v6: direct().any(|it| it.address.is_ipv6()),
            is_translated: direct().any(|it| !is_host(it.kind) && it.address.is_ipv4()),
            port: v4_host
                .or_else(|| direct().find(|it| is_host(it.kind)))
                .map(|it| it.address.port()),
            seen,
        }
    }

    /// Gathers what a peer says, of itself and of us.
    pub(crate) fn of_peer(description: &Description, ours: InstanceId) -> Self {
        let about_us = description.answers.iter().find(|it| it.instance == ours);
        let seen = about_us.map_or(Seen::Nothing, |it| Seen::parse(&it.seen));
        Self::of(description, seen)
    }

    /// No STUN server answers over UDP, in any family.
    pub(crate) fn is_blocked(&self) -> bool {
        self.nat.udp == Some(false) && self.nat.ipv6 != Some(true)
    }

    pub(crate) const fn is_examined(&self) -> bool {
        self.nat.udp.is_some()
    }

    /// Its NAT picks another port for every destination.
    pub(crate) fn maps_per_destination(&self) -> bool {
        let mapping = self.nat.mapping.as_str();
        ["address-dependent", "address-and-port-dependent"].contains(&mapping)
    }

    /// The next port can be told from the last.
    pub(crate) fn is_sequential(&self) -> bool {
        self.nat.ports == "sequential"
    }

    /// Only an address and port that was written to gets through; that is assumed where it is not known.
    pub(crate) fn filters_by_port(&self) -> bool {
        !["endpoint-independent", "address-dependent"].contains(&self.nat.filtering.as_str())
    }
}

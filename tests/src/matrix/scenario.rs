//! What lies in front of client and server, and what is possible there.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::{Context as _, bail};
use natlab::{Possible, direct_is_possible, direct_is_possible_behind_one};

use crate::{
    bed::START,
    lab::{Carrier, Home, Lab, Nat},
};

/// The kinds of the matrix; each is a row (in front of the client) and a column (in front of the server).
pub const KINDS: [Home; 14] = [
    Home::behind(Nat::None),
    Home::behind(Nat::Firewall),
    Home::behind(Nat::FullCone),
    Home::behind(Nat::AddressRestricted),
    Home::behind(Nat::PortRestricted),
    Home::behind(Nat::PortRestrictedRandom),
    Home::behind(Nat::SymmetricSequential),
    Home::behind(Nat::SymmetricSequentialByTwo),
    Home::behind(Nat::SymmetricBlock),
    Home::behind(Nat::SymmetricAddressDependent),
    Home::behind(Nat::Symmetric),
    Home::behind(Nat::Symmetric).with_ipv6(),
    Home::behind(Nat::Symmetric).with_gateway(),
    Home::behind(Nat::UdpBlocked),
];

/// A carrier's NAT in front of one of the homes.
pub const ONE_CARRIER: [&str; 7] = [
    "port-restricted@full-cone-random,port-restricted",
    "port-restricted,port-restricted@full-cone-random",
    "port-restricted@symmetric,full-cone",
    "none,port-restricted@symmetric",
    "port-restricted@symmetric,port-restricted",
    "port-restricted,full-cone@symmetric",
    "symmetric,full-cone@symmetric",
];

/// A carrier's NAT in front of each home.
pub const TWO_CARRIERS: [&str; 3] = [
    "port-restricted@full-cone-random,port-restricted@full-cone-random",
    "full-cone@port-restricted,port-restricted@port-restricted-random",
    "port-restricted@symmetric,port-restricted@symmetric",
];

/// Both homes behind the NAT of one carrier, which lets its customers reach each other or does not.
pub const SHARED_CARRIER: [&str; 5] = [
    "port-restricted,port-restricted,full-cone-random+hairpin",
    "port-restricted,port-restricted,full-cone-random",
    "full-cone,port-restricted,port-restricted+hairpin",
    "full-cone,port-restricted,port-restricted",
    "port-restricted,port-restricted,symmetric+hairpin",
];

/// Routers whose connection tracking confirms the peer's first packet when it comes too early.
pub const NO_WAN_FIREWALL: [&str; 3] = [
    "port-restricted/open,port-restricted",
    "port-restricted,port-restricted/open",
    "port-restricted/open,port-restricted/open",
];

/// How long both ends may take to a path whose ports one of them predicts: DESIGN.md, section 5, says 2 s from when both know
/// of each other, on a quiet machine.
pub const PREDICTED: Duration = Duration::from_secs(5);

/// How long they may take where both predict, and where luck decides. Runs of `--hard` count how often a round has none, and
/// its median. A port mapping is asked for in three protocols, of which UPnP has to be discovered first, and it is verified
/// before it counts.
pub const LONGEST: Duration = Duration::from_secs(10);

/// After a home: it has IPv6 too, behind a stateful firewall.
const IPV6: &str = "+ipv6";
/// After a home: its router opens ports when it is asked.
const GATEWAY: &str = "+gateway";
/// After a home: its router has no WAN firewall.
const OPEN: &str = "/open";
/// After a shared carrier: its customers reach each other by their outside addresses.
const HAIRPIN: &str = "+hairpin";

/// What lies in front of both ends.
///
/// As text `CLIENT,SERVER` or `CLIENT,SERVER,CARRIER`, the last for one carrier that both share: a home is
/// `NAT`, `NAT@CARRIER`, `NAT/open` (a router without a WAN firewall), `NAT+ipv6` (IPv6 beside it, behind a firewall) or
/// `NAT+gateway` (a router that opens ports when it is asked), a shared carrier `NAT` or `NAT+hairpin`.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// The client's home.
    pub client: Home,
    /// The server's home.
    pub server: Home,
    /// The carrier that both share.
    pub carrier: Option<Carrier>,
}

impl Scenario {
    /// One NAT in front of each end.
    pub const fn pair(client: Home, server: Home) -> Self {
        Self {
            client,
            server,
            carrier: None,
        }
    }

    /// Every pair of [`KINDS`], row by row.
    pub fn pairs() -> Vec<Self> {
        KINDS
            .iter()
            .flat_map(|client| KINDS.map(|server| Self::pair(*client, server)))
            .collect()
    }

    /// The cases that one NAT alone does not show.
    ///
    /// # Panics
    /// Never: they are constants, and a test parses them.
    pub fn further() -> Vec<Self> {
        [
            ONE_CARRIER.as_slice(),
            &TWO_CARRIERS,
            &SHARED_CARRIER,
            &NO_WAN_FIREWALL,
        ]
        .concat()
        .iter()
        .map(|text| text.parse().expect("a constant that a test parses"))
        .collect()
    }

    /// What a direct path takes here, as the oracle sees it.
    pub fn possible(&self) -> Possible {
        let (client, server) = (self.client.behavior(), self.server.behavior());
        match self.carrier {
            None => direct_is_possible(&client, &server),
            Some(carrier) => {
                let mut carried = carrier.nat.behavior();
                carried.hairpin = carrier.hairpin;
                direct_is_possible_behind_one(&client, &server, &carried)
            }
        }
    }

    /// How long both ends may take to the direct path from the start of both programs; nothing where there is none.
    pub fn bound(&self) -> Option<Duration> {
        let moves = |home: &Home| !home.behavior().mapping.stays_put();
        match self.possible() {
            Possible::Plain | Possible::Ipv6 => Some(START),
            Possible::OnlyPredicted if moves(&self.client) && moves(&self.server) => Some(LONGEST),
            Possible::OnlyPredicted => Some(PREDICTED),
            Possible::PortMapped | Possible::OnlyBlock | Possible::OnlyBirthday => Some(LONGEST),
            Possible::No => None,
        }
    }

    /// The kind of path that both ends must have in the end.
    pub fn expected_kind(&self) -> &'static str {
        match self.possible() {
            Possible::No => "relay",
            Possible::Plain
            | Possible::Ipv6
            | Possible::PortMapped
            | Possible::OnlyPredicted
            | Possible::OnlyBlock
            | Possible::OnlyBirthday => "direct",
        }
    }

    /// Whether an end reaches the relay over TCP alone.
    pub const fn needs_a_stream(&self) -> bool {
        matches!(self.client.nat(), Nat::UdpBlocked) || matches!(self.server.nat(), Nat::UdpBlocked)
    }

    /// Builds its lab: the client is in home A, the server in home B.
    pub fn build(&self) -> Lab {
        match self.carrier {
            None => Lab::new(self.client, self.server),
            Some(carrier) => Lab::behind_one_carrier(self.client, self.server, carrier),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", home_text(&self.client), home_text(&self.server))?;
        if let Some(Carrier { nat, hairpin }) = self.carrier {
            write!(f, ",{}{}", nat.name(), if hairpin { HAIRPIN } else { "" })?;
        }
        Ok(())
    }
}

/// A home as text.
pub fn home_text(home: &Home) -> String {
    let mut text = home.nat().name().to_owned();
    if let Some(carrier) = home.carrier() {
        text.push('@');
        text.push_str(carrier.name());
    }
    for (has, mark) in [
        (home.has_ipv6(), IPV6),
        (home.has_gateway(), GATEWAY),
        (!home.has_wan_firewall(), OPEN),
    ] {
        if has {
            text.push_str(mark);
        }
    }
    text
}

impl FromStr for Scenario {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let (client, server, carrier) = match parts[..] {
            [client, server] => (client, server, None),
            [client, server, carrier] => (client, server, Some(carrier)),
            _ => bail!("`{text}` is not CLIENT,SERVER or CLIENT,SERVER,CARRIER"),
        };
        let scenario = Self {
            client: parse_home(client)?,
            server: parse_home(server)?,
            carrier: carrier.map(parse_carrier).transpose()?,
        };
        if scenario.carrier.is_some()
            && (scenario.client.carrier().is_some() || scenario.server.carrier().is_some())
        {
            bail!("`{text}`: a home has one carrier");
        }
        Ok(scenario)
    }
}

fn parse_home(text: &str) -> anyhow::Result<Home> {
    // In the order in which they are written, seen from the end.
    let take = |text, mark| match str::strip_suffix(text, mark) {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (rest, open) = take(text, OPEN);
    let (rest, gateway) = take(rest, GATEWAY);
    let (rest, ipv6) = take(rest, IPV6);
    let (nat, carrier) = match rest.split_once('@') {
        Some((nat, carrier)) => (nat, Some(carrier)),
        None => (rest, None),
    };
    let mut home = Home::behind(parse_nat(nat)?);
    if let Some(carrier) = carrier {
        home = home.with_carrier(parse_nat(carrier)?);
    }
    if carrier.is_some() && (ipv6 || gateway) {
        bail!("`{text}`: behind a carrier's NAT there is neither IPv6 nor a port to open");
    }
    if ipv6 {
        home = home.with_ipv6();
    }
    if gateway {
        home = home.with_gateway();
    }
    Ok(if open {
        home.without_wan_firewall()
    } else {
        home
    })
}

fn parse_carrier(text: &str) -> anyhow::Result<Carrier> {
    let (nat, hairpin) = match text.strip_suffix(HAIRPIN) {
        Some(nat) => (nat, true),
        None => (text, false),
    };
    Ok(Carrier {
        nat: parse_nat(nat)?,
        hairpin,
    })
}

fn parse_nat(text: &str) -> anyhow::Result<Nat> {
    let found = Nat::ALL.into_iter().find(|nat| nat.name() == text);
    found.with_context(|| {
        let names = Nat::ALL.map(Nat::name).join(", ");
        format!("`{text}` is not one of {names}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_read_back_from_its_text() {
        let all = Scenario::pairs().into_iter().chain(Scenario::further());
        for scenario in all {
            let text = scenario.to_string();
            let again: Scenario = text.parse().unwrap();
            assert_eq!(again.to_string(), text);
            assert_eq!(again.possible(), scenario.possible(), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_none_says_what_would_be() {
        let error = "port-restricted,cone".parse::<Scenario>().unwrap_err();
        assert!(error.to_string().contains("full-cone, "), "{error}");
        for text in [
            "none",
            "none,none,none,none",
            "none@none,none,symmetric",
            "symmetric@symmetric+ipv6,none",
        ] {
            assert!(text.parse::<Scenario>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_further_cases_cover_both_outcomes_of_each_group() {
        for group in [&ONE_CARRIER[..], &TWO_CARRIERS, &SHARED_CARRIER] {
            for kind in ["direct", "relay"] {
                let has = |text: &str| text.parse::<Scenario>().unwrap().expected_kind() == kind;
                assert!(group.iter().any(|text| has(text)), "{kind}: {group:?}");
            }
        }
    }

    #[test]
    fn what_is_possible_is_the_least_that_does_and_has_its_bound() {
        for (text, possible, secs) in [
            ("port-restricted,port-restricted", Possible::Plain, Some(3)),
            (
                "port-restricted+gateway,port-restricted",
                Possible::Plain,
                Some(3),
            ),
            ("symmetric+ipv6,symmetric+ipv6", Possible::Ipv6, Some(3)),
            ("symmetric+ipv6,symmetric", Possible::No, None),
            (
                "symmetric+ipv6,symmetric+gateway",
                Possible::PortMapped,
                Some(10),
            ),
            (
                "symmetric,symmetric+gateway",
                Possible::PortMapped,
                Some(10),
            ),
            ("udp-blocked,symmetric+gateway", Possible::No, None),
            (
                "symmetric-sequential-2,port-restricted",
                Possible::OnlyPredicted,
                Some(5),
            ),
            (
                "symmetric-sequential,symmetric-sequential-2",
                Possible::OnlyPredicted,
                Some(10),
            ),
            (
                "symmetric-block,port-restricted",
                Possible::OnlyBlock,
                Some(10),
            ),
            (
                "symmetric-address-dependent,firewall",
                Possible::OnlyBirthday,
                Some(10),
            ),
            ("symmetric,symmetric-sequential", Possible::No, None),
        ] {
            let scenario: Scenario = text.parse().unwrap();
            assert_eq!(scenario.possible(), possible, "{text}");
            assert_eq!(scenario.bound().map(|it| it.as_secs()), secs, "{text}");
            assert_eq!(
                scenario.expected_kind() == "direct",
                secs.is_some(),
                "{text}"
            );
        }
    }
}

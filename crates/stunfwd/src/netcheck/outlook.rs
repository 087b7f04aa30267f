//! With whom will direct connections work, and how?
//!
//! The judgement is that of a laboratory in which every kind of NAT was set against every other
//! (`docs/nat-matrix.md`), and of what the programs try there: plain checks, prediction of ports in sequence, and a
//! birthday search where one side's ports are random.

use std::fmt;

use natprobe::{FilteringBehavior, MappingBehavior, PortAllocation, Report};
use serde::{Deserialize, Serialize};

/// What to expect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// Peers with whom direct connections will work.
    pub with: Vec<Prospect>,
    /// Peers with whom they will not: the relay carries.
    pub not_with: Vec<String>,
    /// What would help, the cheapest first.
    pub help: Vec<String>,
}

/// A kind of peer that is reached directly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prospect {
    /// What stands in front of the peer.
    pub peer: String,
    /// `plain`, `predicted` or `birthday`, as `strategies` are called elsewhere.
    pub by: String,
}

/// What one end is like to the other. Full cone and address-restricted NATs meet everybody alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Firewall,
    Cone,
    PortRestricted,
    /// A new port for every destination, in sequence.
    Sequential,
    /// A new port for every destination, without a sequence.
    Symmetric,
    Blocked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Predicted,
    Birthday,
}

impl End {
    const ALL: [Self; 7] = [
        Self::Open,
        Self::Firewall,
        Self::Cone,
        Self::PortRestricted,
        Self::Sequential,
        Self::Symmetric,
        Self::Blocked,
    ];

    /// `None` when too little is known.
    fn of(report: &Report) -> Option<Self> {
        use FilteringBehavior as F;
        use MappingBehavior as M;
        if !report.udp {
            return Some(Self::Blocked);
        }
        let behind_nat = report.behind_nat?;
        Some(match (report.mapping, report.filtering) {
            (M::Unknown, _) if behind_nat => return None,
            (M::EndpointIndependent, F::EndpointIndependent) if !behind_nat => Self::Open,
            (M::EndpointIndependent, F::EndpointIndependent | F::AddressDependent) => Self::Cone,
            // What was not observed is taken to be the harder.
            (M::EndpointIndependent, F::AddressAndPortDependent | F::Unknown) if behind_nat => {
                Self::PortRestricted
            }
            (M::EndpointIndependent | M::Unknown, _) => Self::Firewall,
            (M::AddressDependent | M::AddressAndPortDependent, _) => match report.ports {
                PortAllocation::Sequential { .. } => Self::Sequential,
                PortAllocation::Preserving
                | PortAllocation::Block { .. }
                | PortAllocation::Random
                | PortAllocation::Unknown => Self::Symmetric,
            },
        })
    }

    /// The name for people.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "no NAT",
            Self::Firewall => "a firewall without NAT",
            Self::Cone => "a full cone or restricted cone NAT",
            Self::PortRestricted => "a port restricted cone NAT",
            Self::Sequential => "a symmetric NAT with ports in sequence",
            Self::Symmetric => "a symmetric NAT with random ports",
            Self::Blocked => "a network that blocks UDP",
        }
    }

    /// How hard it is for the other end.
    const fn hardness(self) -> u8 {
        match self {
            Self::Open | Self::Cone => 0,
            Self::Firewall | Self::PortRestricted => 1,
            Self::Sequential => 2,
            Self::Symmetric => 3,
            Self::Blocked => 4,
        }
    }

    /// How two ends meet; `None` when only through a relay.
    const fn meets(self, other: Self) -> Option<Way> {
        let (a, b) = (self.hardness(), other.hardness());
        let (easier, harder) = if a < b { (a, b) } else { (b, a) };
        match (easier, harder) {
            (0, 0..=3) | (1, 1) => Some(Way::Plain),
            (1 | 2, 2) => Some(Way::Predicted),
            (1, 3) => Some(Way::Birthday),
            // Random against anything that moves, and blocked against anything.
            _ => None,
        }
    }
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Predicted => "predicted",
            Self::Birthday => "birthday",
        }
    }
}

/// Judges from what was found out about this end: `ipv6` says whether IPv6 leads to the internet, `gateway` whether the
/// router can be asked to forward a port, and `double_nat` whether there is a second NAT behind it.
pub(super) fn outlook(
    report: Option<&Report>,
    ipv6: bool,
    gateway: Option<bool>,
    double_nat: Option<bool>,
) -> Outlook {
    let Some(us) = report.and_then(End::of) else {
        return Outlook::default();
    };
    let mut outlook = Outlook::default();
    for peer in End::ALL {
        match us.meets(peer) {
            Some(way) => outlook.with.push(Prospect {
                peer: peer.as_str().to_owned(),
                by: way.as_str().to_owned(),
            }),
            None => outlook.not_with.push(peer.as_str().to_owned()),
        }
    }
    outlook.help = help(us, ipv6, gateway, double_nat);
    outlook
}

fn help(us: End, ipv6: bool, gateway: Option<bool>, double_nat: Option<bool>) -> Vec<String> {
    let mut help = Vec::new();
    match us {
        End::Open | End::Cone => return help,
        End::Blocked => {
            help.push("allow outgoing UDP in the firewall of this network".to_owned());
            return help;
        }
        End::Firewall => {
            help.push("open a UDP port in the firewall: then every peer that has UDP works".to_owned());
        }
        End::PortRestricted | End::Sequential | End::Symmetric => help.push(
            if double_nat == Some(true) {
                "the router stands behind a second NAT, so that its own port mappings open nothing: ask the provider \
                 for a public address"
            } else if gateway == Some(true) {
                "the router forwards ports on demand: a running program asks it to, and then every peer that has UDP \
                 works"
            } else {
                "enable UPnP, NAT-PMP or PCP on the router: then every peer that has UDP works"
            }
            .to_owned(),
        ),
    }
    help.push(
        if ipv6 {
            "IPv6 works here: every peer that has it, too, is reached directly"
        } else {
            "IPv6 on both sides"
        }
        .to_owned(),
    );
    help
}

/// The text for people.
impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.with.is_empty() && self.not_with.is_empty() {
            return write!(
                f,
                "Direct connections: too little is known to say with whom they will work."
            );
        }
        let by = |way: Way| -> Vec<&str> {
            let those = self.with.iter().filter(|it| it.by == way.as_str());
            those.map(|it| it.peer.as_str()).collect()
        };
        if self.with.is_empty() {
            write!(
                f,
                "Direct connections will work with nobody: the relay carries."
            )?;
        } else {
            write!(f, "Direct connections will work with peers behind:")?;
            let ways = [
                (Way::Plain, "at once"),
                (Way::Predicted, "by predicting ports, within seconds"),
                (Way::Birthday, "by trying many ports, within seconds"),
            ];
            for (way, words) in ways {
                for peer in by(way) {
                    write!(f, "\n  {peer}: {words}")?;
                }
            }
            write!(f, "\nand not with peers behind (there the relay carries):")?;
            for peer in &self.not_with {
                write!(f, "\n  {peer}")?;
            }
        }
        if !self.help.is_empty() {
            write!(f, "\nWhat helps:")?;
            for help in &self.help {
                write!(f, "\n  {help}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The laboratory's table (`P` plain, `p` predicted, `B` birthday, `-` relay), a row for each end in the order of
    /// [`End::ALL`].
    const SEEN: [&str; 7] = [
        "PPPPPP-", "PPPPpB-", "PPPPPP-", "PPPPpB-", "PpPpp--", "PBPB---", "-------",
    ];

    #[test]
    fn the_outlook_is_what_the_laboratory_saw() {
        for (us, row) in End::ALL.into_iter().zip(SEEN) {
            for (peer, seen) in End::ALL.into_iter().zip(row.chars()) {
                let expected = match seen {
                    'P' => Some(Way::Plain),
                    'p' => Some(Way::Predicted),
                    'B' => Some(Way::Birthday),
                    _ => None,
                };
                assert_eq!(us.meets(peer), expected, "{us:?} with {peer:?}");
            }
        }
    }

    fn report(mapping: MappingBehavior, filtering: FilteringBehavior) -> Report {
        Report {
            mapping,
            filtering,
            behind_nat: Some(true),
            udp: true,
            ..Report::default()
        }
    }

    #[test]
    fn what_was_not_observed_is_taken_to_be_the_harder() {
        use FilteringBehavior as F;
        use MappingBehavior as M;
        let cases = [
            (
                report(M::EndpointIndependent, F::Unknown),
                Some(End::PortRestricted),
            ),
            (
                report(M::EndpointIndependent, F::AddressDependent),
                Some(End::Cone),
            ),
            (
                report(M::AddressDependent, F::Unknown),
                Some(End::Symmetric),
            ),
            (report(M::Unknown, F::EndpointIndependent), None),
            (
                Report {
                    ports: PortAllocation::Sequential { stride: 1 },
                    ..report(M::AddressAndPortDependent, F::Unknown)
                },
                Some(End::Sequential),
            ),
            (
                Report {
                    behind_nat: Some(false),
                    ..report(M::EndpointIndependent, F::AddressAndPortDependent)
                },
                Some(End::Firewall),
            ),
            (
                Report {
                    udp: false,
                    ..Report::default()
                },
                Some(End::Blocked),
            ),
        ];
        for (report, expected) in cases {
            assert_eq!(End::of(&report), expected, "{report:?}");
        }
    }

    #[test]
    fn people_are_told_with_whom_and_what_helps() {
        let symmetric = report(
            MappingBehavior::AddressAndPortDependent,
            FilteringBehavior::AddressAndPortDependent,
        );
        assert_eq!(
            outlook(Some(&symmetric), false, Some(false), None).to_string(),
            "Direct connections will work with peers behind:\n\
             \x20 no NAT: at once\n\
             \x20 a full cone or restricted cone NAT: at once\n\
             \x20 a firewall without NAT: by trying many ports, within seconds\n\
             \x20 a port restricted cone NAT: by trying many ports, within seconds\n\
             and not with peers behind (there the relay carries):\n\
             \x20 a symmetric NAT with ports in sequence\n\
             \x20 a symmetric NAT with random ports\n\
             \x20 a network that blocks UDP\n\
             What helps:\n\
             \x20 enable UPnP, NAT-PMP or PCP on the router: then every peer that has UDP works\n\
             \x20 IPv6 on both sides"
        );
        let blocked = Report::default();
        assert_eq!(
            outlook(Some(&blocked), false, None, None).to_string(),
            "Direct connections will work with nobody: the relay carries.\nWhat helps:\n\
             \x20 allow outgoing UDP in the firewall of this network"
        );
        assert_eq!(
            outlook(None, true, None, None).to_string(),
            "Direct connections: too little is known to say with whom they will work."
        );
    }

    #[test]
    fn a_router_behind_a_second_nat_is_not_said_to_help() {
        let ours = report(
            MappingBehavior::EndpointIndependent,
            FilteringBehavior::AddressAndPortDependent,
        );
        let help = |double_nat| outlook(Some(&ours), false, Some(true), double_nat).help;
        assert!(help(Some(false))[0].starts_with("the router forwards ports on demand"));
        assert!(help(Some(true))[0].starts_with("the router stands behind a second NAT"));
    }
}

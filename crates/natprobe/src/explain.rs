//! How sure a verdict is, and why, in sentences for a person.

use std::net::SocketAddr;

use crate::classify::calm;
use crate::evidence::{Evidence, FilteringEvidence};
use crate::{
    Certainty, Confidence, FilteringBehavior, MappingBehavior, Pooling, PortAllocation, Report,
};

/// With so many mappings their pattern is not one by chance.
const PORTS_SURE: usize = 4;

/// So many answers of ten mean a network on which silence is told from loss with ease.
const CLEAN_OF_TEN: u32 = 8;

/// Says how sure the verdicts of a report are.
pub(crate) fn confidence(report: &Report, evidence: &Evidence) -> Confidence {
    let seen: Vec<SocketAddr> = evidence.observations().map(|(at, _)| at).collect();
    let mapping = match report.mapping {
        MappingBehavior::Unknown => Certainty::Low,
        MappingBehavior::EndpointIndependent
        | MappingBehavior::AddressDependent
        | MappingBehavior::AddressAndPortDependent => {
            let other_port = seen
                .iter()
                .any(|a| seen.iter().any(|b| a.ip() == b.ip() && a != b));
            if other_port || seen.len() > 2 {
                Certainty::High
            } else {
                Certainty::Medium
            }
        }
    };
    let filtering = match (report.filtering, &evidence.filtering) {
        (FilteringBehavior::Unknown, _) | (_, None) => Certainty::Low,
        (FilteringBehavior::EndpointIndependent, Some(_)) => Certainty::High,
        (
            FilteringBehavior::AddressDependent | FilteringBehavior::AddressAndPortDependent,
            Some(test),
        ) => {
            if test.controls_answered * 10 >= test.rounds * CLEAN_OF_TEN {
                Certainty::High
            } else {
                Certainty::Medium
            }
        }
    };
    Confidence {
        mapping,
        filtering,
        ports: ports_certainty(report.ports, report.reflexive.len()),
    }
}

/// Says how sure it is how ports are chosen, by the number of mappings that were seen.
pub(crate) const fn ports_certainty(ports: PortAllocation, mappings: usize) -> Certainty {
    match ports {
        PortAllocation::Unknown => Certainty::Low,
        PortAllocation::Preserving
        | PortAllocation::Sequential { .. }
        | PortAllocation::Block { .. }
        | PortAllocation::Random => {
            if mappings >= PORTS_SURE {
                Certainty::High
            } else {
                Certainty::Medium
            }
        }
    }
}

/// Says why a report says what it says.
pub(crate) fn explain(report: &Report, evidence: &Evidence) -> Vec<String> {
    let mut sentences = vec![seen(evidence)];
    if report.behind_nat == Some(false) {
        sentences.push("That is an address of this machine: there is no NAT.".to_owned());
    }
    sentences.push(mapping(report.mapping, evidence));
    sentences.push(filtering(report.filtering, evidence.filtering.as_ref()));
    sentences.extend(hairpin(report.hairpin));
    sentences.push(ports(report.ports));
    sentences.extend(pooling(report.pooling));
    sentences.extend(alg(report.alg));
    sentences
}

/// Says why UDP counts as blocked.
pub(crate) fn explain_silence(servers: usize) -> Vec<String> {
    vec![match servers {
        1 => "The server that was asked did not answer over UDP.".to_owned(),
        _ => format!("None of {servers} servers answered over UDP."),
    }]
}

fn seen(evidence: &Evidence) -> String {
    let seen: Vec<String> = evidence
        .observations()
        .map(|(destination, mapped)| format!("{destination} sees {mapped}"))
        .collect();
    format!("{}.", seen.join(", "))
}

fn mapping(mapping: MappingBehavior, evidence: &Evidence) -> String {
    let early = calm(evidence).is_some() && evidence.reflexive().len() > 1;
    match mapping {
        MappingBehavior::EndpointIndependent if early => {
            "Where nothing had come from before we wrote there, all see one address; the others were early.".to_owned()
        }
        MappingBehavior::EndpointIndependent => {
            "All see the same: the mapping does not depend on the destination.".to_owned()
        }
        MappingBehavior::AddressDependent => {
            "Each IP address sees another, two ports of one IP address see the same.".to_owned()
        }
        MappingBehavior::AddressAndPortDependent => {
            let told = evidence.observations().any(|(a, x)| {
                evidence
                    .observations()
                    .any(|(b, y)| a.ip() == b.ip() && x != y)
            });
            if told {
                "Two ports of one IP address see different ones.".to_owned()
            } else {
                "Different IP addresses see different ones; nothing tells whether ports do too.".to_owned()
            }
        }
        MappingBehavior::Unknown => {
            "Fewer than two IP addresses answered: the mapping cannot be told.".to_owned()
        }
    }
}

fn filtering(filtering: FilteringBehavior, test: Option<&FilteringEvidence>) -> String {
    let Some(test) = test else {
        return "No server has a second address to answer from: the filtering cannot be told."
            .to_owned();
    };
    let FilteringEvidence {
        server,
        both_changed,
        port_changed,
        rounds,
        controls_answered,
        ..
    } = test;
    let meanwhile =
        format!("while {controls_answered} of {rounds} ordinary requests were answered");
    match filtering {
        FilteringBehavior::EndpointIndependent => {
            format!("An answer from {both_changed}, where nothing was sent, came through.")
        }
        FilteringBehavior::AddressDependent => format!(
            "An answer from {port_changed}, another port of {}, came through; none from {both_changed}, {meanwhile}.",
            server.ip()
        ),
        FilteringBehavior::AddressAndPortDependent => {
            format!("No answer came through from {both_changed} or {port_changed}, {meanwhile}.")
        }
        FilteringBehavior::Unknown if test.unsupported => {
            format!("{server} does not answer from another address: the filtering cannot be told.")
        }
        FilteringBehavior::Unknown if test.silence_counts => format!(
            "No answer came through from {both_changed}, but nobody answers there when asked either."
        ),
        FilteringBehavior::Unknown => {
            format!("Too much was lost to tell the filtering: silence, {meanwhile}.")
        }
    }
}

fn hairpin(hairpin: Option<bool>) -> Option<String> {
    Some(match hairpin? {
        true => "A packet to our own public address came back.".to_owned(),
        false => "Packets to our own public address did not come back.".to_owned(),
    })
}

/// Says what the ports show.
pub(crate) fn ports(ports: PortAllocation) -> String {
    match ports {
        PortAllocation::Preserving => "The public port is the local one.".to_owned(),
        PortAllocation::Sequential { stride } => {
            format!("Each mapping has the port of the one before {stride:+}.")
        }
        PortAllocation::Block { first, last } => {
            format!("All public ports lie close together, presumably in {first} to {last}.")
        }
        PortAllocation::Random => "The public ports show no pattern.".to_owned(),
        PortAllocation::Unknown => {
            "Too few mappings were seen to tell how ports are chosen.".to_owned()
        }
    }
}

/// Says what the addresses show.
pub(crate) fn pooling(pooling: Option<Pooling>) -> Option<String> {
    Some(match pooling? {
        Pooling::Paired => "All mappings have one public IP address.".to_owned(),
        Pooling::Arbitrary => "Mappings have different public IP addresses.".to_owned(),
    })
}

fn alg(alg: Option<bool>) -> Option<String> {
    alg?.then(|| "A gateway rewrites addresses inside of packets.".to_owned())
}

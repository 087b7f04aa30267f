//! The report that the evidence gives.

use std::net::SocketAddr;

use crate::classify::{
    classify_filtering, classify_hairpin, classify_mapping, classify_nat, classify_ports,
};
use crate::evidence::Evidence;
use crate::explain::{confidence, explain, explain_silence};
use crate::prober::Prober;
use crate::{Confidence, MappingBehavior, Report, ServerResult, infer_pooling};

/// What can be said now.
pub(crate) fn report(prober: &Prober) -> Report {
    let evidence: &Evidence = &prober.evidence;
    let behind_nat = classify_nat(evidence, &prober.local);
    // What is not translated has one address for all, whoever was there to see it.
    let mapping = match (classify_mapping(evidence), behind_nat) {
        (MappingBehavior::Unknown, Some(false)) => MappingBehavior::EndpointIndependent,
        (mapping, _) => mapping,
    };
    let mapped: Vec<SocketAddr> = evidence.observations().map(|(_, mapped)| mapped).collect();
    let report = Report {
        mapping,
        filtering: classify_filtering(evidence),
        behind_nat,
        reflexive: evidence.reflexive(),
        hairpin: classify_hairpin(evidence, mapping, behind_nat),
        ports: classify_ports(evidence, prober.local.socket.port()),
        pooling: infer_pooling(&mapped),
        alg: evidence.rewritten,
        udp: true,
        confidence: Confidence::default(),
        evidence: Vec::new(),
        servers: results(prober, true),
    };
    Report {
        confidence: confidence(&report, evidence),
        evidence: explain(&report, evidence),
        ..report
    }
}

/// What was observed before may still hold behind the silence, but nobody can say so.
pub(crate) fn blocked_report(prober: &Prober) -> Report {
    Report {
        evidence: explain_silence(prober.servers.len()),
        servers: results(prober, false),
        ..Report::default()
    }
}

fn results(prober: &Prober, udp: bool) -> Vec<ServerResult> {
    prober
        .servers
        .iter()
        .map(|server| ServerResult {
            server: server.address,
            rtt: server.rtt.filter(|_| udp),
            reflexive: prober.evidence.mapped(server.address).filter(|_| udp),
        })
        .collect()
}

//! Why is this path not direct, and what would help?

use natprobe::{FilteringBehavior, MappingBehavior, Pooling, PortAllocation, Report};

use crate::description::NatSummary;

const EDM: [&str; 2] = ["address-dependent", "address-and-port-dependent"];
const APDF: &str = "address-and-port-dependent";

/// Which direct paths the person allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Any path, the best one first.
    #[default]
    Any,
    /// Through a relay only.
    RelayOnly,
    /// Never through a relay.
    DirectOnly,
}

/// Summarises a report for the description.
pub(crate) fn summary(report: &Report) -> NatSummary {
    let known = |text: String| {
        if text == "unknown" {
            String::new()
        } else {
            text
        }
    };
    let (port_range, port_stride) = match report.ports {
        PortAllocation::Block { first, last } => (Some((first, last)), None),
        PortAllocation::Sequential { stride } => (None, Some(stride)),
        PortAllocation::Preserving | PortAllocation::Random | PortAllocation::Unknown => {
            (None, None)
        }
    };
    NatSummary {
        mapping: known(report.mapping.to_string()),
        filtering: known(report.filtering.to_string()),
        udp: Some(report.udp),
        ports: known(report.ports.to_string()),
        port_range,
        port_stride,
        pooled: (report.pooling == Some(Pooling::Arbitrary)).then_some(true),
        ..NatSummary::default()
    }
}

/// Returns why a relayed path is not direct, in words that name what would change it.
#[must_use]
pub fn why_relayed(policy: Policy, ours: Option<&Report>, theirs: &NatSummary) -> String {
    if policy == Policy::RelayOnly {
        return "this side is configured with `direct: false`".to_owned();
    }
    let Some(ours) = ours else {
        return "the NAT on this side is still being examined; direct paths are being tried"
            .to_owned();
    };
    if !ours.udp {
        return "UDP is blocked on this side's network; allowing outgoing UDP would make a direct path \
                possible"
            .to_owned();
    }
    if theirs.udp == Some(false) {
        return "UDP is blocked on the peer's network; allowing outgoing UDP there would make a direct \
                path possible"
            .to_owned();
    }
    let our_edm = matches!(
        ours.mapping,
        MappingBehavior::AddressDependent | MappingBehavior::AddressAndPortDependent
    );
    let their_edm = EDM.contains(&theirs.mapping.as_str());
    let our_apdf = ours.filtering == FilteringBehavior::AddressAndPortDependent;
    let their_apdf = theirs.filtering == APDF;
    match (our_edm, their_edm) {
        (true, true) => "both NATs pick a new port for every destination; a public address or a \
                         forwarded UDP port on either side would give a direct path"
            .to_owned(),
        (true, false) if their_apdf => one_sided("this side's NAT", "the peer's"),
        (false, true) if our_apdf => one_sided("the peer's NAT", "this side's"),
        _ => "direct paths are being tried; none has answered yet".to_owned(),
    }
}

/// Returns why no path works at all, given why none is direct.
#[must_use]
pub fn why_unreached(policy: Policy, why_not_direct: &str) -> String {
    match policy {
        Policy::Any => format!("no relay leads to the peer; {why_not_direct}"),
        Policy::RelayOnly => format!("no relay leads to the peer, and {why_not_direct}"),
        Policy::DirectOnly => format!(
            "this side is configured with `direct: \"require\"`, which allows no relay; {why_not_direct}"
        ),
    }
}

fn one_sided(picks: &str, filters: &str) -> String {
    format!(
        "{picks} picks a new port for every destination and {filters} filters by port; a public \
         address or a forwarded UDP port on either side would give a direct path"
    )
}

//! Why is this path not direct, and what would help?
//!
//! * `end`: what is known of each end, by its own word; `cause`: which of the possible causes that amounts to;
//! * `remedy`: the cheapest change that would make the path direct; `words`: both as a sentence.
//!
//! All of it is a function of what both ends know of each other (their descriptions), so that both ends name
//! the same cause.

mod cause;
mod end;
mod remedy;
#[cfg(test)]
mod situations;
mod words;

pub use cause::{Cause, Tried};
pub use end::Ends;
pub(crate) use end::{End, Seen};
pub use remedy::Remedy;

use natprobe::{Pooling, PortAllocation, Report};

use crate::description::NatSummary;
use crate::traversal::LedgerEntry;

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

/// Why no direct path works, and what would help. Prints as a sentence for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The cause.
    pub cause: Cause,
    /// The cheapest change that would help; `None` where nothing needs to be changed, or nothing can be.
    pub remedy: Option<Remedy>,
}

impl Diagnosis {
    /// Judges what is known of both ends.
    pub(crate) fn of(ingress: &End, egress: &End, is_early: bool, ledger: &[LedgerEntry]) -> Self {
        let cause = Cause::of(ingress, egress, is_early, ledger);
        let remedy = Remedy::of(cause, ingress, egress);
        Self { cause, remedy }
    }
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

/// Returns why no path works at all, given why none is direct; `policy` is that of the end that `ours` names.
pub(crate) fn why_unreached(policy: Policy, ours: Ends, why_not_direct: &str) -> String {
    match policy {
        Policy::Any => format!("no relay leads to the peer; {why_not_direct}"),
        Policy::RelayOnly => format!("no relay leads to the peer, and {why_not_direct}"),
        Policy::DirectOnly => format!(
            "{} configured with `direct: \"require\"`, which allows no relay; {why_not_direct}",
            words::are(ours)
        ),
    }
}

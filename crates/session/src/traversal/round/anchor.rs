//! The anchor's part: sockets, samples, openers, and the word where they are.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use punch::CandidateKind;

use super::{
    BIRTHDAY_HEAD_START, BIRTHDAY_OPENER_GAP, OPENER_GAP, OPENING, Round, SAMPLING, SETTLING, SLOT,
    Step, Table,
};
use crate::traversal::budget::PROBES_PER_ROUND_MAX;
use crate::traversal::ledger::Outcome;
use crate::traversal::note::{Anchored, Message, Order, Part, Window};
use crate::traversal::plan::{self, SAMPLES, WINDOW, predicted_ranges};
use crate::traversal::profile::Ports;
use crate::traversal::{Action, Strategy, VolleyOrder};

impl Round {
    pub(crate) fn sockets_opened(&mut self, sockets: Vec<SocketAddr>, table: &mut Table<'_>) {
        if self.step != Step::Opening {
            // An earlier round asked for them.
            table.actions.push(Action::Release { sockets });
            return;
        }
        let is_enough = match self.strategy {
            Strategy::Birthday | Strategy::Block => !sockets.is_empty(),
            Strategy::Plain | Strategy::PortMapped | Strategy::Ipv6 | Strategy::Predicted => {
                sockets.len() >= usize::from(SAMPLES)
            }
        };
        self.sockets = sockets;
        if !is_enough {
            self.abandon(Outcome::NoSockets, table);
            return;
        }
        match (self.part, self.strategy) {
            (Part::Both, _) => self.sample_for_a_window(table),
            (_, Strategy::Birthday | Strategy::Block) => self.spread(table),
            (_, _) => self.predict(table),
        }
    }

    /// Sample, openers, sample leave in one burst, so that the anchors' ports lie between those of the samples.
    pub(super) fn predict(&mut self, table: &mut Table<'_>) {
        let before = self.sockets[..1].to_vec();
        self.anchors = self.sockets[usize::from(SAMPLES)..].to_vec();
        if self.anchors.is_empty() {
            self.abandon(Outcome::NoSockets, table);
            return;
        }
        table.actions.push(Action::Sample { sockets: before });
        let openers = self.open_anchors(OPENER_GAP, table);
        let after_at = Some(table.now + SLOT * openers + SLOT);
        self.wait(Step::Sampling { after_at }, SAMPLING, table.now);
    }

    pub(super) fn spread(&mut self, table: &mut Table<'_>) {
        self.anchors = self.sockets.clone();
        let (gap, head_start) = match self.strategy {
            Strategy::Birthday => (BIRTHDAY_OPENER_GAP, BIRTHDAY_HEAD_START),
            Strategy::Plain
            | Strategy::PortMapped
            | Strategy::Ipv6
            | Strategy::Predicted
            | Strategy::Block => (
                OPENER_GAP,
                SLOT * u32::try_from(self.anchors.len()).unwrap_or(0),
            ),
        };
        self.open_anchors(gap, table);
        let at = table.now + head_start;
        self.wait(Step::Announcing { at }, 2 * head_start + OPENING, table.now);
    }

    pub(super) fn sample_for_a_window(&mut self, table: &mut Table<'_>) {
        let before = self.sockets[..1].to_vec();
        self.anchors = self.sockets[1..2].to_vec();
        let sockets = self.anchors.clone();
        let kind = CandidateKind::Predicted;
        table.actions.push(Action::AddAnchors { sockets, kind });
        table.actions.push(Action::Sample { sockets: before });
        self.tally.sockets = 1;
        let step = Step::Sampling { after_at: None };
        self.wait(step, SAMPLING, table.now);
    }

    /// Sends openers from every anchor; returns how many packets one pass has.
    pub(super) fn open_anchors(&mut self, gap: Duration, table: &mut Table<'_>) -> u32 {
        let kind = self.kind();
        let sockets = self.anchors.clone();
        self.tally.sockets = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        table.actions.push(Action::AddAnchors { sockets, kind });
        // One address: a scout whose mapping is stable has one, and every further one costs as many bindings.
        let targets = table.known.targets.iter().take(1);
        let probes: Vec<_> = targets
            .flat_map(|target| self.anchors.iter().map(|anchor| (*anchor, *target)))
            .collect();
        let count = u32::try_from(probes.len()).unwrap_or(u32::MAX);
        table.actions.push(Action::StartVolley(VolleyOrder {
            probes,
            kind,
            openers: true,
            passes: 3,
            gap,
        }));
        count
    }

    pub(crate) fn sampled(
        &mut self,
        socket: SocketAddr,
        mapped: SocketAddr,
        table: &mut Table<'_>,
    ) {
        let is_sample = self.sockets.contains(&socket) && !self.anchors.contains(&socket);
        if !is_sample || !matches!(self.step, Step::Sampling { .. }) {
            return;
        }
        self.samples.insert(socket, mapped);
        let wanted = if self.part == Part::Both { 1 } else { SAMPLES };
        if self.samples.len() >= usize::from(wanted) {
            self.tell_where(table);
        }
    }

    /// All samples are there, or will not come.
    pub(super) fn tell_where(&mut self, table: &mut Table<'_>) {
        let mapped = |index: usize| {
            let socket = self.sockets.get(index)?;
            self.samples.get(socket).copied()
        };
        let (before, after) = (mapped(0), mapped(1));
        let Some(ip) = before.or(after).and_then(v4) else {
            self.abandon(Outcome::NoSamples, table);
            return;
        };
        let stride = match table.known.ours.ports {
            Ports::Sequential { stride } => stride,
            Ports::Unknown | Ports::Preserving | Ports::Block { .. } | Ports::Random => 1,
        };
        if let (Part::Both, Some(before)) = (self.part, before) {
            let first = before.port().wrapping_add_signed(stride);
            let count = u8::try_from(WINDOW).unwrap_or(u8::MAX);
            let window = Window {
                ip,
                first,
                stride,
                count,
            };
            table.send(self.id, Message::Window(window));
            self.wait(Step::Exchanging, table.known.patience(), table.now);
            self.probe_their_window(table);
            return;
        }
        let ranges = if table.known.ours.ports == Ports::Preserving {
            let kept = self.anchors.iter().map(|it| (it.port(), it.port()));
            kept.collect()
        } else {
            let port = |mapped: SocketAddr| mapped.port();
            predicted_ranges(before.map(port), after.map(port), stride)
        };
        self.announce(ip, ranges, Order::AsListed, table);
    }

    pub(super) fn announce(
        &mut self,
        ip: Ipv4Addr,
        ranges: Vec<(u16, u16)>,
        order: Order,
        table: &mut Table<'_>,
    ) {
        let width: u32 = ranges
            .iter()
            .map(|(first, last)| u32::from(last - first) + 1)
            .sum();
        let probes = width.min(u32::from(PROBES_PER_ROUND_MAX));
        let anchored = Anchored {
            strategy: self.strategy,
            sockets: u16::try_from(self.anchors.len()).unwrap_or(u16::MAX),
            probes_max: u16::try_from(probes).unwrap_or(u16::MAX),
            order,
            ip,
            ranges,
        };
        table.send(self.id, Message::Anchored(anchored));
        let patience = SLOT * 2 * probes + SETTLING + 2 * table.known.patience();
        self.wait(Step::Holding, patience, table.now);
    }

    pub(super) fn announce_spread(&mut self, table: &mut Table<'_>) {
        let Some(ip) = table.known.our_ip else {
            self.abandon(Outcome::NoSamples, table);
            return;
        };
        let range = match (self.strategy, table.known.ours.ports) {
            (Strategy::Block, Ports::Block { first, last }) => (first, last),
            _ => plan::all_ports(),
        };
        self.announce(ip, vec![range], Order::Random, table);
    }
}

const fn v4(address: SocketAddr) -> Option<Ipv4Addr> {
    match address {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    }
}

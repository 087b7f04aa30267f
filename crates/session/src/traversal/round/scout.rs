//! The scout's part: whom it probes, and where.

use std::net::{Ipv4Addr, SocketAddr};

use super::{LAST_ANSWERS, Round, SLOT, Step, Table, WINDOW_GAP};
use crate::traversal::ledger::Outcome;
use crate::traversal::note::{Anchored, Order};
use crate::traversal::plan::{self, WINDOW, ports_to_probe};
use crate::traversal::{Action, VolleyOrder};

impl Round {
    /// The scout's turn.
    pub(super) fn probe(&mut self, anchored: &Anchored, table: &mut Table<'_>) {
        let ports = ports_to_probe(anchored, table.rng);
        self.strategy = anchored.strategy;
        self.tally.sockets = u32::from(anchored.sockets);
        let Some(base) = table.known.base.filter(|_| table.known.is_at(anchored.ip)) else {
            tracing::debug!(ip = %anchored.ip, "the peer is not known to be there");
            self.abandon(Outcome::Failed, table);
            return;
        };
        let passes = if anchored.order == Order::AsListed {
            2
        } else {
            1
        };
        self.fire(base, anchored.ip, ports, passes, false, table);
    }

    /// Both: as soon as we know where the peer will be, and have told where we will be.
    pub(super) fn probe_their_window(&mut self, table: &mut Table<'_>) {
        let (Some(window), Step::Exchanging) = (self.their_window, self.step) else {
            return;
        };
        let count = window.count.min(u8::try_from(WINDOW).unwrap_or(u8::MAX));
        let ports = plan::sequence(window.first, window.stride, count).collect();
        let Some(socket) = self
            .anchors
            .first()
            .copied()
            .filter(|_| table.known.is_at(window.ip))
        else {
            self.abandon(Outcome::Failed, table);
            return;
        };
        self.fire(socket, window.ip, ports, 4, true, table);
    }

    pub(super) fn fire(
        &mut self,
        local: SocketAddr,
        ip: Ipv4Addr,
        ports: Vec<u16>,
        passes: u8,
        openers: bool,
        table: &mut Table<'_>,
    ) {
        let count = u32::try_from(ports.len()).unwrap_or(u32::MAX);
        let spent = if openers {
            // Here every probe is a new binding of our own NAT.
            table.budget.spend_bindings(count, table.now)
        } else {
            table.budget.spend_probes(count, table.now)
        };
        self.tally.planned = count;
        if spent.is_err() {
            self.abandon(Outcome::NoBudget, table);
            return;
        }
        let probes = ports
            .into_iter()
            .map(|port| (local, SocketAddr::from((ip, port))))
            .collect();
        table.actions.push(Action::StartVolley(VolleyOrder {
            probes,
            kind: self.kind(),
            openers,
            passes,
            gap: WINDOW_GAP,
        }));
        let patience = (SLOT * count + WINDOW_GAP) * u32::from(passes) + LAST_ANSWERS;
        self.wait(Step::Probing, patience, table.now);
    }
}

//! One mapping for each of our sockets, and one view of them all.

use std::net::SocketAddr;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::keeper::{Command, Keeper, Report};
use crate::route::Gateways;
use crate::timing::Timing;
use crate::view::{Mapping, Presence};

/// Commands that wait for a keeper which is asking its gateway.
const COMMANDS_MAX: usize = 8;
/// Reports that wait to be put together.
const REPORTS_MAX: usize = 16;

/// What is reported; the last one of a kind holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortMapperEvent {
    /// What the gateways speak, as far as is known.
    Presence(Presence),
    /// What they claim to forward: all of it, to be verified from outside before it is believed.
    Mappings(Vec<Mapping>),
    /// Mappings of this gateway were refuted so often that it is left alone until the network changes; the last one.
    GaveUp(Mapping),
}

/// The mappings of a program's sockets. Dropped, it gives them back in the background.
#[derive(Debug)]
pub struct PortMapper {
    commands: Vec<mpsc::Sender<Command>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    timing: Timing,
    _stops: DropGuard,
}

impl PortMapper {
    /// Starts asking for a mapping to each of the sockets, as bound, on this runtime.
    pub fn spawn(
        runtime: &Handle,
        bases: &[SocketAddr],
        events_tx: mpsc::Sender<PortMapperEvent>,
    ) -> Self {
        Self::spawn_with(
            runtime,
            bases,
            events_tx,
            &Gateways::of_system(),
            &Timing::default(),
        )
    }

    /// The same with other gateways than the default ones, or with other times.
    pub fn spawn_with(
        runtime: &Handle,
        bases: &[SocketAddr],
        events_tx: mpsc::Sender<PortMapperEvent>,
        gateways: &Gateways,
        timing: &Timing,
    ) -> Self {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (reports_tx, reports_rx) = mpsc::channel(REPORTS_MAX);
        let mut commands = Vec::new();
        for (index, &base) in bases.iter().enumerate() {
            let (commands_tx, commands_rx) = mpsc::channel(COMMANDS_MAX);
            commands.push(commands_tx);
            let keeper = Keeper {
                index,
                base,
                gateways: gateways.clone(),
                timing: timing.clone(),
                commands_rx,
                reports_tx: reports_tx.clone(),
                stop: stop.clone(),
            };
            tasks.spawn_on(keeper.run(), runtime);
        }
        drop(reports_tx);
        runtime.spawn(put_together(bases.len(), reports_rx, events_tx));
        tasks.close();
        Self {
            commands,
            tasks,
            stop: stop.clone(),
            timing: timing.clone(),
            _stops: stop.drop_guard(),
        }
    }

    /// Says that a mapping was looked at from outside and does not work: it is deleted and made again elsewhere, a few
    /// times. Nothing waits.
    pub fn refuted(&self, external: SocketAddr) {
        self.command(Command::Refuted(external));
    }

    /// Says that addresses or routes changed: what is held is checked, and what was given up is tried again.
    pub fn network_changed(&self) {
        self.command(Command::NetworkChanged);
    }

    fn command(&self, command: Command) {
        for commands in &self.commands {
            if commands.try_send(command).is_err() {
                debug!(?command, "a port mapping's keeper is too busy to hear it");
            }
        }
    }

    /// Gives every mapping back; it takes [`Timing::release`] at most.
    pub async fn release(self) {
        self.stop.cancel();
        if timeout(self.timing.release, self.tasks.wait())
            .await
            .is_err()
        {
            debug!("the gateway did not take every port mapping back in time");
        }
    }
}

/// Puts the keepers' reports together and passes on what is new.
async fn put_together(
    keepers: usize,
    mut reports_rx: mpsc::Receiver<(usize, Report)>,
    events_tx: mpsc::Sender<PortMapperEvent>,
) {
    let mut presences = vec![Presence::default(); keepers];
    let mut mappings: Vec<Option<Mapping>> = vec![None; keepers];
    let mut told = (Presence::default(), Vec::new());
    while let Some((index, report)) = reports_rx.recv().await {
        match report {
            Report::Presence(presence) => presences[index] = presence,
            Report::Mapping(mapping) => mappings[index] = mapping,
            Report::GaveUp(mapping) => {
                let _ = events_tx.send(PortMapperEvent::GaveUp(mapping)).await;
            }
        }
        let presence = presences.iter().copied().reduce(Presence::or);
        let presence = presence.unwrap_or(Presence::absent());
        let all: Vec<Mapping> = mappings.iter().flatten().copied().collect();
        if presence != told.0 {
            told.0 = presence;
            let _ = events_tx.send(PortMapperEvent::Presence(presence)).await;
        }
        if all != told.1 {
            told.1.clone_from(&all);
            let _ = events_tx.send(PortMapperEvent::Mappings(all)).await;
        }
    }
}

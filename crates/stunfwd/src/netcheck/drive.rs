//! The loop around one of natprobe's machines.

use std::ops::ControlFlow;
use std::time::Instant;

use natprobe::{Event, LifetimeEvent, LifetimeSearch, Prober, Sampler, SamplerEvent};
use sansio::{Datagram, Deadline, Transmit};

use super::sockets::Sockets;
use crate::clock::{now, until};

/// What the machines have in common.
pub(super) trait Machine {
    type Event;
    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_transmit(&mut self) -> Option<Transmit>;
    fn poll_event(&mut self) -> Option<Self::Event>;
    fn poll_timeout(&self) -> Option<Deadline>;
}

macro_rules! machine {
    ($machine:ty, $event:ty) => {
        impl Machine for $machine {
            type Event = $event;

            fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) {
                // What is not its own is nobody's: the sockets are for this one machine.
                let _ = Self::handle_datagram(self, datagram, now);
            }

            fn handle_timeout(&mut self, now: Instant) {
                Self::handle_timeout(self, now);
            }

            fn poll_transmit(&mut self) -> Option<Transmit> {
                Self::poll_transmit(self)
            }

            fn poll_event(&mut self) -> Option<Self::Event> {
                Self::poll_event(self)
            }

            fn poll_timeout(&self) -> Option<Deadline> {
                Self::poll_timeout(self)
            }
        }
    };
}

machine!(Prober, Event);
machine!(Sampler, SamplerEvent);
machine!(LifetimeSearch, LifetimeEvent);

/// Runs a machine over its sockets until an event ends it, it has nothing more to do, or `end` has come.
pub(super) async fn drive<M: Machine>(
    machine: &mut M,
    sockets: &mut Sockets,
    end: Instant,
    mut on_event: impl FnMut(M::Event) -> ControlFlow<()>,
) {
    loop {
        while let Some(transmit) = machine.poll_transmit() {
            sockets.send(&transmit).await;
        }
        while let Some(event) = machine.poll_event() {
            if on_event(event).is_break() {
                return;
            }
        }
        let Some(wake) = machine.poll_timeout() else {
            return;
        };
        tokio::select! {
            received = sockets.received() => {
                let datagram = Datagram {
                    local: received.local,
                    remote: received.remote,
                    payload: &received.payload,
                };
                machine.handle_datagram(datagram, now());
            }
            () = until(Some(wake.at)) => machine.handle_timeout(now()),
            () = until(Some(end)) => return,
        }
    }
}

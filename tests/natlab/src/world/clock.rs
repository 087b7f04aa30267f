//! Virtual time: what happens next, to whom.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use rand::RngExt;
use session::{Event, NodeTransmit};

use super::{Arrival, World};
use crate::ping::Ping;

/// Between two looks at the carriers.
const TICK: Duration = Duration::from_millis(50);
/// What Linux binds to port 0.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;
/// A machine whose deadline does not move after so many calls would spin for ever.
const WAKES_MAX: u32 = 20;

impl World {
    /// Lets time pass.
    ///
    /// # Panics
    ///
    /// When anything was logged at level ERROR.
    pub fn run(&mut self, time: Duration) {
        let ran_out = self.run_until(time, |_| false);
        debug_assert!(ran_out.is_none());
    }

    /// Runs until `done`, or until `limit` has passed; returns how long it took.
    ///
    /// # Panics
    ///
    /// When anything was logged at level ERROR.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let log = self.log.clone();
        let took = log.during(|| self.run_unwatched(limit, done));
        let errors = log.take();
        assert!(errors.is_empty(), "SEED={}: logged {errors:?}", self.seed);
        took
    }

    /// The same without an eye on the log, for those who run worlds by the thousand.
    pub fn run_unwatched(
        &mut self,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let begin = self.now;
        while !done(self) {
            if !self.step(begin + limit) {
                return None;
            }
        }
        Some(self.now - begin)
    }

    fn step(&mut self, until: Instant) -> bool {
        let nodes = self.hosts.iter().filter_map(|host| host.deadline);
        let servers = self.servers.iter().filter_map(|it| it.deadline);
        let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
        let next = nodes.chain(servers).chain(arrival).min();
        let next = next.map_or(self.next_tick, |next| next.min(self.next_tick));
        if next > until {
            self.now = until;
            return false;
        }
        self.now = self.now.max(next);
        let now = self.now;
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            if server.deadline.is_some_and(|at| at <= now) {
                let outputs = server.handle_timeout(now);
                self.send_outputs(outputs);
            }
        }
        while let Some(entry) = self.queue.first_entry().filter(|it| it.key().0 <= now) {
            let arrival = entry.remove();
            self.on_arrival(arrival);
        }
        for index in 0..self.hosts.len() {
            self.wake(index);
        }
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            self.tick();
        }
        true
    }

    /// Calls `handle_timeout` until the deadline lies ahead, which must not take long.
    fn wake(&mut self, index: usize) {
        let mut calls = 0;
        while self.hosts[index].deadline.is_some_and(|at| at <= self.now) {
            self.hosts[index].node.handle_timeout(self.now);
            self.drain(index);
            calls += 1;
            assert!(
                calls < WAKES_MAX,
                "SEED={}: no progress: {:?}",
                self.seed,
                self.hosts[index].node.poll_timeout()
            );
        }
    }

    fn tick(&mut self) {
        for index in 0..self.hosts.len() {
            let now = self.now;
            for path in self.hosts[index].on_tick(now) {
                self.send_on(index, path, Ping::on(path));
            }
            self.drain(index);
        }
    }

    // --- the queue ---

    pub(super) fn after(&mut self, delay: Duration, arrival: Arrival) {
        self.schedule(self.now + delay, arrival);
    }

    pub(super) fn schedule(&mut self, at: Instant, arrival: Arrival) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), arrival);
    }

    fn on_arrival(&mut self, arrival: Arrival) {
        let Some(arrival) = self.on_packet(arrival) else {
            return;
        };
        let (elapsed, now) = (self.elapsed(), self.now);
        match arrival {
            Arrival::Description { host, bytes } => {
                self.hosts[host].on_description(&bytes, elapsed, now);
                self.drain(host);
            }
            Arrival::StreamOpened { host, stream } => {
                self.hosts[host].node.relay_stream_opened(stream, now);
                self.drain(host);
            }
            Arrival::StreamFailed { host, stream } => {
                self.hosts[host].node.relay_stream_closed(stream, now);
                self.drain(host);
            }
            Arrival::FrameToServer { client, frame } => self.on_frame_to_server(client, &frame),
            Arrival::FrameToHost { client, frame } => self.on_frame_to_host(client, &frame),
            Arrival::StreamEnded { client } => self.on_stream_ended(client),
            Arrival::Gateway { host } => {
                self.on_gateway(host);
                self.drain(host);
            }
            Arrival::Internet { .. } | Arrival::Site { .. } | Arrival::Lan { .. } => {}
        }
    }

    // --- the driver of a host ---

    /// One mutation, then drain.
    pub(super) fn drain(&mut self, index: usize) {
        loop {
            while let Some(transmit) = self.hosts[index].node.poll_transmit(self.now) {
                match transmit {
                    NodeTransmit::Udp(transmit) => self.send_udp(index, transmit),
                    NodeTransmit::Stream { stream, frame } => {
                        self.send_to_server(index, stream, frame);
                    }
                }
            }
            let Some(event) = self.hosts[index].node.poll_event() else {
                break;
            };
            self.on_event(index, event);
        }
        // Asked once for each mutation: between two of them it does not change.
        let deadline = self.hosts[index].node.poll_timeout();
        self.hosts[index].deadline = deadline.map(|deadline| deadline.at);
    }

    fn on_event(&mut self, index: usize, event: Event) {
        if matches!(event, Event::DescriptionChanged) {
            self.publish(index);
        } else if let Event::OpenRelayStream { stream, server, .. } = event {
            self.dial_server(index, stream, server);
        } else if let Event::CloseRelayStream { stream } = event {
            self.hang_up(index, stream);
        } else if let Event::OpenSockets {
            request,
            ipv6,
            count,
        } = event
        {
            let sockets = self.open_sockets(index, ipv6, count);
            self.hosts[index]
                .node
                .sockets_opened(request, sockets, self.now);
        } else if let Event::CloseSockets { sockets } = event {
            self.hosts[index].close_sockets(&sockets);
        } else {
            if let Event::PortMappingRefuted { .. } = event {
                self.repair_port_mapping(index);
            }
            let dialled =
                if let Event::PathChosen { path, .. } | Event::StandbyChosen { path, .. } = event {
                    Some(path)
                } else {
                    None
                };
            let elapsed = self.elapsed();
            self.hosts[index].on_event(event, elapsed);
            if let Some(path) = dialled {
                self.send_on(index, path, Ping::on(path));
            }
        }
    }

    /// The system gives ports of its ephemeral range.
    fn open_sockets(&mut self, index: usize, ipv6: bool, count: u16) -> Vec<SocketAddr> {
        let mut sockets = Vec::new();
        for _ in 0..2 * count {
            if sockets.len() == usize::from(count) {
                break;
            }
            let port = self.rng.random_range(EPHEMERAL);
            sockets.extend(self.hosts[index].open_socket(ipv6, port));
        }
        sockets
    }

    // --- signaling ---

    pub(super) fn publish(&mut self, index: usize) {
        let bytes = self.hosts[index].node.description().encode();
        if self.hosts[index].published.as_ref() != Some(&bytes) {
            self.hosts[index].published = Some(bytes.clone());
            self.signal(index, &bytes);
        }
    }

    /// Carries a description to everybody of the other side.
    pub(super) fn signal(&mut self, index: usize, bytes: &[u8]) {
        let side = self.hosts[index].config.side;
        for host in 0..self.hosts.len() {
            if self.hosts[host].config.side != side && self.signaling_works {
                let bytes = bytes.to_vec();
                let delay = self.hosts[host].signaling_delay;
                self.after(delay, Arrival::Description { host, bytes });
            }
        }
    }
}

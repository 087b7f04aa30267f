//! TCP connections to the relays.

use std::hash::Hash;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use relay::Transport;
use relay::server::ClientAddr;
use session::RelayStreamId;

use super::{Arrival, SiteId, World};
use crate::ping::{Ping, channel_data};

/// The driver gives a SYN up after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A lost segment is sent again after this (Linux' least), and again and again: checks and pings follow it,
/// so its loss is noticed without back-off (RACK, RFC 8985).
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// What is lost so often is out of luck; a real connection would soon be given up.
const LOSSES_MAX: u32 = 8;
/// A lost SYN is sent again after a second, then after two, then after four (RFC 6298).
const SYN_RETRANSMISSION: Duration = Duration::from_secs(1);
/// The driver dials on further sockets when nothing answers so soon after the start; the first that connects
/// is used.
const DIALS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_millis(1500),
];
/// Outside ports of TCP connections; boxes keep no table of them.
const FIRST_PORT: u16 = 20_000;

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    host: usize,
    stream: RelayStreamId,
    /// When the last byte sent so far arrives: at the server, and at the host.
    last: [Instant; 2],
}

impl World {
    pub(super) fn dial_server(&mut self, index: usize, stream: RelayStreamId, to: SocketAddr) {
        self.sequence += 1;
        let site = self.hosts[index].config.site;
        let ports = u64::from(u16::MAX - FIRST_PORT);
        let port = FIRST_PORT + u16::try_from(self.sequence % ports).unwrap_or_default();
        let root = &self.sites[self.root_of(site).0];
        let own = self.hosts[index].address().ip();
        let ip = if root.is_seen_as(own) {
            own
        } else {
            root.nat.outside()
        };
        let client = ClientAddr {
            remote: SocketAddr::new(ip, port),
            local: to,
            transport: Transport::Tcp,
        };
        let listens = self.servers.iter().any(|it| it.stream_address() == to);
        if !listens || !self.tcp_passes(site, to.port()) || self.is_cut(client) {
            let failed = Arrival::StreamFailed {
                host: index,
                stream,
            };
            self.after(CONNECT_TIMEOUT, failed);
            return;
        }
        let waits = DIALS.map(|start| {
            // Either the SYN or its answer.
            let losses = self.losses(2);
            start + SYN_RETRANSMISSION * (2_u32.pow(losses) - 1)
        });
        let wait = waits.into_iter().min().unwrap_or(CONNECT_TIMEOUT);
        if wait >= CONNECT_TIMEOUT {
            let failed = Arrival::StreamFailed {
                host: index,
                stream,
            };
            self.after(CONNECT_TIMEOUT, failed);
            return;
        }
        let opened_at = self.now + wait + 2 * self.internet.link.delay;
        let host = index;
        self.streams.insert(
            client,
            Stream {
                host,
                stream,
                last: [opened_at; 2],
            },
        );
        self.schedule(opened_at, Arrival::StreamOpened { host, stream });
    }

    pub(super) fn hang_up(&mut self, index: usize, stream: RelayStreamId) {
        if let Some(client) = self.client_of(index, stream) {
            self.streams.remove(&client);
            self.after(self.internet.link.delay, Arrival::StreamEnded { client });
        }
    }

    /// Every TCP connection of a host breaks.
    pub fn break_streams(&mut self, index: usize) {
        let streams = self.streams.values().filter(|it| it.host == index);
        let broken: Vec<_> = streams.map(|it| it.stream).collect();
        for stream in broken {
            self.hang_up(index, stream);
            self.hosts[index].node.relay_stream_closed(stream, self.now);
            self.drain(index);
        }
    }

    pub(super) fn send_to_server(&mut self, index: usize, stream: RelayStreamId, frame: Vec<u8>) {
        let length = stunwire::stream::next_frame(&frame);
        assert!(
            matches!(length, Ok(Some(length)) if length == frame.len()),
            "not one whole frame"
        );
        (index, &frame).hash(&mut self.digest);
        if let Some(client) = self.client_of(index, stream) {
            self.stream_after(client, Arrival::FrameToServer { client, frame });
        }
    }

    pub(super) fn send_from_server(&mut self, client: ClientAddr, frame: Vec<u8>) {
        frame.hash(&mut self.digest);
        if self.streams.contains_key(&client) {
            self.stream_after(client, Arrival::FrameToHost { client, frame });
        }
    }

    pub(super) fn on_frame_to_server(&mut self, client: ClientAddr, frame: &[u8]) {
        let now = self.now;
        if !self.streams.contains_key(&client) {
            return;
        }
        let mut servers = self.servers.iter_mut();
        if let Some(server) = servers.find(|it| it.stream_address() == client.local) {
            let outputs = server.handle_stream(client, frame, now);
            self.send_outputs(outputs);
        }
    }

    pub(super) fn on_frame_to_host(&mut self, client: ClientAddr, frame: &[u8]) {
        let Some(Stream { host, stream, .. }) = self.streams.get(&client).copied() else {
            return;
        };
        let ping = channel_data(frame).and_then(|data| {
            let ping = Ping::decode(data.payload)?;
            Some((data.channel.value(), ping))
        });
        if let Some((channel, ping)) = ping {
            let path = self.hosts[host].stream_path(stream, channel);
            self.on_carrier(host, path, ping);
        } else {
            let node = &mut self.hosts[host].node;
            node.handle_relay_frame(stream, frame, self.now);
        }
        self.drain(host);
    }

    pub(super) fn on_stream_ended(&mut self, client: ClientAddr) {
        let now = self.now;
        let mut servers = self.servers.iter_mut();
        if let Some(server) = servers.find(|it| it.stream_address() == client.local) {
            let outputs = server.handle_stream_gone(client, now);
            self.send_outputs(outputs);
        }
    }

    fn client_of(&self, index: usize, stream: RelayStreamId) -> Option<ClientAddr> {
        self.streams
            .iter()
            .find(|(_, it)| it.host == index && it.stream == stream)
            .map(|(client, _)| *client)
    }

    fn tcp_passes(&self, site: SiteId, port: u16) -> bool {
        let mut next = Some(site);
        while let Some(site) = next {
            if !self.sites[site.0].nat.behavior().tcp.permits(port) {
                return false;
            }
            next = self.sites[site.0].parent;
        }
        true
    }

    fn is_cut(&self, client: ClientAddr) -> bool {
        self.cut.contains(&(client.remote.ip(), client.local.ip()))
    }

    fn is_lost(&mut self) -> bool {
        let loss = self.internet.link.loss;
        loss > 0 && self.rng.random_range(0..100) < loss
    }

    /// Returns how many times segments must be sent again until all of them arrive.
    fn losses(&mut self, segments: u32) -> u32 {
        let mut losses = 0;
        while losses < LOSSES_MAX && (0..segments).filter(|_| self.is_lost()).count() > 0 {
            losses += 1;
        }
        losses
    }

    /// What is sent into a cut line never arrives, and neither does what follows. Loss delays everything
    /// behind it.
    fn stream_after(&mut self, client: ClientAddr, arrival: Arrival) {
        if self.is_cut(client) {
            self.streams.remove(&client);
            self.after(self.internet.link.delay, Arrival::StreamEnded { client });
            return;
        }
        let late = RETRANSMISSION * self.losses(1);
        let at = self.now + self.internet.link.delay + late;
        let to_host = matches!(arrival, Arrival::FrameToHost { .. });
        if let Some(stream) = self.streams.get_mut(&client) {
            let last = &mut stream.last[usize::from(to_host)];
            *last = at.max(*last);
            let at = *last;
            self.schedule(at, arrival);
        }
    }
}

//! TCP connections to the relay.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::RngExt;
use relay::Transport;
use relay::server::ClientAddr;
use session::RelayStreamId;

use super::{Arrival, INTERNET_DELAY, World};

/// The driver gives a SYN up after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A lost segment comes with the next retransmission.
const TCP_PENALTY: Duration = Duration::from_millis(200);

impl World {
    pub(super) fn dial_relay(&mut self, index: usize, stream: RelayStreamId, server: SocketAddr) {
        self.sequence += 1;
        let site = IpAddr::V4(self.sites[self.hosts[index].config.site].public);
        let port = 30_000 + u16::try_from(self.sequence % 30_000).unwrap();
        let remote = SocketAddr::new(site, port);
        let client = ClientAddr {
            remote,
            local: server,
            transport: Transport::Tcp,
        };
        if self.is_cut(client) {
            let failed = Arrival::StreamFailed {
                host: index,
                stream,
            };
            self.after(CONNECT_TIMEOUT, failed);
            return;
        }
        let opened_at = self.now + 2 * INTERNET_DELAY;
        self.streams.insert(client, (index, stream, opened_at));
        self.after(
            2 * INTERNET_DELAY,
            Arrival::StreamOpened {
                host: index,
                stream,
            },
        );
    }

    pub(super) fn hang_up(&mut self, index: usize, stream: RelayStreamId) {
        if let Some(client) = self.client_of(index, stream) {
            self.streams.remove(&client);
            self.after(INTERNET_DELAY, Arrival::StreamEnded { client });
        }
    }

    /// Every TCP connection of a host breaks.
    pub(crate) fn break_streams(&mut self, index: usize) {
        let broken: Vec<_> = self
            .streams
            .values()
            .filter(|it| it.0 == index)
            .map(|it| it.1)
            .collect();
        for stream in broken {
            self.hang_up(index, stream);
            self.hosts[index].node.relay_stream_closed(stream, self.now);
            self.drain(index);
        }
    }

    fn client_of(&self, index: usize, stream: RelayStreamId) -> Option<ClientAddr> {
        self.streams
            .iter()
            .find(|(_, it)| it.0 == index && it.1 == stream)
            .map(|(it, _)| *it)
    }

    pub(super) fn send_to_relay(&mut self, index: usize, stream: RelayStreamId, frame: Vec<u8>) {
        let length = stunwire::stream::next_frame(&frame).unwrap();
        assert_eq!(length, Some(frame.len()), "not one whole frame");
        if let Some(client) = self.client_of(index, stream) {
            self.stream_after(client, Arrival::StreamToRelay { client, frame });
        }
    }

    pub(super) fn send_from_relay(&mut self, client: ClientAddr, frame: Vec<u8>) {
        if let Some((host, stream, _)) = self.streams.get(&client).copied() {
            self.stream_after(
                client,
                Arrival::StreamToHost {
                    host,
                    stream,
                    frame,
                },
            );
        }
    }

    fn is_cut(&self, client: ClientAddr) -> bool {
        self.cut.contains(&(client.remote.ip(), client.local.ip()))
    }

    /// What is sent into a cut line never arrives, and neither does what follows. Loss delays everything behind it; one order for both directions is strict enough.
    fn stream_after(&mut self, client: ClientAddr, arrival: Arrival) {
        if self.is_cut(client) {
            self.streams.remove(&client);
            self.after(INTERNET_DELAY, Arrival::StreamEnded { client });
            return;
        }
        let is_lost = self.rng.random_range(0..100) < self.loss_percent;
        let penalty = if is_lost { TCP_PENALTY } else { Duration::ZERO };
        let Some((_, _, last)) = self.streams.get_mut(&client) else {
            return;
        };
        let at = (self.now + INTERNET_DELAY + penalty).max(*last);
        *last = at;
        let delay = at - self.now;
        self.after(delay, arrival);
    }
}

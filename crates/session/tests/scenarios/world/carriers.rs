//! Pings on paths, over the routes that nodes announced.

use std::net::SocketAddr;

use sansio::Transmit;
use session::{PathId, Route};
use stunwire::{ChannelData, ChannelNumber};

use super::World;
use super::host::Ping;

impl World {
    pub(super) fn on_carrier(&mut self, index: usize, path: Option<PathId>, ping: Ping) {
        let now = self.now;
        if let Some((path, answer)) = self.hosts[index].on_carrier(path, ping, now) {
            self.send_on(index, path, answer);
        }
    }

    pub(super) fn ping(&mut self, index: usize, path: PathId) {
        let now = self.now;
        self.hosts[index].on_pinged(path, now);
        self.send_on(index, path, Ping::on(path));
    }

    fn send_on(&mut self, index: usize, path: PathId, ping: Ping) {
        let Some((_, route)) = self.hosts[index].routes.get(&path).copied() else {
            return;
        };
        let payload = ping.encode();
        match route {
            Route::Direct { local, remote } => self.send_udp(index, udp(local, remote, payload)),
            Route::RelayedUdp {
                local,
                server,
                channel,
            } => {
                let payload = in_channel(channel, &payload);
                self.send_udp(index, udp(local, server, payload));
            }
            Route::RelayedStream { stream, channel } => {
                let mut frame = in_channel(channel, &payload);
                frame.resize(frame.len().next_multiple_of(4), 0);
                self.send_to_relay(index, stream, frame);
            }
        }
    }
}

const fn udp(source: SocketAddr, destination: SocketAddr, payload: Vec<u8>) -> Transmit {
    Transmit {
        source,
        destination,
        ttl: None,
        payload,
    }
}

fn in_channel(channel: u16, payload: &[u8]) -> Vec<u8> {
    let channel = ChannelNumber::new(channel).unwrap();
    let mut frame = ChannelData::header(channel, u16::try_from(payload.len()).unwrap()).to_vec();
    frame.extend_from_slice(payload);
    frame
}

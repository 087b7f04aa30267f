//! Payloads through the relay: ChannelData where a channel is open, Send and Data indications otherwise.

use std::net::SocketAddr;
use std::time::Instant;

use sansio::Transactions;
use stunwire::{
    ChannelData, ChannelNumber, Class, Data, Message, MessageBuilder, Method, XorPeerAddress,
};

use super::{Client, Received};
use crate::PeerAddr;
use crate::transport::{Transport, padding};

/// The largest payload taken: what fits an IP packet together with the headers of an indication.
const PAYLOAD_MAX: usize = 65_000;

/// Header, XOR-PEER-ADDRESS of IPv6, and the head of DATA.
const INDICATION_ROOM: usize = 20 + 24 + 4;

impl Client {
    /// Sends a payload to a peer. Returns `false`, and counts it, when there is no allocation or the payload
    /// is larger than 65,000 bytes.
    ///
    /// Without a channel it goes as a Send indication, which the relay drops unless there is a permission:
    /// `bind` first.
    pub fn send(&mut self, peer: SocketAddr, payload: &[u8], now: Instant) -> bool {
        if self.relayed().is_none() {
            self.stats.unsent += 1;
            return false;
        }
        if payload.len() > PAYLOAD_MAX {
            self.stats.oversized += 1;
            return false;
        }
        let peer = PeerAddr::new(peer);
        let frame = match self.channels.open(peer, now) {
            Some(channel) => Some(self.channel_data(channel, payload)),
            None => self.send_indication(peer, payload),
        };
        let Some(frame) = frame else { return false };
        self.transmit(frame, now)
    }

    /// Returns the channel that is open to a peer, as of the last input.
    #[must_use]
    pub fn channel(&self, peer: SocketAddr) -> Option<ChannelNumber> {
        self.relayed()?;
        self.channels.open(PeerAddr::new(peer), self.now)
    }

    pub(super) fn handle_channel_data<'a>(
        &mut self,
        payload: &'a [u8],
        now: Instant,
    ) -> Received<'a> {
        let Ok(data) = ChannelData::decode(payload) else {
            self.stats.malformed += 1;
            return Received::Consumed;
        };
        let Some(peer) = self
            .channels
            .peer(data.channel)
            .filter(|_| self.relayed().is_some())
        else {
            self.stats.unknown_channels += 1;
            return Received::Consumed;
        };
        self.liveness.on_heard(now);
        Received::Data {
            peer: peer.get(),
            payload: data.payload,
        }
    }

    pub(super) fn handle_data_indication<'a>(
        &mut self,
        message: Message<'a>,
        now: Instant,
    ) -> Received<'a> {
        let (Ok(XorPeerAddress(peer)), Ok(Data(payload))) = (message.read(), message.read()) else {
            self.stats.malformed += 1;
            return Received::Consumed;
        };
        if self.relayed().is_none() {
            return Received::Consumed;
        }
        self.liveness.on_heard(now);
        Received::Data { peer, payload }
    }

    fn channel_data(&self, channel: ChannelNumber, payload: &[u8]) -> Vec<u8> {
        let pad = match self.config.transport {
            Transport::Udp => 0,
            Transport::Tcp => padding(payload.len()),
        };
        let len = u16::try_from(payload.len()).expect("the caller has checked PAYLOAD_MAX");
        let mut frame = Vec::with_capacity(4 + payload.len() + pad);
        frame.extend_from_slice(&ChannelData::header(channel, len));
        frame.extend_from_slice(payload);
        frame.resize(frame.len() + pad, 0);
        frame
    }

    fn send_indication(&mut self, peer: PeerAddr, payload: &[u8]) -> Option<Vec<u8>> {
        let id = Transactions::<()>::draw_id(&mut self.rng);
        let mut frame = vec![0; INDICATION_ROOM + payload.len() + padding(payload.len())];
        let encoded = MessageBuilder::new(&mut frame, Class::Indication, Method::SEND, id)
            .and_then(|builder| builder.attribute(&XorPeerAddress(peer.get())))
            .and_then(|builder| builder.attribute(&Data(payload)))
            .map(|builder| builder.finish().len());
        match encoded {
            Ok(len) => {
                frame.truncate(len);
                Some(frame)
            }
            Err(_) => {
                self.stats.oversized += 1;
                None
            }
        }
    }
}

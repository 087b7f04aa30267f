//! Packets on their way through: no copy, no allocation.

use std::time::Instant;

use rand::rngs::StdRng;
use sansio::Transactions;
use stunwire::{
    AttributeType, ChannelData, Class, Data, Message, MessageBuilder, Method, TransactionId,
    XorPeerAddress,
};

use super::address_rules::Scope;
use super::allocations::Allocation;
use super::five_tuple::{ClientAddr, RelayPort};
use super::{Server, ServerStats};
use crate::transport::padding;
use crate::{PeerAddr, RelayedAddr, Transport};

/// What to do with a packet that came in; it borrows from that packet.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub enum Forward<'a> {
    /// Nothing: it was a request (its answer is a command), or it was dropped and counted.
    Nothing,
    /// Send the payload from the relay port to the peer.
    ToPeer {
        /// From which of the relay's sockets.
        port: RelayPort,
        /// Where to.
        peer: PeerAddr,
        /// What.
        payload: &'a [u8],
    },
    /// Send the frame to the client, as a datagram or on its stream.
    ToClient {
        /// Which client.
        client: ClientAddr,
        /// What.
        frame: Frame<'a>,
    },
}

/// Header, XOR-PEER-ADDRESS of IPv6, and the head of DATA: the longest head there is.
const HEAD_MAX: usize = 20 + 24 + 4;

/// A message to a client: a head of its own, a payload that lies where it came in, and padding.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    head: [u8; HEAD_MAX],
    head_len: u8,
    payload: &'a [u8],
    padding: u8,
}

impl<'a> Frame<'a> {
    /// Returns the bytes in their order, for a vectored write.
    #[must_use]
    pub fn slices(&self) -> [&[u8]; 3] {
        let padding: &[u8; 3] = &[0; 3];
        [
            &self.head[..usize::from(self.head_len)],
            self.payload,
            &padding[..usize::from(self.padding)],
        ]
    }

    /// Returns how many bytes it has.
    #[must_use]
    pub const fn byte_len(&self) -> usize {
        self.head_len as usize + self.payload.len() + self.padding as usize
    }

    /// Appends the bytes to a buffer.
    pub fn write_to(&self, buffer: &mut Vec<u8>) {
        for slice in self.slices() {
            buffer.extend_from_slice(slice);
        }
    }

    /// ChannelData: four bytes before the payload, padded on a stream only (RFC 8656, section 12.5).
    fn channel_data(
        channel: stunwire::ChannelNumber,
        payload: &'a [u8],
        transport: Transport,
    ) -> Option<Self> {
        let len = u16::try_from(payload.len()).ok()?;
        let mut head = [0; HEAD_MAX];
        head[..4].copy_from_slice(&ChannelData::header(channel, len));
        let padding = match transport {
            Transport::Udp => 0,
            Transport::Tcp => padded(payload),
        };
        Some(Self {
            head,
            head_len: 4,
            payload,
            padding,
        })
    }

    /// A Data indication, of which the codec writes all but the payload.
    fn data_indication(id: TransactionId, peer: PeerAddr, payload: &'a [u8]) -> Option<Self> {
        let mut head = [0; HEAD_MAX];
        let builder = MessageBuilder::new(&mut head, Class::Indication, Method::DATA, id).ok()?;
        let before = builder
            .attribute(&XorPeerAddress(peer.get()))
            .ok()?
            .finish()
            .len();
        let padding = padded(payload);
        let value_len = u16::try_from(payload.len()).ok()?;
        let total = before - 20 + 4 + payload.len() + usize::from(padding);
        head[2..4].copy_from_slice(&u16::try_from(total).ok()?.to_be_bytes());
        head[before..before + 2].copy_from_slice(&AttributeType::DATA.value().to_be_bytes());
        head[before + 2..before + 4].copy_from_slice(&value_len.to_be_bytes());
        let head_len = u8::try_from(before + 4).ok()?;
        Some(Self {
            head,
            head_len,
            payload,
            padding,
        })
    }
}

fn padded(payload: &[u8]) -> u8 {
    u8::try_from(padding(payload.len())).expect("less than four")
}

impl Server {
    pub(super) fn forward_channel_data<'a>(
        &mut self,
        client: ClientAddr,
        payload: &'a [u8],
        now: Instant,
    ) -> Forward<'a> {
        let Ok(data) = ChannelData::decode(payload) else {
            self.stats.malformed += 1;
            return Forward::Nothing;
        };
        let Some(allocation) = self.allocations.open_of(&client) else {
            self.stats.without_allocation += 1;
            return Forward::Nothing;
        };
        let Some(peer) = allocation.channels.peer(data.channel, now) else {
            self.stats.without_channel += 1;
            return Forward::Nothing;
        };
        let (port, relayed) = (allocation.port, allocation.relayed);
        let scope = allocation.permissions.scope(peer.ip(), now);
        self.forward_to_peer(port, relayed, scope, peer, data.payload, now)
    }

    pub(super) fn forward_send<'a>(
        &mut self,
        client: ClientAddr,
        message: &Message<'a>,
        now: Instant,
    ) -> Forward<'a> {
        let known = [AttributeType::XOR_PEER_ADDRESS, AttributeType::DATA];
        // DONT-FRAGMENT is among the unknown: the indication is dropped then (RFC 8656, section 10.2).
        let unknown = message.unknown_required(&known).next().is_some();
        let (Ok(XorPeerAddress(peer)), Ok(Data(payload)), false) =
            (message.read(), message.read(), unknown)
        else {
            self.stats.malformed += 1;
            return Forward::Nothing;
        };
        let Some(allocation) = self.allocations.open_of(&client) else {
            self.stats.without_allocation += 1;
            return Forward::Nothing;
        };
        let peer = PeerAddr::new(peer);
        let (port, relayed) = (allocation.port, allocation.relayed);
        let scope = allocation.permissions.scope(peer.ip(), now);
        self.forward_to_peer(port, relayed, scope, peer, payload, now)
    }

    /// A packet from a peer, or from another allocation as if it had come through the network.
    pub(super) fn forward_from_peer<'a>(
        &mut self,
        port: RelayPort,
        from: PeerAddr,
        payload: &'a [u8],
        now: Instant,
    ) -> Forward<'a> {
        let Some(allocation) = self.allocations.open_at(port) else {
            self.stats.without_allocation += 1;
            return Forward::Nothing;
        };
        enclose(
            allocation,
            from,
            payload,
            &mut self.rng,
            &mut self.stats,
            now,
        )
    }

    fn forward_to_peer<'a>(
        &mut self,
        port: RelayPort,
        relayed: RelayedAddr,
        scope: Option<Scope>,
        peer: PeerAddr,
        payload: &'a [u8],
        now: Instant,
    ) -> Forward<'a> {
        let Some(scope) = scope else {
            self.stats.without_permission += 1;
            return Forward::Nothing;
        };
        if let Some(other) = self.allocations.open_behind(RelayedAddr::new(peer.get())) {
            let from = PeerAddr::new(relayed.get());
            let forward = enclose(other, from, payload, &mut self.rng, &mut self.stats, now);
            if matches!(forward, Forward::ToClient { .. }) {
                self.stats.in_process += 1;
            }
            return forward;
        }
        let somebody = match scope {
            Scope::Anywhere => true,
            Scope::ClientsOnly => self.allocations.is_udp_source(peer.get()),
            Scope::AllocationsOnly => false,
        };
        if !somebody {
            self.stats.to_nobody += 1;
            return Forward::Nothing;
        }
        self.stats.to_peers += 1;
        self.stats.to_peers_bytes += payload.len() as u64;
        Forward::ToPeer {
            port,
            peer,
            payload,
        }
    }
}

/// Wraps a peer's payload for the client of an allocation, if the peer is let in.
fn enclose<'a>(
    allocation: &Allocation,
    from: PeerAddr,
    payload: &'a [u8],
    rng: &mut StdRng,
    stats: &mut ServerStats,
    now: Instant,
) -> Forward<'a> {
    if allocation.permissions.scope(from.ip(), now).is_none() {
        stats.without_permission += 1;
        return Forward::Nothing;
    }
    let client = allocation.client;
    let frame = match allocation.channels.number(from, now) {
        Some(channel) => Frame::channel_data(channel, payload, client.transport),
        None => Frame::data_indication(Transactions::<()>::draw_id(rng), from, payload),
    };
    let Some(frame) = frame else {
        stats.oversized += 1;
        return Forward::Nothing;
    };
    stats.to_clients += 1;
    stats.to_clients_bytes += payload.len() as u64;
    Forward::ToClient { client, frame }
}

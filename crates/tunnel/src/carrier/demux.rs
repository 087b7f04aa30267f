//! Whose packet is this? Pure: source address first, then first byte (`ChannelData` and QUIC overlap).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;

use super::routes::RouteTable;
use super::virtual_addr::{Route, VirtualAddr};

/// The channel numbers that may be bound, RFC 8656, section 12.
pub(super) const CHANNEL_FIRST: u16 = 0x4000;
/// The last of them.
pub(super) const CHANNEL_LAST: u16 = 0x4fff;

/// Channel number and length, RFC 8656, section 12.4.
pub(super) const CHANNEL_HEADER_LEN: usize = 4;

/// A STUN header, RFC 8489, section 5.
const STUN_HEADER_LEN: usize = 20;

/// What a client must pad its first packets to, RFC 9000, section 14.1.
const QUIC_INITIAL_LEN_MIN: usize = 1200;

/// The fixed bit of QUIC, set in every packet of a peer that does not grease it; ours never do.
const QUIC_FIXED_BIT: u8 = 0x40;

/// The header form bit of QUIC, set before the handshake is done.
const QUIC_LONG_HEADER: u8 = 0x80;

/// What one packet is, and so where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A QUIC packet from a mapped route; the range is the packet without a relay's header.
    Quic(VirtualAddr, Range<usize>),
    /// STUN, or `ChannelData` of a channel that carries something else.
    Control,
    /// The beginning of a QUIC handshake over a route that is not installed yet.
    Early(Route, Range<usize>),
    /// Some other QUIC packet without a route.
    Unmapped,
    /// Nothing that we speak.
    Unknown,
}

/// Tells what `packet`, received from `remote` on the socket bound to `local`, is. Addresses are canonical.
pub(super) fn classify(
    table: &RouteTable,
    relay_servers: &BTreeSet<SocketAddr>,
    local: SocketAddr,
    remote: SocketAddr,
    packet: &[u8],
) -> Verdict {
    let Some(&first) = packet.first() else {
        return Verdict::Unknown;
    };
    if relay_servers.contains(&remote) {
        return match first {
            0..=3 => Verdict::Control,
            0x40..=0x4f => classify_channel_data(table, local, remote, packet),
            _ => Verdict::Unknown,
        };
    }
    if looks_like_stun(packet) {
        return Verdict::Control;
    }
    if first & QUIC_FIXED_BIT == 0 {
        return Verdict::Unknown;
    }
    let whole = 0..packet.len();
    match table.direct(local, remote) {
        Some(addr) => Verdict::Quic(addr, whole),
        None if starts_a_handshake(packet) => {
            Verdict::Early(Route::Direct { local, remote }, whole)
        }
        None => Verdict::Unmapped,
    }
}

fn classify_channel_data(
    table: &RouteTable,
    local: SocketAddr,
    server: SocketAddr,
    packet: &[u8],
) -> Verdict {
    let Some((channel, payload)) = channel_data(packet) else {
        return Verdict::Unknown;
    };
    // Checks of a kept path come over the same channel as its packets (RFC 9443: told by the first byte).
    if packet[payload.start] & QUIC_FIXED_BIT == 0 {
        return Verdict::Control;
    }
    if let Some(addr) = table.channel(local, server, channel) {
        return Verdict::Quic(addr, payload);
    }
    if starts_a_handshake(&packet[payload.clone()]) {
        return Verdict::Early(
            Route::RelayedUdp {
                local,
                server,
                channel,
            },
            payload,
        );
    }
    Verdict::Control
}

/// Channel number and place of the payload; what follows the payload is padding. `None` when it is cut short.
fn channel_data(packet: &[u8]) -> Option<(u16, Range<usize>)> {
    let [channel_high, channel_low, length_high, length_low] = *packet.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let payload = CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + length;
    (length > 0 && payload.end <= packet.len())
        .then_some((u16::from_be_bytes([channel_high, channel_low]), payload))
}

/// Two zero bits, a whole header, and a length that is the packet's: all that RFC 3489 and 8489 share.
fn looks_like_stun(packet: &[u8]) -> bool {
    let (Some(kind), Some(length)) = (packet.first(), packet.get(2..4)) else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    *kind <= 3 && packet.len() == STUN_HEADER_LEN + length && length % 4 == 0
}

fn starts_a_handshake(packet: &[u8]) -> bool {
    packet.len() >= QUIC_INITIAL_LEN_MIN
        && packet.first().is_some_and(|first| {
            first & (QUIC_LONG_HEADER | QUIC_FIXED_BIT) == QUIC_LONG_HEADER | QUIC_FIXED_BIT
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "0.0.0.0:1000";
    const PEER: &str = "192.0.2.1:2000";
    const SERVER: &str = "192.0.2.9:3478";

    struct World {
        table: RouteTable,
        relays: BTreeSet<SocketAddr>,
        direct: VirtualAddr,
        relayed: VirtualAddr,
    }

    fn world() -> World {
        let mut table = RouteTable::new(tokio::time::Instant::now().into_std());
        let (direct, relayed) = (table.allocate(), table.allocate());
        let local = LOCAL.parse().unwrap();
        table
            .install(
                direct,
                Route::Direct {
                    local,
                    remote: PEER.parse().unwrap(),
                },
            )
            .unwrap();
        let route = Route::RelayedUdp {
            local,
            server: SERVER.parse().unwrap(),
            channel: 0x4001,
        };
        table.install(relayed, route).unwrap();
        World {
            table,
            relays: [SERVER.parse().unwrap()].into(),
            direct,
            relayed,
        }
    }

    impl World {
        fn classify(&self, remote: &str, packet: &[u8]) -> Verdict {
            classify(
                &self.table,
                &self.relays,
                LOCAL.parse().unwrap(),
                remote.parse().unwrap(),
                packet,
            )
        }
    }

    #[test]
    fn a_check_in_a_mapped_channel_is_not_taken_for_a_carriers_packet() {
        let mut packet = vec![0x40, 0x01, 0x00, 24];
        packet.extend_from_slice(&stun());
        assert_eq!(world().classify(SERVER, &packet), Verdict::Control);
    }

    fn stun() -> Vec<u8> {
        let mut packet = vec![0x00, 0x01, 0x00, 0x04, 0x21, 0x12, 0xa4, 0x42];
        packet.resize(24, 7);
        packet
    }

    fn channel_data_packet(channel: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap();
        [&channel.to_be_bytes()[..], &length.to_be_bytes(), payload].concat()
    }

    #[test]
    fn the_same_first_byte_is_channel_data_from_a_relay_and_quic_from_a_peer() {
        let world = world();
        let packet = channel_data_packet(0x4001, b"\x41quic");
        assert_eq!(
            world.classify(SERVER, &packet),
            Verdict::Quic(world.relayed, 4..9)
        );
        assert_eq!(
            world.classify(PEER, &packet),
            Verdict::Quic(world.direct, 0..9)
        );
    }

    #[test]
    fn stun_is_control_from_anybody() {
        let world = world();
        for remote in [SERVER, PEER, "203.0.113.5:9"] {
            assert_eq!(
                world.classify(remote, &stun()),
                Verdict::Control,
                "{remote}"
            );
        }
    }

    #[test]
    fn a_stranger_that_says_neither_stun_nor_quic_is_unknown() {
        let world = world();
        let mut short = stun();
        short.pop();
        for packet in [
            &b""[..],
            b"\x00",
            b"\x03\x00\x00\x00",
            &short,
            b"\x16\x03\x01",
            b"\x80long without fixed bit",
        ] {
            assert_eq!(
                world.classify("203.0.113.5:9", packet),
                Verdict::Unknown,
                "{packet:?}"
            );
        }
    }

    #[test]
    fn a_channel_without_a_route_is_control() {
        let world = world();
        let packet = channel_data_packet(0x4002, b"\x00hello");
        assert_eq!(world.classify(SERVER, &packet), Verdict::Control);
    }

    #[test]
    fn channel_data_cut_short_is_unknown_and_its_padding_is_left_out() {
        let world = world();
        let mut packet = channel_data_packet(0x4001, b"\x41quic");
        packet.extend_from_slice(&[0, 0, 0]);
        assert_eq!(
            world.classify(SERVER, &packet),
            Verdict::Quic(world.relayed, 4..9)
        );
        assert_eq!(world.classify(SERVER, &packet[..8]), Verdict::Unknown);
        assert_eq!(
            world.classify(SERVER, &[0x40, 0x01, 0, 0]),
            Verdict::Unknown
        );
    }

    #[test]
    fn an_initial_from_an_unmapped_source_never_reaches_quinn() {
        let world = world();
        let mut initial = vec![0xc3; 1200];
        let remote: SocketAddr = "203.0.113.5:9".parse().unwrap();
        let early = Route::Direct {
            local: LOCAL.parse().unwrap(),
            remote,
        };
        assert_eq!(
            world.classify("203.0.113.5:9", &initial),
            Verdict::Early(early, 0..1200)
        );
        initial.truncate(1199);
        assert_eq!(world.classify("203.0.113.5:9", &initial), Verdict::Unmapped);
        assert_eq!(
            world.classify("203.0.113.5:9", &[0x41; 1300]),
            Verdict::Unmapped
        );
    }

    #[test]
    fn a_relay_that_speaks_quic_itself_is_unknown() {
        assert_eq!(world().classify(SERVER, &[0xc3; 1200]), Verdict::Unknown);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(packet in proptest::collection::vec(proptest::num::u8::ANY, 0..1500), relay: bool) {
            let world = world();
            let verdict = world.classify(if relay { SERVER } else { PEER }, &packet);
            if let Verdict::Quic(_, range) | Verdict::Early(_, range) = verdict {
                proptest::prop_assert!(range.end <= packet.len() && !range.is_empty());
            }
        }
    }
}

//! How QUIC is set up: every value that is not quinn's default, with its reason.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{EndpointConfig, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt};

use super::endpoint::Side;

/// How long TLS may take, and how long the proof after it: a path that was just validated answers in well under one.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// What quinn's reassembly bears under loss (facts/quinn-socket.md, section 7); 2 MiB is the ceiling. 1.25 MB is
/// 100 Mbit/s at 100 ms for one flow.
const STREAM_WINDOW_BYTES: u32 = 1_250_000;

/// The path MTU of Ethernet less IPv6 and UDP headers.
const MTU_DIRECT: u16 = 1452;

/// As above less `ChannelData`'s header, rounded down for tunnels in front of relays.
const MTU_RELAYED: u16 = 1400;

/// quinn's assumption about an unknown round trip; the first packet is repeated after three of them.
const INITIAL_RTT_MAX: Duration = Duration::from_millis(333);

/// Below this a repetition would overtake the peer's own computing.
const INITIAL_RTT_MIN: Duration = Duration::from_millis(20);

/// Handshakes that quinn holds before we take them. Each came over a mapped route.
const INCOMING_MAX: usize = 16;
const INCOMING_BUFFER_BYTES: u64 = 64 << 10;
const INCOMING_BUFFER_TOTAL_BYTES: u64 = 1 << 20;

/// Datagrams that wait on either side; the oldest are dropped. 20 ms at 400 Mbit/s.
const DATAGRAM_BUFFER_BYTES: usize = 1 << 20;

/// Streams that the egress takes beyond the flows: the first stream, the control flow, and flows that end.
pub(super) const STREAMS_BESIDE_FLOWS: u32 = 16;

/// The settings of one endpoint.
pub(super) fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    // Packets without the fixed bit could be anything: the demultiplexer relies on it.
    config.grease_quic_bit(false);
    config
}

/// The settings of one connection. `rtt` is what the path's check measured.
pub(super) fn transport_config(
    side: Side,
    relayed: bool,
    rtt: Option<Duration>,
) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(if relayed { MTU_RELAYED } else { MTU_DIRECT });
    let mut config = TransportConfig::default();
    config
        // `session` judges paths; an outage of an hour ends nothing here.
        .max_idle_timeout(None)
        .keep_alive_interval(None)
        // Only the ingress opens streams, and only one before the proof.
        .max_concurrent_bidi_streams(match side {
            Side::Ingress => VarInt::from_u32(0),
            Side::Egress => VarInt::from_u32(1),
        })
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .mtu_discovery_config(Some(mtu))
        .allow_spin(false)
        .initial_rtt(initial_rtt(rtt));
    config
}

/// What of the server's settings is ours; the transport's are added per route.
pub(super) fn limit_incoming(config: &mut ServerConfig) {
    config
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL_BYTES);
}

/// Half as much again as measured, since the first answer also takes some computing.
fn initial_rtt(rtt: Option<Duration>) -> Duration {
    rtt.map_or(INITIAL_RTT_MAX, |rtt| {
        (rtt * 3 / 2).clamp(INITIAL_RTT_MIN, INITIAL_RTT_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_repetition_follows_the_measured_round_trip() {
        assert_eq!(initial_rtt(None), Duration::from_millis(333));
        assert_eq!(
            initial_rtt(Some(Duration::from_millis(100))),
            Duration::from_millis(150)
        );
        assert_eq!(
            initial_rtt(Some(Duration::from_micros(50))),
            Duration::from_millis(20)
        );
        assert_eq!(
            initial_rtt(Some(Duration::from_secs(4))),
            Duration::from_millis(333)
        );
    }
}

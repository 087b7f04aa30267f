//! The way through the server: nothing is copied, and only what is let in passes.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly too")]

mod world;

use std::ops::Range;

use relay::Transport;
use relay::server::{Forward, Server};
use stunwire::{ChannelData, ChannelNumber, Data, Message, Method, XorPeerAddress};
use world::raw::{Raw, tlv};
use world::{addr, client_addr, epoch, server_config};

const PEER: &str = "198.51.100.7:5000";

fn within(outer: &[u8], inner: &[u8]) -> bool {
    let Range { start, end } = outer.as_ptr_range();
    let inner = inner.as_ptr_range();
    start <= inner.start && inner.end <= end
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = ChannelData::header(ChannelNumber::FIRST, payload.len() as u16).to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// Binds the first channel to a peer.
fn bind(raw: &mut Raw, server: &mut Server, peer: &str, now: std::time::Instant) {
    let attributes = |id| {
        vec![
            tlv(&ChannelNumber::FIRST, id),
            tlv(&XorPeerAddress(addr(peer)), id),
        ]
    };
    assert_eq!(raw.code(server, Method::CHANNEL_BIND, attributes, now), 0);
}

#[test]
fn channel_data_to_a_peer_is_a_slice_of_what_came_in() {
    let now = epoch();
    let mut server = Server::new(server_config(now), [1; 32], now);
    let client = client_addr("192.0.2.10:40000", Transport::Udp);
    let mut raw = Raw::new(&mut server, client, "alice", now);
    let relay_port = raw.allocate(&mut server, now);
    bind(&mut raw, &mut server, PEER, now);
    let input = frame(b"hello");
    let Forward::ToPeer {
        port,
        peer,
        payload,
    } = server.handle_client(client, &input, now)
    else {
        panic!("not forwarded");
    };
    assert_eq!(
        (port, peer.get(), payload),
        (relay_port, addr(PEER), &b"hello"[..])
    );
    assert!(within(&input, payload));
    assert_eq!(server.poll_command(), None);
    assert_eq!(
        (server.stats().to_peers, server.stats().to_peers_bytes),
        (1, 5)
    );
}

#[test]
fn a_peers_packet_gets_a_head_and_is_not_copied() {
    for (transport, padding) in [(Transport::Udp, 0), (Transport::Tcp, 3)] {
        let now = epoch();
        let mut server = Server::new(server_config(now), [1; 32], now);
        let client = client_addr("192.0.2.10:40000", transport);
        let mut raw = Raw::new(&mut server, client, "alice", now);
        let port = raw.allocate(&mut server, now);
        bind(&mut raw, &mut server, PEER, now);
        let input = b"hello".to_vec();
        let Forward::ToClient { client: to, frame } =
            server.handle_peer(port, addr(PEER), &input, now)
        else {
            panic!("not forwarded");
        };
        assert_eq!(to, client);
        let [head, payload, pad] = frame.slices();
        assert_eq!(head, [0x40, 0, 0, 5]);
        assert!(within(&input, payload));
        assert_eq!(pad.len(), padding);
        assert_eq!(frame.byte_len(), 9 + padding);
    }
}

#[test]
fn a_peer_without_channel_comes_as_a_data_indication_of_one_piece() {
    let now = epoch();
    let mut server = Server::new(server_config(now), [1; 32], now);
    let client = client_addr("192.0.2.10:40000", Transport::Udp);
    let mut raw = Raw::new(&mut server, client, "alice", now);
    let port = raw.allocate(&mut server, now);
    bind(&mut raw, &mut server, PEER, now);
    let other = addr("198.51.100.7:6000");
    for len in [0, 1, 2, 3, 4, 1200, 65000] {
        let input = vec![0xAB; len];
        let Forward::ToClient { frame, .. } = server.handle_peer(port, other, &input, now) else {
            panic!("not forwarded");
        };
        assert!(within(&input, frame.slices()[1]));
        let mut bytes = Vec::new();
        frame.write_to(&mut bytes);
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.method(), Method::DATA);
        assert_eq!(message.read::<XorPeerAddress>().unwrap().0, other);
        assert_eq!(message.read::<Data<'_>>().unwrap().0, input);
    }
    let huge = vec![0; 65_520];
    assert!(matches!(
        server.handle_peer(port, other, &huge, now),
        Forward::Nothing
    ));
    assert_eq!(server.stats().oversized, 1);
}

#[test]
fn what_has_no_allocation_channel_or_permission_is_dropped_and_counted() {
    let now = epoch();
    let mut server = Server::new(server_config(now), [1; 32], now);
    let client = client_addr("192.0.2.10:40000", Transport::Udp);
    let input = frame(b"hello");
    assert!(matches!(
        server.handle_client(client, &input, now),
        Forward::Nothing
    ));
    assert_eq!(server.stats().without_allocation, 1);
    let mut raw = Raw::new(&mut server, client, "alice", now);
    let port = raw.allocate(&mut server, now);
    assert!(matches!(
        server.handle_client(client, &input, now),
        Forward::Nothing
    ));
    assert_eq!(server.stats().without_channel, 1);
    assert!(matches!(
        server.handle_peer(port, addr(PEER), b"x", now),
        Forward::Nothing
    ));
    assert_eq!(server.stats().without_permission, 1);
    bind(&mut raw, &mut server, PEER, now);
    let stranger = addr("198.51.100.8:5000");
    assert!(matches!(
        server.handle_peer(port, stranger, b"x", now),
        Forward::Nothing
    ));
    assert_eq!(server.stats().without_permission, 2);
    assert!(matches!(
        server.handle_client(client, &input[..6], now),
        Forward::Nothing
    ));
    assert_eq!(server.stats().malformed, 1);
    // The channel outlives its permission, which alone decides.
    let later = now + std::time::Duration::from_secs(300);
    assert!(matches!(
        server.handle_client(client, &input, later),
        Forward::Nothing
    ));
    assert_eq!(server.stats().without_permission, 3);
}

#[test]
fn between_two_allocations_the_payload_is_not_copied_either() {
    let now = epoch();
    let mut server = Server::new(server_config(now), [1; 32], now);
    let first_addr = client_addr("192.0.2.10:40000", Transport::Tcp);
    let second_addr = client_addr("192.0.2.20:40000", Transport::Tcp);
    let mut first = Raw::new(&mut server, first_addr, "first", now);
    let mut second = Raw::new(&mut server, second_addr, "second", now);
    let first_port = first.allocate(&mut server, now).local();
    let second_port = second.allocate(&mut server, now).local();
    bind(&mut first, &mut server, &second_port.to_string(), now);
    bind(&mut second, &mut server, &first_port.to_string(), now);
    let input = frame(b"hello");
    let Forward::ToClient { client, frame } = server.handle_client(first_addr, &input, now) else {
        panic!("not forwarded");
    };
    assert_eq!(client, second_addr);
    let [head, payload, padding] = frame.slices();
    assert_eq!(
        (head, payload, padding.len()),
        (&[0x40, 0, 0, 5][..], &b"hello"[..], 3)
    );
    assert!(within(&input, payload));
}

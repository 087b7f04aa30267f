//! What strangers send: it never panics, and never adds to memory.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly too")]

mod world;

use proptest::prelude::*;
use relay::server::{BindingResponder, Command, Forward, Server};
use relay::{Received, Transport};
use stunwire::{ChannelNumber, Class, IntegrityKey, MessageBuilder, Method, TransactionId};
use world::raw::{Raw, tlv};
use world::{World, addr, client_addr, epoch, server_config};

/// Bytes that look enough like TURN to get past the first checks.
fn almost_turn() -> impl Strategy<Value = Vec<u8>> {
    let attributes = prop::collection::vec(
        (
            prop_oneof![0_u16..0x30, Just(0x8028), any::<u16>()],
            prop::collection::vec(any::<u8>(), 0..40),
        ),
        0..8,
    );
    let methods = prop_oneof![1_u16..0xA, any::<u16>()];
    (0_u16..4, methods, attributes, any::<[u8; 12]>(), 0_usize..8).prop_map(
        |(class, method, attributes, id, cut)| {
            let kind = (class & 1) << 4 | (class & 2) << 7 | method & 0xF;
            let mut bytes = kind.to_be_bytes().to_vec();
            bytes.extend_from_slice(&[0, 0, 0x21, 0x12, 0xA4, 0x42]);
            bytes.extend_from_slice(&id);
            for (kind, value) in attributes {
                bytes.extend_from_slice(&kind.to_be_bytes());
                bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
                bytes.extend_from_slice(&value);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            let len = (bytes.len() - 20) as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            bytes.truncate(bytes.len() - if cut == 7 { 1 } else { 0 });
            bytes
        },
    )
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(|mut bytes| {
            if let Some(first) = bytes.first_mut() {
                *first = 0x40;
            }
            bytes
        }),
        almost_turn(),
    ]
}

proptest! {
    #[test]
    fn the_server_survives_any_bytes(packets in prop::collection::vec(any_bytes(), 1..20)) {
        let now = epoch();
        let mut server = Server::new(server_config(now), [1; 32], now);
        let client = client_addr("192.0.2.10:40000", Transport::Udp);
        let mut raw = Raw::new(&mut server, client, "alice", now);
        let port = raw.allocate(&mut server, now);
        for bytes in &packets {
            for from in [client, client_addr("192.0.2.66:6", Transport::Tcp)] {
                let forward = server.handle_client(from, bytes, now);
                prop_assert!(matches!(forward, Forward::Nothing));
            }
            let forward = server.handle_peer(port, addr("192.0.2.66:6"), bytes, now);
            prop_assert!(matches!(forward, Forward::Nothing));
            while let Some(command) = server.poll_command() {
                let Command::Send { payload, .. } = command else { panic!("{command:?}") };
                prop_assert!(payload.len() <= 60);
            }
            let _ = BindingResponder::default().respond(bytes, addr("192.0.2.1:1"), client.remote);
        }
        prop_assert_eq!(server.allocations(), 1);
    }

    #[test]
    fn signed_requests_survive_any_attributes(
        method in prop_oneof![Just(3_u16), Just(4), Just(8), Just(9)],
        kind in prop_oneof![0xC_u16..0x28, any::<u16>()],
        value in prop::collection::vec(any::<u8>(), 0..40),
        bound in any::<bool>(),
    ) {
        let now = epoch();
        let mut server = Server::new(server_config(now), [1; 32], now);
        let client = client_addr("192.0.2.10:40000", Transport::Udp);
        let mut raw = Raw::new(&mut server, client, "alice", now);
        raw.allocate(&mut server, now);
        let id = raw.id();
        let mut attributes = vec![(stunwire::AttributeType::new(kind), value)];
        if bound {
            attributes.push(tlv(&ChannelNumber::FIRST, id));
            attributes.push(tlv(&stunwire::XorPeerAddress(addr("198.51.100.1:1")), id));
        }
        let request = raw.request(Method::new(method).unwrap(), id, &attributes);
        prop_assert!(raw.ask(&mut server, &request, now).is_some());
    }

    #[test]
    fn the_client_survives_any_bytes_and_keeps_its_allocation(
        packets in prop::collection::vec(any_bytes(), 1..20),
    ) {
        let mut world = World::new();
        world.join("192.0.2.10:40000", Transport::Udp);
        world.run_for_secs(1);
        let relayed = world.relayed(0);
        for bytes in &packets {
            let received = world.with_client(0, |client, now| {
                matches!(client.handle_message(bytes, now), Received::Data { .. })
            });
            // Anybody can forge a Data indication; the layers above trust no payload.
            prop_assert!(!received || bytes.starts_with(&[0, 0x17]));
        }
        world.run_for_secs(60);
        prop_assert_eq!(world.relayed(0), relayed);
        prop_assert_eq!(world.events(0).len(), 1);
    }
}

#[test]
fn a_forged_answer_does_not_end_the_question() {
    let mut world = World::new();
    world.join("192.0.2.10:40000", Transport::Udp);
    world.run_for_secs(1);
    let now = world.now;
    // Watch the request to learn its id, as somebody on the path could.
    let client = &mut world.nodes[0].client;
    client.check(now);
    let request = client.poll_transmit().unwrap();
    let id: [u8; 12] = request.payload[8..20].try_into().unwrap();
    let key = IntegrityKey::short_term("forged");
    let mut forge = |class, code: u16| {
        let mut buffer = [0; 128];
        let id = TransactionId::new(id);
        let builder = MessageBuilder::new(&mut buffer, class, Method::REFRESH, id).unwrap();
        let builder = builder
            .attribute(&stunwire::ErrorCode { code, reason: "" })
            .unwrap();
        let bytes = builder.integrity(&key).unwrap().finish().to_vec();
        assert_eq!(client.handle_message(&bytes, now), Received::Consumed);
    };
    forge(Class::SuccessResponse, 437);
    forge(Class::ErrorResponse, 437);
    forge(Class::ErrorResponse, 401);
    assert_eq!(client.stats().unauthenticated, 3);
    assert!(client.relayed().is_some());
    // The question is still open: it is asked again.
    world.run_for_secs(1);
    assert!(world.nodes[0].client.stats().retransmissions >= 1);
    assert_eq!(world.events(0).len(), 1);
}

#[test]
fn strangers_add_nothing_to_the_servers_memory() {
    let now = epoch();
    let mut server = Server::new(server_config(now), [1; 32], now);
    let request = world::raw::unsigned(Method::ALLOCATE);
    for host in 0..20_000_u32 {
        let remote = (std::net::Ipv4Addr::from_bits(0xC633_6400 + host), 9).into();
        let client = relay::server::ClientAddr {
            remote,
            local: addr(world::SERVER),
            transport: Transport::Udp,
        };
        assert!(matches!(
            server.handle_client(client, &request, now),
            Forward::Nothing
        ));
    }
    assert_eq!(server.allocations(), 0);
    assert_eq!(server.poll_timeout(), None);
    // Even the answers are bounded when nobody takes them.
    assert_eq!(server.stats().answers_dropped, 20_000 - 4096);
}

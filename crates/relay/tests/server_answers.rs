//! What the server answers, request by request (RFC 8656, with our address rules and quotas).
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly too")]

mod world;

use std::time::{Duration, Instant};

use relay::Transport;
use relay::server::{
    ClientAddr, Command, ExternalAddresses, Forward, Server, ServerConfig, time_limited_credentials,
};
use stunwire::{
    AdditionalAddressFamily, AddressFamily, AttributeType, ChannelNumber, Class, DontFragment,
    EvenPort, Lifetime, Message, MessageBuilder, Method, RequestedAddressFamily,
    RequestedTransport, ReservationToken, UnknownAttributes, XorPeerAddress, XorRelayedAddress,
};
use world::raw::{Raw, Tlv, any, tlv, unsigned};
use world::{UNIX_START, addr, client_addr, epoch, secret, server_config};

const CLIENT: &str = "192.0.2.10:40000";
const PEER: &str = "198.51.100.7:5000";

fn server(change: impl FnOnce(&mut ServerConfig)) -> (Server, Instant) {
    let now = epoch();
    let mut config = server_config(now);
    change(&mut config);
    (Server::new(config, [1; 32], now), now)
}

/// A server and a client with an allocation.
fn allocated(change: impl FnOnce(&mut ServerConfig)) -> (Server, Raw, Instant) {
    let (mut server, now) = server(change);
    let mut raw = Raw::new(
        &mut server,
        client_addr(CLIENT, Transport::Udp),
        "alice",
        now,
    );
    raw.allocate(&mut server, now);
    (server, raw, now)
}

fn permission_for(raw: &mut Raw, server: &mut Server, peers: &[&str], now: Instant) -> u16 {
    let attributes = |id| {
        peers
            .iter()
            .map(|peer| tlv(&XorPeerAddress(addr(peer)), id))
            .collect::<Vec<Tlv>>()
    };
    raw.code(server, Method::CREATE_PERMISSION, attributes, now)
}

fn bind(raw: &mut Raw, server: &mut Server, number: u16, peer: &str, now: Instant) -> u16 {
    let attributes = |id| {
        let number = (
            AttributeType::CHANNEL_NUMBER,
            vec![(number >> 8) as u8, number as u8, 0, 0],
        );
        vec![number, tlv(&XorPeerAddress(addr(peer)), id)]
    };
    raw.code(server, Method::CHANNEL_BIND, attributes, now)
}

fn allocate_code(raw: &mut Raw, server: &mut Server, more: &[Tlv], now: Instant) -> u16 {
    let attributes = |id| {
        let mut all = vec![tlv(&RequestedTransport::UDP, id)];
        all.extend_from_slice(more);
        all
    };
    raw.code(server, Method::ALLOCATE, attributes, now)
}

fn may_send(raw: &Raw, server: &mut Server, peer: &str, now: Instant) -> bool {
    let mut buffer = [0; 128];
    let id = stunwire::TransactionId::new([3; 12]);
    let send = MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, id)
        .and_then(|builder| builder.attribute(&XorPeerAddress(addr(peer))))
        .and_then(|builder| builder.attribute(&stunwire::Data(b"x")))
        .unwrap()
        .finish();
    matches!(
        server.handle_client(raw.addr, send, now),
        Forward::ToPeer { .. }
    )
}

#[test]
fn an_allocate_is_answered_by_what_it_asks_for() {
    let even = |reserve| any(&EvenPort { reserve });
    let family = |family| any(&RequestedAddressFamily(family));
    let token = any(&ReservationToken([7; 8]));
    let additional = any(&AdditionalAddressFamily(AddressFamily::Ipv6));
    let odd_family = (AttributeType::REQUESTED_ADDRESS_FAMILY, vec![9, 0, 0, 0]);
    for (more, code) in [
        (vec![], 0),
        (vec![any(&Lifetime(Duration::from_secs(1200)))], 0),
        (vec![even(false)], 0),
        (vec![even(true)], 0),
        (vec![token.clone()], 508),
        (vec![token.clone(), even(false)], 400),
        (vec![token.clone(), family(AddressFamily::Ipv4)], 400),
        (vec![token, additional.clone()], 400),
        (vec![(AttributeType::RESERVATION_TOKEN, vec![7; 7])], 400),
        (vec![family(AddressFamily::Ipv4)], 0),
        (vec![family(AddressFamily::Ipv6)], 440),
        (vec![odd_family], 440),
        (vec![additional.clone()], 0),
        (vec![additional, family(AddressFamily::Ipv4)], 400),
        (vec![any(&DontFragment)], 420),
        (vec![(AttributeType::new(0x7ABC), vec![])], 420),
        (vec![(AttributeType::new(0x8ABC), vec![])], 0),
        (vec![(AttributeType::LIFETIME, vec![1])], 400),
    ] {
        let (mut server, now) = server(|_| {});
        let mut raw = Raw::new(
            &mut server,
            client_addr(CLIENT, Transport::Udp),
            "alice",
            now,
        );
        assert_eq!(
            allocate_code(&mut raw, &mut server, &more, now),
            code,
            "{more:?}"
        );
        assert_eq!(server.allocations(), usize::from(code == 0));
    }
}

#[test]
fn the_relayed_transport_is_udp_and_must_be_named() {
    let (mut server, now) = server(|_| {});
    let mut raw = Raw::new(
        &mut server,
        client_addr(CLIENT, Transport::Udp),
        "alice",
        now,
    );
    let tcp = |id| vec![tlv(&RequestedTransport::TCP, id)];
    assert_eq!(raw.code(&mut server, Method::ALLOCATE, tcp, now), 442);
    assert_eq!(
        raw.code(&mut server, Method::ALLOCATE, |_| vec![], now),
        400
    );
}

#[test]
fn an_unknown_attribute_is_named_in_the_answer() {
    let (mut server, now) = server(|_| {});
    let mut raw = Raw::new(
        &mut server,
        client_addr(CLIENT, Transport::Udp),
        "alice",
        now,
    );
    let id = raw.id();
    let request = raw.request(Method::ALLOCATE, id, &[any(&DontFragment)]);
    let answer = raw.ask(&mut server, &request, now).unwrap();
    let message = Message::decode(&answer).unwrap();
    let unknown = message.read::<UnknownAttributes<'_>>().unwrap();
    assert_eq!(
        unknown.iter().collect::<Vec<_>>(),
        [AttributeType::DONT_FRAGMENT]
    );
}

#[test]
fn an_allocate_that_comes_again_is_answered_the_same() {
    let (mut server, now) = server(|_| {});
    let mut raw = Raw::new(
        &mut server,
        client_addr(CLIENT, Transport::Udp),
        "alice",
        now,
    );
    let id = raw.id();
    let request = raw.request(Method::ALLOCATE, id, &[tlv(&RequestedTransport::UDP, id)]);
    assert!(matches!(
        server.handle_client(raw.addr, &request, now),
        Forward::Nothing
    ));
    // Again while the port is being opened: one port, and one answer later.
    assert!(matches!(
        server.handle_client(raw.addr, &request, now),
        Forward::Nothing
    ));
    let Some(Command::OpenPort { port }) = server.poll_command() else {
        panic!("no port")
    };
    assert_eq!(server.poll_command(), None);
    server.handle_port_opened(port, now);
    let Some(Command::Send { payload: first, .. }) = server.poll_command() else {
        panic!()
    };
    let second = raw.ask(&mut server, &request, now).unwrap();
    assert_eq!(first, second);
    assert_eq!(server.allocations(), 1);
    assert_eq!(
        allocate_code(&mut raw, &mut server, &[], now),
        437,
        "another request"
    );
}

#[test]
fn strangers_are_challenged_briefly_and_not_without_end() {
    let (mut server, now) = server(|config| config.quotas.refusals_per_second = 5);
    let client = client_addr(CLIENT, Transport::Udp);
    let request = unsigned(Method::ALLOCATE);
    let mut answers = Vec::new();
    for _ in 0..100 {
        assert!(matches!(
            server.handle_client(client, &request, now),
            Forward::Nothing
        ));
        while let Some(Command::Send { payload, .. }) = server.poll_command() {
            answers.push(payload);
        }
    }
    assert_eq!(answers.len(), 10);
    assert_eq!(server.stats().refusals_limited, 90);
    // IP and UDP headers count on both sides.
    assert_eq!((answers[0].len(), request.len()), (60, 28));
    // The source of a stream is not forged.
    let stream = client_addr(CLIENT, Transport::Tcp);
    for _ in 0..100 {
        assert!(matches!(
            server.handle_client(stream, &request, now),
            Forward::Nothing
        ));
        assert!(server.poll_command().is_some());
    }
}

#[test]
fn credentials_are_checked_in_the_order_of_the_rfc() {
    let (mut server, now) = server(|_| {});
    let client = client_addr(CLIENT, Transport::Udp);
    let expires = UNIX_START + 100;
    let (username, password) = time_limited_credentials(&secret(), "alice", expires);
    let later = now + Duration::from_secs(100);
    let mut raw = Raw::with_credentials(&mut server, client, username, &password, now);
    assert_eq!(
        allocate_code(&mut raw, &mut server, &[], later - Duration::from_secs(1)),
        0
    );
    assert_eq!(
        raw.code(&mut server, Method::REFRESH, |_| vec![], later),
        401,
        "expired"
    );
    for (username, password) in [
        (format!("{expires}:alice"), "wrong".to_owned()),
        ("alice".to_owned(), password.clone()),
        (format!("{}:alice", expires + 1), password.clone()),
    ] {
        let mut raw = Raw::with_credentials(&mut server, client, username, &password, now);
        assert_eq!(raw.code(&mut server, Method::REFRESH, |_| vec![], now), 401);
    }
    let good = raw.nonce.clone();
    raw.nonce = "AAAAAAAAAAAAAAAA".to_owned();
    assert_eq!(raw.code(&mut server, Method::REFRESH, |_| vec![], now), 438);
    raw.nonce = good;
    let an_hour_later = now + Duration::from_secs(3600);
    assert_eq!(
        raw.code(&mut server, Method::REFRESH, |_| vec![], an_hour_later),
        438
    );
    let mut buffer = [0; 128];
    let id = raw.id();
    let nameless = MessageBuilder::new(&mut buffer, Class::Request, Method::REFRESH, id)
        .and_then(|builder| builder.integrity(&raw.key))
        .unwrap()
        .finish();
    let answer = raw.ask(&mut server, nameless, now).unwrap();
    assert_eq!(raw.check(&answer, id), 400);
}

#[test]
fn requests_about_no_allocation_or_anothers_are_refused() {
    let (mut server, now) = server(|_| {});
    let client = client_addr(CLIENT, Transport::Udp);
    let mut alice = Raw::new(&mut server, client, "alice", now);
    assert_eq!(
        alice.code(&mut server, Method::REFRESH, |_| vec![], now),
        437
    );
    assert_eq!(permission_for(&mut alice, &mut server, &[PEER], now), 437);
    assert_eq!(bind(&mut alice, &mut server, 0x4000, PEER, now), 437);
    alice.allocate(&mut server, now);
    let mut bob = Raw::new(&mut server, client, "bob", now);
    assert_eq!(bob.code(&mut server, Method::REFRESH, |_| vec![], now), 441);
    assert_eq!(permission_for(&mut bob, &mut server, &[PEER], now), 441);
    assert_eq!(bind(&mut bob, &mut server, 0x4000, PEER, now), 441);
    assert_eq!(allocate_code(&mut bob, &mut server, &[], now), 437);
}

#[test]
fn a_refresh_renews_within_bounds_and_zero_ends() {
    let (mut server, mut raw, now) = allocated(|_| {});
    for (asked, granted) in [
        (None, 600),
        (Some(10), 600),
        (Some(1200), 1200),
        (Some(9999), 3600),
    ] {
        let id = raw.id();
        let lifetime = asked.map(|secs| tlv(&Lifetime(Duration::from_secs(secs)), id));
        let request = raw.request(Method::REFRESH, id, lifetime.as_slice());
        let answer = raw.ask(&mut server, &request, now).unwrap();
        let lifetime = Message::decode(&answer)
            .unwrap()
            .read::<Lifetime>()
            .unwrap();
        assert_eq!(lifetime.0.as_secs(), granted);
        assert_eq!(server.poll_timeout().unwrap().at, now + lifetime.0);
    }
    let v6 = |id| vec![tlv(&RequestedAddressFamily(AddressFamily::Ipv6), id)];
    assert_eq!(raw.code(&mut server, Method::REFRESH, v6, now), 443);
    let zero = |id| vec![tlv(&Lifetime(Duration::ZERO), id)];
    assert_eq!(raw.code(&mut server, Method::REFRESH, zero, now), 0);
    assert_eq!(server.allocations(), 0);
    assert_eq!(server.poll_timeout(), None);
    assert_eq!(raw.code(&mut server, Method::REFRESH, zero, now), 437);
}

#[test]
fn quotas_are_per_user_per_source_and_in_all() {
    let (mut server, now) = server(|config| {
        config.quotas.allocations_per_user = 2;
        config.quotas.allocations_per_source = 3;
        config.quotas.allocations = 4;
    });
    let mut allocate = |remote: &str, user: &str| {
        let client = client_addr(remote, Transport::Udp);
        let mut raw = Raw::new(&mut server, client, user, now);
        allocate_code(&mut raw, &mut server, &[], now)
    };
    assert_eq!(allocate("192.0.2.10:1", "alice"), 0);
    assert_eq!(allocate("192.0.2.10:2", "alice"), 0);
    assert_eq!(allocate("192.0.2.11:3", "alice"), 486, "the user's third");
    assert_eq!(allocate("192.0.2.10:3", "bob"), 0);
    assert_eq!(
        allocate("192.0.2.10:4", "carol"),
        486,
        "the address's fourth"
    );
    assert_eq!(allocate("192.0.2.11:4", "carol"), 0);
    assert_eq!(allocate("192.0.2.12:4", "dave"), 508, "the server's fifth");
    assert_eq!(
        (
            server.stats().quota_refusals,
            server.stats().capacity_refusals
        ),
        (2, 1)
    );
}

#[test]
fn a_used_up_port_range_is_508_and_an_even_port_is_even() {
    let (mut server, now) = server(|config| config.relay_ports = 50001..=50002);
    let mut allocate = |remote: &str, more: &[Tlv]| {
        let client = client_addr(remote, Transport::Udp);
        let mut raw = Raw::new(&mut server, client, "alice", now);
        allocate_code(&mut raw, &mut server, more, now)
    };
    let even = [any(&EvenPort { reserve: false })];
    assert_eq!(allocate("192.0.2.10:1", &even), 0);
    assert_eq!(allocate("192.0.2.10:2", &even), 508);
    assert_eq!(allocate("192.0.2.10:3", &[]), 0);
    assert_eq!(allocate("192.0.2.10:4", &[]), 508);
}

#[test]
fn permissions_are_created_for_all_addresses_or_for_none() {
    let (mut server, mut raw, now) = allocated(|config| config.quotas.permissions = 3);
    assert_eq!(permission_for(&mut raw, &mut server, &[], now), 400);
    assert_eq!(
        permission_for(&mut raw, &mut server, &[PEER, "10.0.0.1:1"], now),
        403
    );
    assert!(!may_send(&raw, &mut server, PEER, now));
    assert_eq!(
        permission_for(&mut raw, &mut server, &[PEER, "[2001:db8::7]:1"], now),
        443
    );
    assert!(!may_send(&raw, &mut server, PEER, now));
    assert_eq!(
        permission_for(&mut raw, &mut server, &[PEER, "198.51.100.8:1"], now),
        0
    );
    assert!(may_send(&raw, &mut server, PEER, now));
    assert!(
        may_send(&raw, &mut server, "198.51.100.8:9999", now),
        "the port does not matter"
    );
    let too_many = ["198.51.100.9:1", "198.51.100.10:1"];
    assert_eq!(permission_for(&mut raw, &mut server, &too_many, now), 508);
    assert!(!may_send(&raw, &mut server, too_many[0], now));
    let later = now + Duration::from_secs(300);
    assert!(!may_send(&raw, &mut server, PEER, later), "300 s, no more");
    assert_eq!(
        permission_for(&mut raw, &mut server, &too_many, later),
        0,
        "expired ones make room"
    );
}

#[test]
fn channels_conflict_with_400_and_are_bounded() {
    let (mut server, mut raw, now) = allocated(|config| config.quotas.channels = 2);
    for (number, peer, code) in [
        (0x3FFF, PEER, 400),
        (0x7FFF, PEER, 400),
        (0x4000, "198.51.100.7:0", 400),
        (0x4000, PEER, 0),
        (0x4000, PEER, 0),
        (0x4000, "198.51.100.7:5001", 400),
        (0x4001, PEER, 400),
        (0x4001, "127.0.0.1:53", 403),
        (0x4001, "[2001:db8::7]:53", 443),
        (0x7FFE, "198.51.100.7:5001", 0),
        (0x4001, "198.51.100.7:5002", 508),
    ] {
        assert_eq!(
            bind(&mut raw, &mut server, number, peer, now),
            code,
            "{number:#x} {peer}"
        );
    }
    let only_number = |id| vec![tlv(&ChannelNumber::FIRST, id)];
    assert_eq!(
        raw.code(&mut server, Method::CHANNEL_BIND, only_number, now),
        400
    );
    assert!(
        may_send(&raw, &mut server, PEER, now),
        "a bind is a permission too"
    );
}

#[test]
fn peers_are_judged_at_the_door() {
    let (mut server, mut raw, now) = allocated(|config| {
        config.allow = vec!["10.7.0.0/16".parse().unwrap()];
        config.own_addresses = vec!["203.0.113.2".parse().unwrap()];
    });
    for (peer, code) in [
        ("198.51.100.7:5000", 0),
        ("8.8.8.8:53", 0),
        ("10.7.0.1:53", 0),
        ("[::ffff:10.7.0.1]:53", 0),
        ("10.8.0.1:53", 403),
        ("[::ffff:10.8.0.1]:53", 403),
        ("127.0.0.1:53", 403),
        ("[::ffff:127.0.0.1]:53", 403),
        ("0.0.0.0:53", 403),
        ("255.255.255.255:53", 403),
        ("224.0.0.251:5353", 403),
        ("169.254.169.254:80", 403),
        ("100.64.0.1:80", 403),
        ("192.168.1.1:80", 403),
        ("203.0.113.1:3478", 403),
        ("203.0.113.2:80", 403),
        ("203.0.113.3:80", 0),
        ("[::1]:80", 443),
    ] {
        assert_eq!(
            permission_for(&mut raw, &mut server, &[peer], now),
            code,
            "{peer}"
        );
    }
}

#[test]
fn the_source_of_another_allocation_is_allowed_while_it_lives() {
    let (mut server, mut raw, now) = allocated(|_| {});
    assert_eq!(
        permission_for(&mut raw, &mut server, &["192.168.1.10:5000"], now),
        403
    );
    let at_home = client_addr("192.168.1.10:7000", Transport::Udp);
    let mut home = Raw::new(&mut server, at_home, "home", now);
    assert_eq!(
        permission_for(&mut raw, &mut server, &["192.168.1.10:5000"], now),
        403
    );
    home.allocate(&mut server, now);
    assert_eq!(
        permission_for(&mut raw, &mut server, &["192.168.1.10:5000"], now),
        0
    );
    assert!(may_send(&raw, &mut server, "192.168.1.10:7000", now));
    assert!(
        !may_send(&raw, &mut server, "192.168.1.10:5000", now),
        "another socket of that host is nobody's business"
    );
    assert_eq!(server.stats().to_nobody, 1);
    assert_eq!(
        permission_for(&mut home, &mut server, &["192.168.1.10:9"], now),
        403,
        "its own"
    );
    server.handle_client_gone(at_home);
    assert!(
        !may_send(&raw, &mut server, "192.168.1.10:7000", now),
        "the permission outlives it, what it opened does not"
    );
    assert_eq!(
        permission_for(&mut raw, &mut server, &["192.168.1.10:5000"], now),
        403
    );
}

#[test]
fn the_loopback_is_for_clients_that_come_from_there() {
    let (mut server, mut raw, now) = allocated(|_| {});
    let local = |port: u16| ClientAddr {
        remote: ([127, 0, 0, 1], port).into(),
        local: ([127, 0, 0, 1], 3478).into(),
        transport: Transport::Udp,
    };
    let mut one = Raw::new(&mut server, local(7001), "one", now);
    one.allocate(&mut server, now);
    let mut two = Raw::new(&mut server, local(7002), "two", now);
    two.allocate(&mut server, now);
    let (socket, other) = ("127.0.0.1:7002", "127.0.0.1:53");
    assert_eq!(permission_for(&mut one, &mut server, &[socket], now), 0);
    assert!(may_send(&one, &mut server, socket, now));
    assert!(!may_send(&one, &mut server, other, now));

    // From elsewhere not even the sockets of clients are reached; their allocations are, inside the process.
    assert_eq!(permission_for(&mut raw, &mut server, &[socket], now), 0);
    assert!(!may_send(&raw, &mut server, socket, now));
    assert_eq!(bind(&mut raw, &mut server, 0x4000, "127.0.0.2:1", now), 403);
}

#[test]
fn another_allocation_is_reached_inside_the_process_and_nothing_else_there() {
    let (mut server, mut raw, now) = allocated(|_| {});
    assert_eq!(
        permission_for(&mut raw, &mut server, &["203.0.113.1:1"], now),
        403
    );
    let other_addr = client_addr("192.0.2.99:9", Transport::Udp);
    let mut other = Raw::new(&mut server, other_addr, "other", now);
    let port = other.allocate(&mut server, now).local();
    let relayed = port.to_string();
    assert_eq!(permission_for(&mut raw, &mut server, &[&relayed], now), 0);
    assert!(
        !may_send(&raw, &mut server, &relayed, now),
        "the other has not let us in"
    );
    assert_eq!(server.stats().without_permission, 1);
    let sshd = "203.0.113.1:22";
    assert!(!may_send(&raw, &mut server, sshd, now));
    assert_eq!(server.stats().to_nobody, 1);
    assert_eq!(server.stats().to_peers, 0);
}

#[test]
fn relayed_addresses_are_advertised_as_the_configuration_says() {
    let relayed = |local: &str, family, change: &dyn Fn(&mut ServerConfig)| {
        let (mut server, now) = server(change);
        let client = ClientAddr {
            remote: addr("192.0.2.10:40000"),
            local: addr(local),
            transport: Transport::Udp,
        };
        let mut raw = Raw::new(&mut server, client, "alice", now);
        let id = raw.id();
        let attributes = [
            tlv(&RequestedTransport::UDP, id),
            tlv(&RequestedAddressFamily(family), id),
        ];
        let request = raw.request(Method::ALLOCATE, id, &attributes);
        let answer = raw.ask(&mut server, &request, now).unwrap();
        let code = raw.check(&answer, id);
        Message::decode(&answer)
            .unwrap()
            .read::<XorRelayedAddress>()
            .map_err(|_| code)
            .map(|relayed| relayed.0.ip().to_string())
    };
    let (v4, v6) = (AddressFamily::Ipv4, AddressFamily::Ipv6);
    let external = |config: &mut ServerConfig| {
        config.external = ExternalAddresses::default()
            .everywhere("203.0.113.50".parse().unwrap())
            .for_local("10.0.0.2".parse().unwrap(), "203.0.113.52".parse().unwrap());
        config.relay_ips = vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    };
    let nothing = |_: &mut ServerConfig| {};
    for (local, family, expected) in [
        ("203.0.113.1:3478", v4, Ok("203.0.113.1")),
        ("[::ffff:203.0.113.1]:3478", v4, Ok("203.0.113.1")),
        ("203.0.113.1:3478", v6, Err(440)),
        ("[2001:db8::5]:3478", v6, Ok("2001:db8::5")),
        ("[2001:db8::5]:3478", v4, Err(440)),
        ("0.0.0.0:3478", v4, Err(508)),
    ] {
        assert_eq!(
            relayed(local, family, &nothing),
            expected.map(str::to_owned),
            "{local}"
        );
    }
    for (local, family, expected) in [
        ("10.0.0.1:3478", v4, Ok("203.0.113.50")),
        ("10.0.0.2:3478", v4, Ok("203.0.113.52")),
        ("0.0.0.0:3478", v4, Ok("203.0.113.50")),
        ("[2001:db8::5]:3478", v4, Ok("203.0.113.50")),
        ("10.0.0.1:3478", v6, Ok("2001:db8::1")),
    ] {
        assert_eq!(
            relayed(local, family, &external),
            expected.map(str::to_owned),
            "{local}"
        );
    }
}

#[test]
fn a_port_that_opens_after_its_client_went_is_closed_again() {
    let (mut server, now) = server(|_| {});
    let mut raw = Raw::new(
        &mut server,
        client_addr(CLIENT, Transport::Tcp),
        "alice",
        now,
    );
    let id = raw.id();
    let request = raw.request(Method::ALLOCATE, id, &[tlv(&RequestedTransport::UDP, id)]);
    assert!(matches!(
        server.handle_client(raw.addr, &request, now),
        Forward::Nothing
    ));
    let Some(Command::OpenPort { port }) = server.poll_command() else {
        panic!("no port")
    };
    server.handle_timeout(now + Duration::from_secs(10));
    assert_eq!(server.allocations(), 0, "nobody opened it");
    assert_eq!(server.poll_command(), Some(Command::ClosePort { port }));
    server.handle_port_opened(port, now);
    assert_eq!(server.poll_command(), Some(Command::ClosePort { port }));
}

//! EVEN-PORT with its R bit, and RESERVATION-TOKEN (RFC 8656, section 7.2): the port above an even one is kept.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly too")]

mod world;

use std::time::{Duration, Instant};

use relay::Transport;
use relay::server::{Command, Forward, Server, ServerConfig};
use stunwire::{
    EvenPort, Lifetime, Message, Method, RequestedTransport, ReservationToken, XorRelayedAddress,
};
use world::raw::{Raw, Tlv, any, tlv};
use world::{client_addr, epoch, server_config};

fn server(change: impl FnOnce(&mut ServerConfig)) -> (Server, Instant) {
    let now = epoch();
    let mut config = server_config(now);
    change(&mut config);
    (Server::new(config, [1; 32], now), now)
}

/// The relayed port and the token of an Allocate answer.
fn granted(answer: &[u8]) -> (u16, Option<ReservationToken>) {
    let message = Message::decode(answer).unwrap();
    let port = message.read::<XorRelayedAddress>().unwrap().0.port();
    (port, message.read::<ReservationToken>().ok())
}

/// Allocates with one more attribute at an address of its own.
fn allocate_at(
    server: &mut Server,
    remote: &str,
    user: &str,
    more: &Tlv,
    now: Instant,
) -> Result<(u16, Option<ReservationToken>), u16> {
    let mut raw = Raw::new(server, client_addr(remote, Transport::Udp), user, now);
    let id = raw.id();
    let attributes = [tlv(&RequestedTransport::UDP, id), more.clone()];
    let request = raw.request(Method::ALLOCATE, id, &attributes);
    let answer = raw.ask(server, &request, now).unwrap();
    match raw.check(&answer, id) {
        0 => Ok(granted(&answer)),
        code => Err(code),
    }
}

#[test]
fn the_port_above_an_even_one_is_kept_for_its_user_once_and_for_half_a_minute() {
    let (mut server, now) = server(|config| config.relay_ports = 50000..=50003);
    let pair = any(&EvenPort { reserve: true });
    let lifetime = any(&Lifetime(Duration::from_secs(600)));

    let (even, token) = allocate_at(&mut server, "192.0.2.10:1", "alice", &pair, now).unwrap();
    assert!(even.is_multiple_of(2));
    let token = any(&token.expect("a token for the port above"));
    let stranger = allocate_at(&mut server, "192.0.2.10:2", "bob", &token, now);
    assert_eq!(stranger, Err(508), "it is another's");
    let (other, second) = allocate_at(&mut server, "192.0.2.10:3", "bob", &pair, now).unwrap();
    assert_ne!(other, even);
    assert_eq!(
        allocate_at(&mut server, "192.0.2.10:4", "bob", &lifetime, now),
        Err(508),
        "both odd ports are kept"
    );
    let (odd, nothing) = allocate_at(&mut server, "192.0.2.10:5", "alice", &token, now).unwrap();
    assert_eq!((odd, nothing), (even + 1, None));
    assert_eq!(
        allocate_at(&mut server, "192.0.2.10:6", "alice", &token, now),
        Err(508),
        "a token serves once"
    );

    let late = now + Duration::from_secs(30);
    let second = any(&second.unwrap());
    assert_eq!(
        allocate_at(&mut server, "192.0.2.10:7", "bob", &second, late),
        Err(508)
    );
    let free = allocate_at(&mut server, "192.0.2.10:8", "carol", &lifetime, late);
    assert_eq!(free.unwrap().0, other + 1, "it is free again");
}

#[test]
fn ports_kept_are_bounded_for_one_user_and_in_all() {
    let pair = any(&EvenPort { reserve: true });
    let (mut server, now) = server(|config| {
        config.quotas.reservations = 2;
        config.quotas.allocations_per_user = 3;
    });
    let mut allocate = |remote: &str, user: &str| {
        allocate_at(&mut server, remote, user, &pair, now).map(|(_, token)| token.is_some())
    };
    assert_eq!(allocate("192.0.2.10:1", "alice"), Ok(true));
    assert_eq!(allocate("192.0.2.10:2", "alice"), Err(486), "two and two");
    assert_eq!(allocate("192.0.2.10:3", "bob"), Ok(true));
    assert_eq!(allocate("192.0.2.10:4", "carol"), Err(508));
}

#[test]
fn a_pair_whose_even_port_cannot_be_opened_moves_as_a_pair() {
    let (mut server, now) = server(|config| config.relay_ports = 50000..=50003);
    let addr = client_addr("192.0.2.10:1", Transport::Udp);
    let mut raw = Raw::new(&mut server, addr, "alice", now);
    let id = raw.id();
    let pair = any(&EvenPort { reserve: true });
    let request = raw.request(
        Method::ALLOCATE,
        id,
        &[tlv(&RequestedTransport::UDP, id), pair],
    );
    assert!(matches!(
        server.handle_client(addr, &request, now),
        Forward::Nothing
    ));
    let Some(Command::OpenPort { port: taken }) = server.poll_command() else {
        panic!("no port")
    };
    let mut port = taken;
    while port == taken {
        server.handle_port_failed(port);
        let Some(Command::OpenPort { port: another }) = server.poll_command() else {
            panic!("no other port")
        };
        port = another;
    }
    server.handle_port_opened(port, now);
    let Some(Command::Send { payload, .. }) = server.poll_command() else {
        panic!("silent")
    };
    let (even, token) = granted(&payload);
    assert_eq!(even, port.local().port());
    let token = any(&token.unwrap());
    let odd = allocate_at(&mut server, "192.0.2.10:2", "alice", &token, now);
    assert_eq!(odd, Ok((even + 1, None)));
    let free = any(&Lifetime(Duration::from_secs(600)));
    for client in ["192.0.2.10:3", "192.0.2.10:4"] {
        assert!(
            allocate_at(&mut server, client, "alice", &free, now).is_ok(),
            "what the first try kept is free"
        );
    }
}

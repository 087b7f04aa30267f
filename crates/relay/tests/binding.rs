//! The STUN server: RFC 8489, RFC 5780 and RFC 3489 in one table.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly too")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relay::server::{BindingAddresses, BindingResponder, ExternalAddresses, RedirectLimiter};
use stunwire::{
    AttributeType, ChangeRequest, ChangedAddress, Class, ErrorCode, MappedAddress, Message,
    MessageBuilder, Method, OtherAddress, Padding, ResponseAddress, ResponseOrigin, ResponsePort,
    SourceAddress, TransactionId, XorMappedAddress,
};

const FROM: &str = "192.0.2.7:40000";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn two_addresses() -> BindingResponder {
    let addresses = BindingAddresses {
        ips: [
            "203.0.113.1".parse().unwrap(),
            "203.0.113.2".parse().unwrap(),
        ],
        ports: [3478, 3479],
    };
    assert_eq!(addresses.sockets()[3], addr("203.0.113.2:3479"));
    BindingResponder::new(Some(addresses), ExternalAddresses::default())
}

fn one_address() -> BindingResponder {
    BindingResponder::default()
}

fn request(write: impl FnOnce(MessageBuilder<'_>) -> Vec<u8>) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let id = TransactionId::new([5; 12]);
    write(MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).unwrap())
}

fn plain() -> Vec<u8> {
    request(|builder| builder.finish().to_vec())
}

fn changing(ip: bool, port: bool) -> Vec<u8> {
    request(|builder| {
        builder
            .attribute(&ChangeRequest { ip, port })
            .unwrap()
            .finish()
            .to_vec()
    })
}

fn code(payload: &[u8]) -> u16 {
    Message::decode(payload)
        .unwrap()
        .read::<ErrorCode<'_>>()
        .unwrap()
        .code
}

#[test]
fn a_change_request_is_answered_from_where_it_says() {
    for (at, ip, port, source, other) in [
        (
            "203.0.113.1:3478",
            false,
            false,
            "203.0.113.1:3478",
            "203.0.113.2:3479",
        ),
        (
            "203.0.113.1:3478",
            false,
            true,
            "203.0.113.1:3479",
            "203.0.113.2:3479",
        ),
        (
            "203.0.113.1:3478",
            true,
            false,
            "203.0.113.2:3478",
            "203.0.113.2:3479",
        ),
        (
            "203.0.113.1:3478",
            true,
            true,
            "203.0.113.2:3479",
            "203.0.113.2:3479",
        ),
        (
            "203.0.113.2:3478",
            false,
            false,
            "203.0.113.2:3478",
            "203.0.113.1:3479",
        ),
        (
            "203.0.113.2:3479",
            true,
            true,
            "203.0.113.1:3478",
            "203.0.113.1:3478",
        ),
        (
            "[::ffff:203.0.113.1]:3479",
            false,
            true,
            "203.0.113.1:3478",
            "203.0.113.2:3478",
        ),
    ] {
        let response = two_addresses()
            .respond(&changing(ip, port), addr(at), addr(FROM))
            .unwrap();
        assert_eq!(response.source, addr(source), "{at} {ip} {port}");
        assert_eq!(response.destination, addr(FROM));
        let message = Message::decode(&response.payload).unwrap();
        assert_eq!(message.class(), Class::SuccessResponse);
        assert_eq!(message.read::<XorMappedAddress>().unwrap().0, addr(FROM));
        assert_eq!(message.read::<MappedAddress>().unwrap().0, addr(FROM));
        assert_eq!(message.read::<ResponseOrigin>().unwrap().0, addr(source));
        assert_eq!(message.read::<OtherAddress>().unwrap().0, addr(other));
    }
}

#[test]
fn one_address_offers_no_tests() {
    let at = addr("203.0.113.1:3478");
    let response = one_address().respond(&plain(), at, addr(FROM)).unwrap();
    let message = Message::decode(&response.payload).unwrap();
    assert_eq!(message.read::<XorMappedAddress>().unwrap().0, addr(FROM));
    assert!(!message.contains(AttributeType::OTHER_ADDRESS));
    assert_eq!(message.read::<ResponseOrigin>().unwrap().0, at);
    assert_eq!(response.payload.len(), 44);
    let refused = one_address()
        .respond(&changing(false, false), at, addr(FROM))
        .unwrap();
    assert_eq!(code(&refused.payload), 420);
    // A fifth socket beside the four has no alternates either.
    let fifth = addr("203.0.113.9:3478");
    let refused = two_addresses()
        .respond(&changing(true, true), fifth, addr(FROM))
        .unwrap();
    assert_eq!((code(&refused.payload), refused.source), (420, fifth));
}

#[test]
fn a_mapped_source_is_told_as_ipv4_and_answered_where_it_came_from() {
    let from = addr("[::ffff:192.0.2.7]:40000");
    let response = one_address()
        .respond(&plain(), addr("203.0.113.1:3478"), from)
        .unwrap();
    let message = Message::decode(&response.payload).unwrap();
    assert_eq!(message.read::<XorMappedAddress>().unwrap().0, addr(FROM));
    assert_eq!(response.destination, from);
}

#[test]
fn a_response_port_stays_at_the_address_that_asked() {
    let ask = |port| {
        let request = request(|builder| {
            builder
                .attribute(&ResponsePort(port))
                .unwrap()
                .finish()
                .to_vec()
        });
        two_addresses()
            .respond(&request, addr("203.0.113.1:3478"), addr(FROM))
            .unwrap()
    };
    assert_eq!(ask(50000).destination, addr("192.0.2.7:50000"));
    assert_eq!(ask(1024).destination, addr("192.0.2.7:1024"));
    for well_known in [0, 9, 53, 1023] {
        assert_eq!(code(&ask(well_known).payload), 400);
        assert_eq!(ask(well_known).destination, addr(FROM));
    }
}

fn knocking(change: ChangeRequest, port: Option<u16>) -> Vec<u8> {
    request(|builder| {
        let builder = builder.attribute(&change).unwrap();
        match port {
            Some(port) => builder.attribute(&ResponsePort(port)).unwrap(),
            None => builder,
        }
        .finish()
        .to_vec()
    })
}

#[test]
fn a_server_with_one_address_knocks_at_another_port_from_its_second_one_and_changes_nothing_else() {
    let at = addr("203.0.113.1:3478");
    let responder = one_address().with_second_port(40_001);
    let port = ChangeRequest {
        ip: false,
        port: true,
    };
    let ip = ChangeRequest {
        ip: true,
        port: false,
    };
    let both = ChangeRequest {
        ip: true,
        port: true,
    };
    let response = responder
        .respond(&knocking(port, Some(50_000)), at, addr(FROM))
        .unwrap();
    assert_eq!(response.source, addr("203.0.113.1:40001"));
    assert_eq!(response.destination, addr("192.0.2.7:50000"));
    let message = Message::decode(&response.payload).unwrap();
    assert_eq!(message.class(), Class::SuccessResponse);
    assert_eq!(
        message.read::<ResponseOrigin>().unwrap().0,
        addr("203.0.113.1:40001")
    );
    assert!(!message.contains(AttributeType::OTHER_ADDRESS));
    for (change, asked) in [
        (port, None),
        (ip, Some(50_000)),
        (both, Some(50_000)),
        (both, None),
    ] {
        let refused = responder
            .respond(&knocking(change, asked), at, addr(FROM))
            .unwrap();
        assert_eq!(code(&refused.payload), 420, "{change:?} {asked:?}");
        assert_eq!((refused.source, refused.destination), (at, addr(FROM)));
    }
    let refused = one_address()
        .respond(&knocking(port, Some(50_000)), at, addr(FROM))
        .unwrap();
    assert_eq!(code(&refused.payload), 420, "without a second port");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
fn an_address_has_few_answers_sent_to_its_other_ports_and_all_to_its_own() {
    let now = Instant::now();
    let mut limiter = RedirectLimiter::new(7, now);
    let at = addr("203.0.113.1:3478");
    let none = ChangeRequest {
        ip: false,
        port: false,
    };
    let elsewhere = two_addresses()
        .respond(&knocking(none, Some(50_000)), at, addr(FROM))
        .unwrap();
    let admitted = |limiter: &mut RedirectLimiter, now| {
        (0..1000)
            .filter(|_| limiter.admit(&elsewhere, addr(FROM), now))
            .count()
    };
    assert_eq!(admitted(&mut limiter, now), 80);
    assert_eq!(admitted(&mut limiter, now + Duration::from_secs(1)), 40);
    let asked = knocking(none, Some(50_000));
    let refused = two_addresses().refuse(&asked, at, addr(FROM)).unwrap();
    assert_eq!(code(&refused.payload), 500);
    assert_eq!((refused.source, refused.destination), (at, addr(FROM)));
    let back = two_addresses().respond(&plain(), at, addr(FROM)).unwrap();
    assert!((0..1000).all(|_| limiter.admit(&back, addr(FROM), now)));
}

#[test]
fn padding_comes_back_no_larger_and_never_to_another_port() {
    let padded = request(|builder| {
        builder
            .attribute(&Padding(&[0; 1000]))
            .unwrap()
            .finish()
            .to_vec()
    });
    let at = addr("203.0.113.1:3478");
    let response = two_addresses().respond(&padded, at, addr(FROM)).unwrap();
    let message = Message::decode(&response.payload).unwrap();
    assert_eq!(message.read::<Padding<'_>>().unwrap().0.len(), 1000);
    assert!(response.payload.len() <= padded.len() + 48);
    let both = request(|builder| {
        let builder = builder.attribute(&Padding(&[0; 1000])).unwrap();
        builder
            .attribute(&ResponsePort(9))
            .unwrap()
            .finish()
            .to_vec()
    });
    let refused = two_addresses().respond(&both, at, addr(FROM)).unwrap();
    assert_eq!(
        (code(&refused.payload), refused.destination),
        (400, addr(FROM))
    );
}

#[test]
fn a_client_of_rfc_3489_is_answered_in_its_words() {
    for (responder, has_other) in [(two_addresses(), true), (one_address(), false)] {
        let mut old = plain();
        old[4..8].copy_from_slice(b"old!");
        let at = addr("203.0.113.1:3478");
        let response = responder.respond(&old, at, addr(FROM)).unwrap();
        assert_eq!(response.payload[4..20], old[4..20]);
        let message = Message::decode(&response.payload).unwrap();
        assert_eq!(message.read::<MappedAddress>().unwrap().0, addr(FROM));
        assert_eq!(message.read::<SourceAddress>().unwrap().0, at);
        assert_eq!(message.contains(AttributeType::CHANGED_ADDRESS), has_other);
        assert!(!message.contains(AttributeType::XOR_MAPPED_ADDRESS));
        if has_other {
            let changed = message.read::<ChangedAddress>().unwrap().0;
            assert_eq!(changed, addr("203.0.113.2:3479"));
        }
    }
}

#[test]
fn answers_never_go_to_an_address_named_in_the_request() {
    let elsewhere = request(|builder| {
        builder
            .attribute(&ResponseAddress(addr("198.51.100.1:9")))
            .unwrap()
            .finish()
            .to_vec()
    });
    let response = two_addresses()
        .respond(&elsewhere, addr("203.0.113.1:3478"), addr(FROM))
        .unwrap();
    assert_eq!(
        (code(&response.payload), response.destination),
        (420, addr(FROM))
    );
}

#[test]
fn a_fingerprint_is_answered_with_one_and_a_broken_one_not_at_all() {
    let mut request = request(|builder| builder.fingerprint().unwrap().finish().to_vec());
    let at = addr("203.0.113.1:3478");
    let response = one_address().respond(&request, at, addr(FROM)).unwrap();
    assert_eq!(
        Message::decode(&response.payload)
            .unwrap()
            .verify_fingerprint(),
        Ok(())
    );
    *request.last_mut().unwrap() ^= 1;
    assert_eq!(one_address().respond(&request, at, addr(FROM)), None);
}

#[test]
fn behind_a_1_to_1_nat_the_world_sees_the_external_addresses() {
    let addresses = BindingAddresses {
        ips: ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
        ports: [3478, 3479],
    };
    let external = ExternalAddresses::default()
        .for_local("10.0.0.1".parse().unwrap(), "203.0.113.1".parse().unwrap())
        .for_local("10.0.0.2".parse().unwrap(), "203.0.113.2".parse().unwrap());
    let responder = BindingResponder::new(Some(addresses), external);
    let response = responder
        .respond(&changing(true, false), addr("10.0.0.1:3478"), addr(FROM))
        .unwrap();
    assert_eq!(response.source, addr("10.0.0.2:3478"));
    let message = Message::decode(&response.payload).unwrap();
    assert_eq!(
        message.read::<ResponseOrigin>().unwrap().0,
        addr("203.0.113.2:3478")
    );
    assert_eq!(
        message.read::<OtherAddress>().unwrap().0,
        addr("203.0.113.2:3479")
    );
}

#[test]
fn on_a_stream_there_is_nothing_to_change() {
    let payload = two_addresses()
        .respond_on_stream(&plain(), addr(FROM))
        .unwrap();
    let message = Message::decode(&payload).unwrap();
    assert_eq!(message.read::<XorMappedAddress>().unwrap().0, addr(FROM));
    assert!(!message.contains(AttributeType::OTHER_ADDRESS));
    let refused = two_addresses()
        .respond_on_stream(&changing(true, true), addr(FROM))
        .unwrap();
    assert_eq!(code(&refused), 420);
}

#[test]
fn what_is_not_a_binding_request_is_somebody_elses() {
    let at = addr("203.0.113.1:3478");
    let mut answer = plain();
    answer[0] = 0x01;
    let mut buffer = [0; 64];
    let id = TransactionId::new([5; 12]);
    let allocate = MessageBuilder::new(&mut buffer, Class::Request, Method::ALLOCATE, id).unwrap();
    for bytes in [
        &answer[..],
        allocate.finish(),
        &[],
        &[0x40, 0, 0, 0],
        &[0; 19],
    ] {
        assert_eq!(two_addresses().respond(bytes, at, addr(FROM)), None);
    }
}

//! What comes over a carrier before and beside flows: the proof of the room, and datagrams.

use std::time::Duration;

use bytes::Bytes;
use tunnel::carrier::{
    CarrierToken, Channel, Credentials, Failures, Hello, Output, PairKeys, Proof, Side,
};
use tunnel::datagram::{
    Body, Datagram, DatagramEgress, DatagramIngress, Fragment, IngressStep, PAYLOAD_MAX,
    Reassembler, Source, fragments,
};
use tunnel::flow::{FlowId, RefuseCode};

use crate::pieces::pieces;
use crate::target::epoch;

/// What an end may answer to one flight: a hello, SPAKE2's message and two confirmations are below 400 bytes.
const FLIGHT_MAX: usize = 1024;

/// The first byte chooses: a stranger's proof, a proof with a disturbed line, or datagrams.
pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    match choice % 8 {
        0 | 1 => strangers_prove_nothing(bytes, *choice),
        2 => a_disturbed_proof_agrees_or_fails(bytes, *choice),
        3..=5 => datagrams_to_both_ends(bytes),
        _ => payloads_arrive_whole_or_not_at_all(bytes),
    }
}

struct End {
    side: Side,
    pairs: PairKeys,
    failures: Failures,
}

impl End {
    fn new(side: Side) -> Self {
        Self {
            side,
            pairs: PairKeys::new(instance(side)),
            failures: Failures::default(),
        }
    }

    fn begin(&self, password: [u8; 32]) -> Proof {
        let (own, peer) = match self.side {
            Side::Ingress => ([1; 32], [2; 32]),
            Side::Egress => ([2; 32], [1; 32]),
        };
        let hello = Hello {
            side: self.side,
            version_min: 1,
            version_max: 1,
            features: 3,
            instance: instance(self.side),
            resume: Duration::from_secs(3600),
            token: CarrierToken(if self.side == Side::Ingress { 77 } else { 0 }),
        };
        let credentials = Credentials {
            hello,
            password: password.into(),
        };
        let channel = Channel {
            exporter: [9; 32],
            own_key: own,
            peer_key: peer,
        };
        Proof::new(credentials, channel, None, &self.pairs, [own[0]; 32])
    }
}

const fn instance(side: Side) -> [u8; 16] {
    match side {
        Side::Ingress => [11; 16],
        Side::Egress => [22; 16],
    }
}

/// Bytes of somebody who does not know the room: they never prove it, and are answered with little.
fn strangers_prove_nothing(bytes: &[u8], choice: u8) {
    let now = epoch();
    let mut end = End::new(if choice & 0x80 == 0 {
        Side::Egress
    } else {
        Side::Ingress
    });
    let mut proof = end.begin([5; 32]);
    if proof.output() == Output::Turn {
        proof.take_turn(&end.pairs);
    }
    let _ = proof.poll_transmit();
    for piece in pieces(bytes, &[63, choice]) {
        let handled = proof.handle_bytes(piece, &mut end.pairs, &mut end.failures, now);
        assert!(
            !matches!(proof.output(), Output::Done(_)),
            "a stranger has proven the room"
        );
        assert!(proof.poll_transmit().len() <= FLIGHT_MAX);
        if handled.is_err() {
            break;
        }
        if proof.output() == Output::Turn {
            proof.take_turn(&end.pairs);
        }
    }
    let peer = if end.side == Side::Ingress {
        [2; 32]
    } else {
        [1; 32]
    };
    assert_eq!(end.pairs.latest_instance(&peer), None, "and is remembered");
}

/// Both know the room, and somebody changes a byte on the way: both ends agree on what was proven, or it fails.
fn a_disturbed_proof_agrees_or_fails(bytes: &[u8], choice: u8) {
    let now = epoch();
    let (mut ingress, mut egress) = (End::new(Side::Ingress), End::new(Side::Egress));
    let (mut a, mut b) = (ingress.begin([5; 32]), egress.begin([5; 32]));
    let mut changes = bytes.chunks_exact(3);
    let mut disturb = |mut flight: Vec<u8>| {
        if let Some(&[high, low, with]) = changes.next()
            && !flight.is_empty()
        {
            let at = usize::from(u16::from_be_bytes([high, low])) % flight.len();
            flight[at] ^= with;
        }
        flight
    };
    for _ in 0..4 {
        if a.output() == Output::Turn {
            a.take_turn(&ingress.pairs);
        }
        let flight = disturb(a.poll_transmit());
        if b.handle_bytes(&flight, &mut egress.pairs, &mut egress.failures, now)
            .is_err()
        {
            return;
        }
        let flight = disturb(b.poll_transmit());
        if a.handle_bytes(&flight, &mut ingress.pairs, &mut ingress.failures, now)
            .is_err()
        {
            return;
        }
    }
    if let (Output::Done(seen), Output::Done(by_egress)) = (a.output(), b.output()) {
        assert_eq!(
            (seen.version, seen.features),
            (by_egress.version, by_egress.features)
        );
        assert_eq!(seen.peer.instance, instance(Side::Egress));
        assert_eq!(by_egress.peer.instance, instance(Side::Ingress));
        assert_eq!(
            (seen.token, by_egress.token),
            (CarrierToken(77), CarrierToken(77))
        );
    }
    // Undisturbed, it succeeds.
    if bytes.len() < 3 {
        assert!(matches!(b.output(), Output::Done(_)), "choice {choice}");
    }
}

/// Length-prefixed datagrams, each to both ends.
fn datagrams_to_both_ends(bytes: &[u8]) {
    let now = epoch();
    let idle = Duration::from_secs(120);
    let (mut egress, mut ingress) = (DatagramEgress::new(idle), DatagramIngress::new(idle));
    for id in 1..4 {
        let local_peer = ([127, 0, 0, 1], 5000 + id).into();
        let source = Source {
            mapping: 0,
            port_offset: 0,
            local_peer,
        };
        assert!(
            ingress
                .flow_of(source, || FlowId::new(id.into()), now)
                .is_some()
        );
    }
    let mut rest = bytes;
    let mut step: u64 = 0;
    while let Some((&length, after)) = rest.split_first() {
        let (datagram, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        step += 1;
        let now = now + Duration::from_millis(step * 100);
        let datagram = Bytes::copy_from_slice(datagram);
        if let Some(read) = Datagram::decode(datagram.clone()) {
            check_datagram(&read);
        }
        let flows = egress.len();
        let did = egress.handle_datagram(datagram.clone(), || flows < 8, now);
        if let Some((id, request)) = did.open {
            assert!(request.port_offset % 2 == 0 || id.value() > 0 || flows < 8);
            if length.is_multiple_of(3) {
                let _ = egress.refuse(id, RefuseCode::NotAllowed, "no".to_owned(), now);
            } else {
                let _ = egress.opened(id);
            }
        }
        if let Some((_, payload)) = did.deliver {
            assert!(payload.len() <= PAYLOAD_MAX);
        }
        if let Some(reply) = did.reply {
            // An answer that is larger than what was sent would be somebody's amplifier; TEXT bounds it.
            assert!(reply.len() <= 64 && Datagram::decode(reply).is_some());
        }
        assert!(egress.len() <= 8);
        if let IngressStep::Deliver(_, payload) = ingress.handle_datagram(datagram, now) {
            assert!(payload.len() <= PAYLOAD_MAX);
        }
        assert!(ingress.len() <= 3);
    }
    let later = now + Duration::from_secs(3600);
    egress.handle_timeout(later);
    ingress.handle_timeout(later);
    assert!(egress.is_empty() && ingress.is_empty(), "idle flows go");
}

fn check_datagram(datagram: &Datagram) {
    assert_eq!(Datagram::decode(datagram.encode()).as_ref(), Some(datagram));
}

/// An honest sender whose fragments are lost, repeated and reordered as the bytes say.
fn payloads_arrive_whole_or_not_at_all(bytes: &[u8]) {
    let now = epoch();
    let Some((&[s0, s1, m], fates)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let size = usize::from(u16::from_be_bytes([s0, s1]));
    let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let flow = FlowId::new(1).expect("a small number");
    let max = 300 + usize::from(m) * 8;
    let mut wires: Vec<Bytes> = fragments(flow, None, 7, &payload, max).collect();
    assert_eq!(wires.is_empty(), size > PAYLOAD_MAX);
    assert!(wires.iter().all(|wire| wire.len() <= max));
    let mut whole = true;
    for (at, fate) in fates.iter().enumerate().take(wires.len()) {
        match fate % 4 {
            0 => {
                let with = usize::from(fate >> 2) % wires.len();
                wires.swap(at, with);
            }
            1 => wires.push(wires[at].clone()),
            2 if fate / 4 % 8 == 0 => {
                whole = false;
                wires[at] = Bytes::from_static(&[3, 1]);
            }
            _ => {}
        }
    }
    let mut reassembler = Reassembler::new();
    let mut delivered = 0;
    for wire in wires {
        let Some(Datagram {
            flow,
            body:
                Body::Payload {
                    packet,
                    offset,
                    last,
                    bytes,
                    ..
                },
        }) = Datagram::decode(wire)
        else {
            continue;
        };
        let fragment = Fragment {
            packet,
            offset,
            last,
            bytes,
        };
        if let Some(joined) = reassembler.handle(flow, fragment, now) {
            assert_eq!(joined, payload);
            delivered += 1;
        }
        assert!(reassembler.held() <= 16 * 1024 * 1024);
    }
    assert!(delivered <= 1, "a payload was delivered twice");
    assert!(
        !whole || size > PAYLOAD_MAX || delivered == 1,
        "nothing was lost"
    );
}

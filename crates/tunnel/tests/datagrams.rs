//! UDP payloads through lossy, reordering, repeating carriers, and how both ends agree on flows.
#![expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
#![expect(
    clippy::unwrap_used,
    reason = "a helper that finds nothing fails its test"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tunnel::datagram::{
    Body, Datagram, DatagramEgress, DatagramIngress, Fragment, IDLE_TIMEOUT, IngressStep,
    PAYLOAD_MAX, Reassembler, Source, fragments,
};
use tunnel::flow::{FlowId, OpenRequest, RefuseCode};

#[test]
fn payloads_of_every_size_survive_reordering_and_repetition_once_and_whole() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let count = 20;
        let payloads: Vec<Vec<u8>> = (0..count)
            .map(|index| {
                let length = match index {
                    0 => 0,
                    1 => PAYLOAD_MAX,
                    _ => rng.random_range(0..20_000),
                };
                (0..length)
                    .map(|at: usize| (at * 31 + index) as u8)
                    .collect()
            })
            .collect();
        let mut wire: Vec<Bytes> = Vec::new();
        for (packet, payload) in payloads.iter().enumerate() {
            let max = rng.random_range(300..1500);
            wire.extend(fragments(flow(), None, packet as u64, payload, max));
        }
        for _ in 0..50 {
            wire.push(wire[rng.random_range(0..wire.len())].clone());
        }
        wire.shuffle(&mut rng);
        let mut reassembler = Reassembler::new();
        let mut delivered = vec![0; count];
        for datagram in wire {
            let (packet, fragment) = fragment_of(datagram);
            if let Some(payload) = reassembler.handle(flow(), fragment, now) {
                assert_eq!(payload, payloads[packet], "SEED={seed}");
                delivered[packet] += 1;
            }
        }
        assert_eq!(
            (delivered, reassembler.held()),
            (vec![1; count], 0),
            "SEED={seed}"
        );
    }
}

#[test]
fn a_payload_that_lost_a_fragment_never_arrives_and_is_forgotten_after_two_seconds() {
    let now = Instant::now();
    let mut reassembler = Reassembler::new();
    let mut wire: Vec<Bytes> = fragments(flow(), None, 7, &[1; 5000], 1200).collect();
    let lost = wire.remove(2);
    for datagram in wire {
        assert_eq!(
            reassembler.handle(flow(), fragment_of(datagram).1, now),
            None
        );
    }
    assert!(reassembler.held() > 3000);
    reassembler.handle_timeout(now + Duration::from_secs(2));
    assert_eq!((reassembler.held(), reassembler.stats().expired), (0, 1));
    assert_eq!(reassembler.handle(flow(), fragment_of(lost).1, now), None);
    assert_eq!(reassembler.held(), 0, "a late fragment is not held again");
}

#[test]
fn incomplete_payloads_are_bounded_by_number_and_by_bytes() {
    let now = Instant::now();
    let mut reassembler = Reassembler::new();
    for id in 0..100 {
        for packet in 0..100 {
            let bytes = vec![0; 30_000].into();
            let fragment = Fragment {
                packet,
                offset: 0,
                last: false,
                bytes,
            };
            reassembler.handle(FlowId::new(id).unwrap(), fragment, now);
            assert!(reassembler.held() <= 16 * 1024 * 1024);
        }
    }
    assert!(reassembler.stats().no_room >= 100 * 36);
}

#[test]
fn a_carrier_that_takes_too_little_or_a_payload_that_is_too_large_gives_nothing() {
    assert_eq!(fragments(flow(), None, 1, &[0; 1000], 100).count(), 0);
    assert_eq!(
        fragments(flow(), None, 1, &[0; PAYLOAD_MAX + 1], 1200).count(),
        0
    );
    assert_eq!(fragments(flow(), None, 1, &[0; 90], 100).count(), 1);
    assert_eq!(fragments(flow(), None, 1, &[], 1200).count(), 1);
}

#[test]
fn the_long_form_is_sent_until_the_egress_answers_and_again_when_it_has_forgotten() {
    let start = Instant::now();
    let mut ingress = DatagramIngress::new(IDLE_TIMEOUT);
    let mut egress = DatagramEgress::new(IDLE_TIMEOUT);
    let id = ingress.flow_of(source(), || Some(flow()), start).unwrap();
    let lost = send(&mut ingress, id, b"lost", start);
    assert!(is_long(&lost));
    let first = send(&mut ingress, id, b"first", start);
    assert!(is_long(&first));

    let step = egress.handle_datagram(first, || true, start);
    let (asked, request) = step.open.expect("the egress is asked to open");
    assert_eq!((asked, request.mapping, request.table_version), (id, 9, 3));
    assert_eq!(step.deliver, None);
    let (waiting, known) = egress.opened(id);
    assert_eq!(waiting, [Bytes::from_static(b"first")]);
    assert_eq!(
        ingress.handle_datagram(known.unwrap(), start),
        IngressStep::Nothing
    );

    let second = send(&mut ingress, id, b"second", start);
    assert!(!is_long(&second));
    let step = egress.handle_datagram(second, || true, start);
    assert_eq!(step.deliver, Some((id, Bytes::from_static(b"second"))));
    assert_eq!((step.open, step.reply), (None, None));

    let later = start + IDLE_TIMEOUT;
    assert_eq!(egress.handle_timeout(later), [id]);
    let third = send(&mut ingress, id, b"third", start + IDLE_TIMEOUT / 2);
    let unknown = egress
        .handle_datagram(third, || true, later)
        .reply
        .expect("unknown flow");
    ingress.handle_datagram(unknown, later);
    assert!(is_long(&send(&mut ingress, id, b"fourth", later)));
}

#[test]
fn an_answer_comes_back_to_the_source_and_idle_flows_are_forgotten() {
    let start = Instant::now();
    let mut ingress = DatagramIngress::new(IDLE_TIMEOUT);
    let mut egress = DatagramEgress::new(IDLE_TIMEOUT);
    let id = ingress.flow_of(source(), || Some(flow()), start).unwrap();
    let first = send(&mut ingress, id, b"question", start);
    egress.handle_datagram(first, || true, start);
    egress.opened(id);
    let answer: Vec<Bytes> = egress.send(id, &[5; 3000], 1200, start).unwrap().collect();
    assert_eq!(answer.len(), 3);
    let steps: Vec<_> = answer
        .into_iter()
        .map(|d| ingress.handle_datagram(d, start))
        .collect();
    assert_eq!(
        steps[2],
        IngressStep::Deliver(source(), vec![5; 3000].into())
    );
    ingress.handle_timeout(start + IDLE_TIMEOUT);
    assert!(ingress.is_empty() && ingress.poll_timeout().is_none());
}

#[test]
fn a_refused_source_is_told_once_and_not_asked_again_for_a_while() {
    let start = Instant::now();
    let mut ingress = DatagramIngress::new(IDLE_TIMEOUT);
    let mut egress = DatagramEgress::new(IDLE_TIMEOUT);
    let id = ingress.flow_of(source(), || Some(flow()), start).unwrap();
    let first = send(&mut ingress, id, b"question", start);
    egress.handle_datagram(first.clone(), || true, start);
    let refused = egress
        .refuse(id, RefuseCode::NotAllowed, "no", start)
        .unwrap();
    assert_eq!(
        egress.handle_datagram(first, || true, start).reply.as_ref(),
        Some(&refused)
    );
    let step = IngressStep::Refused(source(), RefuseCode::NotAllowed, "no".into());
    assert_eq!(ingress.handle_datagram(refused.clone(), start), step);
    assert_eq!(
        ingress.handle_datagram(refused, start),
        IngressStep::Nothing
    );
    assert_eq!(
        ingress.flow_of(source(), || panic!("no new flow"), start),
        None
    );
    ingress.handle_timeout(start + Duration::from_secs(5));
    assert!(ingress.is_empty());
}

#[test]
fn a_flow_beyond_the_limit_is_refused() {
    let now = Instant::now();
    let mut ingress = DatagramIngress::new(IDLE_TIMEOUT);
    let mut egress = DatagramEgress::new(IDLE_TIMEOUT);
    let id = ingress.flow_of(source(), || Some(flow()), now).unwrap();
    let step = egress.handle_datagram(send(&mut ingress, id, b"x", now), || false, now);
    let reply = Datagram::decode(step.reply.unwrap()).unwrap();
    assert!(matches!(
        reply.body,
        Body::Refused {
            code: RefuseCode::Limit,
            ..
        }
    ));
    assert!(egress.is_empty());
}

proptest! {
    #[test]
    fn datagrams_survive_the_wire(
        id in 0u64..1 << 62, packet in 0u64..1 << 60, offset in 0usize..65_507, last: bool, long: bool,
        mapping: u32, bytes in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let request = long.then_some(OpenRequest {
            table_version: 7, mapping, port_offset: 3, local_peer: Some("[::1]:9".parse().unwrap()),
        });
        let body = Body::Payload { request, packet, offset, last, bytes: bytes.into() };
        let datagram = Datagram { flow: FlowId::new(id).unwrap(), body };
        prop_assert_eq!(Datagram::decode(datagram.encode()), Some(datagram));
    }

    #[test]
    fn garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..200)) {
        let now = Instant::now();
        let mut ingress = DatagramIngress::new(IDLE_TIMEOUT);
        let mut egress = DatagramEgress::new(IDLE_TIMEOUT);
        let garbage = Bytes::from(garbage);
        prop_assert_eq!(ingress.handle_datagram(garbage.clone(), now), IngressStep::Nothing);
        let step = egress.handle_datagram(garbage, || true, now);
        prop_assert!(step.deliver.is_none());
    }
}

fn send(ingress: &mut DatagramIngress, id: FlowId, payload: &[u8], now: Instant) -> Bytes {
    let datagrams: Vec<Bytes> = ingress.send(id, 3, payload, 1200, now).unwrap().collect();
    assert_eq!(datagrams.len(), 1);
    datagrams[0].clone()
}

fn is_long(datagram: &Bytes) -> bool {
    let body = Datagram::decode(datagram.clone()).unwrap().body;
    matches!(
        body,
        Body::Payload {
            request: Some(_),
            ..
        }
    )
}

fn fragment_of(datagram: Bytes) -> (usize, Fragment) {
    match Datagram::decode(datagram).unwrap().body {
        Body::Payload {
            packet,
            offset,
            last,
            bytes,
            ..
        } => (
            packet as usize,
            Fragment {
                packet,
                offset,
                last,
                bytes,
            },
        ),
        other @ (Body::UnknownFlow | Body::FlowKnown | Body::Refused { .. }) => panic!("{other:?}"),
    }
}

fn flow() -> FlowId {
    FlowId::new(5).unwrap()
}

fn source() -> Source {
    Source {
        mapping: 9,
        port_offset: 0,
        local_peer: "127.0.0.1:5000".parse().unwrap(),
    }
}

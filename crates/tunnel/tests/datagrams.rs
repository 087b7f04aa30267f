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
    let again = ingress.flow_of(source(), || FlowId::new(6), later).unwrap();
    assert_ne!(again, id);
    assert!(is_long(&send(&mut ingress, again, b"fourth", later)));
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
fn answers_arrive_after_the_egress_has_forgotten_and_the_source_asked_again() {
    let now = Instant::now();
    let mut ingress = DatagramIngress::new(IDLE_TIMEOUT);
    let mut egress = DatagramEgress::new(IDLE_TIMEOUT);
    let id = ingress.flow_of(source(), || Some(flow()), now).unwrap();
    ask_and_answer(&mut ingress, &mut egress, id, now);
    egress.forget(id);
    let short = send(&mut ingress, id, b"lost", now);
    let unknown = egress
        .handle_datagram(short, || true, now)
        .reply
        .expect("unknown flow");
    ingress.handle_datagram(unknown, now);

    let again = ingress.flow_of(source(), || FlowId::new(6), now).unwrap();
    ask_and_answer(&mut ingress, &mut egress, again, now);
}

#[test]
fn a_repeated_long_form_of_a_flow_that_is_over_does_not_begin_it_again() {
    let now = Instant::now();
    let mut ingress = DatagramIngress::new(IDLE_TIMEOUT);
    let mut egress = DatagramEgress::new(IDLE_TIMEOUT);
    let id = ingress.flow_of(source(), || Some(flow()), now).unwrap();
    let long = send(&mut ingress, id, b"pay", now);
    assert!(
        egress
            .handle_datagram(long.clone(), || true, now)
            .open
            .is_some()
    );
    egress.forget(id);
    let step = egress.handle_datagram(long, || true, now);
    assert_eq!((step.open, step.deliver), (None, None));
    assert_eq!(
        Datagram::decode(step.reply.unwrap()).unwrap().body,
        Body::UnknownFlow
    );
}

#[test]
fn fragments_that_two_carriers_cut_differently_make_the_payload() {
    let (mut reassembler, now) = (Reassembler::new(), Instant::now());
    let payload: Vec<u8> = (0..3000u32).map(|at| (at % 251) as u8).collect();
    let mut join = |from: usize, to: usize| {
        reassembler.handle(flow(), piece(0, from, &payload[from..to], to == 3000), now)
    };
    assert_eq!(join(0, 1100), None);
    assert_eq!(join(1000, 2000), None);
    assert_eq!(join(1000, 2200), None, "a longer one at the same place");
    assert_eq!(join(2100, 3000).as_deref(), Some(&payload[..]));
    assert_eq!((join(2000, 3000), reassembler.held()), (None, 0));
}

#[test]
fn payloads_that_lost_a_fragment_do_not_stop_the_next_ones() {
    let (mut reassembler, now) = (Reassembler::new(), Instant::now());
    for packet in 0..=64 {
        assert_eq!(
            reassembler.handle(flow(), piece(packet, 0, &[1; 600], false), now),
            None
        );
    }
    let last = |packet| piece(packet, 600, &[1; 600], true);
    assert!(reassembler.handle(flow(), last(64), now).is_some());
    assert!(
        reassembler.handle(flow(), last(0), now).is_none(),
        "the oldest made room"
    );
}

#[test]
fn held_fragments_do_not_pin_the_buffer_they_were_received_in() {
    let buffer = Bytes::from(vec![1; 65_536]);
    let fragment = Fragment {
        packet: 0,
        offset: 0,
        last: false,
        bytes: buffer.slice(..1200),
    };
    let mut reassembler = Reassembler::new();
    assert_eq!(reassembler.handle(flow(), fragment, Instant::now()), None);
    assert!(reassembler.held() > 0 && buffer.is_unique());
}

#[test]
fn a_removed_mapping_ends_its_flows_whether_open_or_still_asked_for() {
    let now = Instant::now();
    let mut ingress = DatagramIngress::new(IDLE_TIMEOUT);
    let mut egress = DatagramEgress::new(IDLE_TIMEOUT);
    let other = Source {
        mapping: 4,
        ..source()
    };
    let ids = [(source(), 5), (other, 6), (other, 7)].map(|(source, id)| {
        let local_peer = ([127, 0, 0, 1], 5000 + id).into();
        let source = Source {
            local_peer,
            ..source
        };
        let id = || FlowId::new(u64::from(id));
        let id = ingress.flow_of(source, id, now).unwrap();
        let step = egress.handle_datagram(send(&mut ingress, id, b"x", now), || true, now);
        assert!(step.open.is_some());
        id
    });
    assert!(egress.opened(ids[0]).1.is_some() && egress.opened(ids[1]).1.is_some());
    assert_eq!(egress.remove_mappings(&[4].into()), ids[1..]);
    assert_eq!(egress.len(), 1);
    // Its socket was being opened: it comes too late.
    assert_eq!(egress.opened(ids[2]), (Default::default(), None));
    let late = egress.handle_datagram(send(&mut ingress, ids[1], b"x", now), || true, now);
    assert_eq!((late.open, late.deliver), (None, None));
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

/// One payload each way, which must arrive.
fn ask_and_answer(
    ingress: &mut DatagramIngress,
    egress: &mut DatagramEgress,
    id: FlowId,
    now: Instant,
) {
    let step = egress.handle_datagram(send(ingress, id, b"question", now), || true, now);
    assert!(step.open.is_some(), "it is a new flow");
    let (waiting, known) = egress.opened(id);
    assert_eq!(waiting, [Bytes::from_static(b"question")]);
    ingress.handle_datagram(known.unwrap(), now);
    let answer = egress
        .send(id, b"answer", 1200, now)
        .unwrap()
        .next()
        .unwrap();
    let delivered = IngressStep::Deliver(source(), Bytes::from_static(b"answer"));
    assert_eq!(ingress.handle_datagram(answer, now), delivered);
}

fn piece(packet: u64, offset: usize, bytes: &[u8], last: bool) -> Fragment {
    Fragment {
        packet,
        offset,
        last,
        bytes: Bytes::copy_from_slice(bytes),
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

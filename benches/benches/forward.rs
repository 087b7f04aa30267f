//! The forward fast path without sockets: what the flow layer adds to each byte and each UDP payload.
//!
//! `tcp/…` moves one megabyte from one end's `write` through records to the other end's `read`, credit and
//! acknowledgements included; `baseline/memcpy` is one copy of the same megabyte, for the ratio.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tunnel::flow::{Flow, FlowConfig, FlowId, Generation, OpenRequest, Output, RecordDecoder};

const MEGABYTE: usize = 1 << 20;
const STREAM: Generation = Generation(0);

fn bench_tcp(c: &mut Criterion) {
    let mut group = c.benchmark_group("tcp");
    group.throughput(Throughput::Bytes(MEGABYTE as u64));
    group.bench_function("baseline/memcpy", |b| {
        let source = vec![7_u8; MEGABYTE];
        let mut target = vec![0_u8; MEGABYTE];
        b.iter(|| black_box(&mut target).copy_from_slice(black_box(&source)));
    });
    for chunk in [512_usize, 16 * 1024, 64 * 1024] {
        group.bench_function(BenchmarkId::new("one_way_in_reads_of", chunk), |b| {
            let mut pair = Pair::open();
            let payload = Bytes::from(vec![7_u8; chunk]);
            b.iter(|| pair.transfer(&payload, MEGABYTE));
        });
    }
    group.finish();
}

fn bench_udp(c: &mut Criterion) {
    use tunnel::datagram::{Body, Datagram, fragments};
    let mut group = c.benchmark_group("udp");
    for size in [64_usize, 1200, 8000] {
        group.throughput(Throughput::Bytes(size as u64));
        let payload = vec![7_u8; size];
        group.bench_function(BenchmarkId::new("fragment_and_decode", size), |b| {
            let flow = FlowId::new(5).expect("a small id");
            b.iter(|| {
                for datagram in fragments(flow, None, 9, black_box(&payload), 1200) {
                    let decoded = Datagram::decode(datagram).expect("our own datagram");
                    assert!(!matches!(black_box(decoded.body), Body::UnknownFlow));
                }
            });
        });
    }
    group.finish();
}

/// Both ends of one flow, with one stream between them.
struct Pair {
    ingress: Flow,
    egress: Flow,
    to_egress: RecordDecoder,
    to_ingress: RecordDecoder,
    wire: BytesMut,
    now: Instant,
}

impl Pair {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
    fn open() -> Self {
        let now = Instant::now();
        let id = FlowId::new(5).expect("a small id");
        let request = OpenRequest {
            table_version: 1,
            mapping: 0,
            port_offset: 0,
            local_peer: None,
        };
        let mut pair = Self {
            ingress: Flow::open(FlowConfig::default(), id, request, now),
            egress: Flow::accept(FlowConfig::default(), id, request, now),
            to_egress: RecordDecoder::new(),
            to_ingress: RecordDecoder::new(),
            wire: BytesMut::new(),
            now,
        };
        pair.ingress.attach(STREAM, now);
        pair.egress.attach(STREAM, now);
        pair.egress.opened(now);
        pair.exchange();
        pair
    }

    fn transfer(&mut self, payload: &Bytes, total: usize) {
        let (mut written, mut read) = (0, 0);
        while read < total {
            while written < total {
                match self.ingress.write(payload.clone()) {
                    0 => break,
                    count => written += count,
                }
            }
            self.exchange();
            while let Some(bytes) = self.egress.read(usize::MAX) {
                read += bytes.len();
                self.egress.consumed(black_box(bytes).len(), self.now);
            }
            self.now += Duration::from_millis(1);
            self.exchange();
        }
    }

    fn exchange(&mut self) {
        while pass(
            &mut self.ingress,
            &mut self.egress,
            &mut self.to_egress,
            &mut self.wire,
            self.now,
        ) | pass(
            &mut self.egress,
            &mut self.ingress,
            &mut self.to_ingress,
            &mut self.wire,
            self.now,
        ) {}
    }
}

/// Moves what one end has to say to the other; returns whether there was anything.
fn pass(
    from: &mut Flow,
    to: &mut Flow,
    decoder: &mut RecordDecoder,
    wire: &mut BytesMut,
    now: Instant,
) -> bool {
    let mut any = false;
    while let Output::Record(record) = from.poll_output(STREAM, 16 * 1024, now) {
        any = true;
        record.encode(wire);
        let mut chunk = wire.split().freeze();
        while let Some(record) = decoder.decode(&mut chunk).expect("our own records") {
            to.handle_record(STREAM, record, now);
        }
    }
    any
}

criterion_group!(benches, bench_tcp, bench_udp);
criterion_main!(benches);

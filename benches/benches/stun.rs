//! What one STUN message costs: the check that punch sends and answers, and the header of ChannelData.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use stunwire::attributes::{IceControlling, Priority, Username};
use stunwire::{
    ChannelData, ChannelNumber, Class, IntegrityKey, Message, MessageBuilder, Method,
    TransactionId, is_stun,
};

const ID: TransactionId = TransactionId::new(*b"transaction!");
const BUFFER_LEN: usize = 256;

fn stun(criterion: &mut Criterion) {
    let key = IntegrityKey::short_term("VOkJxbRl1RmTxUk/WvJxBt");
    let mut buffer = [0; BUFFER_LEN];
    let request = encode_check(&mut buffer, &key).to_vec();

    let mut group = criterion.benchmark_group("stun");
    group.bench_function("encode_check", |bencher| {
        let mut buffer = [0; BUFFER_LEN];
        bencher.iter(|| encode_check(black_box(&mut buffer), black_box(&key)).len());
    });
    group.bench_function("decode_and_verify_check", |bencher| {
        bencher.iter(|| {
            let message = Message::decode(black_box(&request)).expect("we encoded it");
            message.verify_fingerprint().expect("we encoded it");
            message
                .verify_integrity(black_box(&key))
                .expect("we encoded it");
            message.transaction_id()
        });
    });
    group.bench_function("decode_check", |bencher| {
        bencher.iter(|| {
            let message = Message::decode(black_box(&request)).expect("we encoded it");
            (message.class(), message.method(), message.transaction_id())
        });
    });
    group.bench_function("decode_and_read_username", |bencher| {
        bencher.iter(|| {
            let message = Message::decode(black_box(&request)).expect("we encoded it");
            message
                .read::<Username<'_>>()
                .expect("we encoded it")
                .0
                .len()
        });
    });
    group.bench_function("is_stun", |bencher| {
        bencher.iter(|| is_stun(black_box(&request)))
    });
    group.bench_function("key_short_term", |bencher| {
        bencher.iter(|| IntegrityKey::short_term(black_box("VOkJxbRl1RmTxUk/WvJxBt")));
    });
    group.finish();
}

fn channel_data(criterion: &mut Criterion) {
    let channel = ChannelNumber::FIRST;
    let mut datagram = ChannelData::header(channel, 1200).to_vec();
    datagram.resize(ChannelData::HEADER_LEN + 1200, 7);

    let mut group = criterion.benchmark_group("channel_data");
    group.bench_function("encode_header", |bencher| {
        bencher.iter(|| ChannelData::header(black_box(channel), black_box(1200)));
    });
    group.bench_function("decode_1200_bytes", |bencher| {
        bencher.iter(|| {
            let data = ChannelData::decode(black_box(&datagram)).expect("we encoded it");
            (data.channel, data.payload.len())
        });
    });
    group.finish();
}

/// A connectivity check as punch sends it (RFC 8445, section 7.2.2).
fn encode_check<'a>(buffer: &'a mut [u8], key: &IntegrityKey) -> &'a [u8] {
    MessageBuilder::new(buffer, Class::Request, Method::BINDING, ID)
        .and_then(|builder| builder.attribute(&Username("evtj:h6vY")))
        .and_then(|builder| builder.attribute(&Priority(0x6e00_01ff)))
        .and_then(|builder| builder.attribute(&IceControlling(0x932f_f9b1_5126_3b36)))
        .and_then(|builder| builder.integrity(key))
        .and_then(|builder| builder.fingerprint())
        .expect("the buffer is long enough")
        .finish()
}

criterion_group!(benches, stun, channel_data);
criterion_main!(benches);

//! Records of flows: the decoder in any pieces, and a flow that hears whatever a peer may say.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tunnel::flow::{
    Admission, DATA_MAX, Flow, FlowConfig, FlowId, FlowTable, Generation, OpenRequest, Output,
    Record, RecordDecoder, RecordError, ResetCode,
};

use crate::pieces::{pieces, split_cuts};
use crate::target::epoch;

/// More says than this between two inputs, and a flow talks to itself: a word of each kind on each stream, and as
/// much data as there is credit for.
const OUTPUTS_MAX: usize = 4096;

/// Reads the bytes as one stream in two ways, then plays them to both ends of a flow.
pub fn run(data: &[u8]) {
    let (cuts, bytes) = split_cuts(data);
    let whole = read(bytes, &[]);
    assert_eq!(read(bytes, cuts), whole);
    for record in &whole.0 {
        check_record(record);
    }
    play_to_egress(&whole.0, cuts);
    play_to_ingress(&whole.0, cuts);
}

/// The records of a stream, with DATA that hangs together joined: a decoder gives it out as it arrives.
fn read(bytes: &[u8], cuts: &[u8]) -> (Vec<Record>, Option<RecordError>) {
    let mut decoder = RecordDecoder::new();
    let mut records: Vec<Record> = Vec::new();
    for piece in pieces(bytes, cuts) {
        let mut chunk = Bytes::copy_from_slice(piece);
        loop {
            match decoder.decode(&mut chunk) {
                Ok(Some(record)) => push_joined(&mut records, record),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(
                        decoder.decode(&mut chunk),
                        Err(error),
                        "an error is for ever"
                    );
                    return (records, Some(error));
                }
            }
        }
        assert!(chunk.is_empty(), "more is wanted although there is some");
    }
    (records, None)
}

fn push_joined(records: &mut Vec<Record>, record: Record) {
    if let (
        Some(Record::Data { offset, bytes }),
        Record::Data {
            offset: next,
            bytes: more,
        },
    ) = (records.last_mut(), &record)
        && *offset + bytes.len() as u64 == *next
    {
        *bytes = [&bytes[..], &more[..]].concat().into();
        return;
    }
    records.push(record);
}

/// What was read is written and read again. Joined DATA may be longer than a record, or lie beyond what an offset
/// can say.
fn check_record(record: &Record) {
    if let Record::Data { offset, bytes } = record
        && (bytes.len() > DATA_MAX || FlowId::new(*offset).is_none())
    {
        return;
    }
    let mut wire = BytesMut::new();
    record.encode(&mut wire);
    assert_eq!(read(&wire, &[]), (vec![record.clone()], None));
}

const fn config() -> FlowConfig {
    FlowConfig {
        initial_credit: 1024,
        max_credit: 8192,
        growth_time: Duration::from_secs(1),
        ack_bytes: 512,
        ack_delay: Duration::from_millis(20),
        resume: Duration::from_secs(60),
    }
}

/// A peer that opens streams as it likes: each OPEN and ATTACH begins one.
fn play_to_egress(records: &[Record], cuts: &[u8]) {
    let now = epoch();
    let mut table = FlowTable::<FlowId>::new(4);
    let mut flows: Vec<Flow> = Vec::new();
    let mut current: Option<(usize, Generation)> = None;
    for (step, record) in records.iter().enumerate() {
        let now = now + Duration::from_millis(step as u64 * 7);
        if let Record::Open {
            flow, generation, ..
        }
        | Record::Attach {
            flow, generation, ..
        } = record
        {
            match table.admit(record, 0) {
                Admission::New(id, request) => {
                    assert_eq!(id, *flow);
                    table.insert(id, id);
                    flows.push(Flow::accept(config(), id, request, now));
                }
                Admission::Existing(id) => assert_eq!(id, flow),
                Admission::Full(id, _) => assert_eq!(id, *flow),
                Admission::Unknown => {}
            }
            current = flows
                .iter()
                .position(|known| known.id() == *flow)
                .map(|index| (index, *generation));
        }
        let Some((index, generation)) = current else {
            continue;
        };
        let flow = &mut flows[index];
        flow.handle_record(generation, record.clone(), now);
        tinker(
            flow,
            generation,
            cuts.get(step % 15).copied().unwrap_or(step as u8),
            now,
        );
        check(flow, generation, now);
    }
    assert!(flows.len() <= 5, "four, and the control flow");
    for mut flow in flows {
        end(&mut flow, now);
    }
}

/// A peer that answers as it likes.
fn play_to_ingress(records: &[Record], cuts: &[u8]) {
    let now = epoch();
    let request = OpenRequest {
        table_version: 1,
        mapping: 0,
        port_offset: 0,
        local_peer: None,
    };
    let id = FlowId::new(1).expect("a small number");
    let mut flow = Flow::open(config(), id, request, now);
    let mut generation = Generation(0);
    for (step, record) in records.iter().enumerate() {
        let now = now + Duration::from_millis(step as u64 * 7);
        if flow.wants_stream() {
            generation = Generation(generation.0 + 1);
            flow.attach(generation, now);
        }
        check(&mut flow, generation, now);
        flow.handle_record(generation, record.clone(), now);
        tinker(
            &mut flow,
            generation,
            cuts.get(step % 15).copied().unwrap_or(step as u8),
            now,
        );
        check(&mut flow, generation, now);
    }
    end(&mut flow, now);
}

/// What the owner of a flow does meanwhile.
fn tinker(flow: &mut Flow, generation: Generation, what: u8, now: std::time::Instant) {
    match what % 16 {
        0..=3 => flow.opened(now),
        4 | 5 => drop(flow.write(Bytes::from_static(&[0x5A; 700]))),
        6 => flow.shutdown(),
        7 => flow.carrier_lost(generation, now),
        8 => flow.stream_ended(generation, now),
        9 => flow.handle_garbage(generation, now),
        10 => flow.reset(ResetCode::Application, now),
        11 => flow.handle_timeout(now + Duration::from_secs(1)),
        _ => {
            if let Some(bytes) = flow.read(600) {
                assert!(!bytes.is_empty() && bytes.len() <= 600);
                flow.consumed(bytes.len(), now);
            }
        }
    }
}

fn check(flow: &mut Flow, generation: Generation, now: std::time::Instant) {
    let mut outputs = 0;
    loop {
        match flow.poll_output(generation, 512, now) {
            Output::Record(record) => {
                if let Record::Data { bytes, .. } = &record {
                    assert!(bytes.len() <= 512);
                }
                check_record(&record);
            }
            Output::Finish => {}
            Output::Idle | Output::Gone => break,
        }
        outputs += 1;
        assert!(outputs < OUTPUTS_MAX, "{flow:?} does not come to an end");
    }
    let stats = flow.stats();
    assert!(stats.buffered <= config().max_credit, "{stats:?}");
    assert!(
        stats.received <= stats.granted,
        "more than there was credit for: {stats:?}"
    );
    assert!(stats.retained <= stats.written, "{stats:?}");
    let mut events = 0;
    while flow.poll_event().is_some() {
        events += 1;
        assert!(events < 8);
    }
}

/// Whatever was said, time ends it.
fn end(flow: &mut Flow, now: std::time::Instant) {
    let mut now = now + Duration::from_secs(3600);
    if let Some(generation) = flow.current() {
        flow.carrier_lost(generation, now);
    }
    for _ in 0..64 {
        let Some(at) = flow.poll_timeout() else {
            break;
        };
        now = now.max(at);
        flow.handle_timeout(now);
        if let Some(generation) = flow.current() {
            flow.carrier_lost(generation, now);
        }
    }
    assert!(
        flow.poll_timeout().is_none_or(|at| at > now),
        "a deadline that never passes"
    );
}

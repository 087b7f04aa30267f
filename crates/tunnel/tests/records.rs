//! Records on the wire: round trips in any cut, and garbage.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tunnel::flow::{
    FlowId, Generation, OpenRequest, Record, RecordDecoder, RecordError, RefuseCode, ResetCode,
};

proptest! {
    #[test]
    fn records_survive_the_wire_in_any_cut(
        records in proptest::collection::vec(record(), 1..20),
        cuts in proptest::collection::vec(1usize..400, 1..50),
    ) {
        let mut wire = BytesMut::new();
        for record in &records {
            record.encode(&mut wire);
        }
        let decoded = decode_in_cuts(wire.freeze(), &cuts).unwrap();
        prop_assert_eq!(decoded, joined(records));
    }

    #[test]
    fn garbage_never_panics_and_an_error_stays(
        garbage in proptest::collection::vec(any::<u8>(), 0..3000),
        cuts in proptest::collection::vec(1usize..400, 1..50),
    ) {
        let mut decoder = RecordDecoder::new();
        let mut failed = None;
        for mut chunk in cut(garbage.into(), &cuts) {
            loop {
                match decoder.decode(&mut chunk) {
                    Ok(Some(_)) => prop_assert_eq!(failed, None),
                    Ok(None) => break,
                    Err(error) => {
                        prop_assert!(failed.is_none_or(|before| before == error));
                        failed = Some(error);
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn an_unknown_skippable_record_is_skipped_by_its_length() {
    let mut wire = BytesMut::from(&[0x80, 3, 1, 2, 3, 0xff, 0][..]);
    Record::FinAck.encode(&mut wire);
    assert_eq!(
        decode_in_cuts(wire.freeze(), &[1]),
        Ok(vec![Record::FinAck])
    );
}

#[test]
fn an_unknown_record_without_the_skip_bit_ends_the_flow() {
    let wire = Bytes::from_static(&[0x20, 0]);
    assert_eq!(
        decode_in_cuts(wire, &[100]),
        Err(RecordError::UnknownKind(0x20))
    );
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_is_held() {
    let wire = Bytes::from_static(&[0x01, 0x80, 0x00, 0x10, 0x00]);
    let error = RecordError::TooLong {
        kind: 1,
        length: 4096,
        max: 1024,
    };
    assert_eq!(decode_in_cuts(wire, &[100]), Err(error));
    let wire = Bytes::from_static(&[0x07, 0x80, 0x01, 0x00, 0x09]);
    let error = RecordError::TooLong {
        kind: 7,
        length: 65545,
        max: 65544,
    };
    assert_eq!(decode_in_cuts(wire, &[100]), Err(error));
}

#[test]
fn the_example_of_protocol_md_is_what_open_looks_like() {
    let mut wire = BytesMut::new();
    Record::Open {
        flow: FlowId::new(5).unwrap(),
        generation: Generation(1),
        request: OpenRequest {
            table_version: 3,
            mapping: 2,
            port_offset: 0,
            local_peer: Some("127.0.0.1:50000".parse().unwrap()),
        },
        credit: 262_144,
        reading: Vec::new(),
    }
    .encode(&mut wire);
    let hex: Vec<String> = wire.iter().map(|byte| format!("{byte:02x}")).collect();
    let document = include_str!("../PROTOCOL.md");
    assert!(document.contains(&hex.join(" ")), "{}", hex.join(" "));
}

fn decode_in_cuts(wire: Bytes, cuts: &[usize]) -> Result<Vec<Record>, RecordError> {
    let mut decoder = RecordDecoder::new();
    let mut records = Vec::new();
    for mut chunk in cut(wire, cuts) {
        while let Some(record) = decoder.decode(&mut chunk)? {
            records.push(record);
        }
    }
    Ok(joined(records))
}

fn cut(mut wire: Bytes, cuts: &[usize]) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    for length in cuts.iter().cycle() {
        if wire.is_empty() {
            break;
        }
        chunks.push(wire.split_to((*length).min(wire.len())));
    }
    chunks
}

/// Joins pieces of data that follow each other, and drops empty ones.
fn joined(records: Vec<Record>) -> Vec<Record> {
    let mut joined: Vec<Record> = Vec::new();
    for record in records {
        if let (
            Some(Record::Data { offset, bytes }),
            Record::Data {
                offset: next,
                bytes: more,
            },
        ) = (joined.last_mut(), &record)
            && *offset + bytes.len() as u64 == *next
        {
            *bytes = [&bytes[..], &more[..]].concat().into();
        } else if !matches!(&record, Record::Data { bytes, .. } if bytes.is_empty()) {
            joined.push(record);
        }
    }
    joined
}

fn record() -> impl Strategy<Value = Record> {
    let offset = 0u64..1 << 60;
    let id = (0u64..1 << 62).prop_map(|id| FlowId::new(id).expect("62 bits"));
    let generation = any::<u32>().prop_map(Generation);
    let reading = proptest::collection::vec(generation.clone(), 0..8);
    let address = proptest::option::of(any::<(std::net::IpAddr, u16)>().prop_map(Into::into));
    let request = (offset.clone(), any::<u32>(), any::<u16>(), address).prop_map(
        |(table_version, mapping, port_offset, local_peer)| OpenRequest {
            table_version,
            mapping,
            port_offset,
            local_peer,
        },
    );
    prop_oneof![
        (
            id.clone(),
            generation.clone(),
            request,
            offset.clone(),
            reading.clone()
        )
            .prop_map(
                |(flow, generation, request, credit, reading)| Record::Open {
                    flow,
                    generation,
                    request,
                    credit,
                    reading
                }
            ),
        (
            id,
            generation,
            offset.clone(),
            offset.clone(),
            reading.clone()
        )
            .prop_map(
                |(flow, generation, received, credit, reading)| Record::Attach {
                    flow,
                    generation,
                    received,
                    credit,
                    reading
                }
            ),
        (offset.clone(), offset.clone(), reading.clone()).prop_map(
            |(received, credit, reading)| Record::Opened {
                received,
                credit,
                reading
            }
        ),
        (offset.clone(), offset.clone(), reading.clone()).prop_map(
            |(received, credit, reading)| Record::Attached {
                received,
                credit,
                reading
            }
        ),
        (any::<u32>(), "[a-zé]{0,40}").prop_map(|(code, text)| Record::Refused {
            code: RefuseCode::from_value(code),
            text
        }),
        Just(Record::Unknown),
        (
            offset.clone(),
            proptest::collection::vec(any::<u8>(), 0..2000)
        )
            .prop_map(|(offset, bytes)| Record::Data {
                offset,
                bytes: bytes.into()
            }),
        offset.clone().prop_map(|received| Record::Ack { received }),
        offset.clone().prop_map(|limit| Record::Credit { limit }),
        offset
            .clone()
            .prop_map(|final_offset| Record::Fin { final_offset }),
        Just(Record::FinAck),
        (offset, any::<u32>()).prop_map(|(final_offset, code)| Record::Reset {
            final_offset,
            code: ResetCode::from_value(code)
        }),
        Just(Record::ResetAck),
        reading.prop_map(|generations| Record::Reading { generations }),
        Just(Record::Done),
    ]
}

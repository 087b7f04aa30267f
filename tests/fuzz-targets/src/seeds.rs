//! The inputs that each corpus begins with: well-formed ones, since chance alone finds no message and no signature.

use std::time::Duration;

use bytes::BytesMut;
use mapping_core::{MappingId, PortMapping, WireMapping};
use signal_client::{Identity, RendezvousId, SlotName, SlotWrite};
use stunwire::attributes::*;
use stunwire::{
    ChannelData, ChannelNumber, Class, IntegrityKey, MessageBuilder, Method, TransactionId,
};
use tunnel::control::{Answer, Frame, Proposal, RefusedMapping, Verdict, Version};
use tunnel::datagram::{Body, Datagram};
use tunnel::flow::{FlowId, Generation, OpenRequest, Record, RefuseCode, ResetCode};

const ID: TransactionId = TransactionId::new([7; 12]);

/// Whole messages; `stun::run` takes them also without their header.
#[must_use]
pub fn stun() -> Vec<Vec<u8>> {
    let key = IntegrityKey::short_term("password");
    let address = "198.51.100.7:5000".parse().expect("it is written here");
    let address6 = "[2001:db8::7]:5000".parse().expect("it is written here");
    macro_rules! message {
        ($($attribute:expr),* $(,)?) => {{
            let mut buffer = [0; 1024];
            let mut builder =
                MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, ID).expect("room");
            $( builder = builder.attribute(&$attribute).expect("room"); )*
            builder
                .integrity(&key)
                .and_then(|builder| builder.integrity_sha256(&key))
                .and_then(|builder| builder.fingerprint())
                .expect("room")
                .finish()
                .to_vec()
        }};
    }
    let mut seeds = vec![
        message!(
            Username("evtj:h6vY"),
            Priority(0x6e00_01ff),
            IceControlling(5),
            UseCandidate
        ),
        message!(
            IceControlled(7),
            Software("stunfwd"),
            Realm("example.org"),
            Nonce("n")
        ),
        message!(
            MappedAddress(address),
            XorMappedAddress(address6),
            OtherAddress(address)
        ),
        message!(
            XorPeerAddress(address6),
            XorRelayedAddress(address),
            ResponseOrigin(address6)
        ),
        message!(
            ChangedAddress(address),
            SourceAddress(address),
            ResponseAddress(address)
        ),
        message!(
            AlternateServer(address6),
            AlternateDomain("example.org"),
            UserHash(&[6; 32])
        ),
        message!(
            ErrorCode {
                code: 438,
                reason: "Stale Nonce"
            },
            UnknownAttributes::new(&[])
        ),
        message!(AddressErrorCode {
            family: AddressFamily::Ipv6,
            code: 440,
            reason: ""
        }),
        message!(
            PasswordAlgorithm::SHA256,
            PasswordAlgorithms::new(&[PasswordAlgorithm::MD5])
        ),
        message!(
            ChangeRequest {
                ip: true,
                port: true
            },
            ResponsePort(9),
            Padding(b"padding")
        ),
        message!(
            ChannelNumber::FIRST,
            Lifetime(Duration::from_secs(600)),
            Data(b"payload")
        ),
        message!(
            RequestedAddressFamily(AddressFamily::Ipv4),
            RequestedTransport::UDP,
            DontFragment
        ),
        message!(
            AdditionalAddressFamily(AddressFamily::Ipv6),
            EvenPort { reserve: true }
        ),
        message!(
            ReservationToken([1; 8]),
            Icmp {
                kind: 3,
                code: 4,
                data: [0; 4]
            },
            ConnectionId(3)
        ),
    ];
    let bare: Vec<Vec<u8>> = seeds
        .iter()
        .map(|seed| [&seed[..2], &seed[stunwire::HEADER_LEN..]].concat())
        .collect();
    seeds.extend(bare);
    seeds
}

/// Datagrams, and streams of frames behind their cuts.
#[must_use]
pub fn channel_data() -> Vec<Vec<u8>> {
    let channel = |payload: &[u8]| {
        let length = u16::try_from(payload.len()).expect("short");
        let mut bytes = ChannelData::header(ChannelNumber::FIRST, length).to_vec();
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let stun = &stun()[0];
    let stream = [
        &channel(b"hello")[..],
        stun,
        &channel(b""),
        &channel(&[9; 90]),
    ]
    .concat();
    vec![
        channel(b"hello"),
        [&[0][..], &stream].concat(),
        [&[3, 0, 4, 17][..], &stream].concat(),
        [&[1, 63][..], &stream, b"PUT / HTTP/1.1"].concat(),
        [&[1, 1][..], &channel(b"cut")[..6]].concat(),
    ]
}

/// Steps are read from both ends of the bytes, so that any text makes some; these are long enough for a few.
#[must_use]
pub fn turn() -> Vec<Vec<u8>> {
    let walk = |choice: u8, stride: u8, length: usize| {
        let steps = (0..length).scan(stride, |at, _| {
            *at = at.wrapping_mul(5).wrapping_add(stride);
            Some(*at)
        });
        std::iter::once(choice).chain(steps).collect::<Vec<u8>>()
    };
    let mut seeds = Vec::new();
    for choice in [0, 1] {
        for stride in [3, 17, 41, 97, 151, 203] {
            seeds.push(walk(choice, stride, 400));
        }
    }
    seeds
}

/// Streams of records behind their cuts.
#[must_use]
pub fn flow_records() -> Vec<Vec<u8>> {
    let id = FlowId::new(1).expect("a small number");
    let request = OpenRequest {
        table_version: 1,
        mapping: 0,
        port_offset: 0,
        local_peer: Some(([127, 0, 0, 1], 5000).into()),
    };
    let reading = vec![Generation(1)];
    let data = |offset: u64, length: usize| Record::Data {
        offset,
        bytes: vec![0x61; length].into(),
    };
    let open = Record::Open {
        flow: id,
        generation: Generation(1),
        request,
        credit: 1024,
        reading: Vec::new(),
    };
    let attach = Record::Attach {
        flow: id,
        generation: Generation(2),
        received: 0,
        credit: 2048,
        reading: reading.clone(),
    };
    let opened = Record::Opened {
        received: 0,
        credit: 4096,
        reading: Vec::new(),
    };
    let attached = Record::Attached {
        received: 0,
        credit: 4096,
        reading: reading.clone(),
    };
    let talks = [
        vec![
            open.clone(),
            data(0, 100),
            data(100, 300),
            Record::Fin { final_offset: 400 },
            Record::FinAck,
            Record::Done,
        ],
        vec![
            open.clone(),
            data(0, 10),
            attach.clone(),
            data(5, 20),
            Record::Ack { received: 700 },
        ],
        vec![
            open,
            Record::Credit { limit: 9000 },
            Record::Reset {
                final_offset: 0,
                code: ResetCode::Application,
            },
        ],
        vec![
            attach,
            Record::Reading {
                generations: reading,
            },
            Record::ResetAck,
        ],
        vec![
            opened.clone(),
            data(0, 900),
            data(900, 100),
            Record::Fin { final_offset: 1000 },
            Record::FinAck,
        ],
        vec![
            Record::Refused {
                code: RefuseCode::NotAllowed,
                text: "no".to_owned(),
            },
            Record::Done,
        ],
        vec![
            opened,
            attached,
            Record::Ack { received: 700 },
            Record::Credit { limit: 9000 },
            data(0, 1),
        ],
        vec![Record::Unknown],
    ];
    let cuts = [&[0][..], &[4, 0, 4, 12, 30], &[2, 7, 1]];
    let mut seeds = Vec::new();
    for (index, talk) in talks.iter().enumerate() {
        let mut wire = BytesMut::new();
        talk.iter().for_each(|record| record.encode(&mut wire));
        seeds.push([cuts[index % cuts.len()], &wire].concat());
    }
    // A type that is skipped, in the middle.
    seeds.push([&[1, 0][..], &[0x83, 3, 1, 2, 3, 0x06, 0]].concat());
    seeds
}

/// Flows of frames behind their cuts.
#[must_use]
pub fn control_frames() -> Vec<Vec<u8>> {
    let mapping = |id: u32, spec: &str| {
        let mapping: PortMapping = spec.parse().expect("it is written here");
        WireMapping::new(MappingId::new(id), &mapping)
    };
    let propose = |version| {
        let mappings = vec![mapping(0, "tcp:8080:22"), mapping(1, "udp:5000:nas.lan:53")];
        Frame::Propose(Proposal { version, mappings })
    };
    let answer = |version| {
        let refused = RefusedMapping {
            code: "not-allowed".to_owned(),
            text: "no".to_owned(),
        };
        let verdict = |id, refused| Verdict {
            id: MappingId::new(id),
            refused,
        };
        Frame::Answer(Answer {
            version,
            verdicts: vec![verdict(0, None), verdict(1, Some(refused))],
        })
    };
    let empty = |version| {
        Frame::Answer(Answer {
            version,
            verdicts: Vec::new(),
        })
    };
    let one = Version { version: 1 };
    let talks = [
        vec![
            propose(1),
            Frame::Commit(one),
            propose(2),
            Frame::Abort(Version { version: 2 }),
        ],
        vec![propose(1), propose(2), Frame::Commit(one)],
        vec![Frame::Commit(one)],
        vec![answer(2), Frame::Committed(Version { version: 2 })],
        vec![
            empty(5),
            Frame::Committed(Version { version: 5 }),
            answer(1),
        ],
        vec![Frame::Abort(one)],
    ];
    talks
        .iter()
        .enumerate()
        .map(|(index, talk)| {
            let frames: Vec<u8> = talk
                .iter()
                .flat_map(|frame| frame.encode().to_vec())
                .collect();
            let cuts: &[u8] = if index % 2 == 0 { &[0] } else { &[3, 0, 2, 40] };
            [cuts, &frames, &[0x91, 0, 0, 0, 1, b'?']].concat()
        })
        .collect()
}

/// A choice, then JSON, a name or an event stream.
#[must_use]
pub fn signaling_json() -> Vec<Vec<u8>> {
    let identity = Identity::from_seed([1; 32]);
    let slot = SlotName::client(&identity.public_key());
    let room = RendezvousId([4; 32]);
    let write = SlotWrite::sign(&identity, room, slot, 5, b"payload".to_vec());
    let write = serde_json::to_string(&write).expect("it always serializes");
    let fields = write.trim_end_matches('}');
    let state = format!(r#"{fields},"slot":"{slot}","ageMs":7}}"#);
    let description = r#"{"versions":[1,1],"role":"client","instance":"00112233445566778899aabbccddeeff",
        "identity":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "nonce":"00112233445566778899aabbccddeeff","ufrag":"u","pwd":"p","candidates":
        [{"kind":"host","addr":"192.168.1.2:5000","priority":2130706431},
         {"kind":"srflx","addr":"[2001:db8::1]:9","priority":1}],
        "answers":[{"instance":"00112233445566778899aabbccddeeff","nonce":"00112233445566778899aabbccddeeff"}],
        "nat":{"mapping":"endpoint-independent","filtering":"unknown","udp":true}}"#;
    let info = r#"{"version":"0.1.0","stun":["192.0.2.1:3478"],"turn":[{"url":"turn:192.0.2.1:3478?transport=udp",
        "username":"17:a","credential":"c","expiresAtUnix":17}]}"#;
    let events = format!(
        ": hello\n\nevent: slot\ndata: {state}\n\nevent: ready\r\ndata: {{}}\r\n\r\ndata: a\rdata: b\r\r"
    );
    [
        (0, write.as_str()),
        (
            0,
            &format!(
                r#"{{"key":"{}","seq":5,"signature":"{}"}}"#,
                identity.public_key(),
                "0".repeat(128)
            ),
        ),
        (1, &state),
        (1, &format!(r#"{{"slots":[{state}]}}"#)),
        (2, info),
        (2, r#"{"error":"stale","message":"m","seq":4,"ageMs":9}"#),
        (2, r#"{"seq":9}"#),
        (2, r#"{"slot":"server"}"#),
        (3, description),
        (5, "server"),
        (5, &slot.to_string()),
        (5, &room.to_string()),
        (6, &format!("\0{events}")),
        (6, &format!("\x03\x00\x05\x1f{events}")),
    ]
    .iter()
    .map(|(choice, text)| [&[*choice][..], text.as_bytes()].concat())
    .collect()
}

/// A choice, then a file, rules or flags.
#[must_use]
pub fn configuration() -> Vec<Vec<u8>> {
    let yaml = "mode: client\nroomId: s3cret\nsignalingUrl: [http://192.0.2.1:8080]\nstunServer: stun.example:3478\n\
        direct: require\nresume: 10m\nmaxConnections: 7\nmappings:\n  - tcp:8080:22\n  - {protocol: udp, localPort: 1, \
        remotePort: 2}\n";
    let json = r#"{"roomId":"s3cret","signalingUrl":"http://192.0.2.1:8080","mappings":["udp:[::1]:8000-8010:nas:9000-9010"]}"#;
    let allow = "allow: [tcp:22, 'udp:192.168.1.0/24:53', 'tcp:[fd00::1]:80', tcp:nas.lan:8000-8100]\ndirect: false\n";
    [
        (0, yaml),
        (1, json),
        (2, "roomId: [1, 2]\nroomid: x\nallow: [tcp:0]\n"),
        (3, r#"{"roomId":"s3cret","signalingUrl":7,"allow":["tcp:22"],"allow":[]}"#),
        (4, "mappings: ['tcp:0.0.0.0:8080:nas.lan:22', udp:1:2]\nrelay: [{url: 'turns:h:443', username: u, credential: c}]\n"),
        (4, "tcpLane: true\nmetrics: 127.0.0.1:9\ncontrol: c.sock\n"),
        (5, allow),
        (6, "tcp:[fd00::1]:8000-8010:[::1]:9000-9010"),
        (6, "udp:6000:nas.lan:80"),
        (6, "[::1]:3478"),
        (6, "tcp:192.168.1.0/24:80"),
        (6, "8000-8100"),
        (7, "listen 127.0.0.1:0\nstun 127.0.0.1:0\nrelay-ports 50000-50010\nrelay-allow 10.0.0.0/8\nexternal-ip 192.0.2.1\n"),
        (7, "listen: 127.0.0.1:0\nstun: [192.0.2.1:3478, 192.0.2.2:3478]\nno-relay: true\nlog: debug\n"),
        (7, r#"{"listen": "127.0.0.1:0", "turn-secret": "north", "store": "memory", "log-format": "json"}"#),
    ]
    .iter()
    .map(|(choice, text)| [&[*choice][..], text.as_bytes()].concat())
    .collect()
}

/// A choice, then bytes of a proof, changes to one, datagrams, or the fates of fragments.
#[must_use]
pub fn carrier_frames() -> Vec<Vec<u8>> {
    let mut hello = vec![0x01, 0, 41, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3];
    hello.extend_from_slice(&[11; 16]);
    hello.extend_from_slice(&[0, 0, 14, 16, 0, 0, 0, 0, 0, 0, 0, 77]);
    let spake = [&[0x02, 0, 33, b'A'][..], &[0x58; 32]].concat();
    let mac = [&[0x04, 0, 32][..], &[1; 32]].concat();
    let id = FlowId::new(1).expect("a small number");
    let request = OpenRequest {
        table_version: 1,
        mapping: 0,
        port_offset: 0,
        local_peer: None,
    };
    let payload = |request, packet, offset, last, bytes: &'static [u8]| Body::Payload {
        request,
        packet,
        offset,
        last,
        bytes: bytes.into(),
    };
    let mut datagrams = vec![3];
    for body in [
        payload(Some(request), 0, 0, true, b"question"),
        payload(None, 1, 0, false, b"first half"),
        payload(None, 1, 10, true, b"second half"),
        Body::UnknownFlow,
        Body::FlowKnown,
        Body::Refused {
            code: RefuseCode::NotAllowed,
            text: "no".to_owned(),
        },
    ] {
        let wire = Datagram { flow: id, body }.encode();
        datagrams.push(u8::try_from(wire.len()).expect("short"));
        datagrams.extend_from_slice(&wire);
    }
    vec![
        [&[0][..], &hello, &spake].concat(),
        [&[0][..], &hello, &mac].concat(),
        [&[0x80][..], &hello, &[0x05, 0, 0]].concat(),
        vec![2],
        vec![2, 0, 5, 1, 0, 60, 0x80],
        datagrams,
        [&[6, 0x20, 0, 100][..], &[0, 1, 2, 3, 5, 9, 13, 1, 4, 8]].concat(),
        vec![6, 0, 9, 0],
    ]
}

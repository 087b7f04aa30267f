//! A client whose server, or somebody on the way to it, says what the bytes choose.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Result, Unstructured};
use relay::{Client, ClientConfig, Received, Transport};
use stunwire::{
    ChannelData, ChannelNumber, Class, ErrorCode, IntegrityError, IntegrityKey, Message, Method,
    TransactionId, is_channel_data,
};

use super::request::{Draft, Part, Place, Signature, encode, parts};
use crate::target::epoch;

const REALM: &str = "relay.example";
const USERNAME: &str = "1900000000:peer";
const PASSWORD: &str = "secret";

/// What a client says in answer to one input: ten requests, a bind for each of its 64 channels.
const TRANSMITS_MAX: usize = 200;
/// The largest frame: a payload of 65,000 bytes as an indication.
const FRAME_MAX: usize = 65_100;

#[derive(Arbitrary, Debug)]
enum Step {
    Answer {
        which: u8,
        success: bool,
        signed: bool,
        challenge: bool,
    },
    Bytes(Vec<u8>),
    Channel {
        number: u8,
        length: u8,
    },
    Data {
        peer: Place,
        length: u8,
    },
    Bind(Place),
    Unbind(Place),
    Send {
        peer: Place,
        length: u16,
    },
    Check,
    Close,
    NewCredentials,
    Reconnected,
    Disconnected,
    Wait {
        millis: u16,
    },
}

struct World {
    now: Instant,
    client: Client,
    key: IntegrityKey,
    /// The last requests, newest last.
    asked: VecDeque<(Method, TransactionId)>,
    /// Requests without a signature: a relay that asks nobody for a password answers them as they are.
    unsigned: Vec<TransactionId>,
    /// An answer was handed in that only the server can write, who has the password or knows the id of an
    /// unsigned request.
    server_spoke: bool,
}

pub(super) fn play(mut u: Unstructured<'_>) -> Result<()> {
    let tcp = u.arbitrary()?;
    let mut world = World::new(if tcp { Transport::Tcp } else { Transport::Udp });
    world.drain();
    for _ in 0..64 {
        if u.is_empty() {
            break;
        }
        let step = u.arbitrary()?;
        world.step(step, &mut u)?;
        world.drain();
        world.check();
    }
    Ok(())
}

impl World {
    fn new(transport: Transport) -> Self {
        let now = epoch();
        let config = ClientConfig {
            server: "203.0.113.1:3478".parse().expect("it is written here"),
            transport,
            local: "192.0.2.1:5000".parse().expect("it is written here"),
            username: USERNAME.to_owned(),
            credential: PASSWORD.into(),
        };
        let mut client = Client::new(config, [4; 32], now);
        if transport == Transport::Tcp {
            client.reconnected(now);
        }
        Self {
            now,
            client,
            key: IntegrityKey::long_term(USERNAME, REALM, PASSWORD),
            asked: VecDeque::new(),
            unsigned: Vec::new(),
            server_spoke: false,
        }
    }

    fn step(&mut self, step: Step, u: &mut Unstructured<'_>) -> Result<()> {
        let now = self.now;
        match step {
            Step::Answer {
                which,
                success,
                signed,
                challenge,
            } => {
                let parts = parts(u)?;
                self.answer(which, success, signed, challenge, parts);
            }
            Step::Bytes(bytes) => self.message(&bytes),
            Step::Channel { number, length } => {
                let number = ChannelNumber::new(0x4000 | u16::from(number & 7)).expect("in range");
                let mut bytes = ChannelData::header(number, length.into()).to_vec();
                bytes.resize(4 + usize::from(length), 0x77);
                self.message(&bytes);
            }
            Step::Data { peer, length } => {
                let parts = vec![Part::Peer(peer), Part::Data(length)];
                let draft = Draft {
                    class: Class::Indication,
                    method: Method::DATA,
                    id: [3; 12],
                    parts,
                };
                self.message(&encode(&draft, None));
            }
            Step::Bind(peer) => self.client.bind(peer.address(), now),
            Step::Unbind(peer) => self.client.unbind(peer.address()),
            Step::Send { peer, length } => {
                let sent = self
                    .client
                    .send(peer.address(), &vec![9; usize::from(length)], now);
                assert!(!sent || self.client.relayed().is_some());
            }
            Step::Check => self.client.check(now),
            Step::Close => self.client.close(now),
            Step::NewCredentials => {
                self.client
                    .set_credentials(USERNAME.to_owned(), PASSWORD.into(), now);
            }
            Step::Reconnected => self.client.reconnected(now),
            Step::Disconnected => self.client.disconnected(now),
            Step::Wait { millis } => self.wait(Duration::from_millis(u64::from(millis) * 8)),
        }
        Ok(())
    }

    fn answer(
        &mut self,
        which: u8,
        success: bool,
        signed: bool,
        challenge: bool,
        mut parts: Vec<Part>,
    ) {
        let Some(&(method, id)) = self.asked.iter().rev().nth(usize::from(which % 4)) else {
            return;
        };
        if challenge {
            // 401, which has the realm and a nonce and need not be signed.
            parts.insert(0, Part::Error(2));
        }
        let class = if success && !challenge {
            Class::SuccessResponse
        } else {
            Class::ErrorResponse
        };
        let draft = Draft {
            class,
            method,
            id: *id.as_bytes(),
            parts,
        };
        let wrong = IntegrityKey::short_term("somebody else");
        let key = if signed { &self.key } else { &wrong };
        let signature = Signature {
            username: None,
            realm: REALM,
            nonce: "nonce",
            key,
        };
        self.message(&encode(&draft, Some(signature)));
    }

    fn message(&mut self, bytes: &[u8]) {
        if let Ok(message) = Message::decode(bytes) {
            self.server_spoke |= self.unsigned.contains(&message.transaction_id())
                || message.verify_integrity(&self.key).is_ok();
        }
        if let Received::Data { payload, .. } = self.client.handle_message(bytes, self.now) {
            assert!(payload.len() <= bytes.len());
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        let mut at_once = 0;
        while let Some(deadline) = self
            .client
            .poll_timeout()
            .filter(|deadline| deadline.at <= until)
        {
            at_once = if deadline.at <= self.now {
                at_once + 1
            } else {
                0
            };
            // Several duties may fall on one moment: a request for each channel, and their retransmissions.
            assert!(at_once < TRANSMITS_MAX, "{} is always due", deadline.reason);
            self.now = self.now.max(deadline.at);
            self.client.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        let mut transmits = 0;
        while let Some(transmit) = self.client.poll_transmit() {
            transmits += 1;
            assert!(transmits <= TRANSMITS_MAX);
            assert_eq!(
                transmit.destination,
                SocketAddr::from(([203, 0, 113, 1], 3478))
            );
            assert!(
                transmit.payload.len() <= FRAME_MAX,
                "{} bytes",
                transmit.payload.len()
            );
            if is_channel_data(transmit.payload[0]) {
                assert!(ChannelData::decode(&transmit.payload).is_ok());
                continue;
            }
            let message = Message::decode(&transmit.payload).expect("the client writes messages");
            assert!(message.read::<ErrorCode<'_>>().is_err());
            if message.class() == Class::Request {
                self.asked
                    .push_back((message.method(), message.transaction_id()));
                if self.asked.len() > 8 {
                    self.asked.pop_front();
                }
                if message.verify_integrity(&self.key) == Err(IntegrityError::Missing) {
                    self.unsigned.push(message.transaction_id());
                }
            }
        }
        let mut events = 0;
        while self.client.poll_event().is_some() {
            events += 1;
            assert!(events <= 256);
        }
    }

    fn check(&self) {
        assert!(
            self.server_spoke || self.client.relayed().is_none(),
            "a forged allocation"
        );
        let stats = self.client.stats();
        assert_eq!((stats.transmits_dropped, stats.events_dropped), (0, 0));
    }
}

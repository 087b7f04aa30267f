//! Requests written by hand, to see exactly what the server answers.

use std::time::Instant;

use relay::server::{ClientAddr, Command, Forward, RelayPort, Server};
use stunwire::{
    Attribute, AttributeType, Class, ErrorCode, IntegrityKey, Message, MessageBuilder, Method,
    Nonce, Realm, RequestedTransport, TransactionId, Username, XorRelayedAddress,
};

use super::{REALM, credentials};

/// An attribute, encoded.
pub type Tlv = (AttributeType, Vec<u8>);

pub fn tlv<'a, A: Attribute<'a>>(attribute: &A, id: TransactionId) -> Tlv {
    let mut value = vec![0; attribute.encoded_len()];
    attribute.encode(&mut value, id);
    (A::TYPE, value)
}

/// A client that does what it is told.
pub struct Raw {
    pub addr: ClientAddr,
    pub username: String,
    pub key: IntegrityKey,
    pub nonce: String,
    next_id: u8,
}

impl Raw {
    /// Makes a client, and has it challenged.
    pub fn new(server: &mut Server, addr: ClientAddr, user: &str, now: Instant) -> Self {
        let (username, password) = credentials(user);
        Self::with_credentials(server, addr, username, &password, now)
    }

    pub fn with_credentials(
        server: &mut Server,
        addr: ClientAddr,
        username: String,
        password: &str,
        now: Instant,
    ) -> Self {
        let key = IntegrityKey::long_term(&username, REALM, password);
        let mut raw = Self {
            addr,
            username,
            key,
            nonce: String::new(),
            next_id: 0,
        };
        let challenge = raw.ask(server, &unsigned(Method::REFRESH), now).unwrap();
        let message = Message::decode(&challenge).unwrap();
        message
            .read::<Nonce<'_>>()
            .unwrap()
            .0
            .clone_into(&mut raw.nonce);
        raw
    }

    pub fn id(&mut self) -> TransactionId {
        self.next_id += 1;
        TransactionId::new([self.next_id; 12])
    }

    pub fn request(&self, method: Method, id: TransactionId, attributes: &[Tlv]) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id).unwrap();
        for (kind, value) in attributes {
            builder = builder.raw_attribute(*kind, value).unwrap();
        }
        builder
            .attribute(&Username(&self.username))
            .and_then(|builder| builder.attribute(&Realm(REALM)))
            .and_then(|builder| builder.attribute(&Nonce(&self.nonce)))
            .and_then(|builder| builder.integrity(&self.key))
            .unwrap()
            .finish()
            .to_vec()
    }

    /// Hands a packet in and returns the answer; opens every port that is asked for.
    pub fn ask(&mut self, server: &mut Server, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
        assert!(matches!(
            server.handle_client(self.addr, bytes, now),
            Forward::Nothing
        ));
        let mut answer = None;
        while let Some(command) = server.poll_command() {
            match command {
                Command::Send { client, payload } if client == self.addr => answer = Some(payload),
                Command::OpenPort { port } => server.handle_port_opened(port, now),
                Command::Send { .. } | Command::ClosePort { .. } => {}
            }
        }
        answer
    }

    /// Sends a signed request; returns 0 for success, else the error code.
    pub fn code(
        &mut self,
        server: &mut Server,
        method: Method,
        attributes: impl FnOnce(TransactionId) -> Vec<Tlv>,
        now: Instant,
    ) -> u16 {
        let id = self.id();
        let request = self.request(method, id, &attributes(id));
        let answer = self.ask(server, &request, now).unwrap();
        self.check(&answer, id)
    }

    /// Returns the code of an answer, after checking that it is one to this question.
    pub fn check(&self, answer: &[u8], id: TransactionId) -> u16 {
        let message = Message::decode(answer).unwrap();
        assert_eq!(message.transaction_id(), id);
        if message.class() == Class::SuccessResponse {
            message.verify_integrity(&self.key).unwrap();
            return 0;
        }
        let code = message.read::<ErrorCode<'_>>().unwrap().code;
        if !matches!(code, 401 | 438) && message.verify_integrity(&self.key).is_err() {
            assert_eq!(
                code, 400,
                "only a challenge and a request without user are not signed"
            );
        }
        code
    }

    /// Allocates; returns the relay port, whose local address is what is advertised in these tests.
    pub fn allocate(&mut self, server: &mut Server, now: Instant) -> RelayPort {
        let id = self.id();
        let request = self.request(Method::ALLOCATE, id, &[tlv(&RequestedTransport::UDP, id)]);
        let forward = server.handle_client(self.addr, &request, now);
        assert!(matches!(forward, Forward::Nothing));
        let Some(Command::OpenPort { port }) = server.poll_command() else {
            panic!("no port")
        };
        server.handle_port_opened(port, now);
        let Some(Command::Send { payload, .. }) = server.poll_command() else {
            panic!("silent")
        };
        assert_eq!(self.check(&payload, id), 0);
        let message = Message::decode(&payload).unwrap();
        let relayed = message.read::<XorRelayedAddress>().unwrap().0;
        assert_eq!(relayed.port(), port.local().port());
        port
    }
}

/// The smallest Allocate or Refresh of somebody without credentials.
pub fn unsigned(method: Method) -> Vec<u8> {
    let id = TransactionId::new([0xEE; 12]);
    let mut buffer = [0; 64];
    MessageBuilder::new(&mut buffer, Class::Request, method, id)
        .and_then(|builder| builder.attribute(&RequestedTransport::UDP))
        .unwrap()
        .finish()
        .to_vec()
}

/// An attribute that is written the same in every transaction.
pub fn any<'a, A: Attribute<'a>>(attribute: &A) -> Tlv {
    tlv(attribute, TransactionId::new([0; 12]))
}

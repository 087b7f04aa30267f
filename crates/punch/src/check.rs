//! How a check looks on the wire, and whether one that arrived is real (RFC 8445, section 7).

use std::net::SocketAddr;

use stunwire::{
    Attribute, AttributeType, Class, EncodeError, IceControlled, IceControlling, IntegrityKey,
    Message, MessageBuilder, Method, Padding, Priority, TransactionId, UseCandidate, Username,
    XorMappedAddress, is_stun,
};

use crate::width::Size;
use crate::{NOTE_MAX, PairCredentials, Role};

/// What fits into one Ethernet frame over IPv4: no message is longer, whatever was asked for.
const MESSAGE_MAX: usize = 1472;
/// MESSAGE-INTEGRITY 24, FINGERPRINT 8: what follows the last attribute of our choice.
const TRAILER: usize = 32;
/// The header of an attribute.
const ATTRIBUTE_HEADER: usize = 4;
static ZEROS: [u8; MESSAGE_MAX] = [0; MESSAGE_MAX];
/// The note in a request. From the comprehension-optional half, so that a peer which knows no notes takes it for a
/// check; nobody registered it (RFC 8489, section 18.3).
const NOTE: AttributeType = AttributeType::new(0xDF01);

// Header 20, USERNAME at most 4 + 516, PRIORITY 8, the role 12, and a note.
const _: () = assert!(560 + ATTRIBUTE_HEADER + NOTE_MAX + TRAILER <= MESSAGE_MAX);

/// Encodes and verifies the messages of one peer pair.
pub(crate) struct CheckCodec {
    outgoing_username: String,
    incoming_username: String,
    key: IntegrityKey,
    role: Role,
    tie_breaker: u64,
    /// Zero when full-size checks are off.
    full_size: usize,
}

/// A verified check of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) id: TransactionId,
    /// What the peer would have us give to its address if we do not know it.
    pub(crate) priority: u32,
    /// How long it was, in bytes, if it was padded; else zero.
    pub(crate) padded_length: usize,
    pub(crate) note: Option<&'a [u8]>,
}

/// A verified answer to one of our requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) id: TransactionId,
    /// How the peer sees us.
    pub(crate) mapped: SocketAddr,
    /// How long it was, in bytes.
    pub(crate) length: usize,
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// Nothing of this peer pair.
    NotMine,
    /// It has our names or our transaction id, but not our password.
    Unverified,
    /// Our own request came back: a hairpin, or the same address on both sides.
    OwnRequest,
    /// Verified, but not a check as we know it.
    Malformed,
    /// A check of the peer.
    Request(Request<'a>),
    /// An answer to one of our requests.
    Answer(Answer),
    /// A verified refusal of one of our checks.
    ErrorAnswer { id: TransactionId },
}

impl CheckCodec {
    pub(crate) fn new(
        role: Role,
        credentials: &PairCredentials,
        tie_breaker: u64,
        full_size: usize,
    ) -> Self {
        let PairCredentials {
            local_ufrag,
            remote_ufrag,
            password,
        } = credentials;
        Self {
            outgoing_username: format!("{remote_ufrag}:{local_ufrag}"),
            incoming_username: format!("{local_ufrag}:{remote_ufrag}"),
            key: IntegrityKey::short_term(password),
            role,
            tie_breaker,
            full_size: full_size.min(MESSAGE_MAX) & !3,
        }
    }

    /// Returns whether full-size checks are on.
    pub(crate) const fn pads(&self) -> bool {
        self.full_size > 0
    }

    /// Returns whether a message of this length is of full size.
    pub(crate) const fn is_full_size(&self, length: usize) -> bool {
        self.pads() && length >= self.full_size
    }

    pub(crate) fn encode_request(
        &self,
        id: TransactionId,
        priority: u32,
        size: Size,
    ) -> Result<Vec<u8>, EncodeError> {
        let length = match size {
            Size::Small => 0,
            Size::Full => self.full_size,
        };
        let mut buffer = [0; MESSAGE_MAX];
        let message = self.open_request(&mut buffer, id, priority)?;
        self.close(pad(message, length)?)
    }

    /// Encodes a request that carries a note.
    pub(crate) fn encode_note(
        &self,
        id: TransactionId,
        priority: u32,
        note: &[u8],
    ) -> Result<Vec<u8>, EncodeError> {
        let mut buffer = [0; MESSAGE_MAX];
        let message = self.open_request(&mut buffer, id, priority)?;
        self.close(message.raw_attribute(NOTE, note)?)
    }

    /// Encodes an answer; `length` is that of a padded request, which it equals, or zero.
    pub(crate) fn encode_answer(
        &self,
        id: TransactionId,
        mapped: SocketAddr,
        length: usize,
    ) -> Result<Vec<u8>, EncodeError> {
        let mut buffer = [0; MESSAGE_MAX];
        let message =
            MessageBuilder::new(&mut buffer, Class::SuccessResponse, Method::BINDING, id)?
                .attribute(&XorMappedAddress(mapped))?;
        self.close(pad(message, length)?)
    }

    fn open_request<'b>(
        &self,
        buffer: &'b mut [u8],
        id: TransactionId,
        priority: u32,
    ) -> Result<MessageBuilder<'b>, EncodeError> {
        let message = MessageBuilder::new(buffer, Class::Request, Method::BINDING, id)?
            .attribute(&Username(&self.outgoing_username))?
            .attribute(&Priority(priority))?;
        match self.role {
            Role::Controlling => message.attribute(&IceControlling(self.tie_breaker)),
            Role::Controlled => message.attribute(&IceControlled(self.tie_breaker)),
        }
    }

    fn close(&self, message: MessageBuilder<'_>) -> Result<Vec<u8>, EncodeError> {
        let message = message.integrity(&self.key)?.fingerprint()?;
        Ok(message.finish().to_vec())
    }

    /// Judges a datagram; `is_outstanding` says whether a transaction id is one of ours.
    pub(crate) fn receive<'a>(
        &self,
        payload: &'a [u8],
        is_outstanding: impl FnOnce(&TransactionId) -> bool,
    ) -> Received<'a> {
        if !is_stun(payload) {
            return Received::NotMine;
        }
        let Ok(message) = Message::decode(payload) else {
            return Received::NotMine;
        };
        if message.method() != Method::BINDING {
            return Received::NotMine;
        }
        match message.class() {
            Class::Request => self.receive_request(&message, payload.len()),
            Class::SuccessResponse | Class::ErrorResponse => {
                if is_outstanding(&message.transaction_id()) {
                    self.receive_answer(&message, payload.len())
                } else {
                    Received::NotMine
                }
            }
            Class::Indication => Received::NotMine,
        }
    }

    fn receive_request<'a>(&self, message: &Message<'a>, length: usize) -> Received<'a> {
        let Ok(Username(username)) = message.read() else {
            return Received::NotMine;
        };
        let is_incoming = username == self.incoming_username;
        if !is_incoming && username != self.outgoing_username {
            return Received::NotMine;
        }
        if !self.verifies(message) {
            return Received::Unverified;
        }
        // The role tells direction as well, for the case that both ends drew the same ufrag.
        if !is_incoming || self.claims_role(message, self.role) {
            return Received::OwnRequest;
        }
        let known = [
            Username::TYPE,
            Priority::TYPE,
            IceControlled::TYPE,
            IceControlling::TYPE,
            UseCandidate::TYPE,
            Padding::TYPE,
        ];
        if message.unknown_required(&known).next().is_some()
            || !self.claims_role(message, self.role.other())
        {
            return Received::Malformed;
        }
        let Ok(Priority(priority)) = message.read() else {
            return Received::Malformed;
        };
        let is_padded = message.read::<Padding<'_>>().is_ok();
        let mut attributes = message.attributes();
        let note = attributes.find(|attribute| attribute.kind == NOTE);
        Received::Request(Request {
            id: message.transaction_id(),
            priority,
            padded_length: if is_padded { length } else { 0 },
            note: note.map(|note| note.value),
        })
    }

    fn receive_answer<'a>(&self, message: &Message<'_>, length: usize) -> Received<'a> {
        if !self.verifies(message) {
            return Received::Unverified;
        }
        let id = message.transaction_id();
        if message.class() == Class::ErrorResponse {
            return Received::ErrorAnswer { id };
        }
        if message
            .unknown_required(&[XorMappedAddress::TYPE, Padding::TYPE])
            .next()
            .is_some()
        {
            return Received::Malformed;
        }
        let Ok(XorMappedAddress(mapped)) = message.read() else {
            return Received::Malformed;
        };
        Received::Answer(Answer { id, mapped, length })
    }

    /// The checksum is asked first because it is the cheaper one.
    fn verifies(&self, message: &Message<'_>) -> bool {
        message.verify_fingerprint().is_ok() && message.verify_integrity(&self.key).is_ok()
    }

    fn claims_role(&self, message: &Message<'_>, role: Role) -> bool {
        match role {
            Role::Controlling => message.read::<IceControlling>().is_ok(),
            Role::Controlled => message.read::<IceControlled>().is_ok(),
        }
    }
}

/// Fills a message up, so that it is `length` bytes long with its trailer; one that is longer already stays as it
/// is. PADDING (RFC 5780, section 7.6) must be understood, which is right: an end that ignored it would answer in
/// small, and every path to it would look narrow.
fn pad(message: MessageBuilder<'_>, length: usize) -> Result<MessageBuilder<'_>, EncodeError> {
    let taken = message.encoded_len() + ATTRIBUTE_HEADER + TRAILER;
    let Some(room) = (length.min(MESSAGE_MAX) & !3).checked_sub(taken) else {
        return Ok(message);
    };
    message.attribute(&Padding(&ZEROS[..room]))
}

impl std::fmt::Debug for CheckCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckCodec")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

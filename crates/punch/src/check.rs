//! How a check looks on the wire, and whether one that arrived is real (RFC 8445, section 7).

use std::net::SocketAddr;

use stunwire::{
    Attribute, Class, EncodeError, IceControlled, IceControlling, IntegrityKey, Message,
    MessageBuilder, Method, Priority, TransactionId, UseCandidate, Username, XorMappedAddress,
    is_stun,
};

use crate::{PairCredentials, Role};

/// Header 20, USERNAME at most 4 + 516, PRIORITY 8, the role 12, MESSAGE-INTEGRITY 24, FINGERPRINT 8.
const MESSAGE_MAX: usize = 592;

/// Encodes and verifies the messages of one peer pair.
pub(crate) struct CheckCodec {
    outgoing_username: String,
    incoming_username: String,
    key: IntegrityKey,
    role: Role,
    tie_breaker: u64,
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Nothing of this peer pair.
    NotMine,
    /// It has our names or our transaction id, but not our password.
    Unverified,
    /// Our own request came back: a hairpin, or the same address on both sides.
    OwnRequest,
    /// Verified, but not a check as we know it.
    Malformed,
    /// A verified check of the peer.
    Request {
        id: TransactionId,
        /// What the peer would have us give to its address if we do not know it.
        priority: u32,
    },
    /// A verified answer to one of our checks.
    Answer {
        id: TransactionId,
        /// How the peer sees us.
        mapped: SocketAddr,
    },
    /// A verified refusal of one of our checks.
    ErrorAnswer { id: TransactionId },
}

impl CheckCodec {
    pub(crate) fn new(role: Role, credentials: &PairCredentials, tie_breaker: u64) -> Self {
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
        }
    }

    pub(crate) fn encode_request(
        &self,
        id: TransactionId,
        priority: u32,
    ) -> Result<Vec<u8>, EncodeError> {
        let mut buffer = [0; MESSAGE_MAX];
        let message = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id)?
            .attribute(&Username(&self.outgoing_username))?
            .attribute(&Priority(priority))?;
        let message = match self.role {
            Role::Controlling => message.attribute(&IceControlling(self.tie_breaker))?,
            Role::Controlled => message.attribute(&IceControlled(self.tie_breaker))?,
        };
        Ok(message
            .integrity(&self.key)?
            .fingerprint()?
            .finish()
            .to_vec())
    }

    pub(crate) fn encode_answer(
        &self,
        id: TransactionId,
        mapped: SocketAddr,
    ) -> Result<Vec<u8>, EncodeError> {
        let mut buffer = [0; MESSAGE_MAX];
        let message =
            MessageBuilder::new(&mut buffer, Class::SuccessResponse, Method::BINDING, id)?
                .attribute(&XorMappedAddress(mapped))?
                .integrity(&self.key)?
                .fingerprint()?;
        Ok(message.finish().to_vec())
    }

    /// Judges a datagram; `is_outstanding` says whether a transaction id is one of ours.
    pub(crate) fn receive(
        &self,
        payload: &[u8],
        is_outstanding: impl FnOnce(&TransactionId) -> bool,
    ) -> Received {
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
            Class::Request => self.receive_request(&message),
            Class::SuccessResponse | Class::ErrorResponse => {
                if is_outstanding(&message.transaction_id()) {
                    self.receive_answer(&message)
                } else {
                    Received::NotMine
                }
            }
            Class::Indication => Received::NotMine,
        }
    }

    fn receive_request(&self, message: &Message<'_>) -> Received {
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
        ];
        if message.unknown_required(&known).next().is_some()
            || !self.claims_role(message, self.role.other())
        {
            return Received::Malformed;
        }
        let Ok(Priority(priority)) = message.read() else {
            return Received::Malformed;
        };
        Received::Request {
            id: message.transaction_id(),
            priority,
        }
    }

    fn receive_answer(&self, message: &Message<'_>) -> Received {
        if !self.verifies(message) {
            return Received::Unverified;
        }
        let id = message.transaction_id();
        if message.class() == Class::ErrorResponse {
            return Received::ErrorAnswer { id };
        }
        if message
            .unknown_required(&[XorMappedAddress::TYPE])
            .next()
            .is_some()
        {
            return Received::Malformed;
        }
        let Ok(XorMappedAddress(mapped)) = message.read() else {
            return Received::Malformed;
        };
        Received::Answer { id, mapped }
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

impl std::fmt::Debug for CheckCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckCodec")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

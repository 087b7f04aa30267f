//! What a request looks like on the wire.

use std::time::Duration;

use stunwire::{
    AddressFamily, ChannelNumber, Class, EncodeError, IntegrityKey, Lifetime, MessageBuilder,
    Method, Nonce, Realm, RequestedAddressFamily, RequestedTransport, TransactionId, Username,
    XorPeerAddress,
};

use super::authentication::{Challenge, Identity};
use crate::PeerAddr;

/// Fixed parts of the largest request; user name, realm and nonce come on top.
const ROOM: usize = 256;

/// What is asked of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// A new allocation of a family.
    Allocate(AddressFamily),
    /// A longer life for the one there is.
    Refresh,
    /// The end of whatever allocation our address has.
    Release,
    /// A channel, or its renewal.
    Bind(PeerAddr, ChannelNumber),
}

impl Question {
    pub(super) const fn method(self) -> Method {
        match self {
            Self::Allocate(_) => Method::ALLOCATE,
            Self::Refresh | Self::Release => Method::REFRESH,
            Self::Bind(..) => Method::CHANNEL_BIND,
        }
    }
}

/// An outstanding request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) question: Question,
    pub(super) bytes: Vec<u8>,
    /// What it was signed with; the answer must be signed with the same.
    pub(super) signed: Option<Signature>,
    /// How many challenges were already met on the way.
    pub(super) challenged: u8,
}

/// What a request was signed with.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) key: IntegrityKey,
    pub(super) username: String,
    pub(super) realm: String,
}

/// Encodes a request, signed when there is something to sign with.
pub(super) fn encode(
    question: Question,
    id: TransactionId,
    lifetime: Duration,
    signer: Option<(&Identity, &Challenge)>,
) -> Result<Vec<u8>, EncodeError> {
    let text = signer.map_or(0, |(identity, challenge)| {
        identity.username.len() + challenge.realm.len() + challenge.nonce.len()
    });
    let mut buffer = vec![0; ROOM + text];
    let builder = MessageBuilder::new(&mut buffer, Class::Request, question.method(), id)?;
    let builder = match question {
        // IPv4 is what a relay gives without the attribute, which those before RFC 6156 do not know.
        Question::Allocate(AddressFamily::Ipv4) => builder
            .attribute(&RequestedTransport::UDP)?
            .attribute(&Lifetime(lifetime))?,
        Question::Allocate(family @ AddressFamily::Ipv6) => builder
            .attribute(&RequestedTransport::UDP)?
            .attribute(&RequestedAddressFamily(family))?
            .attribute(&Lifetime(lifetime))?,
        Question::Refresh => builder.attribute(&Lifetime(lifetime))?,
        Question::Release => builder.attribute(&Lifetime(Duration::ZERO))?,
        Question::Bind(peer, channel) => builder
            .attribute(&channel)?
            .attribute(&XorPeerAddress(peer.get()))?,
    };
    let len = match signer {
        None => builder.finish().len(),
        Some((identity, challenge)) => builder
            .attribute(&Username(&identity.username))?
            .attribute(&Realm(&challenge.realm))?
            .attribute(&Nonce(&challenge.nonce))?
            .integrity(&identity.key)?
            .finish()
            .len(),
    };
    buffer.truncate(len);
    Ok(buffer)
}

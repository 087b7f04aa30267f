//! Every attribute as a type of its own.
//!
//! * `address`: MAPPED-ADDRESS and all others that hold an address, hidden or plain;
//! * `text`: USERNAME, REALM, NONCE, SOFTWARE, ALTERNATE-DOMAIN;
//! * `error_code`: ERROR-CODE, ADDRESS-ERROR-CODE, UNKNOWN-ATTRIBUTES;
//! * `credentials`: USERHASH, PASSWORD-ALGORITHM, PASSWORD-ALGORITHMS;
//! * `behavior`: CHANGE-REQUEST, RESPONSE-PORT, PADDING (RFC 5780);
//! * `turn`: LIFETIME, DATA and TURN's other ones; CHANNEL-NUMBER is [`ChannelNumber`](crate::ChannelNumber);
//! * `ice`: PRIORITY, USE-CANDIDATE, ICE-CONTROLLED, ICE-CONTROLLING.

mod address;
mod behavior;
mod credentials;
mod error_code;
mod ice;
mod text;
mod turn;

pub use address::{
    AddressFamily, AlternateServer, ChangedAddress, MappedAddress, OtherAddress, ResponseAddress,
    ResponseOrigin, SourceAddress, XorMappedAddress, XorPeerAddress, XorRelayedAddress,
};
pub use behavior::{ChangeRequest, Padding, ResponsePort};
pub use credentials::{PasswordAlgorithm, PasswordAlgorithms, UserHash};
pub use error_code::{AddressErrorCode, ErrorCode, UnknownAttributes};
pub use ice::{IceControlled, IceControlling, Priority, UseCandidate};
pub use text::{AlternateDomain, Nonce, Realm, Software, Username};
pub use turn::{
    AdditionalAddressFamily, ConnectionId, Data, DontFragment, EvenPort, Icmp, Lifetime,
    RequestedAddressFamily, RequestedTransport, ReservationToken,
};

/// An attribute whose whole value is one big-endian number.
macro_rules! number_attribute {
    ($(#[$doc:meta])* $name:ident($number:ty), $kind:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $number);

        impl<'a> crate::Attribute<'a> for $name {
            const TYPE: crate::AttributeType = crate::AttributeType::$kind;

            fn decode(value: &'a [u8], _id: crate::TransactionId) -> Option<Self> {
                crate::attribute::array(value).map(|bytes| Self(<$number>::from_be_bytes(*bytes)))
            }

            fn encoded_len(&self) -> usize {
                size_of::<$number>()
            }

            fn encode(&self, out: &mut [u8], _id: crate::TransactionId) {
                out.copy_from_slice(&self.0.to_be_bytes());
            }
        }
    };
}

/// An attribute whose presence is all it says.
macro_rules! flag_attribute {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name;

        impl<'a> crate::Attribute<'a> for $name {
            const TYPE: crate::AttributeType = crate::AttributeType::$kind;

            fn decode(value: &'a [u8], _id: crate::TransactionId) -> Option<Self> {
                value.is_empty().then_some(Self)
            }

            fn encoded_len(&self) -> usize {
                0
            }

            fn encode(&self, _out: &mut [u8], _id: crate::TransactionId) {}
        }
    };
}

/// An attribute that is bytes without meaning to us.
macro_rules! bytes_attribute {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name<'a>(pub &'a [u8]);

        impl<'a> crate::Attribute<'a> for $name<'a> {
            const TYPE: crate::AttributeType = crate::AttributeType::$kind;

            fn decode(value: &'a [u8], _id: crate::TransactionId) -> Option<Self> {
                Some(Self(value))
            }

            fn encoded_len(&self) -> usize {
                self.0.len()
            }

            fn encode(&self, out: &mut [u8], _id: crate::TransactionId) {
                out.copy_from_slice(self.0);
            }
        }
    };
}

use {bytes_attribute, flag_attribute, number_attribute};

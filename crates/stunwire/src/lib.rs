//! Our own STUN and TURN codec.
//!
//! Covers STUN (RFC 8489, compatible with RFC 5389, and able to read and answer RFC 3489), NAT behaviour
//! discovery (RFC 5780), TURN (RFC 8656 and 6062) and the attributes of ICE (RFC 8445). It knows wire forms
//! and nothing else: no sockets, no clock, no transactions.
//!
//! **Reading.** [`Message::decode`] checks the frame and every attribute's length and copies nothing; a
//! message that decoded can be walked without further checks. [`Message::read`] then decodes one attribute
//! into its type. Integrity is asked for explicitly: [`Message::verify_integrity`] and
//! [`Message::verify_fingerprint`]. What a stranger sends never panics and never allocates.
//!
//! **Writing.** [`MessageBuilder`] encodes into the caller's buffer, in the only order that the RFC allows:
//! attributes, then integrity, then the fingerprint. A message in the wrong order does not compile.
//!
//! **Keys.** [`IntegrityKey`] keeps the HMAC state of a key, so that the key is scheduled once and not per
//! message.
//!
//! **Around messages.** [`ChannelData`] is TURN's other wire form; [`stream::next_frame`] cuts a TCP stream
//! into frames; [`is_stun`] and [`is_channel_data`] tell what a datagram on a shared socket is (RFC 7983).
//!
//! * `message`, `builder`: a whole message in and out;
//! * `attribute`, [`attributes`]: one attribute in and out;
//! * `integrity`, `opaque_string`: keys and the strings they are made of;
//! * `channel`, [`stream`]: TURN's frames.
//!
//! ```
//! use stunwire::attributes::{Priority, Username, XorMappedAddress};
//! use stunwire::{Class, IntegrityKey, Message, MessageBuilder, Method, TransactionId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = IntegrityKey::short_term("VOkJxbRl1RmTxUk/WvJxBt");
//! let mut buffer = [0; 256];
//! let request = MessageBuilder::new(
//!     &mut buffer,
//!     Class::Request,
//!     Method::BINDING,
//!     TransactionId::new([7; 12]),
//! )?
//! .attribute(&Username("evtj:h6vY"))?
//! .attribute(&Priority(0x6e00_01ff))?
//! .integrity(&key)?
//! .fingerprint()?
//! .finish();
//!
//! let message = Message::decode(request)?;
//! message.verify_fingerprint()?;
//! message.verify_integrity(&key)?;
//! assert_eq!(message.read::<Username<'_>>()?, Username("evtj:h6vY"));
//! assert!(message.read::<XorMappedAddress>().is_err());
//! # Ok(())
//! # }
//! ```

mod attribute;
mod attribute_type;
pub mod attributes;
mod builder;
mod channel;
mod error;
mod fingerprint;
mod hmac_sha1;
mod integrity;
mod message;
mod method;
mod opaque_string;
pub mod stream;
mod transaction_id;

pub use attribute::{Attribute, Attributes, RawAttribute};
pub use attribute_type::AttributeType;
pub use attributes::*;
pub use builder::{
    BeforeFingerprint, BeforeSha256, Fingerprinted, MessageBuilder, Open, Protected,
    ProtectedSha256,
};
pub use channel::{ChannelData, ChannelNumber, is_channel_data};
pub use error::{
    AttributeError, DecodeError, EncodeError, FingerprintError, FrameError, IntegrityError,
};
pub use integrity::{IntegrityKey, user_hash};
pub use message::{HEADER_LEN, MAGIC_COOKIE, MESSAGE_LEN_MAX, Message, is_stun};
pub use method::{Class, Method};
pub use opaque_string::{OpaqueStringError, opaque_string};
pub use transaction_id::TransactionId;

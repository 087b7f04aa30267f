//! Attributes that hold text.

use crate::{Attribute, AttributeType, TransactionId};

/// The longest USERNAME that is sent (RFC 8489, section 14.3: fewer than 509 bytes).
const USERNAME_SENT_MAX: usize = 508;
/// The longest USERNAME that is taken (RFC 5389, section 15.3: fewer than 513 bytes).
const USERNAME_TAKEN_MAX: usize = 513;
/// The longest other text that is sent: fewer than 128 characters and no more than 509 bytes (RFC 8489,
/// sections 14.8 to 14.10 and 14.14).
pub(super) const TEXT_SENT_MAX: usize = 509;
/// The longest other text that is taken (the same sections: 763 bytes).
pub(super) const TEXT_TAKEN_MAX: usize = 763;
/// The same sections: fewer than 128 characters.
const TEXT_CHARACTERS_MAX: usize = 127;
/// A name of the DNS (RFC 8489, section 14.16; RFC 1035, section 2.3.4: 255 bytes).
const DOMAIN_MAX: usize = 255;

/// Writes a text attribute with its bounds for taking and sending.
macro_rules! text_attribute {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $taken_max:expr, $may_send:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name<'a>(pub &'a str);

        impl<'a> Attribute<'a> for $name<'a> {
            const TYPE: AttributeType = AttributeType::$kind;

            fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
                decode_text(value, $taken_max).map(Self)
            }

            fn encoded_len(&self) -> usize {
                self.0.len()
            }

            fn encode(&self, out: &mut [u8], _id: TransactionId) {
                out.copy_from_slice(self.0.as_bytes());
            }

            fn is_encodable(&self) -> bool {
                $may_send(self.0)
            }
        }
    };
}

text_attribute!(
    /// USERNAME: whose key protects the message; at most 508 bytes (RFC 8489, section 14.3).
    Username, USERNAME, USERNAME_TAKEN_MAX, |text: &str| text.len() <= USERNAME_SENT_MAX
);
text_attribute!(
    /// REALM: at most 127 characters (RFC 8489, section 14.9).
    Realm, REALM, TEXT_TAKEN_MAX, may_send_text
);
text_attribute!(
    /// NONCE: at most 127 characters (RFC 8489, section 14.10).
    Nonce, NONCE, TEXT_TAKEN_MAX, may_send_text
);
text_attribute!(
    /// SOFTWARE: who wrote the sender; at most 127 characters (RFC 8489, section 14.14).
    Software, SOFTWARE, TEXT_TAKEN_MAX, may_send_text
);
text_attribute!(
    /// ALTERNATE-DOMAIN: whose certificate the alternate server has; at most 255 bytes (RFC 8489, section
    /// 14.16).
    AlternateDomain, ALTERNATE_DOMAIN, DOMAIN_MAX, |text: &str| text.len() <= DOMAIN_MAX
);

pub(super) fn decode_text(value: &[u8], taken_max: usize) -> Option<&str> {
    if value.len() > taken_max {
        return None;
    }
    str::from_utf8(value).ok()
}

pub(super) fn may_send_text(text: &str) -> bool {
    // The bytes first: counting characters of a long text is not free.
    text.len() <= TEXT_SENT_MAX && text.chars().count() <= TEXT_CHARACTERS_MAX
}

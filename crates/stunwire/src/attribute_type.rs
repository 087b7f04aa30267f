//! The numbers of the attributes.

use std::fmt;

/// The type of an attribute: a 16-bit number (RFC 8489, section 14).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(u16);

impl AttributeType {
    /// Makes a type of its number.
    #[must_use]
    pub const fn new(value: u16) -> Self {
        Self(value)
    }

    /// Returns the number.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }

    /// Returns whether a request with this attribute must be refused (420) by who does not know it: the
    /// numbers below 0x8000.
    #[must_use]
    pub const fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }
}

/// Writes the constants and the names in one place, so that they cannot disagree.
macro_rules! attribute_types {
    ($($name:ident = $value:literal, $text:literal, $from:literal;)*) => {
        impl AttributeType {
            $(#[doc = concat!($text, ", ", $from, ".")] pub const $name: Self = Self($value);)*

            const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }
    };
}

attribute_types! {
    MAPPED_ADDRESS = 0x0001, "MAPPED-ADDRESS", "RFC 8489, section 14.1";
    RESPONSE_ADDRESS = 0x0002, "RESPONSE-ADDRESS", "RFC 3489, section 11.2.2";
    CHANGE_REQUEST = 0x0003, "CHANGE-REQUEST", "RFC 5780, section 7.2";
    SOURCE_ADDRESS = 0x0004, "SOURCE-ADDRESS", "RFC 3489, section 11.2.5";
    CHANGED_ADDRESS = 0x0005, "CHANGED-ADDRESS", "RFC 3489, section 11.2.3";
    USERNAME = 0x0006, "USERNAME", "RFC 8489, section 14.3";
    MESSAGE_INTEGRITY = 0x0008, "MESSAGE-INTEGRITY", "RFC 8489, section 14.5";
    ERROR_CODE = 0x0009, "ERROR-CODE", "RFC 8489, section 14.8";
    UNKNOWN_ATTRIBUTES = 0x000A, "UNKNOWN-ATTRIBUTES", "RFC 8489, section 14.13";
    CHANNEL_NUMBER = 0x000C, "CHANNEL-NUMBER", "RFC 8656, section 18.1";
    LIFETIME = 0x000D, "LIFETIME", "RFC 8656, section 18.2";
    XOR_PEER_ADDRESS = 0x0012, "XOR-PEER-ADDRESS", "RFC 8656, section 18.3";
    DATA = 0x0013, "DATA", "RFC 8656, section 18.4";
    REALM = 0x0014, "REALM", "RFC 8489, section 14.9";
    NONCE = 0x0015, "NONCE", "RFC 8489, section 14.10";
    XOR_RELAYED_ADDRESS = 0x0016, "XOR-RELAYED-ADDRESS", "RFC 8656, section 18.5";
    REQUESTED_ADDRESS_FAMILY = 0x0017, "REQUESTED-ADDRESS-FAMILY", "RFC 8656, section 18.6";
    EVEN_PORT = 0x0018, "EVEN-PORT", "RFC 8656, section 18.7";
    REQUESTED_TRANSPORT = 0x0019, "REQUESTED-TRANSPORT", "RFC 8656, section 18.8";
    DONT_FRAGMENT = 0x001A, "DONT-FRAGMENT", "RFC 8656, section 18.9";
    MESSAGE_INTEGRITY_SHA256 = 0x001C, "MESSAGE-INTEGRITY-SHA256", "RFC 8489, section 14.6";
    PASSWORD_ALGORITHM = 0x001D, "PASSWORD-ALGORITHM", "RFC 8489, section 14.12";
    USERHASH = 0x001E, "USERHASH", "RFC 8489, section 14.4";
    XOR_MAPPED_ADDRESS = 0x0020, "XOR-MAPPED-ADDRESS", "RFC 8489, section 14.2";
    RESERVATION_TOKEN = 0x0022, "RESERVATION-TOKEN", "RFC 8656, section 18.10";
    PRIORITY = 0x0024, "PRIORITY", "RFC 8445, section 16.1";
    USE_CANDIDATE = 0x0025, "USE-CANDIDATE", "RFC 8445, section 16.1";
    PADDING = 0x0026, "PADDING", "RFC 5780, section 7.6";
    RESPONSE_PORT = 0x0027, "RESPONSE-PORT", "RFC 5780, section 7.5";
    CONNECTION_ID = 0x002A, "CONNECTION-ID", "RFC 6062, section 6.2.1";
    ADDITIONAL_ADDRESS_FAMILY = 0x8000, "ADDITIONAL-ADDRESS-FAMILY", "RFC 8656, section 18.11";
    ADDRESS_ERROR_CODE = 0x8001, "ADDRESS-ERROR-CODE", "RFC 8656, section 18.12";
    PASSWORD_ALGORITHMS = 0x8002, "PASSWORD-ALGORITHMS", "RFC 8489, section 14.11";
    ALTERNATE_DOMAIN = 0x8003, "ALTERNATE-DOMAIN", "RFC 8489, section 14.16";
    ICMP = 0x8004, "ICMP", "RFC 8656, section 18.13";
    SOFTWARE = 0x8022, "SOFTWARE", "RFC 8489, section 14.14";
    ALTERNATE_SERVER = 0x8023, "ALTERNATE-SERVER", "RFC 8489, section 14.15";
    FINGERPRINT = 0x8028, "FINGERPRINT", "RFC 8489, section 14.7";
    ICE_CONTROLLED = 0x8029, "ICE-CONTROLLED", "RFC 8445, section 16.1";
    ICE_CONTROLLING = 0x802A, "ICE-CONTROLLING", "RFC 8445, section 16.1";
    RESPONSE_ORIGIN = 0x802B, "RESPONSE-ORIGIN", "RFC 5780, section 7.3";
    OTHER_ADDRESS = 0x802C, "OTHER-ADDRESS", "RFC 5780, section 7.4";
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "attribute {:#06x}", self.0),
        }
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_below_0x8000_must_be_understood() {
        assert!(AttributeType::CHANGE_REQUEST.is_comprehension_required());
        assert!(AttributeType::new(0x7FFF).is_comprehension_required());
        assert!(!AttributeType::ADDITIONAL_ADDRESS_FAMILY.is_comprehension_required());
    }

    #[test]
    fn a_type_prints_its_name_or_its_number() {
        assert_eq!(AttributeType::USERHASH.to_string(), "USERHASH");
        assert_eq!(AttributeType::new(0x7ABC).to_string(), "attribute 0x7abc");
    }
}

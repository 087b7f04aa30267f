//! What kind of message it is: the two halves of the 14-bit message type.

use std::fmt;

/// The class of a message (RFC 8489, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A question that wants an answer.
    Request,
    /// A statement that wants none.
    Indication,
    /// The answer to a request that was carried out.
    SuccessResponse,
    /// The answer to a request that was refused; has an ERROR-CODE.
    ErrorResponse,
}

impl Class {
    /// Returns whether this is one of the two answers.
    #[must_use]
    pub const fn is_response(self) -> bool {
        matches!(self, Self::SuccessResponse | Self::ErrorResponse)
    }
}

/// The method of a message: 12 bits (RFC 8489, section 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(u16);

impl Method {
    /// Binding (RFC 8489): which address do you see?
    pub const BINDING: Self = Self(0x001);
    /// Allocate (RFC 8656, section 7).
    pub const ALLOCATE: Self = Self(0x003);
    /// Refresh (RFC 8656, section 8).
    pub const REFRESH: Self = Self(0x004);
    /// Send, an indication (RFC 8656, section 11).
    pub const SEND: Self = Self(0x006);
    /// Data, an indication (RFC 8656, section 11).
    pub const DATA: Self = Self(0x007);
    /// CreatePermission (RFC 8656, section 10).
    pub const CREATE_PERMISSION: Self = Self(0x008);
    /// ChannelBind (RFC 8656, section 12).
    pub const CHANNEL_BIND: Self = Self(0x009);
    /// Connect (RFC 6062, section 4.3).
    pub const CONNECT: Self = Self(0x00A);
    /// ConnectionBind (RFC 6062, section 4.3).
    pub const CONNECTION_BIND: Self = Self(0x00B);
    /// ConnectionAttempt, an indication (RFC 6062, section 4.4).
    pub const CONNECTION_ATTEMPT: Self = Self(0x00C);

    /// Makes a method of its number; `None` above 12 bits.
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        if value <= 0x0FFF {
            Some(Self(value))
        } else {
            None
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::BINDING => "Binding",
            Self::ALLOCATE => "Allocate",
            Self::REFRESH => "Refresh",
            Self::SEND => "Send",
            Self::DATA => "Data",
            Self::CREATE_PERMISSION => "CreatePermission",
            Self::CHANNEL_BIND => "ChannelBind",
            Self::CONNECT => "Connect",
            Self::CONNECTION_BIND => "ConnectionBind",
            Self::CONNECTION_ATTEMPT => "ConnectionAttempt",
            Self(value) => return write!(f, "Method({value:#05x})"),
        };
        f.write_str(name)
    }
}

/// The class bits C0 (0x0010) and C1 (0x0100) lie between the bits of the method.
pub(crate) const fn encode_message_type(class: Class, method: Method) -> u16 {
    let class = match class {
        Class::Request => 0x0000,
        Class::Indication => 0x0010,
        Class::SuccessResponse => 0x0100,
        Class::ErrorResponse => 0x0110,
    };
    let method = method.0;
    class | (method & 0x000F) | ((method & 0x0070) << 1) | ((method & 0x0F80) << 2)
}

/// Takes the lower 14 bits apart; the two upper ones were checked to be zero.
pub(crate) const fn decode_message_type(value: u16) -> (Class, Method) {
    let class = match (value & 0x0100 != 0, value & 0x0010 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::SuccessResponse,
        (true, true) => Class::ErrorResponse,
    };
    let method = (value & 0x000F) | ((value & 0x00E0) >> 1) | ((value & 0x3E00) >> 2);
    (class, Method(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_has_the_type_values_of_the_rfc() {
        let types = [
            (Class::Request, 0x0001),
            (Class::Indication, 0x0011),
            (Class::SuccessResponse, 0x0101),
            (Class::ErrorResponse, 0x0111),
        ];
        for (class, value) in types {
            assert_eq!(encode_message_type(class, Method::BINDING), value);
        }
    }

    #[test]
    fn every_type_value_survives_both_directions() {
        for value in 0..=0x3FFF {
            let (class, method) = decode_message_type(value);
            assert_eq!(encode_message_type(class, method), value);
        }
    }

    #[test]
    fn a_method_has_twelve_bits() {
        assert_eq!(Method::new(0x0FFF).map(Method::value), Some(0x0FFF));
        assert_eq!(Method::new(0x1000), None);
    }
}

//! How a client reaches its relay.

/// How a client reaches its relay. The peers' side of a relay is always UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// One message per datagram, lost ones sent again.
    Udp,
    /// A byte stream, plain TCP or TLS: messages are framed by their own length and padded to four bytes
    /// (RFC 8656, section 12.5).
    Tcp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// Returns how many bytes bring `len` to a multiple of four.
pub(crate) const fn padding(len: usize) -> usize {
    (4 - len % 4) % 4
}

#[cfg(test)]
mod tests {
    use super::padding;

    #[test]
    fn padding_reaches_the_next_multiple_of_four() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(padding), [0, 3, 2, 1, 0, 3]);
    }
}

//! What a client reports.

use std::net::SocketAddr;

use stunwire::ChannelNumber;

/// Something happened that the layer above must know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// There is an allocation. Channels that were wanted are being bound on it.
    Allocated {
        /// The relayed address: where peers send to.
        relayed: SocketAddr,
        /// Our own address as the relay sees it.
        reflexive: SocketAddr,
    },
    /// A channel to this peer is open, and so is the permission for its address. Reported once per
    /// allocation, not for renewals.
    Bound {
        /// The peer.
        peer: SocketAddr,
        /// The channel's number.
        channel: ChannelNumber,
    },
    /// The relay refuses this peer; it is no longer wanted. 403 is a forbidden address.
    BindRefused {
        /// The peer.
        peer: SocketAddr,
        /// The error code of RFC 8656, section 19.
        code: u16,
    },
    /// The allocation is gone. Except after `close`, and over TCP without a stream, a new one is already
    /// being asked for.
    Lost {
        /// Why.
        reason: LostReason,
    },
    /// There is trouble, and the client keeps trying.
    Failed {
        /// What trouble, and whose.
        reason: FailReason,
    },
}

/// Why an allocation is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostReason {
    /// The relay knows of no allocation for our address (437): it restarted, or a NAT moved us.
    Forgotten,
    /// No Refresh was answered until the lifetime ended.
    Expired,
    /// The relay refused the Refresh with this code.
    Refused(u16),
    /// The stream to the relay is gone.
    Disconnected,
    /// It was given back: `close`.
    Closed,
}

/// What keeps an allocation from being made or renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailReason {
    /// Network: nothing came back for the whole schedule. Reported once per silence.
    Unreachable,
    /// Relay: the credentials are wrong or have expired (401); new ones are needed.
    Unauthorized,
    /// Relay: refused with this code (486: the user's quota, 508: no capacity, …).
    Rejected(u16),
    /// Relay: it answers what cannot be understood.
    Malformed,
}

/// What a message from the relay's address was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Received<'a> {
    /// It was for this client (and may have been dropped by it).
    Consumed,
    /// A peer's payload, by channel or in a Data indication.
    Data {
        /// Who sent it to our relayed address.
        peer: SocketAddr,
        /// What was sent.
        payload: &'a [u8],
    },
    /// It is somebody else's: offer it to the next machine.
    NotMine,
}

/// Counters of a client. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Answers whose integrity was missing or wrong.
    pub unauthenticated: u64,
    /// Messages that could not be understood.
    pub malformed: u64,
    /// ChannelData on a channel that is not ours.
    pub unknown_channels: u64,
    /// Payloads not sent because there was no allocation.
    pub unsent: u64,
    /// Payloads too large for a message (more than 65,000 bytes).
    pub oversized: u64,
    /// Channels refused because too many are wanted.
    pub channels_refused: u64,
    /// Packets dropped because nobody drained `poll_transmit`.
    pub transmits_dropped: u64,
    /// Events dropped because nobody drained `poll_event`.
    pub events_dropped: u64,
    /// Requests sent again because no answer came.
    pub retransmissions: u64,
}

//! What a client is told at the start, and the numbers of its behaviour.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use sansio::Retransmission;
use zeroize::Zeroizing;

use crate::Transport;

/// What a [`Client`](crate::Client) needs to know.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The relay's address.
    pub server: SocketAddr,
    /// How to reach it.
    pub transport: Transport,
    /// The base: the local socket that talks to the relay, used as `Transmit::source`.
    pub local: SocketAddr,
    /// The user's name; for time-limited credentials `expiry_unix[:id]`.
    pub username: String,
    /// The password that goes with it.
    pub credential: Credential,
}

/// A password. It has no `Display`, and its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Zeroizing<String>);

impl Credential {
    /// Takes the password.
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(Zeroizing::new(password))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Credential {
    fn from(password: &str) -> Self {
        Self::new(password.to_owned())
    }
}

impl From<String> for Credential {
    fn from(password: String) -> Self {
        Self::new(password)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// Requests outstanding at once; RFC 8489, section 6.2.1 says no more per server.
pub(super) const REQUESTS_MAX: usize = 10;

/// Channels wanted at once. A session binds one per remote candidate, and candidates are capped well below.
pub(super) const CHANNELS_MAX: usize = 64;

/// Channels no longer wanted but still known to the relay. Their numbers must not serve another peer
/// (RFC 8656, section 12), so they are remembered until the relay has forgotten them.
pub(super) const CHANNELS_RETIRED_MAX: usize = 64;

/// Packets waiting for `poll_transmit`; drained after every input, so only a caller that never drains
/// meets this.
pub(super) const TRANSMITS_MAX: usize = 4096;

/// Events waiting for `poll_event`: every channel may report, and a few more.
pub(super) const EVENTS_MAX: usize = 256;

/// The lifetime asked for: the default of RFC 8656, section 7.2, so that a client that vanished is
/// forgotten in ten minutes.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);

/// The longest lifetime believed (a relay may grant more than was asked).
pub(super) const LIFETIME_MAX: Duration = Duration::from_secs(3600);

/// Permissions last 300 s (RFC 8656, section 9) and a bind renews both; one minute is left for lost packets.
pub(super) const BIND_RENEWAL: Duration = Duration::from_secs(240);

/// How long a channel lasts (RFC 8656, section 12).
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// When nothing went out or came in for this long, the relay is asked for a Refresh: it keeps the NAT's
/// binding open (those of half of home routers live 30 s) and proves that the allocation is there.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(20);

/// When packets went out and nothing at all came back for this long, the same question is asked: a relay
/// that restarted drops our data in silence. Traffic that is answered (QUIC always is) never gets here.
pub(super) const SUSPICION: Duration = Duration::from_secs(2);

/// Requests over UDP: sends at 0, 0.25, 0.75, 1.75, 3.75 and 7.75 s, given up at 11.75 s. Brisker than RFC
/// 8489's 500 ms because the relay is usually the first path, and at 20 % loss each way six sends fail
/// together once in 460.
pub(super) const OVER_UDP: Retransmission = Retransmission {
    rto: Duration::from_millis(250),
    rto_max: Duration::from_secs(4),
    sends: 6,
    last_wait: Duration::from_secs(4),
};

/// Requests over TCP: one send. RFC 8489 waits 39.5 s; a stream that brought nothing for ten is as good as
/// dead, and dialling anew costs little.
pub(super) const OVER_TCP: Retransmission = Retransmission {
    rto: Duration::from_secs(10),
    rto_max: Duration::from_secs(10),
    sends: 1,
    last_wait: Duration::from_secs(10),
};

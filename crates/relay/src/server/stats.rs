//! What a server counts.

/// Counters of a server. They only grow; [`Server::allocations`](super::Server::allocations) is the gauge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Requests that were read.
    pub requests: u64,
    /// Messages that could not be understood.
    pub malformed: u64,
    /// Messages that are STUN but not for a TURN server.
    pub ignored: u64,
    /// Requests without credentials (the usual first one).
    pub challenged: u64,
    /// Requests with wrong or expired credentials.
    pub unauthenticated: u64,
    /// Requests with a stale nonce.
    pub stale_nonces: u64,
    /// Refusals to strangers that were not sent, to bound what a forged source receives.
    pub refusals_limited: u64,
    /// Allocations made.
    pub allocations_made: u64,
    /// Allocations that ran out.
    pub allocations_expired: u64,
    /// Allocations ended by the client: lifetime zero, or its stream closed.
    pub allocations_ended: u64,
    /// Requests refused because the user or its address has too much (486).
    pub quota_refusals: u64,
    /// Requests refused because the server or the allocation is full (508).
    pub capacity_refusals: u64,
    /// Relay ports that could not be opened.
    pub ports_failed: u64,
    /// Peers refused by the address rules (403).
    pub peers_forbidden: u64,
    /// Packets of clients dropped because they have no allocation.
    pub without_allocation: u64,
    /// Packets dropped, either way, because there is no permission.
    pub without_permission: u64,
    /// ChannelData dropped because the channel is not bound.
    pub without_channel: u64,
    /// Packets to a relayed address of this server, or to a socket beside it, that no allocation has.
    pub to_nobody: u64,
    /// Packets that would not fit the frame of the other side.
    pub oversized: u64,
    /// Packets sent to peers.
    pub to_peers: u64,
    /// Their payloads' bytes.
    pub to_peers_bytes: u64,
    /// Packets sent to clients.
    pub to_clients: u64,
    /// Their payloads' bytes.
    pub to_clients_bytes: u64,
    /// Of the packets sent to clients, those that came from another allocation inside the process.
    pub in_process: u64,
    /// Answers dropped because nobody drained `poll_command`.
    pub answers_dropped: u64,
}

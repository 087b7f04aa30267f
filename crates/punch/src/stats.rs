//! What an agent has done, in numbers.

/// Counters of one agent; none ever goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentStats {
    /// Checks sent, of every kind.
    pub checks_sent: u64,
    /// Of those: openers with a low TTL.
    pub openers_sent: u64,
    /// Of those: sent at once because the peer was heard.
    pub triggered_sent: u64,
    /// Triggered checks not sent because one had been sent less than 20 ms before.
    pub triggered_capped: u64,
    /// Of those: of full size.
    pub full_size_sent: u64,
    /// Full-size checks that were answered in full size.
    pub full_size_answered: u64,
    /// How often a pair was found narrow.
    pub pairs_narrowed: u64,
    /// Probes of volleys sent, openers included.
    pub volley_probes_sent: u64,
    /// Of those: openers with a low TTL.
    pub volley_openers_sent: u64,
    /// Probes of volleys answered, each pair of addresses counted once.
    pub volley_probes_answered: u64,
    /// Probes never sent: too many of them, of no base of ours, or to where nothing can be sent.
    pub volley_probes_refused: u64,
    /// Volleys refused because too many were being sent.
    pub volleys_refused: u64,
    /// Anchors refused because of their bound.
    pub anchors_refused: u64,
    /// The most anchors that there were at one time.
    pub anchors_peak: u64,
    /// Notes sent.
    pub notes_sent: u64,
    /// Notes sent again.
    pub notes_retransmitted: u64,
    /// Notes that the peer acknowledged.
    pub notes_delivered: u64,
    /// Notes given up.
    pub notes_lost: u64,
    /// Notes of the peer.
    pub notes_received: u64,
    /// Notes of ours refused: too long, on no validated pair, or too many at a time.
    pub notes_refused: u64,
    /// Verified check requests.
    pub requests_verified: u64,
    /// Answers sent.
    pub answers_sent: u64,
    /// Verified requests dropped because of the cap on answers per second.
    pub answers_capped: u64,
    /// Verified answers to our checks.
    pub answers_verified: u64,
    /// Verified error responses to our checks.
    pub error_answers: u64,
    /// Messages with our names or one of our transaction ids that did not verify.
    pub unverified: u64,
    /// Our own requests that came back to us.
    pub own_requests: u64,
    /// Verified messages that lack an attribute, have one that is unknown and required, or claim our role.
    pub malformed: u64,
    /// Verified requests heard before from another address.
    pub replayed: u64,
    /// Verified messages at a base or from an address that they cannot belong to.
    pub misdirected: u64,
    /// Candidates refused: unusable, our own, or beyond a bound.
    pub candidates_refused: u64,
    /// Pairs not made, or removed again, because of `pairs_max`.
    pub pairs_refused: u64,
    /// Checks forgotten before their lifetime because too many were outstanding.
    pub checks_forgotten: u64,
    /// Datagrams not queued because nobody drained the queue, or which did not fit into a message.
    pub transmits_dropped: u64,
    /// Events not queued because nobody drained the queue.
    pub events_dropped: u64,
    /// Datagrams queued, of every kind.
    pub datagrams_sent: u64,
    /// Bytes of UDP payload of them.
    pub bytes_sent: u64,
}

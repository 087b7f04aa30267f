//! How an agent is tuned.

use std::time::Duration;

/// The tuning of one agent; the defaults are meant for every use but tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// How many pairs are kept; default 100, the limit of RFC 8445, section 6.1.2.5. Beyond it the pairs
    /// with the lowest priority go, never a validated one, and a few relayed ones always stay. More pairs
    /// cost checks: each takes its turn of `pacing`.
    pub pairs_max: usize,
    /// The least time between two scheduled checks; default 5 ms. RFC 8445, section 14.2, allows less
    /// than its 50 ms for traffic that is not real-time media. Lower is a burst on a home router.
    pub pacing: Duration,
    /// The TTL of openers; default 2: past the own router, never as far as the other side's.
    pub low_ttl: u8,
    /// How long a pair that may need it is checked with `low_ttl` only; default 150 ms, measured to be
    /// enough (facts/lab.md). Zero turns openers off. Longer delays every direct path.
    pub low_ttl_phase: Duration,
    /// How long an answer to a check is waited for; default 3 s, longer than any round trip that is
    /// worth having. Longer costs memory.
    pub check_lifetime: Duration,
    /// How many check requests are answered per second; default 1,000: a peer with full pacing asks 200 and its
    /// volleys 500, which may come in bunches. Beyond it requests are dropped and counted, so that a peer cannot
    /// make us flood anybody.
    pub answers_per_second: u32,
    /// How long a full-size check and its answer are, in bytes of UDP payload, rounded down to a multiple of four;
    /// default 1,200, what QUIC asks of every path (RFC 9000, section 14). Zero turns full-size checks off: then
    /// any answer validates a pair.
    pub full_size: usize,
    /// How many probes of volleys leave in a second, all volleys together; default 500. Home routers make some
    /// thousand bindings a second; more than this was never needed to be quick (facts/lab.md).
    pub probes_per_second_max: u32,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            pairs_max: 100,
            pacing: Duration::from_millis(5),
            low_ttl: 2,
            low_ttl_phase: Duration::from_millis(150),
            check_lifetime: Duration::from_secs(3),
            answers_per_second: 1000,
            full_size: 1200,
            probes_per_second_max: 500,
        }
    }
}

//! The numbers of the flow layer.

use std::time::Duration;

/// How much a flow holds, and how long it waits. Both ends must agree on `initial_credit` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowConfig {
    /// How much may be sent before the other end has said anything: 256 KiB, part of protocol 1. With
    /// `max_connections` it bounds the memory of connections that nobody reads.
    pub initial_credit: u64,
    /// How far the window grows while it is read: 4 MiB, a gigabit at 32 ms. Raising it costs that much
    /// memory per fast flow at either end.
    pub max_credit: u64,
    /// A window that was read within this time is doubled: 1 s. One that takes longer is no bottleneck at
    /// any round trip that people work with.
    pub growth_time: Duration,
    /// How much is received before an acknowledgement is sent at once: 32 KiB, an eighth of the first
    /// window.
    pub ack_bytes: u64,
    /// How long an acknowledgement waits for company: 20 ms; its only cost is memory at the sender.
    pub ack_delay: Duration,
    /// How long a flow waits for a carrier before it is reset, and how long the last word of an ended one is
    /// kept: 1 h, the user's `resume`.
    pub resume: Duration,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            initial_credit: 256 * 1024,
            max_credit: 4 * 1024 * 1024,
            growth_time: Duration::from_secs(1),
            ack_bytes: 32 * 1024,
            ack_delay: Duration::from_millis(20),
            resume: Duration::from_secs(3600),
        }
    }
}

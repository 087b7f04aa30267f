//! What the socket counted: every packet that a bound or a rule refused.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Running totals of one [`DemuxSocket`](super::DemuxSocket), in packets unless said otherwise.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct SocketStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> SocketStats {
                SocketStats { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// QUIC packets handed to quinn.
    quic_in,
    /// Datagrams put into the control queue.
    control_in,
    /// Control datagrams dropped because the queue was full.
    control_dropped,
    /// Packets that were neither STUN nor ChannelData nor QUIC.
    unknown_dropped,
    /// QUIC packets from an address without a route, beyond the few that are kept for `install`.
    unmapped_dropped,
    /// QUIC packets that came before their route and were delivered by `install`.
    early_delivered,
    /// Packets of relays and second routes dropped because quinn read too slowly.
    pending_dropped,
    /// Packets to a virtual address without a route, or whose socket is gone.
    unroutable_dropped,
    /// Packets dropped because the queue of a relay's stream was full.
    relay_stream_dropped,
    /// Sends that failed for another reason than a full socket (unreachable network, message too large…).
    send_errors,
    /// Receive calls that failed.
    receive_errors,
    /// Sockets whose segmentation offload the kernel or a driver refused; throughput falls to about a quarter.
    gso_disabled,
    /// Control datagrams that the socket could not take at once.
    control_send_dropped,
    /// Sockets taken out because receiving kept failing.
    sockets_failed,
}

/// One counter; relaxed, since nothing is ordered by it.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn increment(&self) {
        self.add(1);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

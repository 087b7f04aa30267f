//! A service that never reads: its own flow stops, nobody else notices, and memory stays within its credit.

use std::time::Duration;

use stunfwd_tests::{
    bed::{ECHO, Pair, SINK},
    lab::{self, Home, Lab, Nat},
    product::Signaling,
    tool,
};

/// What one flow that nobody reads may cost either program: its credit (256 KiB at first, never raised), the record
/// and packet overhead of messages this small, and what an allocator keeps of the rest.
const GROWTH_MAX_BYTES: u64 = 12 << 20;

/// The kernel's own buffers before and behind the tunnel (4 MiB sent and some received, on each of two loopback
/// connections) and the credit: a third of what the writer has to say.
const TAKEN_MAX_BYTES: u64 = 12 << 20;

#[test]
fn a_service_that_never_reads_disturbs_no_other_connection_and_holds_only_its_credit() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let lab = Lab::new(home, home);
        let signaling = Signaling::start(lab.public());
        let mut pair = Pair::start(&lab, &signaling);
        pair.await_connected(Duration::from_secs(5));
        pair.client.await_kind(Duration::from_secs(5), "direct");
        // Everything that is allocated once is allocated now.
        pair.transfer(5_000_000);
        let before = [
            pair.client.process().resident_bytes(),
            pair.server.process().resident_bytes(),
        ];

        let mut writer = tool::start(
            lab.a(),
            &["small-writes", SINK, "--secs", "30", "--interval-us", "200"],
        );
        let mut pulse = tool::start(lab.a(), &["pulse", ECHO, "--secs", "30"]);
        for _ in 0..3 {
            pair.transfer(2_000_000);
            pair.assert_udp_echoes();
        }
        let wrote = tool::finish(&mut writer, Duration::from_secs(40));
        let beats = tool::finish(&mut pulse, Duration::from_secs(10));
        let after = [
            pair.client.process().resident_bytes(),
            pair.server.process().resident_bytes(),
        ];

        assert_eq!(
            wrote["end"], "time",
            "the writer was held back, not cut off: {wrote}"
        );
        assert!(wrote["bytes"].as_u64() < Some(TAKEN_MAX_BYTES), "{wrote}");
        assert!(beats["count"].as_u64() > Some(500), "{beats}");
        assert!(beats["slowestMs"].as_f64() < Some(500.0), "{beats}");
        for (before, after) in before.into_iter().zip(after) {
            let growth = after.saturating_sub(before);
            assert!(
                growth < GROWTH_MAX_BYTES,
                "grew by {growth} bytes, from {before}"
            );
        }
    });
}

//! What takes coturn's real lifetimes: a permission lasts five minutes and a channel ten, so that only eleven minutes of
//! real time show that both are renewed.
//!
//! It idles and costs next to nothing, so that it runs beside everything else:
//! `cargo nextest run -p stunfwd-tests --profile soak`. The ordinary run leaves it out.

use std::time::Duration;

use serde_json::Value;
use stunfwd_tests::{
    bed::{ECHO, Pair, UDP},
    coturn::{Access, Coturn, SECRET},
    lab::{self, Home, Lab, Nat},
    product::Signaling,
    tool, wait,
};

/// One minute more than a channel lives (RFC 8656, section 12).
const SOAK: Duration = Duration::from_secs(11 * 60);

/// How often an echo is asked for: seldom, so that nothing but the programs' own care keeps the path.
const EVERY: Duration = Duration::from_secs(20);

/// How long a path may take to be reported after the first byte has gone over it.
const REPORT: Duration = Duration::from_secs(5);

#[test]
fn an_idle_path_through_coturn_outlives_its_permissions_and_its_channels() {
    lab::test(|| {
        let home = Home::behind(Nat::Symmetric);
        let lab = Lab::new(home, home);
        let coturn = Coturn::start(lab.public(), Access::SharedSecret, &[]);
        let url = coturn.url("udp");
        let stun = ["203.0.113.10:3478", "203.0.113.11:3478"];
        let flags = ["--turn-secret", SECRET, "--turn-url", &url];
        let signaling = Signaling::start_with(lab.public(), "203.0.113.10:8080", &stun, &flags);
        let pair = Pair::start(&lab, &signaling);
        pair.assert_first_byte();
        pair.client.await_kind(REPORT, "relay");
        pair.server.await_kind(REPORT, "relay");

        let changes = || {
            let status = pair.client.status().expect("the program answers");
            status["peers"][0]["pathChanges"].clone()
        };
        let allocations = coturn.relayed().len();
        let began = wait::now();
        let before = changes();
        while began.elapsed() < SOAK {
            std::thread::sleep(EVERY);
            let said = tool::run(lab.a(), &["say", ECHO, "still here"]);
            assert_eq!(said["answer"], "still here", "{:?}", began.elapsed());
            let echoed = tool::run(lab.a(), &["udp-say", UDP, "here too", "--secs", "3"]);
            assert_ne!(echoed["answer"], Value::Null, "{:?}", began.elapsed());
        }
        pair.assert_kind("relay");
        assert_eq!(changes(), before, "the path has not changed");
        assert_eq!(coturn.relayed().len(), allocations, "{}", coturn.log());

        // Of each end: the channel bound once and renewed every four minutes, the allocation every five.
        let binds = coturn.count(&["CHANNEL_BIND processed, success"]);
        assert!(binds >= 2 * 3, "{binds} binds: {}", coturn.log());
        let refreshes = coturn.count(&["REFRESH processed, success"]);
        assert!(refreshes >= 2 * 2, "{refreshes} refreshes");
    });
}

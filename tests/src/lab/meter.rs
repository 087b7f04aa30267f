//! What a home's router sees of its hosts: how much they send, how fast, and how many bindings that costs.

use serde_json::Value;

use super::host::Host;

/// More packets a second than a peer may send while it guesses ports (DESIGN.md, section 5).
pub const PACKETS_PER_SECOND: u32 = 500;

/// Counters on a router.
#[derive(Debug)]
pub struct Meter<'a> {
    router: &'a Host,
}

/// What has gone out over UDP since the meter was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Packets.
    pub packets: u64,
    /// Those of them that were above [`PACKETS_PER_SECOND`], which a burst of one second's worth is not.
    pub too_fast: u64,
    /// Flows that the router had to make a binding for.
    pub bindings: u64,
}

impl<'a> Meter<'a> {
    /// Sets one on a home's router.
    ///
    /// # Panics
    /// When nft refuses it, with what it said.
    pub fn start(router: &'a Host) -> Self {
        // The hook of translation is shown the first packet of each flow, and before the NAT has decided.
        router.nft(&format!(
            "table ip spent {{\n\
             counter sent_udp {{ }}\n counter above_rate {{ }}\n counter new_flows {{ }}\n\
             chain out {{\n type filter hook forward priority 10; policy accept;\n\
             oifname \"wan\" meta l4proto udp counter name sent_udp\n\
             oifname \"wan\" meta l4proto udp \
             limit rate over {PACKETS_PER_SECOND}/second burst {PACKETS_PER_SECOND} packets counter name above_rate\n}}\n\
             chain fresh {{\n type nat hook postrouting priority 90; policy accept;\n\
             oifname \"wan\" meta l4proto udp counter name new_flows\n}}\n}}\n"
        ));
        Self { router }
    }

    /// Reads it.
    ///
    /// # Panics
    /// When nft does not answer.
    pub fn read(&self) -> Spent {
        let text = self
            .router
            .run("nft", &["-j", "list", "table", "ip", "spent"]);
        let json: Value = serde_json::from_str(&text).expect("nft prints JSON");
        let count = |name: &str| {
            let mut objects = json["nftables"].as_array().into_iter().flatten();
            let found = objects.find(|object| object["counter"]["name"] == name);
            found.and_then(|object| object["counter"]["packets"].as_u64())
        };
        let [packets, too_fast, bindings] =
            ["sent_udp", "above_rate", "new_flows"].map(|name| count(name).unwrap_or_default());
        Spent {
            packets,
            too_fast,
            bindings,
        }
    }
}

//! How a router is told what to do: the nftables rules of one machine with interfaces `lan` and `wan`.

use std::{fmt::Write as _, net::Ipv4Addr, ops::RangeInclusive};

use super::nat::{BLOCK_PORTS, Nat};

/// How many ports a NAT that counts walks through: as many as fit an unprivileged netlink buffer.
const SEQUENTIAL_PORTS: u16 = 2048;

/// The first outside port of a NAT that counts.
pub const SEQUENTIAL_FIRST: u16 = 40_000;

/// The outside ports of a [`Nat::SymmetricBlock`], one of the blocks that lie side by side from 1024 on.
pub const BLOCK: RangeInclusive<u16> = BLOCK_FIRST..=BLOCK_FIRST + BLOCK_PORTS - 1;

const BLOCK_FIRST: u16 = 1024 + 96 * BLOCK_PORTS;

/// How long a learnt mapping outlives its last packet. Longer than any test, and than the kernel's own 120 s for a UDP
/// stream, so that the maps never forget before conntrack does.
const MAPPING_SECS: u32 = 300;

/// The mark of a packet that turns round: behind the routing decision nothing else tells where it came from.
const TURNS: u32 = 1;

/// One router.
#[derive(Debug, Clone, Copy)]
pub(super) struct Router {
    pub(super) nat: Nat,
    /// Whether hosts behind it reach each other by their outside addresses (RFC 4787, REQ-9).
    pub(super) hairpin: bool,
    /// Whether packets that nobody asked for are dropped. Without it the router takes them itself, and its connection
    /// tracking confirms them.
    pub(super) wan_firewall: bool,
    pub(super) external: Ipv4Addr,
}

impl Router {
    /// The rules.
    ///
    /// Routers drop what they did not ask for: an unsolicited packet must end in a drop *before* conntrack
    /// confirms it, or the flow that later goes the other way would be given another port. That is just what
    /// happens on a router without a WAN firewall.
    pub(super) fn ruleset(self) -> String {
        let mut rules = String::from("table ip lab {\n");
        self.write_tables(&mut rules);
        self.write_input(&mut rules);
        self.write_forward(&mut rules);
        self.write_prerouting(&mut rules);
        self.write_postrouting(&mut rules);
        self.write_learning(&mut rules);
        rules.push_str("}\n");
        rules
    }

    /// Outside ports are random instead of kept.
    const fn has_random_ports(self) -> bool {
        matches!(
            self.nat,
            Nat::FullConeRandom
                | Nat::PortRestrictedRandom
                | Nat::SymmetricAddressDependent
                | Nat::Symmetric
        )
    }

    /// A map remembers the outside port of an inside socket.
    const fn remembers_ports(self) -> bool {
        matches!(
            self.nat,
            Nat::FullCone
                | Nat::FullConeRandom
                | Nat::AddressRestricted
                | Nat::PortRestrictedRandom
        )
    }

    /// Strangers are let in, all or those of known addresses.
    const fn lets_strangers_in(self) -> bool {
        matches!(
            self.nat,
            Nat::FullCone | Nat::FullConeRandom | Nat::AddressRestricted
        )
    }

    /// A reverse map knows whose an outside port is.
    const fn knows_owners(self) -> bool {
        self.lets_strangers_in() || self.hairpin
    }

    fn write_tables(self, rules: &mut String) {
        let flags = format!("flags dynamic,timeout; size 60000; timeout {MAPPING_SECS}s;");
        let mut table = |what: &str, name: &str, kind: &str| {
            line(rules, &format!("{what} {name} {{ type {kind}; {flags} }}"));
        };
        if self.remembers_ports() {
            table("map", "outside", "ipv4_addr . inet_service : inet_service");
        }
        if self.knows_owners() {
            table("map", "inside", "inet_service : ipv4_addr . inet_service");
        }
        if self.nat == Nat::AddressRestricted {
            table("set", "known", "inet_service . ipv4_addr");
        }
        if self.nat == Nat::SymmetricAddressDependent {
            table(
                "map",
                "outside",
                "ipv4_addr . inet_service . ipv4_addr : inet_service",
            );
        }
    }

    fn write_input(self, rules: &mut String) {
        let policy = if self.wan_firewall { "drop" } else { "accept" };
        chain(
            rules,
            "input",
            &format!("filter hook input priority 0; policy {policy}"),
            " iifname != \"wan\" accept\n ct state established,related accept\n \
             icmp type echo-request accept\n",
        );
    }

    fn write_forward(self, rules: &mut String) {
        let passes = match self.nat {
            Nat::None => " accept\n",
            Nat::UdpBlocked => {
                " meta l4proto udp drop\n ct state established,related accept\n iifname \"lan\" accept\n"
            }
            Nat::WebOnly => {
                " ct state established,related accept\n iifname \"lan\" tcp dport { 80, 443 } accept\n"
            }
            Nat::FullCone | Nat::FullConeRandom | Nat::AddressRestricted => {
                " ct state established,related accept\n ct status dnat accept\n iifname \"lan\" accept\n"
            }
            Nat::Firewall
            | Nat::PortRestricted
            | Nat::PortRestrictedRandom
            | Nat::SymmetricAddressDependent
            | Nat::SymmetricSequential
            | Nat::SymmetricSequentialByTwo
            | Nat::SymmetricBlock
            | Nat::Symmetric => " ct state established,related accept\n iifname \"lan\" accept\n",
        };
        chain(
            rules,
            "forward",
            "filter hook forward priority 0; policy drop",
            passes,
        );
    }

    fn write_prerouting(self, rules: &mut String) {
        let mut passes = String::new();
        if self.lets_strangers_in() {
            let condition = if self.nat == Nat::AddressRestricted {
                "udp dport . ip saddr @known "
            } else {
                ""
            };
            line(
                &mut passes,
                &format!(" iifname \"wan\" {condition}dnat ip to udp dport map @inside"),
            );
        }
        if self.hairpin {
            let external = self.external;
            line(
                &mut passes,
                &format!(
                    " iifname \"lan\" ip daddr {external} meta mark set {TURNS} dnat ip to udp dport map @inside"
                ),
            );
        }
        chain(
            rules,
            "prerouting",
            "nat hook prerouting priority dstnat",
            &passes,
        );
    }

    fn write_postrouting(self, rules: &mut String) {
        if self.nat.is_routed() {
            return;
        }
        let external = self.external;
        let random = if self.has_random_ports() {
            " fully-random"
        } else {
            ""
        };
        let mut passes = String::new();
        let mut translate = |way: &str, otherwise: &str| {
            if let Some(known) = self.known_port() {
                line(
                    &mut passes,
                    &format!(" {way} meta l4proto udp snat ip to {external} : {known}"),
                );
            }
            line(&mut passes, &format!(" {way} {otherwise}{random}"));
        };
        translate("oifname \"wan\"", "masquerade");
        if self.hairpin {
            // What turns round comes from its outside address too.
            let way = format!("oifname \"lan\" meta mark {TURNS}");
            translate(&way, &format!("snat ip to {external}"));
        }
        chain(
            rules,
            "postrouting",
            "nat hook postrouting priority srcnat",
            &passes,
        );
    }

    /// Where the outside port of a flow is looked up, if it is more than a choice of the kernel.
    fn known_port(self) -> Option<String> {
        if self.remembers_ports() {
            return Some("ip saddr . udp sport map @outside".to_owned());
        }
        match self.nat {
            Nat::SymmetricAddressDependent => {
                Some("ip saddr . udp sport . ip daddr map @outside".to_owned())
            }
            Nat::SymmetricSequential => Some(counted(1)),
            Nat::SymmetricSequentialByTwo => Some(counted(2)),
            Nat::SymmetricBlock => Some(format!("{}-{} fully-random", BLOCK.start(), BLOCK.end())),
            Nat::None
            | Nat::Firewall
            | Nat::FullCone
            | Nat::FullConeRandom
            | Nat::AddressRestricted
            | Nat::PortRestricted
            | Nat::PortRestrictedRandom
            | Nat::Symmetric
            | Nat::UdpBlocked
            | Nat::WebOnly => None,
        }
    }

    /// Reads the outside port off each outgoing flow once it has been translated.
    fn write_learning(self, rules: &mut String) {
        let mut passes = String::new();
        let mut learn = |update: &str| {
            line(
                &mut passes,
                &format!(" oifname \"wan\" meta l4proto udp ct direction original update {update}"),
            );
        };
        if self.remembers_ports() {
            learn("@outside { ct original ip saddr . ct original proto-src : ct reply proto-dst }");
        }
        if self.knows_owners() {
            learn("@inside { ct reply proto-dst : ct original ip saddr . ct original proto-src }");
        }
        if self.nat == Nat::AddressRestricted {
            learn("@known { ct reply proto-dst . ct original ip daddr }");
        }
        if self.nat == Nat::SymmetricAddressDependent {
            learn(
                "@outside { ct original ip saddr . ct original proto-src . ct original ip daddr : ct reply proto-dst }",
            );
        }
        chain(
            rules,
            "learning",
            "filter hook postrouting priority 300",
            &passes,
        );
    }
}

/// The next port, `stride` further each time.
fn counted(stride: u16) -> String {
    let ports: Vec<String> = (0..SEQUENTIAL_PORTS)
        .map(|step| format!("{step} : {}", SEQUENTIAL_FIRST + stride * step))
        .collect();
    let ports = ports.join(", ");
    format!("numgen inc mod {SEQUENTIAL_PORTS} map {{ {ports} }}")
}

/// What a router does to IPv6: no translation, and only answers come in. Neighbour discovery is the router's own, so it
/// is no matter of forwarding; what it says of packets that did not get through is (RFC 4890, section 4.3.1).
pub(super) const FIREWALL_6: &str = "table ip6 lab {\n\
    chain forward {\n type filter hook forward priority 0; policy drop;\n \
    ct state established,related accept\n iifname \"lan\" accept\n\
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept\n}\n}\n";

/// Writes a chain, unless nothing is in it.
fn chain(rules: &mut String, name: &str, hook: &str, passes: &str) {
    if !passes.is_empty() {
        line(
            rules,
            &format!("chain {name} {{\n type {hook};\n{passes}}}"),
        );
    }
}

fn line(rules: &mut String, text: &str) {
    writeln!(rules, "{text}").expect("a String takes it");
}

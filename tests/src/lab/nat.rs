//! How each NAT kind is made: the nftables rules of one router.

use std::{fmt::Write as _, net::Ipv4Addr};

/// What a router does to the traffic of its home. The words are those of RFC 4787.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nat {
    /// Routed, public addresses, everything passes.
    None,
    /// Routed, public addresses, only answers come in.
    Firewall,
    /// Endpoint-independent mapping (ports kept) and filtering.
    FullCone,
    /// Endpoint-independent mapping (ports kept), address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping (ports kept), address-and-port-dependent filtering: the usual home router.
    PortRestricted,
    /// As [`Nat::PortRestricted`], with random outside ports.
    PortRestrictedRandom,
    /// Address-dependent mapping with random outside ports, address-and-port-dependent filtering.
    SymmetricAddressDependent,
    /// Address-and-port-dependent mapping with sequential outside ports, and filtering of the same kind.
    SymmetricSequential,
    /// Address-and-port-dependent mapping with random outside ports, and filtering of the same kind.
    Symmetric,
    /// Port-restricted for TCP; UDP does not pass.
    UdpBlocked,
    /// Only TCP to ports 80 and 443 passes.
    WebOnly,
}

/// How many sequential ports a [`Nat::SymmetricSequential`] walks through: as many as fit an unprivileged
/// netlink buffer.
const SEQUENTIAL_PORTS: u16 = 2048;

/// The first outside port of a [`Nat::SymmetricSequential`].
pub const SEQUENTIAL_FIRST: u16 = 40_000;

/// How long a learnt mapping outlives its last packet. Longer than any test, and than the kernel's own 120 s for a UDP
/// stream, so that the maps never forget before conntrack does.
const MAPPING_SECS: u32 = 300;

impl Nat {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::None,
        Self::Firewall,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::PortRestrictedRandom,
        Self::SymmetricAddressDependent,
        Self::SymmetricSequential,
        Self::Symmetric,
        Self::UdpBlocked,
        Self::WebOnly,
    ];

    /// Whether the hosts behind it have addresses of their own on the outside.
    pub const fn is_routed(self) -> bool {
        matches!(self, Self::None | Self::Firewall)
    }

    /// The rules of a router with interfaces `lan` and `wan`, whose outside address is `external`.
    ///
    /// Routers drop what they did not ask for: an unsolicited packet must end in a drop *before* conntrack
    /// confirms it, or the flow that later goes the other way would be given another port.
    pub(super) fn ruleset(self, external: Ipv4Addr) -> String {
        let mut rules = String::from("table ip lab {\n");
        self.write_tables(&mut rules);
        rules.push_str(
            "chain input {\n type filter hook input priority 0; policy drop;\n iifname != \"wan\" accept\n \
             ct state established,related accept\n icmp type echo-request accept\n}\n",
        );
        self.write_forward(&mut rules);
        self.write_prerouting(&mut rules);
        self.write_postrouting(&mut rules, external);
        self.write_learning(&mut rules);
        rules.push_str("}\n");
        rules
    }

    /// Outside ports are random instead of kept.
    const fn has_random_ports(self) -> bool {
        matches!(
            self,
            Self::PortRestrictedRandom | Self::SymmetricAddressDependent | Self::Symmetric
        )
    }

    /// A map remembers the outside port of an inside socket.
    const fn remembers_ports(self) -> bool {
        matches!(
            self,
            Self::FullCone | Self::AddressRestricted | Self::PortRestrictedRandom
        )
    }

    /// A reverse map lets in what was not asked for.
    const fn lets_strangers_in(self) -> bool {
        matches!(self, Self::FullCone | Self::AddressRestricted)
    }

    fn write_tables(self, rules: &mut String) {
        let flags = format!("flags dynamic,timeout; size 60000; timeout {MAPPING_SECS}s;");
        let mut table = |what: &str, name: &str, kind: &str| {
            writeln!(rules, "{what} {name} {{ type {kind}; {flags} }}").expect("a String takes it");
        };
        if self.remembers_ports() {
            table("map", "outside", "ipv4_addr . inet_service : inet_service");
        }
        if self.lets_strangers_in() {
            table("map", "inside", "inet_service : ipv4_addr . inet_service");
        }
        if self == Self::AddressRestricted {
            table("set", "known", "inet_service . ipv4_addr");
        }
        if self == Self::SymmetricAddressDependent {
            table(
                "map",
                "outside",
                "ipv4_addr . inet_service . ipv4_addr : inet_service",
            );
        }
    }

    fn write_forward(self, rules: &mut String) {
        let passes = match self {
            Self::None => " accept\n",
            Self::UdpBlocked => {
                " meta l4proto udp drop\n ct state established,related accept\n iifname \"lan\" accept\n"
            }
            Self::WebOnly => {
                " ct state established,related accept\n iifname \"lan\" tcp dport { 80, 443 } accept\n"
            }
            Self::FullCone | Self::AddressRestricted => {
                " ct state established,related accept\n ct status dnat accept\n iifname \"lan\" accept\n"
            }
            Self::Firewall
            | Self::PortRestricted
            | Self::PortRestrictedRandom
            | Self::SymmetricAddressDependent
            | Self::SymmetricSequential
            | Self::Symmetric => " ct state established,related accept\n iifname \"lan\" accept\n",
        };
        write!(
            rules,
            "chain forward {{\n type filter hook forward priority 0; policy drop;\n{passes}}}\n"
        )
        .expect("a String takes it");
    }

    fn write_prerouting(self, rules: &mut String) {
        if !self.lets_strangers_in() {
            return;
        }
        let restricted = self == Self::AddressRestricted;
        let condition = if restricted {
            "udp dport . ip saddr @known "
        } else {
            ""
        };
        write!(
            rules,
            "chain prerouting {{\n type nat hook prerouting priority dstnat;\n \
             iifname \"wan\" {condition}dnat ip to udp dport map @inside\n}}\n"
        )
        .expect("a String takes it");
    }

    fn write_postrouting(self, rules: &mut String, external: Ipv4Addr) {
        if self.is_routed() {
            return;
        }
        rules.push_str("chain postrouting {\n type nat hook postrouting priority srcnat;\n");
        let known = if self.remembers_ports() {
            " : ip saddr . udp sport map @outside\n".to_owned()
        } else if self == Self::SymmetricAddressDependent {
            " : ip saddr . udp sport . ip daddr map @outside\n".to_owned()
        } else if self == Self::SymmetricSequential {
            let ports: Vec<String> = (0..SEQUENTIAL_PORTS)
                .map(|step| format!("{step} : {}", SEQUENTIAL_FIRST + step))
                .collect();
            format!(
                " : numgen inc mod {SEQUENTIAL_PORTS} map {{ {} }}\n",
                ports.join(", ")
            )
        } else {
            String::new()
        };
        if !known.is_empty() {
            write!(
                rules,
                " oifname \"wan\" meta l4proto udp snat ip to {external}{known}"
            )
            .expect("a String takes it");
        }
        let random = if self.has_random_ports() {
            " fully-random"
        } else {
            ""
        };
        write!(rules, " oifname \"wan\" masquerade{random}\n}}\n").expect("a String takes it");
    }

    /// Reads the outside port off each outgoing flow once it has been translated.
    fn write_learning(self, rules: &mut String) {
        let mut updates = String::new();
        let mut learn = |update: &str| {
            writeln!(
                updates,
                " oifname \"wan\" meta l4proto udp ct direction original update {update}"
            )
            .expect("a String takes it");
        };
        if self.remembers_ports() {
            learn("@outside { ct original ip saddr . ct original proto-src : ct reply proto-dst }");
        }
        if self.lets_strangers_in() {
            learn("@inside { ct reply proto-dst : ct original ip saddr . ct original proto-src }");
        }
        if self == Self::AddressRestricted {
            learn("@known { ct reply proto-dst . ct original ip daddr }");
        }
        if self == Self::SymmetricAddressDependent {
            learn(
                "@outside { ct original ip saddr . ct original proto-src . ct original ip daddr : ct reply proto-dst }",
            );
        }
        if !updates.is_empty() {
            write!(
                rules,
                "chain learning {{\n type filter hook postrouting priority 300;\n{updates}}}\n"
            )
            .expect("a String takes it");
        }
    }
}

//! One pair, drawn.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::classes::{
    BAD_GATEWAYS, BLOCK_SIZES, Class, HAIRPIN, LOSSES, Mix, NO_WAN_FIREWALL, STRIDES, Shares,
};
use crate::behavior::{
    Behavior, Filtering, Gateway, Lifetime, Limits, Mapping, Pooling, PortAllocation,
};
use crate::link::Link;
use crate::oracle::{Possible, direct_is_possible};

/// One end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The name of its class.
    pub class: &'static str,
    /// What stands before it.
    pub behavior: Behavior,
    /// The line from it to the internet.
    pub line: Link,
}

/// Two ends that want to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Of its draw and of its world.
    pub seed: u64,
    /// The end that listens.
    pub ingress: End,
    /// The end that has the services.
    pub egress: End,
    /// Percent of packets that are lost between them, and between them and servers.
    pub loss: u32,
}

impl Pair {
    /// Draws a pair of a mix.
    #[must_use]
    pub fn draw(mix: &Mix, seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        // Not the stream that the pair's world draws from.
        bytes[8] = 1;
        let mut rng = StdRng::from_seed(bytes);
        Self {
            seed,
            ingress: draw_end(pick(mix.ingress, &mut rng), &mut rng),
            egress: draw_end(pick(mix.egress, &mut rng), &mut rng),
            loss: pick(LOSSES, &mut rng),
        }
    }

    /// Returns what the oracle says.
    #[must_use]
    pub fn possible(&self) -> Possible {
        direct_is_possible(&self.ingress.behavior, &self.egress.behavior)
    }
}

fn draw_end(class: &Class, rng: &mut StdRng) -> End {
    let (least, most) = class.line_ms;
    let line = Link {
        jitter: Duration::from_millis(rng.random_range(0..=3)),
        ..Link::with_delay(Duration::from_millis(rng.random_range(least..=most).into()))
    };
    End {
        class: class.name,
        behavior: draw_behavior(class, rng),
        line,
    }
}

fn draw_behavior(class: &Class, rng: &mut StdRng) -> Behavior {
    let mapping = match weighted(&class.mapping, rng) {
        0 if class.translates => Mapping::EndpointIndependent,
        0 => Mapping::Untranslated,
        1 => Mapping::AddressDependent,
        _ => Mapping::AddressAndPortDependent,
    };
    let filtering = match weighted(&class.filtering, rng) {
        0 => Filtering::EndpointIndependent,
        1 => Filtering::AddressDependent,
        _ => Filtering::AddressAndPortDependent,
    };
    let limits = Limits {
        bindings: class.bindings_max,
        packets_per_second: None,
    };
    Behavior {
        lifetime: draw_lifetime(class, rng),
        hairpin: class.translates && happens(HAIRPIN, rng),
        accepts_unsolicited: class.translates && happens(NO_WAN_FIREWALL, rng),
        udp: !happens(class.udp_blocked, rng),
        limits,
        other_flows: rng.random_range(0..=class.other_flows_max),
        ipv6: happens(class.ipv6, rng).then_some(ipv6_firewall(class)),
        gateway: draw_gateway(class, rng),
        ..Behavior::nat(mapping, filtering, draw_ports(class, mapping, rng))
            .with_pool(class.addresses, Pooling::Paired)
    }
}

/// Where nothing stands before IPv4, nothing stands before IPv6; all others filter by address and port.
fn ipv6_firewall(class: &Class) -> Filtering {
    let is_open = !class.translates && class.filtering[0] > 0.0;
    if is_open {
        Filtering::EndpointIndependent
    } else {
        Filtering::AddressAndPortDependent
    }
}

fn draw_ports(class: &Class, mapping: Mapping, rng: &mut StdRng) -> PortAllocation {
    let block = |rng: &mut StdRng| PortAllocation::Block {
        size: pick(BLOCK_SIZES, rng),
    };
    if mapping.stays_put() {
        return match weighted(&class.staying_ports, rng) {
            0 => PortAllocation::Preserving,
            1 => block(rng),
            _ => PortAllocation::Random,
        };
    }
    match weighted(&class.moving_ports, rng) {
        0 => PortAllocation::Sequential {
            stride: pick(STRIDES, rng),
        },
        1 => block(rng),
        _ => PortAllocation::Random,
    }
}

fn draw_lifetime(class: &Class, rng: &mut StdRng) -> Lifetime {
    let idle = pick(class.idle_secs, rng);
    Lifetime {
        idle: Duration::from_secs(idle.into()),
        // RFC 4787, REQ-6: either is allowed (the shares are ours).
        inbound_refreshes: happens(0.5, rng),
        absolute: happens(class.absolute_60_secs, rng).then_some(Duration::from_secs(60)),
    }
}

fn draw_gateway(class: &Class, rng: &mut StdRng) -> Option<Gateway> {
    if happens(class.port_mapping, rng) {
        return Some(Gateway::Honest);
    }
    if class.port_mapping == 0.0 {
        return None;
    }
    let [refuses, lies, wrong] = BAD_GATEWAYS;
    match weighted(&[refuses, lies, wrong, 1.0 - refuses - lies - wrong], rng) {
        0 => Some(Gateway::Refuses),
        1 => Some(Gateway::LiesAboutSuccess),
        2 => Some(Gateway::WrongExternalAddress),
        _ => None,
    }
}

fn happens(share: f64, rng: &mut StdRng) -> bool {
    rng.random_range(0.0..1.0) < share
}

fn weighted(shares: &[f64], rng: &mut StdRng) -> usize {
    let mut left = rng.random_range(0.0..1.0);
    for (index, share) in shares.iter().enumerate() {
        if left < *share {
            return index;
        }
        left -= share;
    }
    // The shares are a hundredth of a millionth short of 1: the last one that there is.
    shares.iter().rposition(|share| *share > 0.0).unwrap_or(0)
}

fn pick<T: Copy>(shares: Shares<T>, rng: &mut StdRng) -> T {
    let weights: Vec<f64> = shares.iter().map(|(_, share)| *share).collect();
    shares[weighted(&weights, rng)].0
}

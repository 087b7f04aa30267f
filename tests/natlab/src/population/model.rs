//! What the class tables allow, summed without drawing anything.

use super::classes::{Class, Mix, Shares};
use crate::behavior::{Behavior, Filtering, Gateway, Mapping, PortAllocation};
use crate::oracle::{Possible, direct_is_possible};

/// Returns the share of the pairs of a mix that need each way, as [`Possible::ALL`].
#[must_use]
pub fn shares(mix: &Mix) -> [f64; 7] {
    let (ingress, egress) = (every_end(mix.ingress), every_end(mix.egress));
    let mut shares = [0.0; 7];
    for (a, share_a) in &ingress {
        for (b, share_b) in &egress {
            shares[place(direct_is_possible(a, b))] += share_a * share_b;
        }
    }
    shares
}

/// Returns the place of a way in [`Possible::ALL`].
pub(crate) fn place(possible: Possible) -> usize {
    let place = Possible::ALL.iter().position(|it| *it == possible);
    place.expect("they are all there")
}

/// All that matters to the oracle, with its share. What else is drawn (strides, sizes of blocks, flows of
/// others, limits) is within what the oracle takes for possible.
fn every_end(classes: Shares<&'static Class>) -> Vec<(Behavior, f64)> {
    let mut ends = Vec::new();
    for (class, share) in classes {
        for (behavior, of_class) in every_behavior(class) {
            ends.push((behavior, share * of_class));
        }
    }
    ends
}

fn every_behavior(class: &Class) -> Vec<(Behavior, f64)> {
    let staying = if class.translates {
        Mapping::EndpointIndependent
    } else {
        Mapping::Untranslated
    };
    let mappings = [
        staying,
        Mapping::AddressDependent,
        Mapping::AddressAndPortDependent,
    ];
    let filterings = [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ];
    let ports = [
        PortAllocation::Sequential { stride: 1 },
        PortAllocation::Block { size: 1_000 },
        PortAllocation::Random,
    ];
    let mut all = Vec::new();
    for (mapping, of_mapping) in mappings.into_iter().zip(class.mapping) {
        for (filtering, of_filtering) in filterings.into_iter().zip(class.filtering) {
            for (ports, of_ports) in ports.into_iter().zip(class.moving_ports) {
                let plain = Behavior::nat(mapping, filtering, ports);
                for (behavior, share) in every_supply(class, plain) {
                    let share = share * of_mapping * of_filtering * of_ports;
                    if share > 0.0 {
                        all.push((behavior, share));
                    }
                }
            }
        }
    }
    all
}

/// With and without UDP, IPv6 and a port mapping.
fn every_supply(class: &Class, plain: Behavior) -> Vec<(Behavior, f64)> {
    let both = |share: f64| [(true, share), (false, 1.0 - share)];
    let mut all = Vec::new();
    for (blocked, of_blocked) in both(class.udp_blocked) {
        for (ipv6, of_ipv6) in both(class.ipv6) {
            for (mapped, of_mapped) in both(class.port_mapping) {
                let behavior = Behavior {
                    udp: !blocked,
                    ipv6: ipv6.then_some(Filtering::AddressAndPortDependent),
                    gateway: mapped.then_some(Gateway::Honest),
                    ..plain
                };
                all.push((behavior, of_blocked * of_ipv6 * of_mapped));
            }
        }
    }
    all
}

//! The oracle against what was measured in the kernel laboratory (facts/lab.md, "Ground truth").

use natlab::{
    Behavior, Filtering, Gateway, Limits, Mapping, NatKind, Pooling, PortAllocation, Possible,
    direct_is_possible, direct_is_possible_behind_one,
};

/// Rows and columns are the first ten of `NatKind::ALL`.
const MEASURED: [&str; 10] = [
    "PPPPPPPPP-", // none
    "PPPPPPBpB-", // firewall
    "PPPPPPPPP-", // full-cone
    "PPPPPPPPP-", // addr-restricted
    "PPPPPPBpB-", // port-restricted
    "PPPPPPBpB-", // port-restricted-rnd
    "PBPPBB----", // symmetric-adm
    "PpPPpp-p--", // symmetric-seq
    "PBPPBB----", // symmetric
    "----------", // udp-blocked
];

const FULL_CONE_RANDOM: Behavior = Behavior::nat(
    Mapping::EndpointIndependent,
    Filtering::EndpointIndependent,
    PortAllocation::Random,
);

#[test]
fn single_boxes_are_as_measured() {
    for (a, row) in NatKind::ALL.iter().zip(MEASURED) {
        let said: String = NatKind::ALL[..10]
            .iter()
            .map(|b| direct_is_possible(&a.behavior(), &b.behavior()).letter())
            .collect();
        assert_eq!(said, row, "{a}");
    }
}

#[test]
fn a_network_with_tcp_only_is_like_one_without_udp() {
    for kind in NatKind::ALL {
        let (only, other) = (NatKind::TcpOnly.behavior(), kind.behavior());
        assert_eq!(direct_is_possible(&only, &other), Possible::No, "{kind}");
        assert_eq!(direct_is_possible(&other, &only), Possible::No, "{kind}");
    }
}

#[test]
fn it_does_not_matter_who_is_who() {
    let kinds: Vec<Behavior> = every_translation().collect();
    for a in &kinds {
        for b in &kinds {
            assert_eq!(
                direct_is_possible(a, b),
                direct_is_possible(b, a),
                "{a:?} {b:?}"
            );
        }
    }
}

#[test]
fn a_more_permissive_filter_never_takes_a_path_away() {
    let kinds: Vec<Behavior> = every_translation().collect();
    for a in &kinds {
        for b in &kinds {
            let wider = Behavior {
                filtering: Filtering::EndpointIndependent,
                ..*a
            };
            let (with, without) = (direct_is_possible(&wider, b), direct_is_possible(a, b));
            assert!(with <= without, "{a:?} {b:?}: {without:?} became {with:?}");
        }
    }
}

/// Birthdays were not tried behind two boxes, so the lab's `-` covers `OnlyBirthday` here.
#[test]
fn a_home_behind_a_carrier_is_as_measured() {
    let peers = [
        NatKind::None,
        NatKind::FullCone,
        NatKind::PortRestricted,
        NatKind::SymmetricSequential,
        NatKind::Symmetric,
    ];
    let random = FULL_CONE_RANDOM;
    let restricted = NatKind::PortRestricted.behavior();
    let symmetric = NatKind::Symmetric.behavior();
    let sequential = NatKind::SymmetricSequential.behavior();
    let restricted_random = NatKind::PortRestrictedRandom.behavior();
    let measured = [
        (NatKind::FullCone.behavior().behind(&random), "PPPPP"),
        (restricted.behind(&random), "PPPp-"),
        (restricted.behind(&restricted), "PPPp-"),
        (restricted.behind(&restricted_random), "PPPp-"),
        (restricted.behind(&sequential), "PPpp-"),
        (restricted.behind(&symmetric), "PP---"),
        (symmetric.behind(&random), "PP---"),
    ];
    for (home, row) in measured {
        let said: String = peers
            .iter()
            .map(|peer| direct_is_possible(&home, &peer.behavior()))
            .map(|possible| match possible {
                Possible::OnlyBirthday => Possible::No.letter(),
                Possible::Plain
                | Possible::Ipv6
                | Possible::PortMapped
                | Possible::OnlyPredicted
                | Possible::OnlyBlock
                | Possible::No => possible.letter(),
            })
            .collect();
        assert_eq!(said, row, "{home:?}");
    }
}

#[test]
fn neighbours_behind_one_carrier_need_it_to_turn_packets_round() {
    let home = NatKind::PortRestricted.behavior();
    for carrier in [NatKind::FullCone, NatKind::PortRestricted] {
        let carrier = carrier.behavior();
        let without = direct_is_possible_behind_one(&home, &home, &carrier);
        assert_eq!(without, Possible::No);
        let with = direct_is_possible_behind_one(&home, &home, &carrier.with_hairpin());
        assert_eq!(with, Possible::Plain);
    }
    let carrier = NatKind::Symmetric.behavior().with_hairpin();
    let symmetric = direct_is_possible_behind_one(&home, &home, &carrier);
    assert_eq!(symmetric, Possible::No);
}

#[test]
fn whoever_has_ipv6_or_a_working_port_mapping_needs_no_luck() {
    let hard = NatKind::Symmetric.behavior();
    let ipv6 = hard.with_ipv6(Filtering::AddressAndPortDependent);
    assert_eq!(direct_is_possible(&hard, &hard), Possible::No);
    assert_eq!(direct_is_possible(&ipv6, &hard), Possible::No, "only one");
    assert_eq!(direct_is_possible(&ipv6, &ipv6), Possible::Ipv6);
    let gateways = [
        (Gateway::Honest, Possible::PortMapped),
        (Gateway::Refuses, Possible::No),
        (Gateway::LiesAboutSuccess, Possible::No),
        (Gateway::WrongExternalAddress, Possible::No),
    ];
    for (gateway, expected) in gateways {
        let mapped = hard.with_gateway(gateway);
        assert_eq!(direct_is_possible(&mapped, &hard), expected, "{gateway:?}");
        let behind = mapped.behind(&NatKind::Symmetric.behavior());
        let said = direct_is_possible(&behind, &hard);
        assert_eq!(said, Possible::No, "a carrier stands before it");
        let without_udp = NatKind::UdpBlocked.behavior().with_gateway(gateway);
        assert_eq!(direct_is_possible(&without_udp, &hard), Possible::No);
    }
}

#[test]
fn a_block_is_searched_and_a_large_one_is_like_none() {
    let home = NatKind::PortRestricted.behavior();
    let cases = [
        (128, Possible::OnlyBlock),
        (2_048, Possible::OnlyBlock),
        (8_192, Possible::OnlyBirthday),
    ];
    for (size, expected) in cases {
        let block = Behavior {
            ports: PortAllocation::Block { size },
            ..NatKind::Symmetric.behavior()
        };
        assert_eq!(direct_is_possible(&block, &home), expected, "{size}");
        assert_eq!(direct_is_possible(&block, &block), Possible::No, "{size}");
    }
}

#[test]
fn a_router_that_grants_few_bindings_leaves_no_room_for_luck() {
    let home = NatKind::PortRestricted.behavior();
    for (bindings, expected) in [(1_000, Possible::OnlyBirthday), (40, Possible::No)] {
        let stingy = Behavior {
            limits: Limits {
                bindings: Some(bindings),
                packets_per_second: None,
            },
            ..NatKind::Symmetric.behavior()
        };
        assert_eq!(direct_is_possible(&stingy, &home), expected, "{bindings}");
    }
}

#[test]
fn a_sequence_in_a_crowd_cannot_be_followed() {
    let (home, counts) = (
        NatKind::PortRestricted.behavior(),
        NatKind::SymmetricSequential.behavior(),
    );
    let said = |flows| direct_is_possible(&counts.with_other_flows(flows), &home);
    assert_eq!(said(50), Possible::OnlyPredicted);
    assert_eq!(said(200), Possible::OnlyBirthday);
    let pair = counts.with_other_flows(200);
    assert_eq!(direct_is_possible(&pair, &pair), Possible::No);
}

/// Two addresses at random: what an address filter was opened for may not be where the next packet comes from.
#[test]
fn a_pool_without_pairing_takes_away_what_rests_on_the_address() {
    let restricted = NatKind::AddressRestricted.behavior();
    let symmetric = NatKind::Symmetric.behavior();
    let said = |pooling| direct_is_possible(&symmetric.with_pool(2, pooling), &restricted);
    assert_eq!(said(Pooling::Paired), Possible::Plain);
    assert_eq!(said(Pooling::Arbitrary), Possible::OnlyBirthday);
}

/// Each hears the other, each time from elsewhere: no pair of addresses lasts.
#[test]
fn two_that_move_with_every_port_never_settle_however_open_they_are() {
    let open = |mapping| {
        let filtering = Filtering::EndpointIndependent;
        Behavior::nat(mapping, filtering, PortAllocation::Random)
    };
    let (by_port, by_address) = (
        open(Mapping::AddressAndPortDependent),
        open(Mapping::AddressDependent),
    );
    assert_eq!(direct_is_possible(&by_port, &by_port), Possible::No);
    let settles = direct_is_possible(&by_port, &by_address);
    assert_eq!(settles, Possible::Plain);
}

/// All of RFC 4787, also what no kind has a name for.
fn every_translation() -> impl Iterator<Item = Behavior> {
    let mappings = [
        Mapping::EndpointIndependent,
        Mapping::AddressDependent,
        Mapping::AddressAndPortDependent,
    ];
    let filterings = [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ];
    let ports = [
        PortAllocation::Preserving,
        PortAllocation::Sequential { stride: 1 },
        PortAllocation::Random,
    ];
    mappings.into_iter().flat_map(move |mapping| {
        filterings
            .into_iter()
            .flat_map(move |filtering| ports.map(|ports| Behavior::nat(mapping, filtering, ports)))
    })
}

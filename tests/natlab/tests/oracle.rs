//! The oracle against what was measured in the kernel laboratory (facts/lab.md, "Ground truth").

use natlab::{
    Behavior, Filtering, Mapping, NatKind, PortAllocation, Possible, direct_is_possible,
    direct_is_possible_behind_one,
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

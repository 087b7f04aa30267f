//! At 30 % loss each way a verdict may be unknown, and takes longer; it is not wrong.

use std::time::Duration;

use natprobe::{FilteringBehavior as F, MappingBehavior as M, PortAllocation};

use crate::model::{
    FILTERINGS, Kind, MAPPINGS, Nat, Ports, SECOND, Server, World, full, other, single,
};

const SEEDS: u32 = 1000;
const LOSS_PERCENT: u32 = 30;

/// The whole report at such a loss.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the verdicts of one class came to.
#[derive(Debug, Default)]
struct Tally {
    wrong: u32,
    conclusive: u32,
    late: u32,
}

impl Tally {
    /// Of a thousand runs at most ten may be wrong, and at most ten late.
    fn check(&self, what: &str, conclusive_min: u32) {
        assert!(self.wrong * 100 <= SEEDS, "{what}: {self:?}");
        assert!(self.late * 100 <= SEEDS, "{what}: {self:?}");
        assert!(self.conclusive >= conclusive_min, "{what}: {self:?}");
    }
}

#[test]
fn every_class_is_right_or_unknown_with_an_alternate_address() {
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            let tally = tally(&[full()], mapping, filtering, filtering, None);
            tally.check(&format!("{mapping}, {filtering}"), SEEDS * 95 / 100);
        }
    }
}

#[test]
fn every_class_is_right_or_unknown_with_a_server_of_rfc_3489() {
    let server = super::model::Server::new(super::model::PRIMARY, Kind::Old(other()));
    for filtering in FILTERINGS {
        let mapping = M::EndpointIndependent;
        let tally = tally(
            std::slice::from_ref(&server),
            mapping,
            filtering,
            filtering,
            None,
        );
        tally.check(
            &format!("RFC 3489, {mapping}, {filtering}"),
            SEEDS * 95 / 100,
        );
    }
}

#[test]
fn servers_with_one_address_never_tell_the_filtering() {
    let servers = [single(super::model::PRIMARY), single(SECOND)];
    for mapping in [M::EndpointIndependent, M::AddressAndPortDependent] {
        for filtering in FILTERINGS {
            let tally = tally(&servers, mapping, filtering, F::Unknown, None);
            tally.check(&format!("single, {mapping}, {filtering}"), SEEDS * 95 / 100);
        }
    }
}

#[test]
fn every_way_to_choose_ports_is_right_or_unknown() {
    for (ports, expected) in [
        (
            Ports::Sequential { stride: 2 },
            PortAllocation::Sequential { stride: 2 },
        ),
        (Ports::Random, PortAllocation::Random),
    ] {
        let tally = tally(
            &[full(), single(SECOND)],
            M::AddressAndPortDependent,
            F::AddressAndPortDependent,
            F::AddressAndPortDependent,
            Some((ports, expected)),
        );
        tally.check(&format!("{ports:?}"), SEEDS / 2);
    }
}

fn tally(
    servers: &[Server],
    mapping: M,
    filtering: F,
    expected: F,
    ports: Option<(Ports, PortAllocation)>,
) -> Tally {
    let mut tally = Tally::default();
    for seed in 0..SEEDS {
        let mut nat = Nat::new(mapping, filtering);
        if let Some((ports, _)) = ports {
            nat.ports = ports;
        }
        let mut world = World::new(nat, servers.to_vec(), seed);
        world.loss_percent = LOSS_PERCENT;
        world.run_for(Duration::from_secs(10));
        let verdicts = world.verdicts();
        let first = verdicts.first().map_or(PATIENCE * 2, |(at, _)| *at);
        tally.late += u32::from(first > PATIENCE);
        let port_is_wrong = |told| match ports {
            Some((_, expected)) => ![expected, PortAllocation::Unknown].contains(&told),
            None => false,
        };
        let is_wrong = verdicts.iter().any(|(_, report)| {
            ![mapping, M::Unknown].contains(&report.mapping)
                || ![expected, F::Unknown].contains(&report.filtering)
                || port_is_wrong(report.ports)
                || !report.udp
        });
        tally.wrong += u32::from(is_wrong);
        let is_conclusive = verdicts.last().is_some_and(|(_, report)| {
            (report.mapping, report.filtering) == (mapping, expected)
                && ports.is_none_or(|(_, expected)| report.ports == expected)
        });
        tally.conclusive += u32::from(is_conclusive);
    }
    tally
}

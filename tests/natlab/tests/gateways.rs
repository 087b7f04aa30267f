//! Port mappings: routers that keep their word, and those that do not.

use std::time::Duration;

use natlab::{Behavior, Gateway, Happening, NatKind, Possible, World, direct_is_possible};
use session::PathKind;

const SECOND: Duration = Duration::from_secs(1);

fn home_with(gateway: Gateway) -> Behavior {
    NatKind::PortRestrictedRandom
        .behavior()
        .with_gateway(gateway)
}

/// The other end that only a port mapping helps.
fn hard() -> Behavior {
    NatKind::Symmetric.behavior()
}

fn saw(world: &World, host: usize, wanted: &Happening) -> bool {
    !world.hosts[host].times(|it| it == wanted).is_empty()
}

#[test]
fn an_honest_gateway_gives_a_direct_path_to_the_hardest_nat() {
    let home = NatKind::Symmetric.behavior().with_gateway(Gateway::Honest);
    for (seed, home) in (0..).zip([home_with(Gateway::Honest), home]) {
        assert_eq!(direct_is_possible(&home, &hard()), Possible::PortMapped);
        let mut world = World::pair_behind(seed, hard(), home);
        let direct = (PathKind::Direct, PathKind::Direct);
        let took = world.run_until(5 * SECOND, |world| world.both_judge() == Some(direct));
        assert!(
            took.is_some(),
            "SEED={seed}: {:?}, {:#?}",
            world.hosts[1].log,
            world.hosts[1].node.report()
        );
        assert!(saw(&world, 1, &Happening::PortMappingVerified));
    }
}

#[test]
fn gateways_that_lie_are_found_out_and_what_they_say_is_not_offered() {
    for gateway in [Gateway::LiesAboutSuccess, Gateway::WrongExternalAddress] {
        let mut world = World::pair_behind(
            3,
            hard(),
            NatKind::Symmetric.behavior().with_gateway(gateway),
        );
        world.run(15 * SECOND);
        assert_eq!(
            world.both_judge(),
            Some((PathKind::Relay, PathKind::Relay)),
            "{gateway:?}"
        );
        assert!(
            saw(&world, 1, &Happening::PortMappingRefuted),
            "{gateway:?}"
        );
        assert!(
            !saw(&world, 1, &Happening::PortMappingVerified),
            "{gateway:?}"
        );
        let described = world.hosts[1].node.description();
        let mapped = described.candidates.iter().filter(|it| it.kind == "mapped");
        assert_eq!(mapped.count(), 0, "{gateway:?}");
    }
}

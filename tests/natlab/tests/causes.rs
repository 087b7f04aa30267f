//! Why a path is relayed: each cause injected, and what sessions say then.

use std::time::Duration;

use natlab::{Behavior, Gateway, HostConfig, NatKind, Pooling, SiteId, World};
use session::{Cause, Ends, PathKind, Policy, Remedy, Side, Tried};

/// All that is tried was tried by then.
const WATCH: Duration = Duration::from_secs(20);

/// Two ends, relayed for a while.
struct Relayed {
    world: World,
    sites: [SiteId; 2],
}

impl Relayed {
    fn new(behaviors: [Behavior; 2], policies: [Policy; 2], before: impl Fn(&mut Self)) -> Self {
        let mut world = World::new(3);
        world.signaling_works = false;
        let sites = behaviors.map(|behavior| world.site(behavior));
        let sides = [Side::Ingress, Side::Egress];
        for ((site, side), policy) in sites.into_iter().zip(sides).zip(policies) {
            world.host(HostConfig { site, side, policy });
        }
        let mut relayed = Self { world, sites };
        before(&mut relayed);
        relayed.world.open_signaling();
        relayed.world.run(WATCH);
        let judged = relayed.world.both_judge();
        assert_eq!(judged, Some((PathKind::Relay, PathKind::Relay)));
        relayed
    }

    fn between(ingress: Behavior, egress: Behavior) -> Self {
        Self::new([ingress, egress], [Policy::Any; 2], |_| {})
    }

    /// Both ends say it.
    fn assert_cause(&self, cause: Cause) {
        let named = [0, 1].map(|host| self.world.cause(host));
        assert_eq!(named, [Some(cause); 2]);
    }

    fn remedy(&self) -> Option<Remedy> {
        let diagnosis = self.world.hosts[0].node.diagnosis(session::PeerId(0));
        diagnosis.and_then(|diagnosis| diagnosis.remedy)
    }
}

fn home() -> Behavior {
    NatKind::PortRestricted.behavior()
}

fn symmetric() -> Behavior {
    NatKind::Symmetric.behavior()
}

#[test]
fn udp_that_is_blocked_is_named_with_the_end_where_it_is() {
    let blocked = NatKind::UdpBlocked.behavior();
    Relayed::between(blocked, home()).assert_cause(Cause::UdpBlocked(Ends::Ingress));
    Relayed::between(home(), blocked).assert_cause(Cause::UdpBlocked(Ends::Egress));
    Relayed::between(blocked, blocked).assert_cause(Cause::UdpBlocked(Ends::Both));
}

#[test]
fn two_nats_that_cannot_be_predicted_are_named() {
    Relayed::between(symmetric(), symmetric()).assert_cause(Cause::BothUnpredictable);
}

#[test]
fn a_gateway_that_refuses_changes_the_advice_and_not_the_cause() {
    let refusing = symmetric().with_gateway(Gateway::Refuses);
    let with = Relayed::between(refusing, symmetric());
    with.assert_cause(Cause::BothUnpredictable);
    assert!(with.remedy().is_some());
}

#[test]
fn a_policy_is_named_with_the_end_that_has_it() {
    let [any, relay] = [Policy::Any, Policy::RelayOnly];
    let both = [home(); 2];
    let cases = [
        ([relay, any], Ends::Ingress),
        ([any, relay], Ends::Egress),
        ([relay, relay], Ends::Both),
    ];
    for (policies, ends) in cases {
        Relayed::new(both, policies, |_| {}).assert_cause(Cause::Configured(ends));
    }
}

#[test]
fn a_way_that_passes_small_packets_only_is_named() {
    let relayed = Relayed::new([home(); 2], [Policy::Any; 2], |relayed| {
        let sites = relayed.sites;
        relayed.world.narrow(sites[0], sites[1], 900);
    });
    relayed.assert_cause(Cause::SmallPacketsOnly);
}

#[test]
fn a_line_that_passes_one_way_only_is_named_with_where_packets_arrive() {
    for (from, to, arrives_at) in [(0, 1, Side::Ingress), (1, 0, Side::Egress)] {
        let relayed = Relayed::new([home(); 2], [Policy::Any; 2], |relayed| {
            let sites = relayed.sites;
            relayed.world.cut_one_way(sites[from], sites[to]);
        });
        relayed.assert_cause(Cause::OneDirection { arrives_at });
    }
}

#[test]
fn a_firewall_between_two_ends_that_could_meet_is_named() {
    let relayed = Relayed::new([home(); 2], [Policy::Any; 2], |relayed| {
        let sites = relayed.sites;
        relayed.world.cut(sites[0], sites[1]);
    });
    relayed.assert_cause(Cause::NothingArrives);
}

#[test]
fn addresses_of_a_pool_are_named() {
    let scattered = symmetric().with_pool(4, Pooling::Arbitrary);
    let relayed = Relayed::between(symmetric(), scattered);
    relayed.assert_cause(Cause::PooledAddresses(Ends::Egress));
}

/// A router that grants so few bindings leaves no room for a search.
#[test]
fn a_port_that_is_not_found_is_named_with_whose_it_is_and_what_became_of_the_search() {
    let mut stingy = symmetric();
    stingy.limits.bindings = Some(14);
    let relayed = Relayed::between(home(), stingy);
    let named = relayed.world.cause(0);
    assert!(
        matches!(
            named,
            Some(Cause::PortUnknown {
                picks: Side::Egress,
                tried: Tried::NeverArrived | Tried::Running,
            })
        ),
        "{named:?}"
    );
}

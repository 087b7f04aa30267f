//! What the person allows, and what a description must prove.

use std::time::Duration;

use session::{Description, Hex, PathKind, PeerId, Policy, Side};

use crate::world::{Filtering, NatKind, RelayBox, World};

const PORT_RESTRICTED: NatKind = NatKind::Cone(Filtering::AddressAndPort);
const SYMMETRIC: NatKind = NatKind::Symmetric(Filtering::AddressAndPort);
const SECOND: Duration = Duration::from_secs(1);

fn pair(kinds: [NatKind; 2], policies: [Policy; 2]) -> World {
    let mut world = World::new(7);
    world.home(kinds[0], Side::Ingress, policies[0]);
    world.home(kinds[1], Side::Egress, policies[1]);
    world.run(15 * SECOND);
    world
}

#[test]
fn direct_require_never_uses_a_relay() {
    for policies in [
        [Policy::DirectOnly, Policy::Any],
        [Policy::Any, Policy::DirectOnly],
        [Policy::DirectOnly, Policy::DirectOnly],
    ] {
        let world = pair([PORT_RESTRICTED, PORT_RESTRICTED], policies);
        assert_eq!(world.chosen_kind(0), Some(PathKind::Direct));
        let strict = policies
            .iter()
            .position(|policy| *policy == Policy::DirectOnly)
            .unwrap();
        for kinds in [[PORT_RESTRICTED, PORT_RESTRICTED], [SYMMETRIC, SYMMETRIC]] {
            let world = pair(kinds, policies);
            let paths = world.hosts[strict].views.values();
            assert!(paths.into_iter().all(|path| path.kind != PathKind::Relay));
        }
        let world = pair([SYMMETRIC, SYMMETRIC], policies);
        assert!(world.chosen(0).is_none(), "{policies:?}");
    }
}

#[test]
fn direct_false_sends_to_the_relay_and_to_nobody_else() {
    for policies in [
        [Policy::RelayOnly, Policy::Any],
        [Policy::Any, Policy::RelayOnly],
        [Policy::RelayOnly, Policy::RelayOnly],
    ] {
        let world = pair([PORT_RESTRICTED, PORT_RESTRICTED], policies);
        assert_eq!(world.chosen_kind(0), Some(PathKind::Relay), "{policies:?}");
        for (index, policy) in policies.into_iter().enumerate() {
            let host = &world.hosts[index];
            // The prober asks our own router whether it turns packets round.
            let ourselves = world.public_ip(index);
            let others = host.sent.iter().filter(|(_, to, _)| to.ip() != ourselves);
            let beyond = others
                .filter(|(_, to, _)| !RelayBox::is_here(to.ip()))
                .count();
            assert!(
                policy != Policy::RelayOnly || beyond == 0,
                "{beyond} packets went elsewhere"
            );
            let ours = host.node.description();
            let told = ours
                .candidates
                .iter()
                .all(|candidate| candidate.kind == "relay");
            assert_eq!(told, policy == Policy::RelayOnly);
        }
    }
}

#[test]
fn a_description_that_does_not_answer_ours_starts_nothing_on_the_ingress_side() {
    let mut world = World::new(8);
    world.signaling_works = false;
    let ingress = world.home(PORT_RESTRICTED, Side::Ingress, Policy::Any);
    let egress = world.home(PORT_RESTRICTED, Side::Egress, Policy::Any);
    world.run(2 * SECOND);
    let bytes = world.hosts[egress].node.description().encode();
    let mut description = Description::decode(&bytes).unwrap();
    let now = world.now;
    let node = &mut world.hosts[ingress].node;
    let (instance, nonce) = (node.instance(), node.description().nonce);
    assert!(node.set_peer(PeerId(0), description.clone(), now));
    assert!(!node.is_fresh(PeerId(0)));
    // One that answers an earlier run of ours is no better.
    description
        .answers
        .push(session::Answer::new(instance, Hex([0; 16])));
    assert!(node.set_peer(PeerId(0), description.clone(), now));
    let before = world.hosts[ingress].sent.len();
    world.run(10 * SECOND);
    let strange = world.hosts[ingress].sent[before..]
        .iter()
        .filter(|(_, to, _)| !RelayBox::is_here(to.ip()));
    assert_eq!(strange.count(), 0, "checks were sent");
    assert!(world.hosts[ingress].routes.is_empty());

    description
        .answers
        .push(session::Answer::new(instance, nonce));
    let now = world.now;
    let node = &mut world.hosts[ingress].node;
    assert!(node.set_peer(PeerId(0), description, now));
    assert!(node.is_fresh(PeerId(0)));
    let before = world.hosts[ingress].sent.len();
    world.run(SECOND);
    let checks = world.hosts[ingress].sent[before..]
        .iter()
        .filter(|(_, to, _)| !RelayBox::is_here(to.ip()));
    assert!(checks.count() > 3, "a fresh one starts");
}

#[test]
fn the_egress_side_opens_its_nat_for_whoever_it_sees() {
    let mut world = World::new(9);
    world.signaling_works = false;
    let ingress = world.home(PORT_RESTRICTED, Side::Ingress, Policy::Any);
    let egress = world.home(PORT_RESTRICTED, Side::Egress, Policy::Any);
    world.run(2 * SECOND);
    let bytes = world.hosts[ingress].node.description().encode();
    let description = Description::decode(&bytes).unwrap();
    let now = world.now;
    assert!(
        world.hosts[egress]
            .node
            .set_peer(PeerId(0), description, now)
    );
    world.run(SECOND);
    let checks = world.hosts[egress]
        .sent
        .iter()
        .filter(|(_, to, _)| !RelayBox::is_here(to.ip()));
    assert!(checks.count() > 3);
    let now = world.now;
    world.hosts[egress].node.remove_peer(PeerId(0));
    world.hosts[egress].node.handle_timeout(now);
    let before = world.hosts[egress].sent.len();
    world.run(10 * SECOND);
    let later = world.hosts[egress].sent[before..]
        .iter()
        .filter(|(_, to, _)| !RelayBox::is_here(to.ip()));
    assert_eq!(later.count(), 0, "a removed peer is left alone");
}

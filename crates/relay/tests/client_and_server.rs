//! The client against the server: the life of an allocation, in virtual time.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly too")]

mod world;

use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng};
use relay::{Event, FailReason, LostReason, Transport};
use world::{UNIX_START, World, addr, client_addr, credentials, secret};

const PEER: &str = "198.51.100.7:5000";

fn is_allocated(event: &Event) -> bool {
    matches!(event, Event::Allocated { .. })
}

/// A world with one client that has an allocation and a channel to [`PEER`].
fn bound(transport: Transport) -> World {
    let mut world = World::new();
    world.join("192.0.2.10:40000", transport);
    world.run_for_secs(1);
    world.with_client(0, |client, now| client.bind(addr(PEER), now));
    world.run_for_secs(1);
    assert!(world.nodes[0].client.channel(addr(PEER)).is_some());
    world
}

fn echo(world: &mut World, text: &[u8]) -> bool {
    let before = (world.at_peers.len(), world.nodes[0].received.len());
    world.with_client(0, |client, now| client.send(addr(PEER), text, now));
    let relayed = world.nodes[0].client.relayed();
    if let Some(relayed) = relayed {
        world.peer_sends(addr(PEER), relayed, text);
    }
    world.run_for(Duration::from_millis(100));
    world.at_peers.len() > before.0 && world.nodes[0].received.len() > before.1
}

#[test]
fn an_allocation_takes_two_round_trips_and_names_both_addresses() {
    let mut world = World::new();
    world.join("192.0.2.10:40000", Transport::Udp);
    world.run_for_secs(1);
    let (at, event) = &world.nodes[0].events[0];
    assert_eq!(*at, Duration::from_millis(80));
    let Event::Allocated { relayed, reflexive } = event else {
        panic!("{event:?}")
    };
    assert_eq!(relayed.ip(), addr(world::SERVER).ip());
    assert!((49152..=65535).contains(&relayed.port()));
    assert_eq!(*reflexive, addr("192.0.2.10:40000"));
    assert_eq!(world.nodes[0].sent, 2);
    assert_eq!(world.server.stats().challenged, 1);
    assert_eq!(world.server.stats().allocations_made, 1);
}

#[test]
fn payloads_go_by_indication_before_and_by_channel_after_the_bind() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut world = bound(transport);
        assert!(echo(&mut world, b"hello"));
        assert_eq!(world.nodes[0].received, [(addr(PEER), b"hello".to_vec())]);
        let (port, to, payload) = world.at_peers[0].clone();
        assert_eq!((port.local(), to), (world.relayed(0), addr(PEER)));
        assert_eq!(payload, b"hello");
        // The same permission, another port: no channel, so indications both ways.
        let other = addr("198.51.100.7:6001");
        let relayed = world.relayed(0);
        world.with_client(0, |client, now| assert!(client.send(other, b"odd", now)));
        world.peer_sends(other, relayed, b"length");
        world.run_for_secs(1);
        assert_eq!(world.at_peers[1].1, other);
        assert_eq!(world.at_peers[1].2, b"odd");
        assert_eq!(world.nodes[0].received[1], (other, b"length".to_vec()));
    }
}

#[test]
fn a_relay_that_only_ipv6_reaches_relays_at_ipv6() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut world = World::new();
        world.join("[2001:db8:1::10]:40000", transport);
        world.run_for_secs(1);
        assert_eq!(world.relayed(0).ip(), addr(world::SERVER_V6).ip());
        let (peer, relayed) = (addr("[2001:db8:2::7]:5000"), world.relayed(0));
        world.with_client(0, |client, now| client.bind(peer, now));
        world.run_for_secs(1);
        world.with_client(0, |client, now| assert!(client.send(peer, b"six", now)));
        world.peer_sends(peer, relayed, b"back");
        // Past the first refresh.
        world.run_for_secs(400);
        assert_eq!(world.at_peers[0].1, peer);
        assert_eq!(world.nodes[0].received, [(peer, b"back".to_vec())]);
        assert_eq!(world.relayed(0), relayed);
        let is_failed = |event: &Event| matches!(event, Event::Failed { .. });
        assert!(
            !world.events(0).iter().any(is_failed),
            "{:?}",
            world.events(0)
        );
    }
}

#[test]
fn nothing_is_sent_without_an_allocation() {
    let mut world = World::new();
    world.join("192.0.2.10:40000", Transport::Udp);
    assert!(!world.with_client(0, |client, now| client.send(addr(PEER), b"early", now)));
    assert_eq!(world.nodes[0].client.stats().unsent, 1);
    assert_eq!(world.nodes[0].client.channel(addr(PEER)), None);
}

#[test]
fn what_is_wanted_before_the_allocation_is_bound_after_it() {
    let mut world = World::new();
    world.join("192.0.2.10:40000", Transport::Udp);
    for port in 1..=30 {
        let peer = (addr(PEER).ip(), port).into();
        world.with_client(0, |client, now| client.bind(peer, now));
    }
    world.run_for_secs(2);
    let bound = world
        .events(0)
        .iter()
        .filter(|event| matches!(event, Event::Bound { .. }))
        .count();
    assert_eq!(
        bound, 30,
        "no more than ten are outstanding at once, all are done"
    );
}

#[test]
fn data_flows_for_more_than_an_hour_without_a_gap() {
    let mut world = bound(Transport::Udp);
    for second in 0..2 * 3600 {
        assert!(echo(&mut world, b"tick"), "second {second}");
        world.run_for(Duration::from_millis(900));
    }
    assert_eq!(world.server.allocations(), 1);
    assert_eq!(world.events(0).len(), 2, "{:?}", world.events(0));
    assert!(
        world.server.stats().stale_nonces >= 1,
        "nonces last an hour"
    );
}

#[test]
fn an_idle_client_keeps_its_allocation_and_its_channel() {
    let mut world = bound(Transport::Udp);
    let sent = world.nodes[0].sent;
    world.run_for_secs(3600);
    assert!(echo(&mut world, b"still there"));
    assert_eq!(world.events(0).len(), 2);
    let packets = world.nodes[0].sent - sent;
    assert!(packets < 3600 / 15, "{packets} packets in an idle hour");
}

#[test]
fn a_vanished_client_is_forgotten_after_its_lifetime() {
    let mut world = bound(Transport::Udp);
    world.nodes.clear();
    world.run_for_secs(597);
    assert_eq!(world.server.allocations(), 1);
    world.run_for_secs(4);
    assert_eq!(world.server.allocations(), 0);
    assert!(world.ports.is_empty(), "the port is closed");
    assert_eq!(world.server.stats().allocations_expired, 1);
}

#[test]
fn permission_and_channel_run_out_at_the_relay_when_nobody_renews() {
    let mut world = bound(Transport::Udp);
    world.with_client(0, |client, _| client.unbind(addr(PEER)));
    world.run_for_secs(299);
    let before = world.server.stats();
    world.peer_sends(addr(PEER), world.relayed(0), b"late");
    world.with_client(0, |client, now| client.send(addr(PEER), b"late", now));
    world.run_for_secs(5);
    assert_eq!(
        world.server.stats().without_permission,
        before.without_permission + 2
    );
    assert_eq!(world.nodes[0].received, []);
    // By the client's own reckoning too, the channel is gone ten minutes after the bind.
    world.run_for_secs(300);
    assert_eq!(world.nodes[0].client.channel(addr(PEER)), None);
}

#[test]
fn twenty_per_cent_loss_each_way_costs_no_allocation() {
    for round in 0..20 {
        let mut world = World::new();
        world.loss = 0.2;
        world.rng = StdRng::from_seed([round; 32]);
        world.join("192.0.2.10:40000", Transport::Udp);
        world.with_client(0, |client, now| client.bind(addr(PEER), now));
        world.run_for_secs(30);
        let relayed = world.relayed(0);
        world.run_for_secs(3600);
        assert_eq!(
            world.nodes[0].client.relayed(),
            Some(relayed),
            "{:?}",
            world.events(0)
        );
        assert!(world.nodes[0].client.channel(addr(PEER)).is_some());
        assert!(world.nodes[0].client.stats().retransmissions > 0);
    }
}

#[test]
fn a_restarted_relay_is_noticed_within_seconds_while_there_is_traffic() {
    let mut world = bound(Transport::Udp);
    world.restart_server();
    let restarted = world.elapsed();
    while world.elapsed() < restarted + Duration::from_secs(5) {
        echo(&mut world, b"anybody there?");
    }
    let events = &world.nodes[0].events[2..];
    assert_eq!(
        events[0].1,
        Event::Lost {
            reason: LostReason::Forgotten
        }
    );
    assert!(is_allocated(&events[1].1));
    assert!(
        events[1].0 < restarted + Duration::from_millis(2500),
        "{events:?}"
    );
    assert!(matches!(events[2].1, Event::Bound { .. }));
    assert!(echo(&mut world, b"yes"));
}

#[test]
fn a_restarted_relay_is_noticed_within_twenty_seconds_on_an_idle_line() {
    let mut world = bound(Transport::Udp);
    world.restart_server();
    world.run_for_secs(21);
    assert!(echo(&mut world, b"back"), "{:?}", world.events(0));
}

#[test]
fn an_outage_of_minutes_does_not_cost_the_relayed_address() {
    let mut world = bound(Transport::Udp);
    let relayed = world.relayed(0);
    world.server_down = true;
    world.run_for_secs(200);
    assert_eq!(
        world.events(0).last(),
        Some(&Event::Failed {
            reason: FailReason::Unreachable
        })
    );
    assert_eq!(world.events(0).len(), 3, "one silence is reported once");
    world.server_down = false;
    world.run_for_secs(5);
    assert_eq!(world.nodes[0].client.relayed(), Some(relayed));
    assert!(echo(&mut world, b"back"));
}

#[test]
fn an_allocation_nobody_could_refresh_is_lost_and_made_again() {
    let mut world = bound(Transport::Udp);
    world.server_down = true;
    world.run_for_secs(700);
    assert!(world.events(0).contains(&Event::Lost {
        reason: LostReason::Expired
    }));
    assert_eq!(world.nodes[0].client.relayed(), None);
    world.server_down = false;
    world.run_for_secs(15);
    assert!(echo(&mut world, b"back"), "{:?}", world.events(0));
}

#[test]
fn a_nat_that_moves_the_client_costs_one_question() {
    let mut world = bound(Transport::Udp);
    world.nodes[0].addr = client_addr("192.0.2.10:41111", Transport::Udp);
    let moved = world.elapsed();
    while world.elapsed() < moved + Duration::from_secs(4) {
        echo(&mut world, b"data");
    }
    let events = &world.nodes[0].events[2..];
    assert_eq!(
        events[0].1,
        Event::Lost {
            reason: LostReason::Forgotten
        }
    );
    let Event::Allocated { reflexive, .. } = events[1].1 else {
        panic!("{events:?}")
    };
    assert_eq!(reflexive, addr("192.0.2.10:41111"));
    assert!(echo(&mut world, b"here"));
}

#[test]
fn a_check_asks_at_once() {
    let mut world = bound(Transport::Udp);
    world.restart_server();
    world.with_client(0, |client, now| client.check(now));
    world.run_for(Duration::from_millis(400));
    assert!(world.nodes[0].client.relayed().is_some());
    assert!(world.events(0).contains(&Event::Lost {
        reason: LostReason::Forgotten
    }));
}

#[test]
fn an_allocation_of_an_earlier_run_is_cleared_first() {
    let mut world = World::new();
    let (username, credential) = credentials("alice");
    let remote = "192.0.2.10:40000";
    world.join_as(remote, Transport::Udp, username.clone(), credential.clone());
    world.run_for_secs(1);
    world.nodes.clear();
    world.join_as(remote, Transport::Udp, username, credential);
    world.run_for_secs(1);
    assert_eq!(world.server.allocations(), 1);
    assert!(
        world.nodes[0].client.relayed().is_some(),
        "{:?}",
        world.events(0)
    );
    assert_eq!(world.server.stats().allocations_made, 2);
    assert_eq!(world.server.stats().allocations_ended, 1);
}

#[test]
fn wrong_credentials_fail_with_a_reason_and_new_ones_help_at_once() {
    let mut world = World::new();
    let (username, credential) = credentials("alice");
    world.join_as(
        "192.0.2.10:40000",
        Transport::Udp,
        username.clone(),
        "wrong".to_owned(),
    );
    world.run_for_secs(60);
    assert_eq!(
        world.events(0)[0],
        Event::Failed {
            reason: FailReason::Unauthorized
        }
    );
    assert!(
        world.nodes[0].sent < 20,
        "it backs off: {}",
        world.nodes[0].sent
    );
    world.with_client(0, |client, now| {
        client.set_credentials(username, credential.into(), now)
    });
    world.run_for_secs(1);
    assert!(world.events(0).last().is_some_and(is_allocated));
}

#[test]
fn renewed_credentials_carry_an_allocation_over_the_end_of_the_old_ones() {
    let mut world = World::new();
    let user =
        |until| relay::server::time_limited_credentials(&secret(), "alice", UNIX_START + until);
    let (username, credential) = user(600);
    world.join_as("192.0.2.10:40000", Transport::Udp, username, credential);
    world.run_for_secs(500);
    let relayed = world.relayed(0);
    let (username, credential) = user(86_400);
    world.with_client(0, |client, now| {
        client.set_credentials(username, credential.into(), now)
    });
    world.run_for_secs(3600);
    assert_eq!(world.nodes[0].client.relayed(), Some(relayed));
    assert_eq!(world.events(0).len(), 1);
    assert_eq!(world.server.stats().unauthenticated, 0);
}

#[test]
fn a_relay_that_takes_every_name_for_another_user_is_spoken_to_as_the_owner() {
    spoken_to_as_the_owner(false);
}

#[test]
fn the_same_when_it_says_so_without_a_signature_as_coturn_does() {
    spoken_to_as_the_owner(true);
}

fn spoken_to_as_the_owner(unsigned: bool) {
    let mut world = World::new();
    world.wrong_user_is_unsigned = unsigned;
    // Without an id the whole name is the user, so renewed credentials are another user's.
    let user = |until: u64| {
        let name = (UNIX_START + until).to_string();
        let password = world::password(&name);
        (name, password)
    };
    let (username, credential) = user(86_400);
    world.join_as("192.0.2.10:40000", Transport::Udp, username, credential);
    world.with_client(0, |client, now| client.bind(addr(PEER), now));
    world.run_for_secs(100);
    let relayed = world.relayed(0);
    let (username, credential) = user(90_000);
    world.with_client(0, |client, now| {
        client.set_credentials(username, credential.into(), now)
    });
    world.run_for_secs(3600);
    assert_eq!(
        world.nodes[0].client.relayed(),
        Some(relayed),
        "{:?}",
        world.events(0)
    );
    assert!(echo(&mut world, b"still mine"));
    world.restart_server();
    world.run_for_secs(30);
    assert!(
        world
            .events(0)
            .last()
            .is_some_and(|event| matches!(event, Event::Bound { .. }))
    );
}

#[test]
fn expired_credentials_let_the_allocation_run_out_and_say_so() {
    let mut world = World::new();
    let (username, credential) =
        relay::server::time_limited_credentials(&secret(), "alice", UNIX_START + 100);
    world.join_as("192.0.2.10:40000", Transport::Udp, username, credential);
    world.run_for_secs(150);
    assert!(world.nodes[0].client.relayed().is_some(), "it still works");
    assert_eq!(
        world.events(0)[1],
        Event::Failed {
            reason: FailReason::Unauthorized
        }
    );
    world.run_for_secs(700);
    assert!(world.events(0).contains(&Event::Lost {
        reason: LostReason::Expired
    }));
}

#[test]
fn a_full_relay_is_asked_again_until_there_is_room() {
    let mut world = World::with(|config| config.quotas.allocations = 1);
    world.join("192.0.2.10:40000", Transport::Udp);
    world.run_for_secs(1);
    world.join("192.0.2.11:40000", Transport::Udp);
    world.run_for_secs(30);
    assert_eq!(
        world.events(1)[0],
        Event::Failed {
            reason: FailReason::Rejected(508)
        }
    );
    world.with_client(0, |client, now| client.close(now));
    world.run_for_secs(75);
    assert_eq!(
        world.events(0).last(),
        Some(&Event::Lost {
            reason: LostReason::Closed
        })
    );
    assert!(world.events(1).last().is_some_and(is_allocated));
}

#[test]
fn closing_gives_the_allocation_back_and_ends_the_client() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut world = bound(transport);
        world.with_client(0, |client, now| client.close(now));
        world.run_for_secs(1);
        assert_eq!(world.server.allocations(), 0);
        assert!(world.ports.is_empty());
        assert_eq!(
            world.events(0).last(),
            Some(&Event::Lost {
                reason: LostReason::Closed
            })
        );
        assert_eq!(world.nodes[0].client.poll_timeout(), None);
    }
}

#[test]
fn a_closed_stream_ends_the_allocation_on_both_ends() {
    let mut world = bound(Transport::Tcp);
    let gone = world.nodes[0].addr;
    world.with_client(0, |client, now| client.disconnected(now));
    world.server.handle_client_gone(gone);
    world.run_for_secs(1);
    assert_eq!(world.server.allocations(), 0);
    assert_eq!(
        world.events(0).last(),
        Some(&Event::Lost {
            reason: LostReason::Disconnected
        })
    );
    assert_eq!(
        world.nodes[0].client.poll_timeout(),
        None,
        "it waits for the stream"
    );
    while world.server.poll_command().is_some() {}
    world.ports.clear();
    world.nodes[0].addr = client_addr("192.0.2.10:40001", Transport::Tcp);
    world.with_client(0, |client, now| client.reconnected(now));
    world.run_for_secs(1);
    assert!(echo(&mut world, b"again"));
}

#[test]
fn a_stream_that_falls_silent_is_given_up() {
    let mut world = bound(Transport::Tcp);
    world.server_down = true;
    world.run_for_secs(35);
    let events = world.events(0);
    assert_eq!(
        events[2],
        Event::Failed {
            reason: FailReason::Unreachable
        }
    );
    assert_eq!(
        events[3],
        Event::Lost {
            reason: LostReason::Disconnected
        }
    );
}

#[test]
fn a_refused_peer_is_reported_and_not_asked_about_again() {
    let mut world = World::new();
    world.join("192.0.2.10:40000", Transport::Udp);
    world.run_for_secs(1);
    let peer = addr("127.0.0.1:53");
    world.with_client(0, |client, now| client.bind(peer, now));
    world.run_for_secs(1);
    assert_eq!(world.events(0)[1], Event::BindRefused { peer, code: 403 });
    let requests = world.server.stats().requests;
    world.run_for_secs(15);
    assert_eq!(world.server.stats().requests, requests);
    assert_eq!(world.server.stats().peers_forbidden, 1);
}

#[test]
fn more_channels_than_the_bound_are_refused_and_counted() {
    let mut world = World::new();
    world.join("192.0.2.10:40000", Transport::Udp);
    for port in 1..=70 {
        world.with_client(0, |client, now| {
            client.bind((addr(PEER).ip(), port).into(), now);
        });
    }
    assert_eq!(world.nodes[0].client.stats().channels_refused, 6);
}

#[test]
fn two_clients_that_have_only_tcp_meet_inside_the_relay() {
    let mut world = World::new();
    world.join("192.0.2.10:40000", Transport::Tcp);
    world.join("198.51.100.20:50000", Transport::Tcp);
    world.run_for_secs(1);
    let (first, second) = (world.relayed(0), world.relayed(1));
    world.with_client(0, |client, now| client.bind(second, now));
    world.with_client(1, |client, now| client.bind(first, now));
    world.run_for_secs(1);
    for text in [&b"a"[..], b"bc", b"def", b"ghij"] {
        world.with_client(0, |client, now| assert!(client.send(second, text, now)));
        world.with_client(1, |client, now| assert!(client.send(first, text, now)));
    }
    world.run_for_secs(1);
    assert_eq!(world.nodes[0].received.len(), 4);
    assert_eq!(world.nodes[1].received.len(), 4);
    assert_eq!(world.nodes[1].received[2], (first, b"def".to_vec()));
    assert_eq!(world.at_peers, []);
    assert_eq!(world.server.stats().in_process, 8);
}

#[test]
fn ports_taken_by_other_programs_are_skipped() {
    let mut world = World::new();
    world.ports_refused = 3;
    world.join("192.0.2.10:40000", Transport::Udp);
    world.run_for_secs(1);
    assert!(world.nodes[0].client.relayed().is_some());
    assert_eq!(world.server.stats().ports_failed, 3);
    world.ports_refused = 1000;
    world.join("192.0.2.11:40000", Transport::Udp);
    world.run_for_secs(1);
    assert_eq!(
        world.events(1)[0],
        Event::Failed {
            reason: FailReason::Rejected(508)
        }
    );
    assert_eq!(world.server.allocations(), 1);
}

#[test]
fn the_same_seeds_make_the_same_bytes() {
    let run = || {
        let mut world = World::new();
        world.loss = 0.1;
        world.join("192.0.2.10:40000", Transport::Udp);
        world.with_client(0, |client, now| client.bind(addr(PEER), now));
        world.run_for_secs(600);
        (
            world.nodes[0].events.clone(),
            world.nodes[0].sent,
            world.server.stats(),
        )
    };
    assert_eq!(run(), run());
}

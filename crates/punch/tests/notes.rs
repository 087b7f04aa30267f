//! Notes: what one layer above tells the other over a pair that works.

mod world;

use std::time::Duration;

use punch::{Event, NOTE_MAX, PairId, Role};
use sansio::{Datagram, Handled};
use world::{World, address};

const SECOND: Duration = Duration::from_secs(1);

/// Two public hosts with a validated pair; returns it as node 0 names it.
fn connected() -> (World, PairId) {
    let mut world = World::new();
    let lan = world.lan(None);
    world.node(lan, "192.0.2.1:4000", Role::Controlling);
    world.node(lan, "192.0.2.2:4000", Role::Controlled);
    world.introduce(0, 1);
    world.run_for(SECOND);
    let pair = world.nodes[0].first_validated().expect("a path");
    for node in &mut world.nodes {
        node.events.clear();
        node.sent.clear();
    }
    (world, pair)
}

fn send(world: &mut World, pair: PairId, note: &[u8]) -> bool {
    let now = world.now;
    let taken = world.nodes[0].agent.send_note(pair, note.to_vec(), now);
    world.drain(0);
    taken
}

fn received(world: &World) -> Vec<Vec<u8>> {
    let events = world.nodes[1].events.iter();
    events
        .filter_map(|event| {
            if let Event::NoteReceived { note, .. } = event {
                Some(note.clone())
            } else {
                None
            }
        })
        .collect()
}

fn count(world: &World, wanted: &Event) -> usize {
    let events = world.nodes[0].events.iter();
    events.filter(|event| *event == wanted).count()
}

#[test]
fn a_note_arrives_once_and_is_acknowledged() {
    let (mut world, pair) = connected();
    world.duplicates = true;
    assert!(send(&mut world, pair, b"open 256 sockets"));
    world.run_for(5 * SECOND);
    assert_eq!(received(&world), [b"open 256 sockets".to_vec()]);
    assert_eq!(count(&world, &Event::NoteDelivered { pair }), 1);
    let stats = world.nodes[0].agent.stats();
    assert_eq!((stats.notes_sent, stats.notes_retransmitted), (1, 0));
    let stats = world.nodes[1].agent.stats();
    assert_eq!(stats.notes_received, 1);
}

#[test]
fn the_longest_note_fits_and_a_longer_one_is_refused() {
    let (mut world, pair) = connected();
    assert!(send(&mut world, pair, &[7; NOTE_MAX]));
    assert!(!send(&mut world, pair, &[7; NOTE_MAX + 1]));
    assert!(!send(&mut world, pair, b""));
    world.run_for(SECOND);
    assert_eq!(received(&world), [vec![7; NOTE_MAX]]);
    assert_eq!(world.nodes[0].agent.stats().notes_refused, 2);
}

#[test]
fn notes_arrive_in_their_order_at_40_percent_loss() {
    let mut lost = 0;
    for seed in 0..20 {
        let (mut world, pair) = connected();
        world.loss_percent = 40;
        world.reseed(seed);
        for number in 0..10 {
            assert!(send(&mut world, pair, &[number]));
        }
        world.run_for(60 * SECOND);
        let numbers: Vec<u8> = received(&world).into_iter().flatten().collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        let delivered = count(&world, &Event::NoteDelivered { pair });
        let given_up = count(&world, &Event::NoteLost { pair });
        assert_eq!(delivered + given_up, 10);
        assert!(numbers.len() >= delivered);
        lost += given_up;
    }
    assert!(lost <= 10, "{lost} of 200");
}

#[test]
fn a_note_on_a_dead_path_is_given_up_after_nine_sends() {
    let (mut world, pair) = connected();
    world.loss_percent = 100;
    assert!(send(&mut world, pair, b"anybody?"));
    world.run_for(10 * SECOND);
    assert_eq!(count(&world, &Event::NoteLost { pair }), 1);
    let stats = world.nodes[0].agent.stats();
    assert_eq!((stats.notes_sent, stats.notes_retransmitted), (1, 8));
    assert_eq!(stats.notes_lost, 1);
    assert_eq!(world.nodes[0].agent.poll_timeout(), None);
}

#[test]
fn the_seventeenth_waiting_note_is_refused() {
    let (mut world, pair) = connected();
    let taken = (0..20).filter(|number| send(&mut world, pair, &[*number]));
    assert_eq!(taken.count(), 16);
    world.run_for(5 * SECOND);
    assert_eq!(received(&world).len(), 16);
    assert_eq!(world.nodes[0].agent.stats().notes_refused, 4);
}

#[test]
fn notes_need_a_validated_pair_and_end_with_it() {
    let (mut world, pair) = connected();
    world.loss_percent = 100;
    assert!(send(&mut world, pair, b"one"));
    assert!(send(&mut world, pair, b"two"));
    let now = world.now;
    world.nodes[0]
        .agent
        .remove_local_base(address("192.0.2.1:4000"), now);
    world.drain(0);
    let lost = Event::NoteLost { pair };
    assert_eq!(
        world.nodes[0].events,
        [lost.clone(), lost, Event::PairRemoved { pair }]
    );
    assert!(!send(&mut world, pair, b"three"));
}

#[test]
fn notes_that_wait_behind_one_on_a_restarted_pair_are_lost_with_it() {
    let (mut world, pair) = connected();
    world.loss_percent = 100;
    assert!(send(&mut world, pair, b"one"));
    assert!(send(&mut world, pair, b"two"));
    let now = world.now;
    world.nodes[0].agent.restart(pair, now);
    world.run_for(10 * SECOND);
    assert_eq!(count(&world, &Event::NoteLost { pair }), 2);
}

#[test]
fn a_note_with_one_bit_changed_is_not_heard() {
    let (mut world, pair) = connected();
    let now = world.now;
    assert!(
        world.nodes[0]
            .agent
            .send_note(pair, b"probe 41000".to_vec(), now)
    );
    let sent = world.nodes[0].agent.poll_transmit().expect("a note");
    for byte in 0..sent.payload.len() {
        let mut forged = sent.payload.clone();
        forged[byte] ^= 1;
        let datagram = Datagram {
            local: sent.destination,
            remote: sent.source,
            payload: &forged,
        };
        let handled = world.nodes[1].agent.handle_datagram(datagram, now);
        assert_eq!(handled, Handled::NotMine, "byte {byte}");
    }
    assert!(world.nodes[1].agent.poll_event().is_none());
}

#[test]
fn a_recorded_note_has_no_effect_even_after_its_request_is_forgotten() {
    let (mut world, pair) = connected();
    let now = world.now;
    assert!(world.nodes[0].agent.send_note(pair, b"stop".to_vec(), now));
    let sent = world.nodes[0].agent.poll_transmit().expect("a note");
    let hear = |world: &mut World, payload: &[u8]| {
        let datagram = Datagram {
            local: sent.destination,
            remote: sent.source,
            payload,
        };
        let now = world.now;
        let _ = world.nodes[1].agent.handle_datagram(datagram, now);
        world.drain(1);
    };
    hear(&mut world, &sent.payload);
    assert_eq!(received(&world).len(), 1);
    // More verified requests than the admission remembers.
    for _ in 0..6000 {
        world.now += Duration::from_millis(3);
        let now = world.now;
        world.nodes[0].agent.check(pair, now);
        let check = world.nodes[0].agent.poll_transmit().expect("a check");
        hear(&mut world, &check.payload);
    }
    hear(&mut world, &sent.payload);
    assert_eq!(received(&world).len(), 1);
    assert!(world.nodes[1].agent.stats().replayed >= 1);
}

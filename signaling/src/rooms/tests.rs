//! Rooms in virtual time.
#![expect(clippy::disallowed_methods, reason = "one arbitrary epoch")]

use std::net::IpAddr;

use signal_client::Identity;

use super::*;

const ROOM: RendezvousId = RendezvousId([1; 32]);
const OTHER_ROOM: RendezvousId = RendezvousId([2; 32]);

struct World {
    rooms: Rooms,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self::with_limits(RoomLimits::default())
    }

    fn with_limits(limits: RoomLimits) -> Self {
        Self {
            rooms: Rooms::new(limits),
            now: Instant::now(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        while let Some(deadline) = self.rooms.poll_timeout()
            && deadline.at <= self.now
        {
            self.rooms.handle_timeout(self.now);
            assert!(
                self.rooms
                    .poll_timeout()
                    .is_none_or(|next| next.at > deadline.at),
                "handling a deadline makes progress"
            );
        }
    }

    fn put(&mut self, slot: SlotName, key: PublicKey, seq: u64) -> Result<u64, Refusal> {
        self.put_bytes(slot, key, seq, format!("payload {seq}").into_bytes())
    }

    fn put_bytes(
        &mut self,
        slot: SlotName,
        key: PublicKey,
        seq: u64,
        payload: Vec<u8>,
    ) -> Result<u64, Refusal> {
        let mut signature = [0; 64];
        signature[..8].copy_from_slice(&seq.to_be_bytes());
        signature[8..40].copy_from_slice(&key.0);
        let write = Write {
            key,
            seq,
            payload,
            signature: Signature(signature),
        };
        self.rooms.publish(ROOM, slot, write, self.now)
    }

    fn watch(&mut self, owner: Option<(SlotName, PublicKey)>) -> (WatcherId, Vec<SlotView>) {
        self.rooms
            .open_watch(ROOM, address(1), owner, self.now)
            .unwrap()
    }

    fn told(&mut self, id: WatcherId) -> Vec<(SlotName, Option<u64>)> {
        let mut told = Vec::new();
        while let Some((to, event)) = self.rooms.poll_notification() {
            if to == id {
                told.push(match event {
                    RoomEvent::Written(view) => (view.slot, Some(view.seq)),
                    RoomEvent::Removed(slot, _) => (slot, None),
                });
            }
        }
        told
    }
}

fn key(number: u8) -> PublicKey {
    Identity::from_seed([number; 32]).public_key()
}

fn removal(key: PublicKey, seq: u64) -> SlotRemove {
    SlotRemove {
        key,
        seq,
        signature: Signature([0; 64]),
    }
}

fn address(last: u8) -> AddressClass {
    AddressClass::of(IpAddr::from([192, 0, 2, last]))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_stale_sequence_is_answered_with_the_current_one() {
    let mut world = World::new();
    let server = SlotName::server();
    assert_eq!(world.put(server, key(1), 7), Ok(7));
    world.pass(secs(3));
    let occupant = Occupant {
        key: key(1),
        seq: 7,
        age: secs(3),
    };
    assert_eq!(world.put(server, key(1), 6), Err(Refusal::Stale(occupant)));
    assert_eq!(
        world.put_bytes(server, key(1), 7, b"payload 7".to_vec()),
        Ok(7),
        "a repeated write, whose answer was lost, is accepted"
    );
    assert_eq!(world.put(server, key(1), 8), Ok(8));
}

#[test]
fn watchers_are_told_of_every_change_and_of_nothing_in_other_rooms() {
    let mut world = World::new();
    let client = SlotName::client(&key(2));
    let (id, snapshot) = world.watch(None);
    assert_eq!(snapshot, []);
    world.put(client, key(2), 1).unwrap();
    world.put(client, key(2), 2).unwrap();
    let write = Write {
        key: key(3),
        seq: 1,
        payload: vec![],
        signature: Signature([0; 64]),
    };
    world
        .rooms
        .publish(OTHER_ROOM, SlotName::server(), write, world.now)
        .unwrap();
    world
        .rooms
        .remove(ROOM, client, removal(key(2), 2), world.now)
        .unwrap();
    assert_eq!(
        world.told(id),
        [(client, Some(1)), (client, Some(2)), (client, None)]
    );
}

#[test]
fn the_snapshot_of_a_watch_is_the_room() {
    let mut world = World::new();
    let client = SlotName::client(&key(2));
    world.put(SlotName::server(), key(1), 4).unwrap();
    world.pass(secs(9));
    world.put(client, key(2), 1).unwrap();
    let (_, snapshot) = world.watch(None);
    let mut seen: Vec<_> = snapshot
        .iter()
        .map(|view| (view.slot, view.seq, view.age))
        .collect();
    seen.sort();
    let mut expected = [(SlotName::server(), 4, secs(9)), (client, 1, secs(0))];
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn another_server_may_take_the_slot_30_s_after_the_last_sign_of_the_first() {
    let mut world = World::new();
    let server = SlotName::server();
    let (id, _) = world.watch(Some((server, key(1))));
    world.put(server, key(1), 50).unwrap();
    world.pass(secs(100));
    let taken = |age| {
        Err(Refusal::Taken(Occupant {
            key: key(1),
            seq: 50,
            age: secs(age),
        }))
    };
    assert_eq!(
        world.put(server, key(2), 1),
        taken(100),
        "its owner watches"
    );
    world.rooms.close_watch(id, world.now);
    world.pass(secs(29));
    assert_eq!(
        world.put(server, key(2), 1),
        taken(129),
        "its owner watched 29 s ago"
    );
    world.pass(secs(1));
    assert_eq!(
        world.put(server, key(2), 1),
        Ok(1),
        "and its sequence begins anew"
    );
    let first_back = world.put(server, key(1), 51);
    assert_eq!(
        first_back,
        Err(Refusal::Taken(Occupant {
            key: key(2),
            seq: 1,
            age: secs(0)
        }))
    );
}

#[test]
fn a_restarted_server_with_the_same_key_replaces_itself_at_once() {
    let mut world = World::new();
    world.watch(Some((SlotName::server(), key(1))));
    world.put(SlotName::server(), key(1), 3).unwrap();
    assert_eq!(world.put(SlotName::server(), key(1), 4), Ok(4));
}

#[test]
fn a_watcher_that_names_another_key_holds_nothing() {
    let mut world = World::new();
    world.watch(Some((SlotName::server(), key(2))));
    world.put(SlotName::server(), key(1), 3).unwrap();
    world.pass(TAKE_OVER_AFTER);
    assert_eq!(world.put(SlotName::server(), key(2), 1), Ok(1));
}

#[test]
fn a_slot_expires_five_minutes_after_its_owner_was_last_seen() {
    let mut world = World::new();
    let client = SlotName::client(&key(2));
    let (observer, _) = world.watch(None);
    let (owner, _) = world.watch(Some((client, key(2))));
    world.put(client, key(2), 1).unwrap();
    world.pass(secs(3000));
    assert_eq!(
        world.told(observer),
        [(client, Some(1))],
        "the owner watches"
    );
    world.rooms.close_watch(owner, world.now);
    world.pass(secs(299));
    assert_eq!(world.told(observer), []);
    world.pass(secs(1));
    assert_eq!(world.told(observer), [(client, None)]);
    assert_eq!(world.rooms.stats().expired, 1);
}

#[test]
fn writes_keep_a_slot_without_any_watcher() {
    let mut world = World::new();
    for seq in 1..20 {
        world.put(SlotName::server(), key(1), seq).unwrap();
        world.pass(secs(120));
    }
    assert_eq!(world.rooms.snapshot(ROOM, world.now).len(), 1);
    world.pass(EXPIRE_AFTER);
    assert_eq!(world.rooms.snapshot(ROOM, world.now), []);
}

#[test]
fn an_idle_room_leaves_nothing_behind() {
    let mut world = World::new();
    let (id, _) = world.watch(Some((SlotName::server(), key(1))));
    for round in 1..50 {
        world.put(SlotName::server(), key(1), round).unwrap();
        world.pass(secs(1));
        if round % 2 == 0 {
            world
                .rooms
                .remove(ROOM, SlotName::server(), removal(key(1), round), world.now)
                .unwrap();
        }
    }
    world.rooms.close_watch(id, world.now);
    world.pass(EXPIRE_AFTER);
    while world.rooms.poll_notification().is_some() {}
    assert!(world.rooms.rooms.is_empty() && world.rooms.expiries.is_empty());
    assert!(world.rooms.watchers.is_empty() && world.rooms.watchers_of.is_empty());
    assert_eq!(world.rooms.stats().payload_bytes, 0);
    assert_eq!(world.rooms.poll_timeout(), None);
}

#[test]
fn only_the_owner_removes_and_not_with_an_old_sequence() {
    let mut world = World::new();
    let server = SlotName::server();
    world.put(server, key(1), 5).unwrap();
    let occupant = Occupant {
        key: key(1),
        seq: 5,
        age: secs(0),
    };
    let mut remove = |by: PublicKey, seq| {
        world
            .rooms
            .remove(ROOM, server, removal(by, seq), world.now)
    };
    assert_eq!(remove(key(2), 9), Err(Refusal::Taken(occupant)));
    assert_eq!(remove(key(1), 4), Err(Refusal::Stale(occupant)));
    assert_eq!(remove(key(1), 5), Ok(()));
    assert_eq!(remove(key(1), 5), Err(Refusal::NotFound));
}

#[test]
fn every_limit_refuses_and_is_counted() {
    let mut world = World::with_limits(RoomLimits {
        rooms_max: 1,
        slots_per_room_max: 2,
        payload_bytes_max: 100,
        watchers_per_room_max: 2,
        watchers_per_address_max: 1,
        watchers_max: 3,
    });
    let client = |number| SlotName::client(&key(number));
    world.put_bytes(client(1), key(1), 1, vec![0; 60]).unwrap();
    assert_eq!(
        world.put_bytes(client(2), key(2), 1, vec![0; 60]),
        Err(Refusal::Full(Full::Memory))
    );
    assert_eq!(
        world.put_bytes(client(1), key(1), 2, vec![0; 100]),
        Ok(2),
        "it replaces its own"
    );
    assert_eq!(world.put_bytes(client(2), key(2), 1, vec![]), Ok(1));
    assert_eq!(
        world.put_bytes(client(3), key(3), 1, vec![]),
        Err(Refusal::Full(Full::Slots))
    );
    let mut open = |room, from| world.rooms.open_watch(room, address(from), None, world.now);
    assert!(open(ROOM, 1).is_ok());
    assert_eq!(
        open(ROOM, 1).unwrap_err(),
        Refusal::Full(Full::WatchersOfAddress)
    );
    assert!(open(ROOM, 2).is_ok());
    assert_eq!(
        open(ROOM, 3).unwrap_err(),
        Refusal::Full(Full::WatchersOfRoom)
    );
    assert_eq!(open(OTHER_ROOM, 3).unwrap_err(), Refusal::Full(Full::Rooms));
    assert_eq!(world.rooms.stats().refused_full, 5);
}

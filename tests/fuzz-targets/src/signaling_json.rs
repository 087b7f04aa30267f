//! What signaling says and is told: wire types, event streams, and the descriptions inside.

use serde::Serialize;
use serde::de::DeserializeOwned;
use session::Description;
use signal_client::{
    ErrorBody, Info, PublishedBody, RemovedSlot, RendezvousId, SlotName, SlotRemove, SlotState,
    SlotWrite, SlotsBody, SseError, SseEvent, SseParser,
};

use crate::pieces::{pieces, split_cuts};

/// More candidates than this from one peer are not looked at (see `session::description`).
const CANDIDATES_MAX: usize = 32;

/// The first byte chooses what the rest is.
pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    match choice % 8 {
        0 => check_write(bytes),
        1 => check_slots(bytes),
        2 => {
            survives::<Info>(bytes);
            survives::<ErrorBody>(bytes);
            survives::<PublishedBody>(bytes);
            survives::<RemovedSlot>(bytes);
        }
        3 | 4 => check_description(bytes),
        5 => check_names(bytes),
        _ => check_events(bytes),
    }
}

/// What is read is written and read again; returns it.
fn survives<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_vec(&value).expect("it came from JSON");
    let again: T = serde_json::from_slice(&text).expect("we wrote it");
    assert_eq!(again, value);
    Some(value)
}

/// As the server takes a write: only what its key signed for this room and slot counts.
fn check_write(bytes: &[u8]) {
    let room = RendezvousId([3; 32]);
    if let Some(write) = survives::<SlotWrite>(bytes) {
        for slot in [SlotName::server(), SlotName::client(&write.key)] {
            // Nobody found a signature for this room by chance; the seeds are signed for another one.
            assert!(!write.verify(room, slot));
        }
    }
    if let Some(remove) = survives::<SlotRemove>(bytes) {
        assert!(!remove.verify(room, SlotName::server()));
    }
}

fn check_slots(bytes: &[u8]) {
    let room = RendezvousId([3; 32]);
    if let Some(slots) = survives::<SlotsBody>(bytes) {
        assert!(slots.slots.iter().all(|slot| !slot.verify(room)));
    }
    if let Some(slot) = survives::<SlotState>(bytes) {
        assert!(!slot.verify(room));
    }
}

fn check_description(bytes: &[u8]) {
    let Ok(description) = Description::decode(bytes) else {
        return;
    };
    let again = Description::decode(&description.encode()).expect("we wrote it");
    assert_eq!(again, description);
    let candidates = description.remote_candidates();
    assert!(candidates.len() <= CANDIDATES_MAX);
    for candidate in candidates {
        assert!(candidate.address.port() != 0 && !candidate.address.ip().is_multicast());
    }
}

fn check_names(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(slot) = text.parse::<SlotName>() {
        assert_eq!(slot.to_string().parse(), Ok(slot));
    }
    if let Ok(room) = text.parse::<RendezvousId>() {
        assert_eq!(room.to_string(), text.to_lowercase());
    }
}

fn check_events(bytes: &[u8]) {
    let (cuts, bytes) = split_cuts(bytes);
    let whole = read(bytes, &[]);
    assert_eq!(read(bytes, cuts), whole);
    for event in &whole.0 {
        assert!(!event.event.contains(['\n', '\r']) && !event.data.contains('\r'));
        if let Ok(state) = serde_json::from_str::<SlotState>(&event.data) {
            assert!(!state.verify(RendezvousId([3; 32])));
        }
    }
}

fn read(bytes: &[u8], cuts: &[u8]) -> (Vec<SseEvent>, Option<SseError>) {
    let mut parser = SseParser::new();
    let mut events = Vec::new();
    for piece in pieces(bytes, cuts) {
        if let Err(error) = parser.push(piece, &mut events) {
            return (events, Some(error));
        }
    }
    (events, None)
}

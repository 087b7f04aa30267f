//! TURN: a server among hostile clients and peers, and a client whose server is hostile.

mod hostile_clients;
mod hostile_server;
mod request;

use arbitrary::Unstructured;

/// The first byte chooses which end is under attack; the rest is a sequence of steps.
pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let bytes = Unstructured::new(bytes);
    // What the bytes do not fill is not played: running dry is no finding.
    let _ = if choice.is_multiple_of(2) {
        hostile_clients::play(bytes)
    } else {
        hostile_server::play(bytes)
    };
}

//! Asks the router for a port to a UDP socket, prints what it says, and gives the port back when standard input ends.
//!
//!     cargo run -p portmap --example forward_a_port
#![expect(clippy::print_stdout, reason = "an example talks to people")]

use std::net::UdpSocket;

use portmap::{PortMapper, PortMapperEvent};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let sockets = ["0.0.0.0:0", "[::]:0"].map(UdpSocket::bind);
    let bases: Vec<_> = sockets
        .iter()
        .flatten()
        .filter_map(|socket| socket.local_addr().ok())
        .collect();
    let (events_tx, mut events_rx) = mpsc::channel(16);
    let mapper = PortMapper::spawn(&Handle::current(), &bases, events_tx);
    let ended = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    tokio::pin!(ended);
    loop {
        tokio::select! {
            _ = &mut ended => break,
            Some(event) = events_rx.recv() => match event {
                PortMapperEvent::Presence(presence) => println!("the router speaks {presence:?}"),
                PortMapperEvent::Mappings(mappings) => println!("it claims {mappings:?}"),
                PortMapperEvent::GaveUp(mapping) => println!("it was not true, again: {mapping:?}"),
                // More may be told in later versions.
                _ => {}
            },
        }
    }
    mapper.release().await;
    println!("given back");
}

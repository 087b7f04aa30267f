//! TURN (RFC 8656): a client, and behind the feature `server` a server, both without sockets or clocks.
//!
//! A relay is a machine that both peers can reach. A client asks it for an **allocation**: a UDP port of
//! the relay's own, the relayed address. What a peer sends there is handed to the client, and what the
//! client sends comes from there. The relay lets a peer in only while the client holds a **permission**
//! for that peer's IP address (300 s), and saves bytes on peers that have a **channel** (600 s).
//!
//! The life of a [`Client`]:
//!
//! 1. It asks for an allocation, is challenged (401), and asks again with credentials that end at a fixed
//!    time (coturn's `use-auth-secret`).
//! 2. [`Event::Allocated`] names the relayed address. [`Client::bind`] opens a channel per peer, and keeps
//!    it open; [`Client::send`] and [`Received::Data`] carry payloads.
//! 3. It refreshes, renews, and asks whether the relay still knows it as soon as the line is suspiciously
//!    quiet. A relay that restarted, or a NAT that moved our address, is answered with a new allocation at
//!    once: [`Event::Lost`], then [`Event::Allocated`] again.
//! 4. It never gives up by itself: [`Event::Failed`] says why it waits.
//!
//! Modules: `client`, `server` (feature), `tokio` (feature: a socket whose address is on a relay), `transport` (UDP or TCP), `address` (which role an address has).
//!
//! ```
//! use std::time::Instant;
//! use relay::{Client, ClientConfig, Transport};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example needs some epoch")]
//! let now = Instant::now();
//! let config = ClientConfig {
//!     server: "192.0.2.1:3478".parse().unwrap(),
//!     transport: Transport::Udp,
//!     local: "192.0.2.77:40000".parse().unwrap(),
//!     username: "1893456000:peer".to_owned(),
//!     credential: "secret".into(),
//! };
//! let mut client = Client::new(config, [7; 32], now);
//! let allocate = client.poll_transmit().unwrap();
//! assert_eq!(allocate.destination, "192.0.2.1:3478".parse().unwrap());
//! ```

mod address;
pub mod client;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "tokio")]
pub mod tokio;
mod transport;

pub use address::{PeerAddr, RelayedAddr};
pub use client::{
    Client, ClientConfig, ClientStats, Credential, Event, FailReason, LostReason, Received,
};
pub use transport::Transport;

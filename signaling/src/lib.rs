//! The rendezvous: rooms, STUN and TURN in one process.
//!
//! 1. [`Settings`] come from the command line and a file; [`Settings::resolve`] checks them together and
//!    makes a [`Config`], or says everything that is wrong.
//! 2. [`Signaling::bind`] opens every socket, so that whoever started it learns at once whether it runs.
//! 3. [`Signaling::run`] serves until it is told to stop: HTTP on the caller's runtime, STUN and TURN on a
//!    thread of their own, so that neither waits for the other.
//!
//! Modules: `config`; `rooms`, pure, with time as an argument; `http`, the room API over it; `turn`, the
//! sockets around `relay`'s machines; `address_class`, which addresses count as one stranger; `open_files`,
//! how many sockets the system allows; `signaling`, which puts them together. `PROTOCOL.md` beside this crate describes the room API byte by byte.
//!
//! ```
//! use signaling::{Settings, Signaling};
//! use tokio_util::sync::CancellationToken;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let mut settings = Settings::default();
//! settings.flag("listen", "127.0.0.1:0");
//! settings.flag("stun", "127.0.0.1:0");
//! let signaling = Signaling::bind(settings.resolve().unwrap()).unwrap();
//! println!("rooms at http://{}", signaling.http_addr());
//!
//! let shutdown = CancellationToken::new();
//! shutdown.cancel();
//! signaling.run(shutdown).await.unwrap();
//! # });
//! ```

mod address_class;
mod config;
mod http;
mod open_files;
mod rooms;
mod signaling;
mod turn;

pub use config::{Config, ConfigError, KEYS, LATER_KEYS, LogLevel, Settings, TURN_URLS_MAX};
pub use signaling::{RunError, Signaling, StartError};

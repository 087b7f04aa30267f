//! The shell: the two programs as a library.
//!
//! [`Client::run`] and [`Server::run`] are `stunfwd-client` and `stunfwd-server` without a command line:
//!
//! 1. the identity comes from the [state directory](state_dir), the room keys from the room secret;
//! 2. one thread of its own moves the data: a loop around `session::Node`, the demultiplexing socket, the
//!    carriers and the forwarders (`driver`);
//! 3. beside it run the conversation with signaling (`rendezvous`) and the [control socket](control),
//!    through which [`status`] is asked for and mappings are changed.
//!
//! [`netcheck`] needs none of this: it looks at the network once, with sockets of its own.
//!
//! While a client runs, [`Mappings`] changes what it forwards; [`Client::prepare`] gives both.
//!
//! ```no_run
//! use mapping_core::config::ClientConfig;
//! use stunfwd::{Client, RunOptions};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let text = "roomId: a long secret\nsignalingUrl: http://203.0.113.10:8080\nmappings: [tcp:8080:22]\n";
//! let config = ClientConfig::parse("config.yml".as_ref(), text)?;
//! let shutdown = CancellationToken::new();
//! Client::run(config, RunOptions::default(), shutdown).await?;
//! # Ok(())
//! # }
//! ```

mod clock;
pub mod control;
mod driver;
mod interfaces;
mod mappings;
mod nat_status;
pub mod netcheck;
mod open_files;
mod port_mapping;
mod randomness;
mod rendezvous;
mod resolve;
mod run;
mod shell;
pub mod signals;
pub mod state_dir;
pub mod status;
mod strategies;

pub use mappings::{Applied, Change, ChangeError, MappingView, Mappings, Outcome, TableView};
pub use run::{Client, RunError, RunOptions, Server};

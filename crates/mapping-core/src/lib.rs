//! The user's rules: what is forwarded, what may be reached, and the file that says so.
//!
//! A person writes `tcp:8080:22` in a configuration file. [`config`] reads the file and tells everything that
//! is wrong with it at once. A [`PortMapping`] is one rule; a [`MappingTable`] is one version of all of
//! them, in which every rule has a [`MappingId`] for as long as the program runs. The client proposes a
//! version to the server as a [`WireTable`]. The server asks its [`AllowList`] twice: for each proposed
//! [`WireMapping`], and again for each connection once the name is resolved, since names may lead
//! elsewhere tomorrow.
//!
//! * [`Protocol`], [`PortRange`], [`Host`] and [`HostPort`] are the words of the grammar, and
//!   [`GrammarError`] says which word is wrong;
//! * [`RelayUrl`] says where a TURN server is and how it is reached;
//! * [`Secret`] and [`RoomId`] are texts that cannot be printed;
//! * [`Side`] names the two ends.
//!
//! Nothing here knows a socket, a clock, an environment variable or a command line.
//!
//! ```
//! use std::path::Path;
//! use mapping_core::config::ClientConfig;
//!
//! let text = "roomId: s3cret\nsignalingUrl: http://192.0.2.1:8080\nmappings: ['udp:70000:80']";
//! let error = ClientConfig::parse(Path::new("config.yml"), text).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "config.yml:3: mappings[0]: `udp:70000:80`: port 70000 is above 65535"
//! );
//! ```

pub mod config;

mod allow_list;
mod grammar_error;
mod host;
mod port_mapping;
mod port_range;
mod protocol;
mod relay_url;
mod room_id;
mod secret;
mod side;
mod table;
mod wire;

pub use allow_list::{ALLOW_ENTRIES_MAX, AllowEntry, AllowList, Refusal};
pub use grammar_error::{GrammarError, shown};
pub use host::{Host, HostName, HostPort};
pub use port_mapping::{DEFAULT_BIND, PortMapping};
pub use port_range::PortRange;
pub use protocol::Protocol;
pub use relay_url::{RelayTransport, RelayUrl, RelayUrlError};
pub use room_id::{ROOM_ID_BYTES_MAX, RoomId, RoomIdError};
pub use secret::Secret;
pub use side::Side;
pub use table::{
    Draft, LOCAL_SOCKETS_MAX, MAPPINGS_MAX, MappingId, MappingTable, TableDiff, TableError,
};
pub use wire::{WireMapping, WireTable};

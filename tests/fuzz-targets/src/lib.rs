//! What the fuzz targets do with their bytes.
//!
//! Each module is one target: `run` takes whatever bytes there are, drives one piece of stunfwd with them, and
//! panics when something does not hold that must hold for all bytes. Most targets know more than "it does not
//! panic": what was decoded is encoded again and compared, a stream that comes in pieces is read as the whole
//! one, what a bound promises is measured.
//!
//! * [`stun`], [`channel_data`], [`turn`]: the codec, its framing on streams, TURN's server and its client;
//! * [`flow_records`], [`control_frames`], [`carrier_frames`]: what peers say inside carriers;
//! * [`signaling_json`]: what signaling says, and what is written to it;
//! * [`configuration`]: what a person writes;
//! * [`pieces`] cuts bytes, [`seeds`] makes the inputs that a corpus begins with.
//!
//! `fuzz/run` searches with cargo-fuzz, beginning with the corpus in `fuzz/corpus`; the test `corpus` of this
//! package runs that corpus without any tool. `cargo run -p stunfwd-fuzz --bin seed-corpus` writes the seeds.
//!
//! ```
//! stunfwd_fuzz::stun::run(b"\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes");
//! ```

pub mod carrier_frames;
pub mod channel_data;
pub mod configuration;
pub mod control_frames;
pub mod flow_records;
pub mod pieces;
pub mod seeds;
pub mod signaling_json;
pub mod stun;
pub mod target;
pub mod turn;

//! The same messages for three codecs.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "helpers of tests may fail loudly too"
)]

pub mod message;
pub mod ours;
pub mod stun_codec_side;
pub mod stun_types_side;
pub mod verdict;

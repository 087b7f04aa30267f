//! The targets by name.

use std::time::Instant;

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of the binary, of the module and of the corpus' folder.
    pub name: &'static str,
    /// What it does with its bytes.
    pub run: fn(&[u8]),
    /// What its corpus begins with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[
            $(Target { name: stringify!($name), run: crate::$name::run, seeds: crate::seeds::$name }),*
        ];
    };
}

targets!(
    stun,
    turn,
    channel_data,
    flow_records,
    control_frames,
    signaling_json,
    configuration,
    carrier_frames,
);

/// Some moment: machines only ever compare.
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}

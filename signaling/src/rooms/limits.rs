//! How much strangers may make the rooms hold.

/// Bounds of the rooms. The defaults hold a server of 1 GiB with ease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomLimits {
    /// Rooms at once. An empty room takes half a kilobyte.
    pub(crate) rooms_max: usize,
    /// Participants of one room: one server and the clients that one process can carry.
    pub(crate) slots_per_room_max: usize,
    /// Payload bytes of all rooms together.
    pub(crate) payload_bytes_max: usize,
    /// Watchers of one room: every participant, twice while one reconnects.
    pub(crate) watchers_per_room_max: usize,
    /// Watchers from one address: a university behind one NAT.
    pub(crate) watchers_per_address_max: usize,
    /// Watchers at once; each is a connection of some ten kilobytes.
    pub(crate) watchers_max: usize,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self {
            rooms_max: 50_000,
            slots_per_room_max: 128,
            payload_bytes_max: 256 * 1024 * 1024,
            watchers_per_room_max: 256,
            watchers_per_address_max: 512,
            watchers_max: 20_000,
        }
    }
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("this server has no place for another room")]
    Rooms,
    #[error("the room has no place for another participant")]
    Slots,
    #[error("this server has no memory for another description")]
    Memory,
    #[error("this server has no place for another watcher")]
    Watchers,
    #[error("your address has too many watchers")]
    WatchersOfAddress,
    #[error("the room has too many watchers")]
    WatchersOfRoom,
}

/// What the rooms hold and have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoomStats {
    pub(crate) rooms: usize,
    pub(crate) watchers: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) writes: u64,
    pub(crate) conflicts: u64,
    pub(crate) expired: u64,
    pub(crate) refused_full: u64,
}

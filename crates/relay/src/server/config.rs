//! What a server is told at the start.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use zeroize::Zeroizing;

/// What a [`Server`](super::Server) needs to know.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// REALM. Kept short, since every challenge to a stranger carries it.
    pub realm: String,
    /// What passwords are made of, shared with whoever hands out credentials.
    pub secret: SharedSecret,
    /// SOFTWARE, in answers to authenticated clients only; nothing when empty.
    pub software: String,
    /// Where relayed ports are taken from. Default 49152 to 65535 (RFC 8656, section 7.2).
    pub relay_ports: RangeInclusive<u16>,
    /// Local addresses for relayed ports of the family that the client did not come by. The family it came
    /// by is served from the address it came to. Default: none, so such requests get 440.
    pub relay_ips: Vec<IpAddr>,
    /// How relayed addresses are advertised.
    pub external: ExternalAddresses,
    /// Peers that may be relayed to although they are private: `--relay-allow`.
    pub allow: Vec<IpNet>,
    /// The server's own addresses, those of all its interfaces. The ones it advertises or is reached at are
    /// its own without being listed.
    pub own_addresses: Vec<IpAddr>,
    /// What one client may hold.
    pub quotas: Quotas,
    /// How long things live.
    pub lifetimes: Lifetimes,
    /// A moment, and what the wall clock (seconds since 1970) said then: credentials expire by the clock.
    pub unix_epoch: (Instant, u64),
}

impl ServerConfig {
    /// Makes a configuration with the defaults for all else.
    #[must_use]
    pub fn new(realm: &str, secret: SharedSecret, unix_epoch: (Instant, u64)) -> Self {
        Self {
            realm: realm.to_owned(),
            secret,
            software: "stunfwd".to_owned(),
            relay_ports: 49152..=65535,
            relay_ips: Vec::new(),
            external: ExternalAddresses::default(),
            allow: Vec::new(),
            own_addresses: Vec::new(),
            quotas: Quotas::default(),
            lifetimes: Lifetimes::default(),
            unix_epoch,
        }
    }
}

/// The secret that time-limited credentials are made of. It has no `Display`, and its `Debug` says nothing.
#[derive(Clone)]
pub struct SharedSecret(Zeroizing<Vec<u8>>);

impl SharedSecret {
    /// Takes the secret's bytes; for coturn's `static-auth-secret` those of its text.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// How a local address is known to the world.
#[derive(Clone, Debug, Default)]
pub struct ExternalAddresses {
    by_local: BTreeMap<IpAddr, IpAddr>,
    everywhere: Vec<IpAddr>,
}

impl ExternalAddresses {
    /// Advertises `external` for every local address of its family that has no rule of its own.
    #[must_use]
    pub fn everywhere(mut self, external: IpAddr) -> Self {
        self.everywhere.push(external.to_canonical());
        self
    }

    /// Advertises `external` for this local address.
    #[must_use]
    pub fn for_local(mut self, local: IpAddr, external: IpAddr) -> Self {
        self.by_local
            .insert(local.to_canonical(), external.to_canonical());
        self
    }

    /// Returns what to advertise for a local address; `None` for a wildcard that has no rule.
    #[must_use]
    pub fn advertised(&self, local: IpAddr) -> Option<IpAddr> {
        let same_family = |ip: &&IpAddr| ip.is_ipv4() == local.is_ipv4();
        self.by_local
            .get(&local)
            .or_else(|| self.everywhere.iter().find(same_family))
            .copied()
            .or_else(|| (!local.is_unspecified()).then_some(local))
    }

    /// Returns all that is ever advertised by rule.
    pub(super) fn all(&self) -> impl Iterator<Item = IpAddr> {
        self.by_local.values().chain(&self.everywhere).copied()
    }
}

/// What one client, one address and all together may hold. With everything used one allocation takes about
/// 25 KiB (see `allocations`), so the defaults bound the server's memory at 400 MiB; a usual allocation with
/// two peers takes about 1 KiB.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Allocations in all (508 above it). Default 16384, as many as the default port range has.
    pub allocations: u32,
    /// Allocations per user (486 above it). Default 32: a peer holds two or three, and lost ones linger.
    pub allocations_per_user: u32,
    /// Allocations per source address, per /64 for IPv6 (486 above it). Default 512, because a carrier's NAT
    /// may hide many people.
    pub allocations_per_source: u32,
    /// Ports kept by EVEN-PORT's R bit for half a minute, in all (508 above it). Default 1024, a sixteenth of the
    /// port range. Each counts as an allocation of its user too.
    pub reservations: usize,
    /// Permissions per allocation (508 above it). Default 128.
    pub permissions: usize,
    /// Channels per allocation (508 above it). Default 128.
    pub channels: usize,
    /// Refusals per second to one address that has not shown credentials. Default 100, with a burst of
    /// 200: a refusal is 60 bytes, so that is all that a forged source address can be sent.
    pub refusals_per_second: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            allocations: 16384,
            allocations_per_user: 32,
            allocations_per_source: 512,
            reservations: 1024,
            permissions: 128,
            channels: 128,
            refusals_per_second: 100,
        }
    }
}

/// How long things live. Permissions (300 s) and channels (600 s) are fixed by RFC 8656.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// An allocation when the client does not say, and the least. Default 600 s (RFC 8656, section 7.2).
    pub allocation: Duration,
    /// The most a client can ask for. Default 3600 s, as coturn.
    pub allocation_max: Duration,
    /// A nonce. Default 3600 s (RFC 8656, section 5: at least once an hour).
    pub nonce: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            allocation: Duration::from_secs(600),
            allocation_max: Duration::from_secs(3600),
            nonce: Duration::from_secs(3600),
        }
    }
}

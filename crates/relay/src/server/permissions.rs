//! Which peers an allocation lets in (RFC 8656, section 9).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::address_rules::Scope;

/// Fixed (RFC 8656, section 9).
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// The permissions of one allocation, by IP address alone.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    by_ip: BTreeMap<IpAddr, Permission>,
}

#[derive(Clone, Copy, Debug)]
struct Permission {
    expires: Instant,
    scope: Scope,
}

impl Permissions {
    /// Returns where packets to this address may go; `None` when there is no permission. Packets from it are
    /// let in when there is one.
    pub(super) fn scope(&self, ip: IpAddr, now: Instant) -> Option<Scope> {
        self.by_ip
            .get(&ip)
            .filter(|permission| now < permission.expires)
            .map(|permission| permission.scope)
    }

    /// Returns whether these addresses fit in below `max`, those that are there counted once. Forgets what
    /// has expired.
    pub(super) fn has_room(&mut self, ips: &[IpAddr], max: usize, now: Instant) -> bool {
        if self.by_ip.len() + ips.len() > max {
            self.by_ip.retain(|_, permission| now < permission.expires);
        }
        let mut new: Vec<_> = ips
            .iter()
            .filter(|ip| !self.by_ip.contains_key(ip))
            .collect();
        new.sort_unstable();
        new.dedup();
        self.by_ip.len() + new.len() <= max
    }

    /// Makes or renews a permission.
    pub(super) fn install(&mut self, ip: IpAddr, scope: Scope, now: Instant) {
        self.by_ip.insert(
            ip,
            Permission {
                expires: now + PERMISSION_LIFETIME,
                scope,
            },
        );
    }
}

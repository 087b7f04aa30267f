//! CreatePermission and ChannelBind (RFC 8656, sections 10 and 12): which peers a client may talk to.

use std::net::IpAddr;
use std::time::Instant;

use stunwire::{
    AddressFamily, Attribute, AttributeType, ChannelNumber, ErrorCode, Message, XorPeerAddress,
};

use super::Server;
use super::address_rules::{AddressRules, Known, Scope, is_loopback};
use super::allocations::{Allocation, Allocations};
use super::answer::Outcome;
use super::auth::Identity;
use super::channels::BindError;
use super::five_tuple::ClientAddr;
use crate::PeerAddr;

impl Server {
    /// Handles CreatePermission: for all the addresses named, or for none.
    pub(super) fn handle_create_permission(
        &mut self,
        client: ClientAddr,
        message: &Message<'_>,
        identity: &Identity,
        now: Instant,
    ) -> Outcome {
        match self.create_permissions(client, message, identity, now) {
            Ok(()) => Outcome::Done,
            Err(code) => self.refused(code),
        }
    }

    /// Handles ChannelBind, which makes or renews the permission too.
    pub(super) fn handle_channel_bind(
        &mut self,
        client: ClientAddr,
        message: &Message<'_>,
        identity: &Identity,
        now: Instant,
    ) -> Outcome {
        match self.bind_channel(client, message, identity, now) {
            Ok(()) => Outcome::Done,
            Err(code) => self.refused(code),
        }
    }

    fn create_permissions(
        &mut self,
        client: ClientAddr,
        message: &Message<'_>,
        identity: &Identity,
        now: Instant,
    ) -> Result<(), u16> {
        let peers = read_peers(message)?;
        let allocation = self.allocation_of(&client, identity)?;
        let mut scopes = Vec::with_capacity(peers.len());
        for peer in peers {
            let scope = judge(&self.rules, &self.allocations, allocation, peer)?;
            scopes.push((peer.ip(), scope));
        }
        let ips: Vec<IpAddr> = scopes.iter().map(|(ip, _)| *ip).collect();
        let max = self.config.quotas.permissions;
        let allocation = self.allocation_of_mut(&client)?;
        if !allocation.permissions.has_room(&ips, max, now) {
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        for (ip, scope) in scopes {
            allocation.permissions.install(ip, scope, now);
        }
        Ok(())
    }

    fn bind_channel(
        &mut self,
        client: ClientAddr,
        message: &Message<'_>,
        identity: &Identity,
        now: Instant,
    ) -> Result<(), u16> {
        let number: ChannelNumber = message.read().map_err(|_| ErrorCode::BAD_REQUEST)?;
        let peer: XorPeerAddress = message.read().map_err(|_| ErrorCode::BAD_REQUEST)?;
        let peer = PeerAddr::new(peer.0);
        if peer.get().port() == 0 {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let allocation = self.allocation_of(&client, identity)?;
        let scope = judge(&self.rules, &self.allocations, allocation, peer)?;
        let quotas = self.config.quotas;
        let allocation = self.allocation_of_mut(&client)?;
        allocation
            .channels
            .check(number, peer, quotas.channels, now)
            .map_err(|error| match error {
                BindError::Conflict => ErrorCode::BAD_REQUEST,
                BindError::Full => ErrorCode::INSUFFICIENT_CAPACITY,
            })?;
        if !allocation
            .permissions
            .has_room(&[peer.ip()], quotas.permissions, now)
        {
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        allocation.channels.bind(number, peer, now);
        allocation.permissions.install(peer.ip(), scope, now);
        Ok(())
    }

    fn allocation_of(&self, client: &ClientAddr, identity: &Identity) -> Result<&Allocation, u16> {
        let allocation = self
            .allocations
            .open_of(client)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        if allocation.user == identity.user {
            Ok(allocation)
        } else {
            Err(ErrorCode::WRONG_CREDENTIALS)
        }
    }

    fn allocation_of_mut(&mut self, client: &ClientAddr) -> Result<&mut Allocation, u16> {
        self.allocations
            .open_of_mut(client)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)
    }

    fn refused(&mut self, code: u16) -> Outcome {
        match code {
            ErrorCode::FORBIDDEN => self.stats.peers_forbidden += 1,
            ErrorCode::INSUFFICIENT_CAPACITY => self.stats.capacity_refusals += 1,
            _ => {}
        }
        Outcome::Refused(code)
    }
}

/// Reads every XOR-PEER-ADDRESS; there must be one, and none may be malformed.
fn read_peers(message: &Message<'_>) -> Result<Vec<PeerAddr>, u16> {
    let id = message.transaction_id();
    let peers: Option<Vec<PeerAddr>> = message
        .attributes()
        .filter(|attribute| attribute.kind == AttributeType::XOR_PEER_ADDRESS)
        .map(|attribute| {
            XorPeerAddress::decode(attribute.value, id).map(|peer| PeerAddr::new(peer.0))
        })
        .collect();
    peers
        .filter(|peers| !peers.is_empty())
        .ok_or(ErrorCode::BAD_REQUEST)
}

/// Asks the address rules about a peer, with what the table knows: 443 for the wrong family, 403 for a
/// forbidden address.
fn judge(
    rules: &AddressRules,
    allocations: &Allocations,
    allocation: &Allocation,
    peer: PeerAddr,
) -> Result<Scope, u16> {
    let relayed = allocation.relayed.get().ip();
    if AddressFamily::of(relayed) != AddressFamily::of(peer.ip()) {
        return Err(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH);
    }
    let ip = peer.ip();
    let known = Known {
        is_source_of_another: allocations.is_source_of_another(ip, allocation),
        is_relayed_of_another: allocations.is_relayed_of_another(ip, allocation),
        is_own: ip == relayed
            || ip == allocation.client.local_ip()
            || ip == allocation.port.local().ip(),
        client_is_on_loopback: is_loopback(allocation.client.source_ip()),
    };
    rules.judge(ip, known).ok_or(ErrorCode::FORBIDDEN)
}

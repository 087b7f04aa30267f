//! Refresh (RFC 8656, section 8).

use std::time::Instant;

use stunwire::{
    AddressFamily, AttributeError, ErrorCode, Lifetime, Message, RequestedAddressFamily,
};

use super::answer::Outcome;
use super::auth::Identity;
use super::five_tuple::ClientAddr;
use super::{Command, Server};

impl Server {
    /// Handles Refresh: a longer life, or with lifetime zero the end.
    pub(super) fn handle_refresh(
        &mut self,
        client: ClientAddr,
        message: &Message<'_>,
        identity: &Identity,
        now: Instant,
    ) -> Outcome {
        let lifetime = match self.granted(message) {
            Ok(lifetime) => lifetime,
            Err(code) => return Outcome::Refused(code),
        };
        let Some(slot) = self.allocations.slot_of(&client) else {
            return Outcome::Refused(ErrorCode::ALLOCATION_MISMATCH);
        };
        let Some(allocation) = self.allocations.open_of(&client) else {
            return Outcome::Refused(ErrorCode::ALLOCATION_MISMATCH);
        };
        if allocation.user != identity.user {
            return Outcome::Refused(ErrorCode::WRONG_CREDENTIALS);
        }
        let family = AddressFamily::of(allocation.relayed.get().ip());
        match message.read::<RequestedAddressFamily>() {
            Err(AttributeError::Missing(_)) => {}
            Ok(requested) if requested.0 == family => {}
            Ok(_) | Err(_) => {
                return Outcome::Refused(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH);
            }
        }
        if message
            .read::<Lifetime>()
            .is_ok_and(|asked| asked.0.is_zero())
        {
            self.end_allocation(&client);
            return Outcome::Refreshed(std::time::Duration::ZERO);
        }
        self.allocations.set_expiry(slot, now + lifetime);
        Outcome::Refreshed(lifetime)
    }

    /// Ends the allocation of a client, if there is one.
    pub(super) fn end_allocation(&mut self, client: &ClientAddr) {
        let removed = self
            .allocations
            .slot_of(client)
            .and_then(|slot| self.allocations.remove(slot));
        if let Some(allocation) = removed {
            self.stats.allocations_ended += 1;
            self.commands.push_back(Command::ClosePort {
                port: allocation.port,
            });
        }
    }
}

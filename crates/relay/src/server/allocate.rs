//! Allocate (RFC 8656, section 7): may he, where, and what becomes of the port.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use stunwire::{
    AddressFamily, AttributeError, AttributeType, ErrorCode, EvenPort, Lifetime, Message, Method,
    RequestedAddressFamily, RequestedTransport,
};

use super::allocations::{Allocation, Opening, State};
use super::answer::{self, Outcome};
use super::auth::Identity;
use super::channels::Channels;
use super::five_tuple::{ClientAddr, RelayPort};
use super::permissions::Permissions;
use super::{Command, Server, ports};
use crate::RelayedAddr;

/// How long the opening of a port may take. The shell does it at once; this bounds what a bug there costs.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// Ports tried before the answer is 508: some may be taken by other programs.
const PORT_TRIES: u8 = 8;

/// What an Allocate request asks for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    even: bool,
    family: AddressFamily,
    lifetime: Duration,
}

impl Server {
    /// Handles Allocate. `None` when the answer comes later, or came already.
    pub(super) fn handle_allocate(
        &mut self,
        client: ClientAddr,
        message: &Message<'_>,
        identity: Identity,
        now: Instant,
    ) -> Option<Outcome> {
        if let Some(slot) = self.allocations.slot_of(&client) {
            let allocation = self.allocations.get(slot)?;
            if allocation.transaction != message.transaction_id()
                || allocation.user != identity.user
            {
                return Some(Outcome::Refused(ErrorCode::ALLOCATION_MISMATCH));
            }
            // The answer was lost, or the port is still being opened.
            if let State::Open { answer } = &allocation.state {
                let payload = answer.to_vec();
                self.answer(client, payload);
            }
            return None;
        }
        match self.open_allocation(client, message, identity, now) {
            Ok(()) => None,
            Err(code) => Some(Outcome::Refused(code)),
        }
    }

    /// The shell opened a relay port.
    pub(super) fn on_port_opened(&mut self, port: RelayPort, now: Instant) {
        let Some(slot) = self.allocations.slot_at(port) else {
            // It ran out, or its client went, while the port was being opened.
            self.commands.push_back(Command::ClosePort { port });
            return;
        };
        let software = &self.config.software;
        let Some(allocation) = self.allocations.get_mut(slot) else {
            return;
        };
        let State::Opening(opening) = &allocation.state else {
            return;
        };
        let lifetime = opening.lifetime;
        let outcome = Outcome::Allocated {
            relayed: allocation.relayed,
            reflexive: allocation.client.reflexive(),
            lifetime,
        };
        let (client, id) = (allocation.client, allocation.transaction);
        let Ok(bytes) = answer::encode(&outcome, Method::ALLOCATE, id, &opening.key, software)
        else {
            return;
        };
        allocation.state = State::Open {
            answer: bytes.clone().into(),
        };
        self.allocations.set_expiry(slot, now + lifetime);
        self.stats.allocations_made += 1;
        self.answer(client, bytes);
    }

    /// The shell could not open a relay port: another one, or 508.
    pub(super) fn on_port_failed(&mut self, port: RelayPort) {
        self.stats.ports_failed += 1;
        let Some(slot) = self.allocations.slot_at(port) else {
            return;
        };
        let Some(allocation) = self.allocations.get_mut(slot) else {
            return;
        };
        let State::Opening(opening) = &mut allocation.state else {
            return;
        };
        opening.failures += 1;
        let (even, failures) = (opening.even, opening.failures);
        let (ip, external) = (port.local().ip(), allocation.relayed.get().ip());
        let another = if failures < PORT_TRIES {
            self.draw_port(ip, external, even)
        } else {
            None
        };
        if let Some((port, relayed)) = another {
            self.allocations.move_to_port(slot, port, relayed);
            self.commands.push_back(Command::OpenPort { port });
            return;
        }
        let Some(allocation) = self.allocations.remove(slot) else {
            return;
        };
        if let State::Opening(opening) = allocation.state {
            self.stats.capacity_refusals += 1;
            let outcome = Outcome::Refused(ErrorCode::INSUFFICIENT_CAPACITY);
            let id = allocation.transaction;
            self.answer_signed(
                allocation.client,
                &outcome,
                Method::ALLOCATE,
                id,
                &opening.key,
            );
        }
    }

    fn open_allocation(
        &mut self,
        client: ClientAddr,
        message: &Message<'_>,
        identity: Identity,
        now: Instant,
    ) -> Result<(), u16> {
        let wish = self.read_wish(message)?;
        self.check_quotas(&client, &identity)?;
        let ip = self
            .relay_ip(&client, wish.family)
            .ok_or(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED)?;
        let place = self
            .config
            .external
            .advertised(ip)
            .and_then(|external| self.draw_port(ip, external, wish.even));
        let Some((port, relayed)) = place else {
            self.stats.capacity_refusals += 1;
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        };
        self.allocations.insert(Allocation {
            client,
            user: identity.user,
            port,
            relayed,
            expires: now + OPENING_MAX,
            state: State::Opening(Box::new(Opening {
                key: identity.key,
                lifetime: wish.lifetime,
                even: wish.even,
                failures: 0,
            })),
            transaction: message.transaction_id(),
            permissions: Permissions::default(),
            channels: Channels::default(),
        });
        self.commands.push_back(Command::OpenPort { port });
        Ok(())
    }

    /// Reads what is asked for, in the order of RFC 8656, section 7.2.
    fn read_wish(&mut self, message: &Message<'_>) -> Result<Wish, u16> {
        let RequestedTransport(protocol) = message.read().map_err(|_| ErrorCode::BAD_REQUEST)?;
        if RequestedTransport(protocol) != RequestedTransport::UDP {
            return Err(ErrorCode::UNSUPPORTED_TRANSPORT);
        }
        let with_family = message.contains(AttributeType::REQUESTED_ADDRESS_FAMILY);
        let with_even_port = message.contains(AttributeType::EVEN_PORT);
        if message.contains(AttributeType::RESERVATION_TOKEN) {
            // No port is ever reserved (below), so every token is one that cannot be served.
            let conflict = with_family || with_even_port;
            self.stats.capacity_refusals += u64::from(!conflict);
            return Err(if conflict {
                ErrorCode::BAD_REQUEST
            } else {
                ErrorCode::INSUFFICIENT_CAPACITY
            });
        }
        if with_family && message.contains(AttributeType::ADDITIONAL_ADDRESS_FAMILY) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let family = match message.read::<RequestedAddressFamily>() {
            Ok(requested) => requested.0,
            Err(AttributeError::Missing(_)) => AddressFamily::Ipv4,
            Err(_) => {
                return Err(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED);
            }
        };
        let even = match message.read::<EvenPort>() {
            Ok(EvenPort { reserve: false }) => true,
            // Pairs of ports served RTP and RTCP; one that is kept for nobody helps to exhaust the range.
            Ok(EvenPort { reserve: true }) => {
                self.stats.capacity_refusals += 1;
                return Err(ErrorCode::INSUFFICIENT_CAPACITY);
            }
            Err(AttributeError::Missing(_)) => false,
            Err(_) => return Err(ErrorCode::BAD_REQUEST),
        };
        Ok(Wish {
            even,
            family,
            lifetime: self.granted(message)?,
        })
    }

    /// The lifetime granted: what was asked for, within bounds.
    pub(super) fn granted(&self, message: &Message<'_>) -> Result<Duration, u16> {
        let bounds = self.config.lifetimes;
        match message.read::<Lifetime>() {
            Ok(Lifetime(asked)) => Ok(asked.min(bounds.allocation_max).max(bounds.allocation)),
            Err(AttributeError::Missing(_)) => Ok(bounds.allocation),
            Err(_) => Err(ErrorCode::BAD_REQUEST),
        }
    }

    fn check_quotas(&mut self, client: &ClientAddr, identity: &Identity) -> Result<(), u16> {
        let quotas = self.config.quotas;
        if self.allocations.of_user(&identity.user) >= quotas.allocations_per_user
            || self.allocations.of_source(client.source_ip()) >= quotas.allocations_per_source
        {
            self.stats.quota_refusals += 1;
            return Err(ErrorCode::ALLOCATION_QUOTA_REACHED);
        }
        if self.allocations.len() as u64 >= u64::from(quotas.allocations) {
            self.stats.capacity_refusals += 1;
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        Ok(())
    }

    /// Where to open a port: at the address that the client came to, or at one offered for the other family.
    fn relay_ip(&self, client: &ClientAddr, family: AddressFamily) -> Option<IpAddr> {
        let local = client.local_ip();
        if AddressFamily::of(local) == family && !local.is_unspecified() {
            return Some(local);
        }
        let offered = self.config.relay_ips.iter().copied();
        let fallback = Some(local).filter(|ip| AddressFamily::of(*ip) == family);
        offered
            .filter(|ip| AddressFamily::of(*ip) == family)
            .chain(fallback)
            .next()
    }

    fn draw_port(
        &mut self,
        ip: IpAddr,
        external: IpAddr,
        even: bool,
    ) -> Option<(RelayPort, RelayedAddr)> {
        let place = |port| {
            (
                RelayPort::new(ip, port),
                RelayedAddr::new((external, port).into()),
            )
        };
        let allocations = &self.allocations;
        let is_free = |port| {
            let (port, relayed) = place(port);
            allocations.is_free(port, relayed)
        };
        ports::draw(&self.config.relay_ports, even, &mut self.rng, is_free).map(place)
    }
}

//! Allocate (RFC 8656, section 7): may he, where, and what becomes of the port.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::Rng;
use stunwire::{
    AddressFamily, AttributeError, AttributeType, ErrorCode, EvenPort, Lifetime, Message, Method,
    RequestedAddressFamily, RequestedTransport, ReservationToken,
};

use super::allocations::{Allocation, Opening, Slot, State};
use super::answer::{self, Outcome};
use super::auth::Identity;
use super::channels::Channels;
use super::five_tuple::{ClientAddr, RelayPort};
use super::permissions::Permissions;
use super::ports::Parity;
use super::reservations::{RESERVED_FOR, Reservation};
use super::{Command, Server, ports};
use crate::RelayedAddr;

/// How long the opening of a port may take. The shell does it at once; this bounds what a bug there costs.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// Ports tried before the answer is 508: some may be taken by other programs.
const PORT_TRIES: u8 = 8;

/// What an Allocate request asks for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    port: PortWish,
    lifetime: Duration,
}

/// Which relayed address.
#[derive(Clone, Copy, Debug)]
enum PortWish {
    /// One of that kind.
    Drawn {
        family: AddressFamily,
        parity: Parity,
    },
    /// The one that was kept.
    Reserved(ReservationToken),
}

/// Where an allocation is to be.
struct Place {
    port: RelayPort,
    relayed: RelayedAddr,
    /// What else would do.
    parity: Option<Parity>,
    /// What was kept beside it.
    token: Option<ReservationToken>,
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
            token: opening.token,
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
        let parity = opening.parity.filter(|_| opening.failures < PORT_TRIES);
        let token = opening.token.take();
        let (ip, external) = (port.local().ip(), allocation.relayed.get().ip());
        // What was kept beside this port goes to the next one that is tried.
        let kept = token.and_then(|token| Some((token, self.reservations.remove(token)?)));
        let another = parity.and_then(|parity| self.draw_port(ip, external, parity));
        if let Some((port, relayed)) = another {
            self.allocations.move_to_port(slot, port, relayed);
            if let Some((token, kept)) = kept {
                self.reserve_neighbor(token, port, relayed, kept.user, kept.expires);
                self.remember_token(slot, token);
            }
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
        self.reservations.expire(now);
        let place = match wish.port {
            PortWish::Drawn { family, parity } => {
                self.check_quotas(&client, &identity, parity)?;
                let ip = self
                    .relay_ip(&client, family)
                    .ok_or(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED)?;
                self.draw_place(ip, parity, &identity, now)
            }
            PortWish::Reserved(token) => {
                // Its quotas were checked when it was kept; a client may still have moved to another source.
                self.reservations
                    .redeem(token, &identity.user)
                    .map(|kept| Place {
                        port: kept.port,
                        relayed: kept.relayed,
                        parity: None,
                        token: None,
                    })
            }
        };
        let Some(place) = place else {
            self.stats.capacity_refusals += 1;
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        };
        let Place {
            port,
            relayed,
            parity,
            token,
        } = place;
        self.allocations.insert(Allocation {
            client,
            user: identity.user,
            port,
            relayed,
            expires: now + OPENING_MAX,
            state: State::Opening(Box::new(Opening {
                key: identity.key,
                lifetime: wish.lifetime,
                parity,
                token,
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
    fn read_wish(&self, message: &Message<'_>) -> Result<Wish, u16> {
        let RequestedTransport(protocol) = message.read().map_err(|_| ErrorCode::BAD_REQUEST)?;
        if RequestedTransport(protocol) != RequestedTransport::UDP {
            return Err(ErrorCode::UNSUPPORTED_TRANSPORT);
        }
        let with_family = message.contains(AttributeType::REQUESTED_ADDRESS_FAMILY);
        let with_even_port = message.contains(AttributeType::EVEN_PORT);
        let with_additional = message.contains(AttributeType::ADDITIONAL_ADDRESS_FAMILY);
        if message.contains(AttributeType::RESERVATION_TOKEN) {
            let token = message.read().map_err(|_| ErrorCode::BAD_REQUEST)?;
            if with_family || with_even_port || with_additional {
                return Err(ErrorCode::BAD_REQUEST);
            }
            return Ok(Wish {
                port: PortWish::Reserved(token),
                lifetime: self.granted(message)?,
            });
        }
        if with_family && with_additional {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let family = match message.read::<RequestedAddressFamily>() {
            Ok(requested) => requested.0,
            Err(AttributeError::Missing(_)) => AddressFamily::Ipv4,
            Err(_) => {
                return Err(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED);
            }
        };
        let parity = match message.read::<EvenPort>() {
            Ok(EvenPort { reserve: false }) => Parity::Even,
            Ok(EvenPort { reserve: true }) => Parity::EvenWithNeighbor,
            Err(AttributeError::Missing(_)) => Parity::Any,
            Err(_) => return Err(ErrorCode::BAD_REQUEST),
        };
        Ok(Wish {
            port: PortWish::Drawn { family, parity },
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

    /// A port that is kept counts as one of its user's allocations from then on.
    fn check_quotas(
        &mut self,
        client: &ClientAddr,
        identity: &Identity,
        parity: Parity,
    ) -> Result<(), u16> {
        let quotas = self.config.quotas;
        let kept = parity == Parity::EvenWithNeighbor;
        let of_user = self.allocations.of_user(&identity.user) as usize
            + self.reservations.of_user(&identity.user)
            + usize::from(kept);
        if of_user >= quotas.allocations_per_user as usize
            || self.allocations.of_source(client.source_ip()) >= quotas.allocations_per_source
        {
            self.stats.quota_refusals += 1;
            return Err(ErrorCode::ALLOCATION_QUOTA_REACHED);
        }
        let all = self.allocations.len() + self.reservations.len() + usize::from(kept);
        if all >= quotas.allocations as usize
            || kept && self.reservations.len() >= quotas.reservations
        {
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

    fn draw_place(
        &mut self,
        ip: IpAddr,
        parity: Parity,
        identity: &Identity,
        now: Instant,
    ) -> Option<Place> {
        let external = self.config.external.advertised(ip)?;
        let (port, relayed) = self.draw_port(ip, external, parity)?;
        let token = (parity == Parity::EvenWithNeighbor).then(|| {
            let mut token = ReservationToken([0; 8]);
            self.rng.fill_bytes(&mut token.0);
            self.reserve_neighbor(
                token,
                port,
                relayed,
                identity.user.clone(),
                now + RESERVED_FOR,
            );
            token
        });
        Some(Place {
            port,
            relayed,
            parity: Some(parity),
            token,
        })
    }

    /// Keeps the port above an even one.
    fn reserve_neighbor(
        &mut self,
        token: ReservationToken,
        port: RelayPort,
        relayed: RelayedAddr,
        user: Box<str>,
        expires: Instant,
    ) {
        // An even port has an upper neighbour.
        let above = |address: SocketAddr| SocketAddr::new(address.ip(), address.port() | 1);
        let neighbor = above(port.local());
        self.reservations.insert(
            token,
            Reservation {
                user,
                port: RelayPort::new(neighbor.ip(), neighbor.port()),
                relayed: RelayedAddr::new(above(relayed.get())),
                expires,
            },
        );
    }

    fn remember_token(&mut self, slot: Slot, token: ReservationToken) {
        if let Some(allocation) = self.allocations.get_mut(slot)
            && let State::Opening(opening) = &mut allocation.state
        {
            opening.token = Some(token);
        }
    }

    fn draw_port(
        &mut self,
        ip: IpAddr,
        external: IpAddr,
        parity: Parity,
    ) -> Option<(RelayPort, RelayedAddr)> {
        let place = |port| {
            (
                RelayPort::new(ip, port),
                RelayedAddr::new((external, port).into()),
            )
        };
        let (allocations, reservations) = (&self.allocations, &self.reservations);
        let is_free = |port| {
            let (port, relayed) = place(port);
            allocations.is_free(port, relayed) && reservations.is_free(port, relayed)
        };
        ports::draw(&self.config.relay_ports, parity, &mut self.rng, is_free).map(place)
    }
}

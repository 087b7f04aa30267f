//! Ports that are kept for a later request: EVEN-PORT's R bit and RESERVATION-TOKEN (RFC 8656, section 7.2).
//!
//! A pair of neighbouring ports once carried RTP and RTCP; clients that speak both still ask for one. The upper
//! port is taken out of the draw for half a minute, and whoever made it shows the token to have it. Its socket is
//! opened then, so a reservation costs no descriptor.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use stunwire::ReservationToken;

use super::five_tuple::RelayPort;
use crate::RelayedAddr;

/// How long a port is kept (RFC 8656, section 7.2: at least 30 s).
pub(super) const RESERVED_FOR: Duration = Duration::from_secs(30);

/// A port that waits for its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) user: Box<str>,
    pub(super) port: RelayPort,
    pub(super) relayed: RelayedAddr,
    pub(super) expires: Instant,
}

/// All of them. They are few (a quota says how many), and live shortly.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    by_token: BTreeMap<[u8; 8], Reservation>,
    ports: HashSet<RelayPort>,
    relayed: HashSet<RelayedAddr>,
}

impl Reservations {
    pub(super) fn len(&self) -> usize {
        self.by_token.len()
    }

    /// How many are kept for a user.
    pub(super) fn of_user(&self, user: &str) -> usize {
        self.by_token
            .values()
            .filter(|reservation| &*reservation.user == user)
            .count()
    }

    /// Returns whether neither the socket's address nor the advertised one is kept for somebody.
    pub(super) fn is_free(&self, port: RelayPort, relayed: RelayedAddr) -> bool {
        !self.ports.contains(&port) && !self.relayed.contains(&relayed)
    }

    /// Keeps a port under a token that nobody can guess.
    pub(super) fn insert(&mut self, token: ReservationToken, reservation: Reservation) {
        self.ports.insert(reservation.port);
        self.relayed.insert(reservation.relayed);
        if let Some(before) = self.by_token.insert(token.0, reservation) {
            self.release(&before);
        }
    }

    /// Takes the port out that a token stands for, if it is this user's: a token serves once.
    pub(super) fn redeem(&mut self, token: ReservationToken, user: &str) -> Option<Reservation> {
        let reservation = self.by_token.get(&token.0)?;
        if &*reservation.user != user {
            return None;
        }
        self.remove(token)
    }

    /// Gives a port back before its time.
    pub(super) fn remove(&mut self, token: ReservationToken) -> Option<Reservation> {
        let reservation = self.by_token.remove(&token.0)?;
        self.release(&reservation);
        Some(reservation)
    }

    /// Gives back what nobody came for.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(token) = self.first_expired(now) {
            self.remove(token);
        }
    }

    fn first_expired(&self, now: Instant) -> Option<ReservationToken> {
        self.by_token
            .iter()
            .find(|(_, reservation)| reservation.expires <= now)
            .map(|(token, _)| ReservationToken(*token))
    }

    fn release(&mut self, reservation: &Reservation) {
        self.ports.remove(&reservation.port);
        self.relayed.remove(&reservation.relayed);
    }
}

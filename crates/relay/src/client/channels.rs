//! Which peers have a channel, and when it must be renewed (RFC 8656, section 12).

use std::collections::BTreeMap;
use std::time::Instant;

use stunwire::ChannelNumber;

use super::config::{BIND_RENEWAL, CHANNEL_LIFETIME, CHANNELS_MAX, CHANNELS_RETIRED_MAX};
use crate::PeerAddr;

/// The channels of one client, wanted and retired.
#[derive(Debug)]
pub(super) struct Channels {
    by_peer: BTreeMap<PeerAddr, Channel>,
    by_number: BTreeMap<u16, PeerAddr>,
    next: u16,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    number: ChannelNumber,
    /// Somebody wants it kept; a retired one only blocks its number.
    wanted: bool,
    /// A ChannelBind is outstanding.
    asked: bool,
    /// When the relay last confirmed it on the present allocation.
    bound: Option<Instant>,
}

impl Channel {
    fn is_open(&self, now: Instant) -> bool {
        self.bound.is_some_and(|at| now < at + CHANNEL_LIFETIME)
    }
}

impl Channels {
    pub(super) const fn new() -> Self {
        Self {
            by_peer: BTreeMap::new(),
            by_number: BTreeMap::new(),
            next: ChannelNumber::FIRST.value(),
        }
    }

    /// Wants a channel to the peer. Returns `false` when too many are wanted.
    pub(super) fn want(&mut self, peer: PeerAddr, now: Instant) -> bool {
        if let Some(channel) = self.by_peer.get_mut(&peer) {
            // A retired one comes back with its old number: another would be refused as a conflict.
            channel.wanted = true;
            return true;
        }
        if self
            .by_peer
            .values()
            .filter(|channel| channel.wanted)
            .count()
            >= CHANNELS_MAX
        {
            return false;
        }
        self.forget_expired(now);
        let number = self.draw_number();
        self.by_number.insert(number.value(), peer);
        self.by_peer.insert(
            peer,
            Channel {
                number,
                wanted: true,
                asked: false,
                bound: None,
            },
        );
        true
    }

    /// Stops renewing; data that still comes on the channel is accepted.
    pub(super) fn retire(&mut self, peer: PeerAddr) {
        let Some(channel) = self.by_peer.get_mut(&peer) else {
            return;
        };
        channel.wanted = false;
        if channel.bound.is_none() && !channel.asked {
            self.remove(peer);
            return;
        }
        let retired = self.by_peer.iter().filter(|(_, channel)| !channel.wanted);
        if retired.clone().count() > CHANNELS_RETIRED_MAX
            && let Some((oldest, _)) = retired.min_by_key(|(_, channel)| channel.bound)
        {
            self.remove(*oldest);
        }
    }

    pub(super) fn remove(&mut self, peer: PeerAddr) {
        if let Some(channel) = self.by_peer.remove(&peer) {
            self.by_number.remove(&channel.number.value());
        }
    }

    /// Returns the number of an open channel to the peer.
    pub(super) fn open(&self, peer: PeerAddr, now: Instant) -> Option<ChannelNumber> {
        self.by_peer
            .get(&peer)
            .filter(|channel| channel.is_open(now))
            .map(|channel| channel.number)
    }

    /// Returns whose channel a number is.
    pub(super) fn peer(&self, number: ChannelNumber) -> Option<PeerAddr> {
        self.by_number.get(&number.value()).copied()
    }

    pub(super) fn number(&self, peer: PeerAddr) -> Option<ChannelNumber> {
        self.by_peer.get(&peer).map(|channel| channel.number)
    }

    /// Returns the peers whose channel must be bound or renewed now.
    pub(super) fn due(&self, now: Instant) -> Vec<PeerAddr> {
        self.by_peer
            .iter()
            .filter(|(_, channel)| {
                channel.wanted
                    && !channel.asked
                    && channel.bound.is_none_or(|at| now >= at + BIND_RENEWAL)
            })
            .map(|(peer, _)| *peer)
            .collect()
    }

    /// Returns when the next channel must be bound or renewed, `not_before` at the earliest.
    pub(super) fn next_due(&self, not_before: Instant) -> Option<Instant> {
        self.by_peer
            .values()
            .filter(|channel| channel.wanted && !channel.asked)
            .map(|channel| {
                channel
                    .bound
                    .map_or(not_before, |at| (at + BIND_RENEWAL).max(not_before))
            })
            .min()
    }

    pub(super) fn set_asked(&mut self, peer: PeerAddr, asked: bool) {
        if let Some(channel) = self.by_peer.get_mut(&peer) {
            channel.asked = asked;
        }
    }

    /// The relay confirmed. Returns the number when this is news and not a renewal.
    pub(super) fn on_bound(&mut self, peer: PeerAddr, now: Instant) -> Option<ChannelNumber> {
        let channel = self.by_peer.get_mut(&peer)?;
        let news = !channel.is_open(now);
        channel.asked = false;
        channel.bound = Some(now);
        (news && channel.wanted).then_some(channel.number)
    }

    /// The allocation is gone, and with it every channel on the relay's side.
    pub(super) fn on_lost(&mut self) {
        let retired: Vec<_> = self
            .by_peer
            .iter()
            .filter(|(_, channel)| !channel.wanted)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in retired {
            self.remove(peer);
        }
        for channel in self.by_peer.values_mut() {
            channel.asked = false;
            channel.bound = None;
        }
    }

    fn forget_expired(&mut self, now: Instant) {
        let gone: Vec<_> = self
            .by_peer
            .iter()
            .filter(|(_, channel)| !channel.wanted && !channel.asked && !channel.is_open(now))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in gone {
            self.remove(peer);
        }
    }

    /// Takes the next free number, round and round: the 4096 numbers of RFC 8656, at most 129 in use.
    fn draw_number(&mut self) -> ChannelNumber {
        loop {
            let number = ChannelNumber::new(self.next)
                .filter(|number| *number <= ChannelNumber::LAST)
                .unwrap_or(ChannelNumber::FIRST);
            self.next = number.value() + 1;
            if !self.by_number.contains_key(&number.value()) {
                return number;
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;

    fn peer(port: u16) -> PeerAddr {
        PeerAddr::new(([192, 0, 2, 1], port).into())
    }

    #[test]
    fn a_retired_channel_comes_back_with_its_number() {
        let now = Instant::now();
        let mut channels = Channels::new();
        assert!(channels.want(peer(1), now));
        let number = channels.on_bound(peer(1), now).unwrap();
        channels.retire(peer(1));
        assert!(
            channels.due(now + BIND_RENEWAL).is_empty(),
            "nobody wants it"
        );
        assert!(channels.want(peer(2), now));
        assert_ne!(
            channels.number(peer(2)),
            Some(number),
            "the number is still taken"
        );
        assert!(channels.want(peer(1), now));
        assert_eq!(channels.number(peer(1)), Some(number));
    }

    #[test]
    fn numbers_go_round_within_what_rfc_8656_leaves_to_clients() {
        let now = Instant::now();
        let mut channels = Channels::new();
        for port in 1..5000 {
            assert!(channels.want(peer(port), now));
            let number = channels.on_bound(peer(port), now).unwrap();
            assert!((ChannelNumber::FIRST..=ChannelNumber::LAST).contains(&number));
            channels.retire(peer(port));
        }
    }

    #[test]
    fn the_table_is_bounded_whatever_is_asked() {
        let now = Instant::now();
        let mut channels = Channels::new();
        for port in 1..2000 {
            assert!(channels.want(peer(port), now));
            channels.on_bound(peer(port), now);
            channels.retire(peer(port));
        }
        assert_eq!(channels.by_peer.len(), CHANNELS_RETIRED_MAX);
        assert_eq!(channels.by_number.len(), CHANNELS_RETIRED_MAX);
        let accepted = (3000..3100)
            .filter(|port| channels.want(peer(*port), now))
            .count();
        assert_eq!(accepted, CHANNELS_MAX);
    }
}

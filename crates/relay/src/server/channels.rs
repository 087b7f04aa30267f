//! Which channels an allocation has (RFC 8656, section 12).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stunwire::ChannelNumber;

use crate::PeerAddr;

/// Fixed (RFC 8656, section 12).
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// The channels of one allocation, found from either end.
#[derive(Debug, Default)]
pub(super) struct Channels {
    by_number: BTreeMap<ChannelNumber, Channel>,
    by_peer: BTreeMap<PeerAddr, ChannelNumber>,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    peer: PeerAddr,
    expires: Instant,
}

/// Why a channel is not bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BindError {
    /// The number has another peer, or the peer another number.
    Conflict,
    /// Too many.
    Full,
}

impl Channels {
    /// Returns the peer of an open channel.
    pub(super) fn peer(&self, number: ChannelNumber, now: Instant) -> Option<PeerAddr> {
        self.by_number
            .get(&number)
            .filter(|channel| now < channel.expires)
            .map(|channel| channel.peer)
    }

    /// Returns the open channel of a peer.
    pub(super) fn number(&self, peer: PeerAddr, now: Instant) -> Option<ChannelNumber> {
        let number = *self.by_peer.get(&peer)?;
        self.peer(number, now).map(|_| number)
    }

    /// Says whether [`Channels::bind`] would be right.
    pub(super) fn check(
        &mut self,
        number: ChannelNumber,
        peer: PeerAddr,
        max: usize,
        now: Instant,
    ) -> Result<(), BindError> {
        let there = self.peer(number, now);
        let number_there = self.number(peer, now);
        match (there, number_there) {
            (Some(other), _) if other != peer => Err(BindError::Conflict),
            (_, Some(other)) if other != number => Err(BindError::Conflict),
            (Some(_), _) => Ok(()),
            (None, _) => {
                if self.by_number.len() >= max {
                    self.by_number.retain(|_, channel| now < channel.expires);
                    let by_number = &self.by_number;
                    self.by_peer
                        .retain(|_, number| by_number.contains_key(number));
                }
                if self.by_number.len() < max {
                    Ok(())
                } else {
                    Err(BindError::Full)
                }
            }
        }
    }

    /// Binds or renews a channel that [`Channels::check`] found right.
    pub(super) fn bind(&mut self, number: ChannelNumber, peer: PeerAddr, now: Instant) {
        // What expired is replaced from both ends.
        if let Some(old) = self.by_peer.insert(peer, number)
            && old != number
        {
            self.by_number.remove(&old);
        }
        let channel = Channel {
            peer,
            expires: now + CHANNEL_LIFETIME,
        };
        if let Some(old) = self.by_number.insert(number, channel)
            && old.peer != peer
        {
            self.by_peer.remove(&old.peer);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use super::*;

    fn number(offset: u16) -> ChannelNumber {
        ChannelNumber::new(0x4000 + offset).unwrap()
    }

    fn peer(port: u16) -> PeerAddr {
        PeerAddr::new(([192, 0, 2, 1], port).into())
    }

    #[test]
    fn a_channel_conflicts_from_both_ends_until_it_expires() {
        let now = Instant::now();
        let mut channels = Channels::default();
        assert_eq!(channels.check(number(0), peer(1), 9, now), Ok(()));
        channels.bind(number(0), peer(1), now);
        assert_eq!(
            channels.check(number(0), peer(1), 9, now),
            Ok(()),
            "a renewal"
        );
        assert_eq!(
            channels.check(number(0), peer(2), 9, now),
            Err(BindError::Conflict)
        );
        assert_eq!(
            channels.check(number(1), peer(1), 9, now),
            Err(BindError::Conflict)
        );
        let later = now + CHANNEL_LIFETIME;
        assert_eq!(channels.peer(number(0), later), None);
        assert_eq!(channels.check(number(1), peer(1), 9, later), Ok(()));
        channels.bind(number(1), peer(1), later);
        assert_eq!(channels.number(peer(1), later), Some(number(1)));
        assert_eq!(channels.by_number.len(), 1);
    }

    #[test]
    fn expired_channels_make_room() {
        let now = Instant::now();
        let mut channels = Channels::default();
        channels.bind(number(0), peer(1), now);
        channels.bind(number(1), peer(2), now);
        assert_eq!(
            channels.check(number(2), peer(3), 2, now),
            Err(BindError::Full)
        );
        assert_eq!(
            channels.check(number(2), peer(3), 2, now + CHANNEL_LIFETIME),
            Ok(())
        );
        assert!(channels.by_peer.is_empty());
    }
}

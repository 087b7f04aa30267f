//! Why is the path to this peer not direct?

use super::Node;
use crate::description::Side;
use crate::event::PeerId;
use crate::reason::{Diagnosis, End, why_unreached};

impl Node {
    /// Returns why no direct path to the peer works, or worked so far, and what would help.
    ///
    /// Both ends come to the same judgement, since each tells the other what it knows.
    #[must_use]
    pub fn diagnosis(&self, id: PeerId) -> Option<Diagnosis> {
        let peer = self.peers.get(&id)?;
        let ours = End::of(&self.description(), peer.seen());
        let theirs = End::of_peer(&peer.description, self.instance);
        let (ingress, egress) = match self.config.side {
            Side::Ingress => (&ours, &theirs),
            Side::Egress => (&theirs, &ours),
        };
        let is_early = peer.is_early();
        Some(Diagnosis::of(ingress, egress, is_early, peer.ledger()))
    }

    /// Returns why the peer is reached through a relay, in words for people.
    #[must_use]
    pub fn why_relayed(&self, id: PeerId) -> Option<String> {
        self.diagnosis(id).map(|diagnosis| diagnosis.to_string())
    }

    /// Returns why no path to the peer works, in words for people.
    #[must_use]
    pub fn why_unreached(&self, id: PeerId) -> Option<String> {
        let why = self.why_relayed(id)?;
        let ours = self.config.side.into();
        Some(why_unreached(self.config.policy, ours, &why))
    }
}

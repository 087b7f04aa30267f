//! What becomes of what the agent reports: paths are made, announced, chosen and dropped.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::path::RelayTransport;
use punch::{CandidateKind, PairId};
use rand::RngExt;

use super::Peer;
use crate::description::Side;
use crate::event::{DropCause, Event};
use crate::kept::Path;
use crate::path::{PathId, PathKind, PathView, Route};
use crate::surroundings::Surroundings;
use crate::watch::Watch;

/// More often in one call the ladder does not act: a bound on what should end by itself.
const CLIMBS_MAX: u32 = 8;

/// Where a pair begins and ends.
#[derive(Clone, Copy, Debug)]
struct Ends {
    pair: PairId,
    local: SocketAddr,
    remote: SocketAddr,
    remote_kind: CandidateKind,
}

impl Peer {
    pub(crate) fn drain(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        self.drain_agent(surroundings, now);
        // What the ladder does may be answered by the agent at once, and that again by the ladder: it never
        // takes more than a volley stopped and the next round begun.
        for _ in 0..CLIMBS_MAX {
            self.climb(surroundings, now);
            if !self.drain_agent(surroundings, now) {
                break;
            }
        }
    }

    /// Returns whether there was anything.
    fn drain_agent(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) -> bool {
        let mut any = false;
        while let Some(event) = self.agent.poll_event() {
            any = true;
            match event {
                punch::Event::RemoteSeen {
                    pair,
                    local_base,
                    remote,
                    remote_kind,
                } => {
                    let ends = Ends {
                        pair,
                        local: local_base,
                        remote,
                        remote_kind,
                    };
                    self.climb.ladder.heard(local_base, remote);
                    self.remote_seen(ends, surroundings, now);
                }
                punch::Event::PairValidated {
                    pair,
                    local,
                    remote,
                    rtt,
                } => {
                    let (local, remote_kind) = (local.base, remote.kind);
                    let ends = Ends {
                        pair,
                        local,
                        remote: remote.address,
                        remote_kind,
                    };
                    self.validated(ends, rtt, surroundings, now);
                }
                punch::Event::CheckAnswered { pair, rtt } => {
                    self.check_answered(pair, rtt, surroundings, now);
                }
                punch::Event::PairRemoved { pair } => {
                    self.pair_removed(pair, surroundings, now);
                }
                punch::Event::SmallAnswered { pair } => {
                    if let Some(path) = self.path_of_pair(pair) {
                        path.watch.small_answered();
                    }
                }
                // The watch counts silence itself, by anything that is heard and not by checks alone.
                punch::Event::CheckUnanswered { .. } => {}
                punch::Event::NoteReceived { note, .. } => {
                    self.hear_note(&note, surroundings, now);
                }
                punch::Event::VolleyEnded {
                    volley,
                    sent,
                    answered,
                } => {
                    self.volley_ended(volley, sent, answered, surroundings, now);
                }
                // A pair that stays narrow never becomes a path, and a lost note is what a round's waits are for.
                punch::Event::PairNarrow { .. }
                | punch::Event::NoteDelivered { .. }
                | punch::Event::NoteLost { .. }
                | _ => {}
            }
        }
        any
    }

    /// An authenticated check came from there: on the egress side that is enough to accept a carrier.
    fn remote_seen(&mut self, ends: Ends, surroundings: &mut Surroundings<'_>, now: Instant) {
        let is_ingress = self.side == Side::Ingress;
        if let Some(path) = self.path_of_pair(ends.pair) {
            path.heard = now;
            path.watch.asked();
            // The egress side asks about a path that is kept only when it hears nothing on it; the ingress side
            // asks now and then anyway.
            let is_in_vain = path.is_asked_in_vain(now);
            if (is_ingress || is_in_vain) && path.is_settled(now) {
                path.watch.doubt(now);
            }
            return;
        }
        if !self.permits(&ends) {
            return;
        }
        let Ends { local, remote, .. } = ends;
        if surroundings.relayed.contains(&local)
            && surroundings.relays.route(local, remote).is_none()
        {
            surroundings.relays.bind(local, remote, now);
        }
        if self.side == Side::Egress {
            let path = self.add_path(ends, surroundings, now);
            self.announce_when_routed(path, surroundings, now);
        }
    }

    fn validated(
        &mut self,
        ends: Ends,
        rtt: Duration,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        if !self.permits(&ends) {
            return;
        }
        let id = match self.paths.of_pair(ends.pair) {
            Some(id) => id,
            None => self.add_path(ends, surroundings, now),
        };
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        path.validated = true;
        path.heard = now;
        path.answered = now;
        path.view.rtt = Some(rtt);
        path.watch.answered(rtt, now);
        self.announce_when_routed(id, surroundings, now);
        self.choose(surroundings, now);
    }

    fn check_answered(
        &mut self,
        pair: PairId,
        rtt: Duration,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        let Some(id) = self.paths.of_pair(pair) else {
            return;
        };
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        path.heard = now;
        path.answered = now;
        path.view.rtt = Some(rtt);
        path.watch.answered(rtt, now);
        surroundings.events.push_back(Event::RttMeasured {
            peer: self.id,
            path: id,
            rtt,
        });
    }

    /// Its base went, or it was abandoned for so long that a better pair took its place.
    fn pair_removed(&mut self, pair: PairId, surroundings: &mut Surroundings<'_>, now: Instant) {
        self.restarts.retain(|(_, restarted)| *restarted != pair);
        let Some(id) = self.paths.of_pair(pair) else {
            return;
        };
        let through_our_relay = self.view(id).is_some_and(|view| view.through_our_relay);
        let cause = if through_our_relay {
            DropCause::RelayLost
        } else {
            DropCause::Silent
        };
        self.drop_path(id, cause, None, surroundings, now);
    }

    /// Without relays, a pair with a relayed end is nobody's path.
    fn permits(&self, ends: &Ends) -> bool {
        self.use_relays || self.remote_kind(ends) != CandidateKind::Relayed
    }

    fn add_path(
        &mut self,
        ends: Ends,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) -> PathId {
        let id = surroundings.draw_path_id();
        let through_our_relay = surroundings.relayed.contains(&ends.local);
        let remote_kind = self.remote_kind(&ends);
        let relayed = through_our_relay || remote_kind == CandidateKind::Relayed;
        let kind = match (relayed, surroundings.interfaces.is_local(ends.remote)) {
            (true, _) => PathKind::Relay,
            (false, true) => PathKind::Lan,
            (false, false) => PathKind::Direct,
        };
        let view = PathView {
            kind,
            transport: surroundings
                .relays
                .transport(ends.local)
                .unwrap_or(RelayTransport::Udp),
            local: ends.local,
            remote: ends.remote,
            remote_kind,
            found_as: self.found_as(&ends),
            through_our_relay,
            rtt: None,
        };
        let path = Path {
            pair: ends.pair,
            view,
            route: None,
            validated: false,
            made: now,
            answered: now,
            asked: (now, 0),
            watch: Watch::new(Duration::from_millis(100), surroundings.rng.random(), now),
            heard: now,
            carried: None,
            questioned: None,
        };
        self.paths.insert(id, path);
        id
    }

    /// What the peer itself says of the address now, else what the agent knows.
    fn remote_kind(&self, ends: &Ends) -> CandidateKind {
        self.described_kind(ends.remote).unwrap_or(ends.remote_kind)
    }

    /// A guess that hit is told from an address that was known.
    fn found_as(&self, ends: &Ends) -> CandidateKind {
        let via = self.agent.pair(ends.pair).map(|pair| pair.via);
        via.filter(|via| matches!(via, CandidateKind::Predicted | CandidateKind::Birthday))
            .unwrap_or_else(|| self.remote_kind(ends))
    }

    fn described_kind(&self, remote: SocketAddr) -> Option<CandidateKind> {
        self.description
            .remote_candidates()
            .iter()
            .find(|candidate| candidate.address == remote)
            .map(|candidate| candidate.kind)
    }

    pub(super) fn is_relayed(&self, remote: SocketAddr) -> bool {
        self.described_kind(remote) == Some(CandidateKind::Relayed)
    }

    pub(super) fn announce_when_routed(
        &mut self,
        id: PathId,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        let Some(path) = self.paths.get(id).filter(|path| path.route.is_none()) else {
            return;
        };
        let PathView {
            local,
            remote,
            through_our_relay,
            ..
        } = path.view;
        if !through_our_relay {
            self.route_known(id, Route::Direct { local, remote }, surroundings, now);
        } else if let Some(route) = surroundings.relays.route(local, remote) {
            self.route_known(id, route, surroundings, now);
        } else {
            surroundings.relays.bind(local, remote, now);
        }
    }

    pub(super) fn route_known(
        &mut self,
        id: PathId,
        route: Route,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        let Some(path) = self.paths.get_mut(id) else {
            return;
        };
        if path.route == Some(route) {
            return;
        }
        path.route = Some(route);
        let view = path.view.clone();
        let ready = Event::PathReady {
            peer: self.id,
            path: id,
            route,
            view,
        };
        surroundings.events.push_back(ready);
        self.choose(surroundings, now);
    }

    /// Picks the best path and a standby (ingress only).
    pub(super) fn choose(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        if self.side == Side::Egress {
            return;
        }
        let choice = self.paths.choose(now);
        if let Some(path) = choice.chosen {
            surroundings.events.push_back(Event::PathChosen {
                peer: self.id,
                path,
            });
        }
        if let Some(path) = choice.standby {
            surroundings.events.push_back(Event::StandbyChosen {
                peer: self.id,
                path,
            });
        }
    }

    /// Forgets a path; its pair is checked again from `retry_at` on.
    pub(super) fn drop_path(
        &mut self,
        id: PathId,
        cause: DropCause,
        retry_at: Option<Instant>,
        surroundings: &mut Surroundings<'_>,
        now: Instant,
    ) {
        let was_chosen = self.paths.chosen() == Some(id);
        let Some(path) = self.paths.remove(id) else {
            return;
        };
        if path.view.kind != PathKind::Relay {
            self.observe_loss(cause, surroundings, now);
        }
        if let Some(at) = retry_at {
            self.restart_at(path.pair, at);
        }
        *surroundings.channels_stale = true;
        surroundings.events.push_back(Event::PathDropped {
            peer: self.id,
            path: id,
            cause,
        });
        if was_chosen {
            self.replace_chosen(surroundings, now);
        }
        self.choose(surroundings, now);
    }

    /// The chosen path is gone. The standby takes its place and must prove itself; every other pair is
    /// checked anew.
    fn replace_chosen(&mut self, surroundings: &mut Surroundings<'_>, now: Instant) {
        let (promoted, idle) = self.paths.promote_standby();
        for id in idle {
            self.paths.remove(id);
            let cause = DropCause::Superseded;
            surroundings.events.push_back(Event::PathDropped {
                peer: self.id,
                path: id,
                cause,
            });
        }
        let kept = promoted
            .and_then(|id| self.paths.get(id))
            .map(|path| path.pair);
        let others: Vec<_> = self
            .agent
            .pairs()
            .map(|pair| pair.id)
            .filter(|pair| Some(*pair) != kept)
            .collect();
        for pair in others {
            if !self
                .restarts
                .iter()
                .any(|(_, restarted)| *restarted == pair)
            {
                self.restart_at(pair, now);
            }
        }
        if let Some(path) = promoted.and_then(|id| self.paths.get_mut(id)) {
            path.watch.doubt(now);
        }
        if promoted.is_none() {
            surroundings.relays.doubt(now);
        }
        if let Some(path) = promoted {
            surroundings.events.push_back(Event::PathChosen {
                peer: self.id,
                path,
            });
        }
    }

    fn restart_at(&mut self, pair: PairId, at: Instant) {
        self.restarts.retain(|(_, restarted)| *restarted != pair);
        self.restarts.push((at, pair));
    }

    fn path_of_pair(&mut self, pair: PairId) -> Option<&mut Path> {
        let id = self.paths.of_pair(pair)?;
        self.paths.get_mut(id)
    }
}

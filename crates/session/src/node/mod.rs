//! This process's end of all its sessions: what they share, and who gets which packet.

mod reasons;
mod supplies;
mod traversal;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sansio::{Datagram, Deadline, Handled, Transmit, earliest};

use crate::description::{
    self, Answer, CandidateEntry, DescribedNote, Description, IdentityKey, InstanceId, Nonce, Side,
};
use crate::event::{Event, PeerId};
use crate::gateway::GatewayView;
use crate::gather::Gathered;
use crate::hex::{self, Hex};
use crate::interface::Interface;
use crate::mapped::Mapped;
use crate::path::{PathId, PathView, RelayStreamId};
use crate::peer::Peer;
use crate::probing::Probing;
use crate::reason::Policy;
use crate::relays::{RelayTransmit, Relays};
use crate::surroundings::{Standing, Surroundings};
use crate::traversal::{Commons, Profile, Strategy};

/// More peers than this are not kept; a room holds fewer slots.
const PEERS_MAX: usize = 64;

/// How long a peer that has not answered our description is kept before the layer above should drop it.
pub const UNANSWERED_LIFETIME: Duration = Duration::from_secs(60);

/// How a [`Node`] starts.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Which end this process is.
    pub side: Side,
    /// Its Ed25519 public key.
    pub identity: IdentityKey,
    /// The local addresses of the sockets that carry data; one per address family, as bound.
    pub bases: Vec<SocketAddr>,
    /// The machine's interface addresses.
    pub interfaces: Vec<Interface>,
    /// Whether loopback addresses are offered although there are others: signaling is on loopback, so
    /// the peer probably is too.
    pub offer_loopback: bool,
    /// Which paths are allowed.
    pub policy: Policy,
}

/// A datagram that the layer above must send.
#[derive(Debug)]
pub enum NodeTransmit {
    /// From one of the bases.
    Udp(Transmit),
    /// Over a TCP connection to a relay.
    Stream {
        /// Which connection.
        stream: RelayStreamId,
        /// One whole frame, padded.
        frame: Vec<u8>,
    },
}

/// Counts what was dropped on the way in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Datagrams that no machine wanted.
    pub datagrams_unclaimed: u64,
    /// Peers refused because the table was full.
    pub peers_refused: u64,
    /// Packets for peers behind our relay that could not be sent: no channel was bound yet, or ever will be.
    pub relayed_unsent: u64,
    /// How often a ladder had to wait: for its turn, or because the budget of the minute was used up.
    pub rounds_postponed: u64,
}

/// The sessions of this process and what they share: sockets' addresses, NAT knowledge, allocations.
///
/// Input: [`handle_datagram`](Self::handle_datagram), [`handle_relay_frame`](Self::handle_relay_frame),
/// [`relay_stream_opened`](Self::relay_stream_opened), [`relay_stream_closed`](Self::relay_stream_closed),
/// [`heard`](Self::heard), [`waiting`](Self::waiting), [`handle_timeout`](Self::handle_timeout).
/// Commands: [`set_stun_servers`](Self::set_stun_servers), [`set_relay_servers`](Self::set_relay_servers),
/// [`set_peer`](Self::set_peer), [`remove_peer`](Self::remove_peer),
/// [`carrier_failed`](Self::carrier_failed), [`close`](Self::close).
/// Output: [`poll_transmit`](Self::poll_transmit), [`poll_event`](Self::poll_event),
/// [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    instance: InstanceId,
    nonce: Nonce,
    ufrag: String,
    pwd: String,
    gathered: Gathered,
    probing: Probing,
    relays: Relays,
    gateway: GatewayView,
    mapped: Mapped,
    peers: BTreeMap<PeerId, Peer>,
    /// What worked against an identity in earlier runs, or in this one.
    remembered: BTreeMap<IdentityKey, Strategy>,
    events: VecDeque<Event>,
    next_path: u64,
    channels_stale: bool,
    commons: Commons,
    standing: Standing,
    rng: StdRng,
    stats: NodeStats,
}

impl Node {
    /// Starts with host candidates only; the rest is gathered as servers become known.
    #[must_use]
    pub fn new(config: NodeConfig, seed: [u8; 32], _now: Instant) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut draw = |bytes: &mut [u8]| rng.fill_bytes(bytes);
        let (mut instance, mut nonce, mut relay_seed) = ([0; 16], [0; 16], [0; 32]);
        // RFC 8445, section 5.3 wants 24 bits for the fragment and 128 for the password.
        let (mut ufrag, mut pwd) = ([0; 6], [0; 18]);
        draw(&mut instance);
        draw(&mut nonce);
        draw(&mut relay_seed);
        draw(&mut ufrag);
        draw(&mut pwd);
        let interfaces = config.interfaces.clone();
        let gathered = Gathered::new(config.bases.clone(), interfaces, config.offer_loopback);
        let standing = Standing {
            instance: Hex(instance),
            ours: Profile::default(),
            seen_at: Vec::new(),
            base: gathered.base_of(false),
            may_climb: config.policy != Policy::RelayOnly,
            is_examining: true,
        };
        Self {
            instance: Hex(instance),
            nonce: Hex(nonce),
            ufrag: hex::encode(&ufrag),
            pwd: hex::encode(&pwd),
            gathered,
            probing: Probing::default(),
            relays: Relays::new(relay_seed),
            gateway: GatewayView::default(),
            mapped: Mapped::default(),
            peers: BTreeMap::new(),
            remembered: BTreeMap::new(),
            events: VecDeque::new(),
            next_path: 0,
            channels_stale: false,
            commons: Commons::default(),
            standing,
            rng,
            stats: NodeStats::default(),
            config,
        }
    }

    /// Returns the id of this run.
    #[must_use]
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Returns the counters.
    #[must_use]
    pub const fn stats(&self) -> NodeStats {
        NodeStats {
            relayed_unsent: self.relays.unsent(),
            rounds_postponed: self.commons.budget.refused(),
            ..self.stats
        }
    }

    /// Returns the addresses of our relays over UDP: what comes from them is TURN before anything else.
    #[must_use]
    pub fn relay_addresses(&self) -> Vec<SocketAddr> {
        self.relays.udp_servers()
    }

    /// Returns the whole description to publish.
    #[must_use]
    pub fn description(&self) -> Description {
        let answers = self.peers.values().map(|peer| Answer {
            instance: peer.description.instance,
            nonce: peer.description.nonce,
            seen: peer.seen().as_str().to_owned(),
        });
        let candidates = self.local_candidates();
        Description {
            versions: (description::VERSION_MIN, description::VERSION_MAX),
            role: self.config.side,
            instance: self.instance,
            identity: self.config.identity,
            nonce: self.nonce,
            answers: answers.collect(),
            ufrag: self.ufrag.clone(),
            pwd: self.pwd.clone(),
            candidates: candidates.iter().filter_map(CandidateEntry::of).collect(),
            nat: self.nat_summary(),
            notes: self.described_notes(),
        }
    }

    /// Of what there is to say the newest: a slot does not hold three notes to each of many peers.
    fn described_notes(&self) -> Vec<DescribedNote> {
        let peers = self.peers.values();
        let mut notes: Vec<_> = peers.flat_map(Peer::described_notes).cloned().collect();
        notes.sort_by_key(|note| Reverse(note.counter));
        notes.truncate(description::NOTES_MAX);
        notes
    }

    fn local_candidates(&self) -> Vec<punch::Candidate> {
        let direct = self.config.policy != Policy::RelayOnly;
        let relayed = self.config.policy != Policy::DirectOnly;
        self.gathered.candidates(direct, relayed)
    }

    /// Adds a peer or takes its newer description. Returns `false`, and counts it, when the table is full.
    pub fn set_peer(&mut self, id: PeerId, description: Description, now: Instant) -> bool {
        let fresh = description.answers(self.instance, self.nonce);
        let ours = self.description();
        let locals = self.local_candidates();
        let known = self.peers.contains_key(&id);
        if !known && self.peers.len() >= PEERS_MAX {
            self.stats.peers_refused += 1;
            return false;
        }
        let use_relays = self.config.policy != Policy::DirectOnly;
        let starts = fresh || self.config.side == Side::Egress;
        self.with_peers(|peers, surroundings| {
            if let Some(peer) = peers.get_mut(&id) {
                peer.set_description(description, surroundings, now);
            } else {
                let peer = Peer::new(id, &ours, description, use_relays, surroundings, now);
                peers.insert(id, peer);
            }
            if let Some(peer) = peers
                .get_mut(&id)
                .filter(|peer| starts && !peer.is_started())
            {
                peer.start(&locals, surroundings, now);
            }
        });
        if !known {
            self.events.push_back(Event::DescriptionChanged);
        }
        self.survey_when_due(now);
        self.drain_relays(now);
        true
    }

    /// Forgets a peer and drops its paths.
    pub fn remove_peer(&mut self, id: PeerId) {
        let removed = self.with_peers(|peers, surroundings| {
            let removed = peers.remove(&id);
            removed.map(|mut peer| peer.close(surroundings))
        });
        if removed.is_some() {
            self.events.push_back(Event::DescriptionChanged);
        }
    }

    /// Returns whether the peer has seen our present description: it is alive now.
    #[must_use]
    pub fn is_fresh(&self, id: PeerId) -> bool {
        self.peers
            .get(&id)
            .is_some_and(|peer| peer.description.answers(self.instance, self.nonce))
    }

    /// Returns the description of a peer.
    #[must_use]
    pub fn peer_description(&self, id: PeerId) -> Option<&Description> {
        self.peers.get(&id).map(|peer| &peer.description)
    }

    /// Returns what is known of a path.
    #[must_use]
    pub fn path(&self, path: PathId) -> Option<&PathView> {
        self.peers.values().find_map(|peer| peer.view(path))
    }

    /// Returns the path that packets between a base (or our relayed address) and a remote belong to.
    #[must_use]
    pub fn path_between(&self, local: SocketAddr, remote: SocketAddr) -> Option<PathId> {
        self.peers
            .values()
            .find_map(|peer| peer.path_between(local, remote))
    }

    /// Takes a datagram that is not a carrier's.
    pub fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) {
        if self.commons.is_extra(datagram.local) {
            return self.handle_at_extra_socket(datagram, now);
        }
        let mut data = Delivered::default();
        let consumed = self.relays.handle_datagram(
            datagram.remote,
            datagram.payload,
            now,
            |relayed, peer, payload| data.push(relayed, peer, payload),
        );
        self.deliver(data, now);
        self.drain_relays(now);
        if consumed {
            return;
        }
        if self.offer_to_probers(datagram, now) == Handled::Consumed {
            self.relays.heard_others(now);
            return;
        }
        self.offer_to_peers(datagram, now);
        self.drain_relays(now);
    }

    /// Takes one frame from a relay's TCP connection.
    pub fn handle_relay_frame(&mut self, stream: RelayStreamId, frame: &[u8], now: Instant) {
        let mut data = Delivered::default();
        self.relays
            .handle_stream_frame(stream, frame, now, |relayed, peer, payload| {
                data.push(relayed, peer, payload);
            });
        self.deliver(data, now);
        self.drain_relays(now);
    }

    /// The TCP connection that [`Event::OpenRelayStream`] asked for is there.
    pub fn relay_stream_opened(&mut self, stream: RelayStreamId, now: Instant) {
        self.relays.stream_opened(stream, now);
        self.drain_relays(now);
    }

    /// A TCP connection to a relay could not be made, or ended.
    pub fn relay_stream_closed(&mut self, stream: RelayStreamId, now: Instant) {
        self.relays.stream_closed(stream, now);
        self.drain_relays(now);
    }

    /// Somebody on the internet answers the layer above: silence elsewhere is not the network's.
    pub const fn others_answer(&mut self, now: Instant) {
        self.relays.heard_others(now);
    }

    /// Packets of the path's carrier were heard at `at`.
    pub fn heard(&mut self, path: PathId, at: Instant) {
        if let Some(peer) = self.owner(path) {
            peer.heard(path, at);
        }
    }

    /// The path's carrier has data outstanding and heard nothing since `since`.
    pub fn waiting(&mut self, path: PathId, since: Instant, now: Instant) {
        if let Some(peer) = self.owner(path) {
            peer.waiting(path, since, now);
        }
    }

    /// The peer says that the path is dead: it is checked at once.
    pub fn doubt(&mut self, path: PathId, now: Instant) {
        if let Some(peer) = self.owner(path) {
            peer.doubt(path, now);
        }
    }

    /// No carrier could be opened over the path: it is dropped and tried again later.
    pub fn carrier_failed(&mut self, path: PathId, now: Instant) {
        self.with_peers(|peers, surroundings| {
            if let Some(peer) = peers.values_mut().find(|peer| peer.owns(path)) {
                peer.carrier_failed(path, surroundings, now);
            }
        });
        self.drain_relays(now);
    }

    fn owner(&mut self, path: PathId) -> Option<&mut Peer> {
        self.peers.values_mut().find(|peer| peer.owns(path))
    }

    /// Gives the allocations back; drain the transmits afterwards.
    pub fn close(&mut self, now: Instant) {
        self.relays.close(now);
    }

    /// Time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.probing.handle_timeout(now);
        self.mapped.handle_timeout(now);
        self.drain_probing(now);
        self.handle_commons_timeout(now);
        self.relays.handle_timeout(now);
        self.with_peers(|peers, surroundings| {
            for peer in peers.values_mut() {
                peer.handle_timeout(surroundings, now);
            }
        });
        self.release_channels(now);
        self.drain_relays(now);
    }

    /// Returns a datagram to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<NodeTransmit> {
        loop {
            if let Some(transmit) = self.next_agent_transmit() {
                let source = transmit.source;
                if self.gathered.is_base(source) || self.commons.is_extra(source) {
                    return Some(NodeTransmit::Udp(transmit));
                }
                let Transmit {
                    source,
                    destination,
                    payload,
                    ..
                } = transmit;
                self.relays.send(source, destination, &payload, now);
                continue;
            }
            return match self.relays.poll_transmit(now)? {
                RelayTransmit::Udp(transmit) => Some(NodeTransmit::Udp(transmit)),
                RelayTransmit::Stream { stream, frame } => {
                    Some(NodeTransmit::Stream { stream, frame })
                }
            };
        }
    }

    fn next_agent_transmit(&mut self) -> Option<Transmit> {
        let probe = self.probing.poll_transmit();
        if let Some(transmit) = probe.or_else(|| self.mapped.poll_transmit()) {
            return Some(transmit);
        }
        // A sample leaves before the openers whose ports it is to foretell.
        if let Some(sample) = self.commons.poll_transmit() {
            return Some(sample);
        }
        self.peers.values_mut().find_map(Peer::poll_transmit)
    }

    /// Returns what happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let peers = self.peers.values().map(Peer::poll_timeout);
        let ours = [
            self.probing.poll_timeout(),
            self.mapped.poll_timeout(),
            self.commons.poll_timeout(),
            self.relays.poll_timeout(),
        ];
        earliest(peers.chain(ours))
    }

    fn with_peers<R>(
        &mut self,
        act: impl FnOnce(&mut BTreeMap<PeerId, Peer>, &mut Surroundings<'_>) -> R,
    ) -> R {
        let mut surroundings = Surroundings {
            relays: &mut self.relays,
            interfaces: self.gathered.interfaces(),
            events: &mut self.events,
            next_path: &mut self.next_path,
            rng: &mut self.rng,
            relayed: self.gathered.relayed(),
            channels_stale: &mut self.channels_stale,
            commons: &mut self.commons,
            standing: &self.standing,
            remembered: &mut self.remembered,
        };
        act(&mut self.peers, &mut surroundings)
    }

    fn deliver(&mut self, data: Delivered, now: Instant) {
        for (relayed, peer, payload) in data.0 {
            let datagram = Datagram {
                local: relayed,
                remote: peer,
                payload: &payload,
            };
            self.offer_to_peers(datagram, now);
        }
    }

    fn offer_to_peers(&mut self, datagram: Datagram<'_>, now: Instant) {
        let consumed = self.with_peers(|peers, surroundings| {
            peers
                .values_mut()
                .any(|peer| peer.handle_datagram(datagram, surroundings, now) == Handled::Consumed)
        });
        if !consumed {
            self.stats.datagrams_unclaimed += 1;
        }
    }
}

/// Payloads that came through allocations: at most one per message from a relay.
#[derive(Default)]
struct Delivered(Vec<(SocketAddr, SocketAddr, Vec<u8>)>);

impl Delivered {
    fn push(&mut self, relayed: SocketAddr, peer: SocketAddr, payload: &[u8]) {
        self.0.push((relayed, peer, payload.to_vec()));
    }
}

//! Agents behind small NATs, in virtual time: what the scenarios of this crate need and no more.
//!
//! Every LAN is one NAT (or none), every host one socket, perhaps anchors and perhaps one relayed address. Packets
//! take 10 ms, get lost as asked, and those with a TTL of 2 or less open the NAT but do not arrive beyond it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use punch::{
    Agent, AgentConfig, Candidate, CandidateKind, Event, PairCredentials, PairId, PairState, Role,
    VolleyId,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sansio::{Datagram, Transmit};

pub const DELAY: Duration = Duration::from_millis(10);
const STUN_SERVER: &str = "203.0.113.250:3478";

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub fn host(text: &str) -> Candidate {
    candidate(CandidateKind::Host, text)
}

pub fn candidate(kind: CandidateKind, text: &str) -> Candidate {
    Candidate::new(kind, address(text), address(text), 65535)
}

pub fn credentials(role: Role) -> PairCredentials {
    credentials_with(role, "one password for both directions")
}

pub fn credentials_with(role: Role, password: &str) -> PairCredentials {
    let (local, remote) = match role {
        Role::Controlling => ("ingress", "egress"),
        Role::Controlled => ("egress", "ingress"),
    };
    PairCredentials {
        local_ufrag: local.into(),
        remote_ufrag: remote.into(),
        password: password.into(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    Independent,
    PerDestination,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filtering {
    Independent,
    Address,
    AddressAndPort,
}

#[derive(Debug)]
pub struct Nat {
    public_ip: std::net::IpAddr,
    mapping: Mapping,
    filtering: Filtering,
    /// Plain Linux masquerade without a firewall: what arrives unasked takes the tuple, and a later
    /// packet of ours to the same remote gets another port.
    pub accepts_unsolicited: bool,
    /// How long an entry without traffic lives; for ever when there is none.
    pub lifetime: Option<Duration>,
    /// Draws new ports at random instead of one after the other.
    pub random: Option<StdRng>,
    pub stride: u16,
    pub next_port: u16,
    ports: BTreeMap<(SocketAddr, Option<SocketAddr>), (u16, Instant)>,
    inside: BTreeMap<u16, SocketAddr>,
    sent_to: BTreeMap<(u16, SocketAddr), Instant>,
    clashes: BTreeMap<(u16, SocketAddr), Instant>,
}

impl Nat {
    pub fn new(public_ip: &str, mapping: Mapping, filtering: Filtering) -> Self {
        Self {
            public_ip: public_ip.parse().expect("an IP address"),
            mapping,
            filtering,
            accepts_unsolicited: false,
            lifetime: None,
            random: None,
            stride: 7,
            next_port: 50_000,
            ports: BTreeMap::new(),
            inside: BTreeMap::new(),
            sent_to: BTreeMap::new(),
            clashes: BTreeMap::new(),
        }
    }

    pub fn bindings(&self) -> usize {
        self.ports.len()
    }

    fn is_alive(&self, last: Instant, now: Instant) -> bool {
        self.lifetime.is_none_or(|lifetime| now - last < lifetime)
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, now: Instant) -> SocketAddr {
        let alive = |nat: &Self, known: Option<&(u16, Instant)>| {
            known.copied().filter(|(_, last)| nat.is_alive(*last, now))
        };
        let shifted = alive(self, self.ports.get(&(from, Some(to)))).is_some();
        let taken = self.clashes.get(&(from.port(), to)).copied();
        let clashed = shifted || taken.is_some_and(|last| self.is_alive(last, now));
        let key = match self.mapping {
            Mapping::Independent if !clashed => (from, None),
            Mapping::Independent | Mapping::PerDestination => (from, Some(to)),
        };
        let port = match alive(self, self.ports.get(&key)) {
            Some((port, _)) => port,
            None if self.mapping == Mapping::Independent && !clashed => from.port(),
            None => self.draw_port(),
        };
        self.ports.insert(key, (port, now));
        self.inside.insert(port, from);
        self.sent_to.insert((port, to), now);
        SocketAddr::new(self.public_ip, port)
    }

    fn draw_port(&mut self) -> u16 {
        let Some(rng) = &mut self.random else {
            self.next_port += self.stride;
            return self.next_port;
        };
        loop {
            let port = rng.random_range(1024..=u16::MAX);
            if !self.inside.contains_key(&port) {
                return port;
            }
        }
    }

    fn receive(&mut self, port: u16, from: SocketAddr, now: Instant) -> Option<SocketAddr> {
        let opened = |at: Instant| self.is_alive(at, now);
        let passes = match self.filtering {
            Filtering::Independent => true,
            Filtering::Address => self
                .sent_to
                .iter()
                .any(|((p, to), at)| *p == port && to.ip() == from.ip() && opened(*at)),
            Filtering::AddressAndPort => self
                .sent_to
                .get(&(port, from))
                .is_some_and(|at| opened(*at)),
        };
        if !passes && self.accepts_unsolicited {
            self.clashes.insert((port, from), now);
        }
        if passes {
            self.inside.get(&port).copied()
        } else {
            None
        }
    }
}

pub struct Node {
    pub agent: Agent,
    pub lan: usize,
    pub base: SocketAddr,
    pub relayed: Option<SocketAddr>,
    pub anchors: BTreeSet<SocketAddr>,
    /// Longer datagrams of it get lost.
    pub bytes_max: Option<usize>,
    pub candidates: Vec<Candidate>,
    pub events: Vec<Event>,
    pub sent: Vec<(Duration, Transmit)>,
}

impl Node {
    pub fn validated(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let pairs = self
            .agent
            .pairs()
            .filter(|pair| pair.state == PairState::Validated);
        pairs
            .map(|pair| (pair.local.base, pair.remote.address))
            .collect()
    }

    pub fn has_validated_direct(&self) -> bool {
        self.agent
            .pairs()
            .any(|pair| pair.is_validated() && !pair.is_relayed())
    }

    pub fn has(&self, event: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(event)
    }

    fn owns(&self, local: SocketAddr) -> bool {
        self.base == local || self.anchors.contains(&local)
    }

    pub fn first_validated(&self) -> Option<PairId> {
        self.agent
            .pairs()
            .find(|pair| pair.is_validated())
            .map(|pair| pair.id)
    }
}

struct Packet {
    node: usize,
    local: SocketAddr,
    remote: SocketAddr,
    payload: Vec<u8>,
}

pub struct World {
    pub epoch: Instant,
    pub now: Instant,
    pub lans: Vec<Option<Nat>>,
    pub nodes: Vec<Node>,
    pub loss_percent: u32,
    /// Every datagram also arrives a second time.
    pub duplicates: bool,
    pub delay: Duration,
    pub volleys: Vec<VolleyId>,
    flying: BTreeMap<(Instant, u64), Packet>,
    packets: u64,
    rng: StdRng,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
    pub fn new() -> Self {
        let epoch = Instant::now();
        Self {
            epoch,
            now: epoch,
            lans: Vec::new(),
            nodes: Vec::new(),
            loss_percent: 0,
            duplicates: false,
            delay: DELAY,
            volleys: Vec::new(),
            flying: BTreeMap::new(),
            packets: 0,
            rng: StdRng::from_seed([99; 32]),
        }
    }

    /// Draws other losses.
    pub fn reseed(&mut self, seed: u64) {
        self.rng = StdRng::seed_from_u64(seed);
    }

    pub fn lan(&mut self, nat: Option<Nat>) -> usize {
        self.lans.push(nat);
        self.lans.len() - 1
    }

    /// Puts a host on a LAN: it knows its host candidate and, behind a NAT, what a STUN server sees.
    pub fn node(&mut self, lan: usize, base: &str, role: Role) -> usize {
        self.node_with(lan, base, role, credentials(role), AgentConfig::default())
    }

    pub fn node_with(
        &mut self,
        lan: usize,
        base: &str,
        role: Role,
        credentials: PairCredentials,
        config: AgentConfig,
    ) -> usize {
        let index = self.nodes.len();
        let now = self.now;
        let mut agent = Agent::new(config, role, credentials, [index as u8; 32], now);
        let mut candidates = vec![host(base)];
        if let Some(nat) = &mut self.lans[lan] {
            let seen = nat.send(address(base), address(STUN_SERVER), now);
            let kind = CandidateKind::ServerReflexive;
            candidates.push(Candidate::new(kind, seen, address(base), 65535));
        }
        for candidate in &candidates {
            agent.add_local_candidate(*candidate, self.now);
        }
        self.nodes.push(Node {
            agent,
            lan,
            base: address(base),
            relayed: None,
            anchors: BTreeSet::new(),
            bytes_max: None,
            candidates,
            events: Vec::new(),
            sent: Vec::new(),
        });
        index
    }

    /// Opens sockets on a host and makes them anchors.
    pub fn add_anchors(&mut self, node: usize, count: u16, kind: CandidateKind) -> Vec<SocketAddr> {
        let now = self.now;
        let node = &mut self.nodes[node];
        let first = 20_000 + node.anchors.len() as u16;
        let bases: Vec<_> = (first..first + count)
            .map(|port| SocketAddr::new(node.base.ip(), port))
            .collect();
        for base in &bases {
            node.anchors.insert(*base);
            node.agent.add_anchor(*base, kind, now);
        }
        bases
    }

    /// Asks a STUN server what a socket looks like from outside.
    pub fn sample(&mut self, node: usize, base: SocketAddr) -> SocketAddr {
        let (now, lan) = (self.now, self.nodes[node].lan);
        match &mut self.lans[lan] {
            Some(nat) => nat.send(base, address(STUN_SERVER), now),
            None => base,
        }
    }

    pub fn add_relay(&mut self, node: usize, relayed: &str) {
        let candidate = candidate(CandidateKind::Relayed, relayed);
        let now = self.now;
        let node = &mut self.nodes[node];
        node.relayed = Some(address(relayed));
        node.candidates.push(candidate);
        node.agent.add_local_candidate(candidate, now);
    }

    /// Tells `to` the candidates of `from`, as signaling would.
    pub fn describe(&mut self, from: usize, to: usize) {
        let candidates = self.nodes[from].candidates.clone();
        self.nodes[to]
            .agent
            .set_remote_candidates(candidates, self.now);
        self.drain(to);
    }

    pub fn introduce(&mut self, a: usize, b: usize) {
        self.describe(a, b);
        self.describe(b, a);
    }

    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.run(end, |_| false);
    }

    /// Runs until `done` or the end; returns the time it took.
    pub fn run_until(
        &mut self,
        limit: Duration,
        done: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        let end = self.now + limit;
        self.run(end, done).then(|| self.now - start)
    }

    fn run(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
            let wake = self
                .nodes
                .iter()
                .filter_map(|node| node.agent.poll_timeout())
                .map(|d| d.at);
            let Some(next) = arrival
                .into_iter()
                .chain(wake)
                .min()
                .filter(|next| *next <= end)
            else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            while let Some(entry) = self.flying.first_entry().filter(|e| e.key().0 <= self.now) {
                let packet = entry.remove();
                self.deliver(&packet);
            }
            for index in 0..self.nodes.len() {
                let due = self.nodes[index].agent.poll_timeout();
                if due.is_some_and(|deadline| deadline.at <= self.now) {
                    self.nodes[index].agent.handle_timeout(self.now);
                    let after = self.nodes[index].agent.poll_timeout();
                    assert!(after != due, "no progress at {due:?}");
                    self.drain(index);
                }
            }
        }
    }

    fn deliver(&mut self, packet: &Packet) {
        let Packet {
            node,
            local,
            remote,
            payload,
        } = packet;
        let datagram = Datagram {
            local: *local,
            remote: *remote,
            payload,
        };
        let _ = self.nodes[*node].agent.handle_datagram(datagram, self.now);
        self.drain(*node);
    }

    pub fn drain(&mut self, index: usize) {
        while let Some(transmit) = self.nodes[index].agent.poll_transmit() {
            self.nodes[index]
                .sent
                .push((self.now - self.epoch, transmit.clone()));
            self.route(index, transmit);
        }
        while let Some(event) = self.nodes[index].agent.poll_event() {
            self.nodes[index].events.push(event);
        }
    }

    fn route(&mut self, from: usize, transmit: Transmit) {
        let Transmit {
            source,
            destination,
            ttl,
            payload,
        } = transmit;
        let lan = self.nodes[from].lan;
        let on_lan = |world: &Self| {
            world
                .nodes
                .iter()
                .position(|n| n.lan == lan && n.owns(destination))
        };
        let is_relayed = self.nodes[from].relayed == Some(source);
        assert!(
            is_relayed || self.nodes[from].owns(source),
            "unknown source {source}"
        );
        if self.nodes[from]
            .bytes_max
            .is_some_and(|max| payload.len() > max)
        {
            return;
        }
        if !is_relayed && let Some(node) = on_lan(self) {
            return self.fly(node, destination, source, payload);
        }
        let is_private = punch_private(destination);
        if is_private && !is_relayed {
            return; // no route
        }
        let outside = match &mut self.lans[lan] {
            Some(nat) if !is_relayed => nat.send(source, destination, self.now),
            Some(_) | None => source,
        };
        if ttl.is_some_and(|ttl| ttl <= 2) {
            return; // it died behind the router
        }
        if let Some(node) = self
            .nodes
            .iter()
            .position(|n| n.relayed == Some(destination))
        {
            return self.fly(node, destination, outside, payload);
        }
        let public = |nat: &Option<Nat>| nat.as_ref().map(|nat| nat.public_ip);
        if let Some(lan) = self
            .lans
            .iter()
            .position(|nat| public(nat) == Some(destination.ip()))
        {
            let nat = self.lans[lan].as_mut().expect("found by its NAT");
            let Some(inner) = nat.receive(destination.port(), outside, self.now) else {
                return;
            };
            let node = self
                .nodes
                .iter()
                .position(|node| node.lan == lan && node.owns(inner));
            if let Some(node) = node {
                self.fly(node, inner, outside, payload);
            }
            return;
        }
        let is_public = |node: &Node| self.lans[node.lan].is_none() && node.owns(destination);
        if let Some(node) = self.nodes.iter().position(is_public) {
            self.fly(node, destination, outside, payload);
        }
    }

    fn fly(&mut self, node: usize, local: SocketAddr, remote: SocketAddr, payload: Vec<u8>) {
        for copy in 0..=u32::from(self.duplicates) {
            if self.rng.random_range(0..100) < self.loss_percent {
                continue;
            }
            self.packets += 1;
            let arrival = self.now + self.delay + Duration::from_millis(u64::from(copy));
            let packet = Packet {
                node,
                local,
                remote,
                payload: payload.clone(),
            };
            self.flying.insert((arrival, self.packets), packet);
        }
    }
}

fn punch_private(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V4(v4) if v4.ip().is_private() || v4.ip().is_loopback())
}

//! A world in memory: sites behind NAT boxes, one relay, signaling with a delay, virtual time.

mod carriers;
mod host;
mod nat;
mod relay_box;
mod streams;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use relay::server::ClientAddr;
use sansio::{Datagram, Transmit};
use session::{
    Event, GatewayView, NodeTransmit, PathId, PathKind, PathView, Policy, PortMapping,
    RelayStreamId, Side,
};
use stunwire::{ChannelData, is_channel_data};

pub(crate) use host::PORT;
pub(crate) use host::{Happening, Host, HostConfig};
use host::{Ping, TICK};
use nat::Nat;
pub(crate) use nat::{Filtering, NatKind};
use relay_box::Output;
pub(crate) use relay_box::RelayBox;

/// From one site to another, or to the relay: a round trip is 40 ms.
const INTERNET_DELAY: Duration = Duration::from_millis(20);
const LAN_DELAY: Duration = Duration::from_millis(1);
/// From a write to the other side's watch.
const SIGNALING_DELAY: Duration = Duration::from_millis(40);
/// A packet with this TTL or less passes the own router and no further.
const LOW_TTL: u8 = 2;

enum Arrival {
    Internet {
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
    Host {
        host: usize,
        from: SocketAddr,
        payload: Vec<u8>,
    },
    Description {
        host: usize,
        bytes: Vec<u8>,
    },
    StreamOpened {
        host: usize,
        stream: RelayStreamId,
    },
    StreamFailed {
        host: usize,
        stream: RelayStreamId,
    },
    StreamToRelay {
        client: ClientAddr,
        frame: Vec<u8>,
    },
    StreamToHost {
        host: usize,
        stream: RelayStreamId,
        frame: Vec<u8>,
    },
    StreamEnded {
        client: ClientAddr,
    },
    DeadNotice {
        host: usize,
        path: PathId,
    },
}

pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) relay: RelayBox,
    /// Of packets on the internet, in percent.
    pub(crate) loss_percent: u32,
    /// Whether descriptions are carried at once.
    pub(crate) signaling_works: bool,
    sites: Vec<Nat>,
    /// Pairs of internet addresses, from and to, between which nothing passes.
    cut: Vec<(IpAddr, IpAddr)>,
    /// Pairs, from and to, between which no payload of more bytes passes.
    narrow: Vec<(IpAddr, IpAddr, usize)>,
    queue: BTreeMap<(Instant, u64), Arrival>,
    sequence: u64,
    streams: BTreeMap<ClientAddr, (usize, RelayStreamId, Instant)>,
    next_tick: Instant,
    rng: StdRng,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
    pub(crate) fn new(seed: u8) -> Self {
        let now = Instant::now();
        Self {
            start: now,
            now,
            hosts: Vec::new(),
            relay: RelayBox::new(now),
            loss_percent: 0,
            signaling_works: true,
            sites: Vec::new(),
            cut: Vec::new(),
            narrow: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            streams: BTreeMap::new(),
            next_tick: now,
            rng: StdRng::from_seed([seed; 32]),
        }
    }

    /// One ingress and one egress host, each at home behind a NAT of its own.
    pub(crate) fn pair(seed: u8, ingress: NatKind, egress: NatKind) -> Self {
        let mut world = Self::new(seed);
        world.home(ingress, Side::Ingress, Policy::Any);
        world.home(egress, Side::Egress, Policy::Any);
        world
    }

    /// A host in a site of its own.
    pub(crate) fn home(&mut self, kind: NatKind, side: Side, policy: Policy) -> usize {
        let site = self.site(kind);
        let ip = match kind {
            NatKind::Open | NatKind::Firewall => self.sites[site].public,
            NatKind::Cone(_)
            | NatKind::Symmetric(_)
            | NatKind::Counting(_)
            | NatKind::Block(_)
            | NatKind::UdpBlocked => Ipv4Addr::new(192, 168, 1 + u8::try_from(site).unwrap(), 2),
        };
        self.host(HostConfig {
            site,
            ip,
            side,
            policy,
        })
    }

    pub(crate) fn site(&mut self, kind: NatKind) -> usize {
        let number = u8::try_from(self.sites.len()).unwrap();
        self.sites
            .push(Nat::new(kind, Ipv4Addr::new(198, 51, number, 1)));
        self.sites.len() - 1
    }

    pub(crate) fn host(&mut self, config: HostConfig) -> usize {
        let index = self.hosts.len();
        let mut seed: [u8; 32] = self.rng.random();
        seed[0] = u8::try_from(index).unwrap();
        self.hosts.push(Host::new(config, seed, self.now));
        self.publish(index);
        for other in 0..index {
            if let Some(bytes) = self.hosts[other].published.clone() {
                self.signal(other, &bytes);
            }
        }
        self.offer_servers(index, 86_400);
        index
    }

    /// Hands STUN and TURN servers to a host, as signaling does.
    pub(crate) fn offer_servers(&mut self, index: usize, lifetime_secs: u64) {
        let now = self.now;
        let node = &mut self.hosts[index].node;
        node.set_stun_servers(vec![RelayBox::address()], now);
        let offer = RelayBox::offer(&format!("user-{index}"), lifetime_secs);
        node.set_relay_servers(vec![offer], now);
        self.drain(index);
    }

    /// From now on nothing passes between two sites, or a site and the relay (`None`).
    pub(crate) fn cut(&mut self, site: usize, other: Option<usize>) {
        let here = IpAddr::V4(self.sites[site].public);
        let there = other.map_or(RelayBox::address().ip(), |it| {
            IpAddr::V4(self.sites[it].public)
        });
        self.cut.extend([(here, there), (there, here)]);
    }

    /// From now on nothing passes from one site to another; the other way is open.
    pub(crate) fn cut_one_way(&mut self, from: usize, to: usize) {
        let ip = |site: usize| IpAddr::V4(self.sites[site].public);
        self.cut.push((ip(from), ip(to)));
    }

    /// From now on only smaller payloads pass from one site to another.
    pub(crate) fn limit_size(&mut self, from: usize, to: usize, bytes: usize) {
        let ip = |site: usize| IpAddr::V4(self.sites[site].public);
        self.narrow.push((ip(from), ip(to), bytes));
    }

    /// All cables are in their sockets again.
    pub(crate) fn mend(&mut self) {
        self.cut.clear();
        self.narrow.clear();
    }

    /// A host hears from its gateway.
    pub(crate) fn set_gateway(&mut self, index: usize, view: GatewayView) {
        self.hosts[index].node.set_gateway(view, self.now);
        self.drain(index);
    }

    /// A host hears from its gateway which ports it forwards.
    pub(crate) fn set_port_mappings(&mut self, index: usize, mappings: Vec<PortMapping>) {
        self.hosts[index].node.set_port_mappings(mappings, self.now);
        self.drain(index);
    }

    /// The router of a site forwards a port to a host, or no longer.
    pub(crate) fn forward(&mut self, site: usize, port: u16, to: Option<usize>) {
        let to = to.map(|host| self.hosts[host].address());
        self.sites[site].forward(port, to);
    }

    /// The network begins to treat packets differently.
    pub(crate) fn replace_nat(&mut self, site: usize, kind: NatKind) {
        self.sites[site].kind = kind;
    }

    /// Returns how the internet sees a host.
    pub(crate) fn public_ip(&self, index: usize) -> IpAddr {
        IpAddr::V4(self.sites[self.hosts[index].config.site].public)
    }

    /// The most bindings that a site's NAT made in any minute.
    pub(crate) fn bindings_a_minute(&self, site: usize) -> usize {
        let made = &self.sites[site].made;
        let minute = Duration::from_secs(60);
        let within = |from: &Instant| {
            let within = made
                .iter()
                .filter(|at| *at >= from && **at < *from + minute);
            within.count()
        };
        made.iter().map(within).max().unwrap_or(0)
    }

    /// The most datagrams that a host sent in any second to one address.
    pub(crate) fn packets_a_second(&self, index: usize, to: IpAddr) -> usize {
        let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
        let sent = self.hosts[index].sent.iter();
        for (at, ..) in sent.filter(|(_, destination, _)| destination.ip() == to) {
            *seconds.entry(at.as_secs()).or_default() += 1;
        }
        seconds.into_values().max().unwrap_or(0)
    }

    pub(crate) fn restart_nat(&mut self, site: usize) {
        self.sites[site].restart();
    }

    pub(crate) fn open_signaling(&mut self) {
        self.signaling_works = true;
        for index in 0..self.hosts.len() {
            self.hosts[index].published = None;
            self.publish(index);
        }
    }

    // --- what tests ask ---

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Returns what a host knows of the path it has chosen toward its only peer.
    pub(crate) fn chosen(&self, index: usize) -> Option<&PathView> {
        let host = &self.hosts[index];
        host.chosen
            .values()
            .next()
            .and_then(|path| host.node.path(*path))
    }

    pub(crate) fn chosen_kind(&self, index: usize) -> Option<PathKind> {
        self.chosen(index).map(|view| view.kind)
    }

    /// Returns what both ends agree on about the path that host 0 has chosen and host 1 has answered on.
    pub(crate) fn agreed_kinds(&self) -> (PathKind, PathKind) {
        let (ingress, egress) = (&self.hosts[0], &self.hosts[1]);
        let ours = *ingress.chosen.values().next().expect("a path is chosen");
        let theirs = ingress.matches[&ours];
        let (ours, theirs) = (ingress.views[&ours].kind, egress.views[&theirs].kind);
        (ours.agreed(theirs), theirs.agreed(ours))
    }

    // --- time ---

    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs until `done`, or until `limit` has passed; returns how long it took.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let begin = self.now;
        while !done(self) {
            if !self.step(begin + limit) {
                return None;
            }
        }
        Some(self.now - begin)
    }

    fn step(&mut self, until: Instant) -> bool {
        let nodes = self
            .hosts
            .iter()
            .filter_map(|host| host.node.poll_timeout())
            .map(|it| it.at);
        let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
        let next = nodes
            .chain(arrival)
            .chain(self.relay.poll_timeout())
            .chain([self.next_tick])
            .min()
            .unwrap();
        if next > until {
            self.now = until;
            return false;
        }
        self.now = self.now.max(next);
        if self.relay.poll_timeout().is_some_and(|at| at <= self.now) {
            self.relay.handle_timeout(self.now);
        }
        while let Some(entry) = self.queue.first_entry().filter(|it| it.key().0 <= self.now) {
            let arrival = entry.remove();
            self.on_arrival(arrival);
        }
        for index in 0..self.hosts.len() {
            self.wake(index);
        }
        if self.next_tick <= self.now {
            self.next_tick = self.now + TICK;
            self.tick();
        }
        true
    }

    /// Calls `handle_timeout` until the deadline lies ahead, which must not take long.
    fn wake(&mut self, index: usize) {
        let due = |host: &Host, now| host.node.poll_timeout().filter(|it| it.at <= now);
        let mut calls = 0;
        while let Some(deadline) = due(&self.hosts[index], self.now) {
            let second = self.elapsed().as_secs();
            let host = &mut self.hosts[index];
            host.node.handle_timeout(self.now);
            *host.wakes.entry(second).or_default() += 1;
            self.drain(index);
            calls += 1;
            assert!(calls < 20, "no progress: {}", deadline.reason);
        }
    }

    fn tick(&mut self) {
        for index in 0..self.hosts.len() {
            let now = self.now;
            for path in self.hosts[index].on_tick(now) {
                self.ping(index, path);
            }
            self.tell_of_silence(index);
            self.drain(index);
        }
    }

    /// The egress side tells the peer over another carrier that it hears nothing on this one.
    fn tell_of_silence(&mut self, index: usize) {
        let Some(path) = self.hosts[index].unheard(self.now) else {
            return;
        };
        let ingress = |host: &Host| host.matches.iter().find(|it| *it.1 == path).map(|it| *it.0);
        let told = self.hosts.iter().enumerate();
        let told = told.filter(|(_, host)| host.standby.is_some());
        let found = told
            .filter_map(|(host, it)| Some((host, ingress(it)?)))
            .next();
        if let Some((host, path)) = found {
            self.after(2 * INTERNET_DELAY, Arrival::DeadNotice { host, path });
        }
    }

    /// One mutation, then drain.
    fn drain(&mut self, index: usize) {
        loop {
            while let Some(transmit) = self.hosts[index].node.poll_transmit(self.now) {
                match transmit {
                    NodeTransmit::Udp(transmit) => self.send_udp(index, transmit),
                    NodeTransmit::Stream { stream, frame } => {
                        self.send_to_relay(index, stream, frame);
                    }
                }
            }
            let Some(event) = self.hosts[index].node.poll_event() else {
                break;
            };
            self.on_event(index, event);
        }
    }

    fn on_event(&mut self, index: usize, event: Event) {
        if matches!(event, Event::DescriptionChanged) {
            self.publish(index);
        } else if let Event::OpenRelayStream { stream, server, .. } = event {
            self.dial_relay(index, stream, server);
        } else if let Event::CloseRelayStream { stream } = event {
            self.hang_up(index, stream);
        } else if let Event::OpenSockets { request, count, .. } = event {
            let rng = &mut self.rng;
            let host = &mut self.hosts[index];
            let sockets = host.open_sockets(count, || rng.random_range(32_768..60_999));
            host.node.sockets_opened(request, sockets, self.now);
        } else if let Event::CloseSockets { sockets } = event {
            self.hosts[index].close_sockets(&sockets);
        } else {
            let elapsed = self.elapsed();
            if let Some(path) = self.hosts[index].on_event(event, elapsed) {
                self.ping(index, path);
            }
        }
    }

    // --- signaling ---

    fn publish(&mut self, index: usize) {
        let bytes = self.hosts[index].node.description().encode();
        if self.hosts[index].published.as_ref() == Some(&bytes) {
            return;
        }
        self.hosts[index].published = Some(bytes.clone());
        self.signal(index, &bytes);
    }

    fn signal(&mut self, index: usize, bytes: &[u8]) {
        let side = self.hosts[index].config.side;
        for host in 0..self.hosts.len() {
            if self.hosts[host].config.side != side && self.signaling_works {
                let arrival = Arrival::Description {
                    host,
                    bytes: bytes.to_vec(),
                };
                self.after(SIGNALING_DELAY, arrival);
            }
        }
    }

    // --- packets ---

    fn after(&mut self, delay: Duration, arrival: Arrival) {
        self.sequence += 1;
        self.queue
            .insert((self.now + delay, self.sequence), arrival);
    }

    fn on_arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Internet { from, to, payload } => self.on_internet(from, to, payload),
            Arrival::Host {
                host,
                from,
                payload,
            } => self.deliver(host, from, &payload),
            Arrival::Description { host, bytes } => {
                let (elapsed, now) = (self.elapsed(), self.now);
                self.hosts[host].on_description(&bytes, elapsed, now);
                self.drain(host);
            }
            Arrival::StreamOpened { host, stream } => {
                self.hosts[host].node.relay_stream_opened(stream, self.now);
                self.drain(host);
            }
            Arrival::StreamFailed { host, stream } => {
                self.hosts[host].node.relay_stream_closed(stream, self.now);
                self.drain(host);
            }
            Arrival::StreamToRelay { client, frame } => {
                if self.streams.contains_key(&client) {
                    let outputs = self.relay.handle_client(client, &frame, self.now);
                    self.send_outputs(outputs);
                }
            }
            Arrival::StreamToHost {
                host,
                stream,
                frame,
            } => self.deliver_frame(host, stream, &frame),
            Arrival::StreamEnded { client } => self.relay.handle_client_gone(client, self.now),
            Arrival::DeadNotice { host, path } => {
                self.hosts[host].node.doubt(path, self.now);
                self.drain(host);
            }
        }
    }

    pub(crate) fn send_udp(&mut self, index: usize, transmit: Transmit) {
        let Transmit {
            source,
            destination,
            ttl,
            payload,
        } = transmit;
        let host = &self.hosts[index];
        let socket = host.socket(source.port());
        assert_eq!(socket, Some(source), "sent from a socket that is not there");
        let from = SocketAddr::new(host.address().ip(), source.port());
        let elapsed = self.elapsed();
        self.hosts[index]
            .sent
            .push((elapsed, destination, payload.clone()));
        let site = self.hosts[index].config.site;
        let neighbour = self
            .hosts
            .iter()
            .position(|host| host.config.site == site && host.address().ip() == destination.ip());
        if let Some(host) = neighbour {
            if self.hosts[host].address() == destination {
                self.after(
                    LAN_DELAY,
                    Arrival::Host {
                        host,
                        from,
                        payload,
                    },
                );
            }
            return;
        }
        if matches!(destination.ip(), IpAddr::V4(ip) if ip.is_private()) {
            return;
        }
        let public = self.sites[site].outbound(from, destination, self.now, &mut self.rng);
        let passes_on = ttl.is_none_or(|ttl| ttl > LOW_TTL);
        if let Some(public) = public.filter(|_| passes_on) {
            self.send_over_internet(public, destination, payload);
        }
    }

    fn send_over_internet(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        let is_lost = self.rng.random_range(0..100) < self.loss_percent;
        let is_too_large = |it: &(IpAddr, IpAddr, usize)| {
            (it.0, it.1) == (from.ip(), to.ip()) && payload.len() > it.2
        };
        let is_stopped =
            self.cut.contains(&(from.ip(), to.ip())) || self.narrow.iter().any(is_too_large);
        if !is_lost && !is_stopped {
            self.after(INTERNET_DELAY, Arrival::Internet { from, to, payload });
        }
    }

    fn on_internet(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        if RelayBox::is_here(to.ip()) {
            let outputs = self.relay.handle_udp(from, to, &payload, self.now);
            self.send_outputs(outputs);
            return;
        }
        let Some(site) = self
            .sites
            .iter()
            .position(|site| IpAddr::V4(site.public) == to.ip())
        else {
            return;
        };
        let Some(internal) = self.sites[site].inbound(from, to, self.now) else {
            return;
        };
        let host = self
            .hosts
            .iter()
            .position(|host| host.config.site == site && host.address().ip() == internal.ip());
        if let Some(host) = host {
            self.deliver_at(host, internal.port(), from, &payload);
        }
    }

    fn send_outputs(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Udp { from, to, payload } => self.send_over_internet(from, to, payload),
                Output::Stream { client, frame } => self.send_from_relay(client, frame),
            }
        }
    }

    /// Tells carriers' packets from the rest, as the demultiplexing socket does.
    pub(crate) fn deliver(&mut self, index: usize, from: SocketAddr, payload: &[u8]) {
        self.deliver_at(index, self.hosts[index].base.port(), from, payload);
    }

    fn deliver_at(&mut self, index: usize, port: u16, from: SocketAddr, payload: &[u8]) {
        let host = &self.hosts[index];
        let Some(local) = host.socket(port) else {
            return;
        };
        let in_channel = (from == RelayBox::address())
            .then(|| channel_data(payload))
            .flatten();
        let (path, ping) = match in_channel {
            Some(data) => {
                let path = host.relayed_path(from, data.channel.value());
                (path, Ping::decode(data.payload))
            }
            None => (host.direct_path(local, from), Ping::decode(payload)),
        };
        if let Some(ping) = ping {
            self.on_carrier(index, path, ping);
        } else {
            let datagram = Datagram {
                local,
                remote: from,
                payload,
            };
            self.hosts[index].node.handle_datagram(datagram, self.now);
        }
        self.drain(index);
    }

    fn deliver_frame(&mut self, index: usize, stream: RelayStreamId, frame: &[u8]) {
        let data = channel_data(frame);
        if let Some((data, ping)) = data.and_then(|data| Some((data, Ping::decode(data.payload)?)))
        {
            let path = self.hosts[index].stream_path(stream, data.channel.value());
            self.on_carrier(index, path, ping);
        } else {
            self.hosts[index]
                .node
                .handle_relay_frame(stream, frame, self.now);
        }
        self.drain(index);
    }
}

fn channel_data(payload: &[u8]) -> Option<ChannelData<'_>> {
    let first = *payload.first()?;
    is_channel_data(first)
        .then(|| ChannelData::decode(payload).ok())
        .flatten()
}

//! The world: what is in it, and what tests ask of it.

mod clock;
mod gateways;
mod packets;
mod sites;
mod streams;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use relay::server::ClientAddr;
use session::{Cause, PathKind, PathView, PeerId, Policy, RelayStreamId, Side};

use crate::behavior::Behavior;
use crate::host::{Host, HostConfig};
use crate::kind::NatKind;
use crate::link::{Link, Pipe};
use crate::log_watch::LogWatch;
use crate::server_box::ServerBox;
use sites::Site;
pub use sites::SiteId;
use streams::Stream;

/// From one site to another, or to a server: a round trip is 40 ms.
const INTERNET_DELAY: Duration = Duration::from_millis(20);

/// Something on its way.
#[derive(Debug)]
enum Arrival {
    /// At the edge of the internet, before the line to the site or server.
    Internet {
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
    /// At the outside of a site's box.
    Site {
        site: SiteId,
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
    /// Inside a site's network.
    Lan {
        site: SiteId,
        from: SocketAddr,
        to: SocketAddr,
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
    FrameToServer {
        client: ClientAddr,
        frame: Vec<u8>,
    },
    FrameToHost {
        client: ClientAddr,
        frame: Vec<u8>,
    },
    StreamEnded {
        client: ClientAddr,
    },
    /// The host's gateway has answered, or did not.
    Gateway {
        host: usize,
    },
}

/// Sites, hosts, servers and lines between them, in virtual time.
///
/// All chance comes from the seed; nothing comes from the machine it runs on.
#[derive(Debug)]
pub struct World {
    /// The hosts, in the order of their making.
    pub hosts: Vec<Host>,
    /// The machines with STUN and TURN servers; the first is there from the start.
    pub servers: Vec<ServerBox>,
    /// What every packet between sites and servers passes once.
    pub internet: Pipe,
    /// Whether descriptions are carried at once, or held until [`World::open_signaling`].
    pub signaling_works: bool,
    seed: u64,
    start: Instant,
    now: Instant,
    sites: Vec<Site>,
    /// Pairs of internet addresses between which nothing passes.
    cut: Vec<(IpAddr, IpAddr)>,
    /// Those between which only small payloads pass, and how many bytes.
    narrowed: Vec<(IpAddr, IpAddr, usize)>,
    queue: BTreeMap<(Instant, u64), Arrival>,
    sequence: u64,
    streams: BTreeMap<ClientAddr, Stream>,
    next_tick: Instant,
    rng: StdRng,
    digest: DefaultHasher,
    log: LogWatch,
}

impl World {
    /// Makes an empty world with one server.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary epoch: only differences are ever looked at"
    )]
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            hosts: Vec::new(),
            servers: vec![ServerBox::new(0, now)],
            internet: Pipe::new(Link::with_delay(INTERNET_DELAY)),
            signaling_works: true,
            seed,
            start: now,
            now,
            sites: Vec::new(),
            cut: Vec::new(),
            narrowed: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            streams: BTreeMap::new(),
            next_tick: now,
            rng: StdRng::from_seed(bytes),
            digest: DefaultHasher::new(),
            log: LogWatch::new(),
        }
    }

    /// Makes a world with host 0, the ingress, behind `ingress`, and host 1 behind `egress`.
    #[must_use]
    pub fn pair(seed: u64, ingress: NatKind, egress: NatKind) -> Self {
        Self::pair_behind(seed, ingress.behavior(), egress.behavior())
    }

    /// The same for any behaviours.
    #[must_use]
    pub fn pair_behind(seed: u64, ingress: Behavior, egress: Behavior) -> Self {
        let mut world = Self::new(seed);
        for (behavior, side) in [(ingress, Side::Ingress), (egress, Side::Egress)] {
            let site = world.site(behavior);
            world.home(site, side);
        }
        world
    }

    /// Adds a host that allows every path.
    pub fn home(&mut self, site: SiteId, side: Side) -> usize {
        let policy = Policy::Any;
        self.host(HostConfig { site, side, policy })
    }

    /// Adds a host; it publishes its description, sees those of the other side, and is offered all servers.
    pub fn host(&mut self, config: HostConfig) -> usize {
        let index = self.hosts.len();
        let mut seed: [u8; 32] = self.rng.random();
        seed[0] = u8::try_from(index).expect("fewer than 256 hosts");
        let ips = self.sites[config.site.0].next_host();
        let host = Host::new(config, ips, seed, self.now);
        self.hosts.push(host);
        self.ask_gateway(index);
        self.publish(index);
        for other in 0..index {
            if let Some(bytes) = self.hosts[other].published.clone() {
                self.signal(other, &bytes);
            }
        }
        self.offer_servers(index, Duration::from_secs(86_400));
        index
    }

    /// Adds a machine with a STUN and TURN server; returns its index.
    ///
    /// Hosts that are there already must be told by [`World::offer_servers`].
    pub fn server(&mut self) -> usize {
        let number = u8::try_from(self.servers.len()).expect("few servers");
        self.servers.push(ServerBox::new(number, self.now));
        usize::from(number)
    }

    /// Hands all servers to a host, as signaling does, with credentials that run out this long after the
    /// start of the world.
    pub fn offer_servers(&mut self, index: usize, lifetime: Duration) {
        let user = format!("user-{index}");
        let stun = self.servers.iter();
        let stun = stun.flat_map(|server| [server.address(), server.address6()]);
        let stun = stun.collect();
        let offers = self.servers.iter();
        let offers = offers
            .map(|server| server.offer(&user, lifetime.as_secs()))
            .collect();
        let now = self.now;
        let node = &mut self.hosts[index].node;
        node.set_stun_servers(stun, now);
        node.set_relay_servers(offers, now);
        self.drain(index);
    }

    /// Descriptions are carried again, and the present ones at once.
    pub fn open_signaling(&mut self) {
        self.signaling_works = true;
        for index in 0..self.hosts.len() {
            self.hosts[index].published = None;
            self.publish(index);
        }
    }

    // --- what tests ask ---

    /// Returns the time since the start of the world.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Returns a number that depends on every packet that was sent, and when.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Returns what a host knows of the path it has chosen toward its first peer.
    #[must_use]
    pub fn chosen(&self, index: usize) -> Option<&PathView> {
        let host = &self.hosts[index];
        let path = host.chosen.values().next()?;
        host.node.path(*path)
    }

    /// Returns the kind of that path, as this host alone judges it.
    #[must_use]
    pub fn chosen_kind(&self, index: usize) -> Option<PathKind> {
        self.chosen(index).map(|view| view.kind)
    }

    /// Returns why the path to its first peer is not direct, as a host says.
    #[must_use]
    pub fn cause(&self, index: usize) -> Option<Cause> {
        let node = &self.hosts[index].node;
        node.diagnosis(PeerId(0)).map(|diagnosis| diagnosis.cause)
    }

    /// Returns how host 0 and its peer, host 1, each judge the path that host 0 has chosen; `None` until a
    /// carrier's packet was answered over it.
    #[must_use]
    pub fn both_judge(&self) -> Option<(PathKind, PathKind)> {
        let [ours, theirs] = self.both_views()?;
        Some((ours.kind, theirs.kind))
    }

    /// Returns what each of them knew of that path when it was announced.
    #[must_use]
    pub fn both_views(&self) -> Option<[&PathView; 2]> {
        let [ingress, egress] = self.hosts.first_chunk()?;
        let ours = ingress.chosen.values().next()?;
        let theirs = ingress.matches.get(ours)?;
        Some([ingress.views.get(ours)?, egress.views.get(theirs)?])
    }
}

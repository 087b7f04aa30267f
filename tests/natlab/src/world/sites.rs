//! Sites: who is behind which box, and where the boxes stand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::World;
use crate::behavior::{Behavior, Filtering, Mapping, Pool};
use crate::host::Host;
use crate::link::{Link, Pipe};
use crate::nat::{Load, NatBox};

/// The first host of a network; `.1` is its router.
const FIRST_HOST: u8 = 2;

/// Names a site of a [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub(crate) usize);

/// A network behind one box.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) nat: NatBox,
    /// The firewall in front of its IPv6 network, which has no carrier's NAT above it.
    pub(super) firewall: Option<NatBox>,
    /// The carrier it is a customer of; `None` on the internet.
    pub(super) parent: Option<SiteId>,
    /// The first three bytes of its /24.
    prefix: [u8; 3],
    /// The /64 of its IPv6 network.
    prefix6: [u16; 4],
    hosts: u8,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
}

impl Site {
    /// Returns the addresses of the next host: the one, and the other where the site has IPv6.
    pub(super) fn next_host(&mut self) -> (Ipv4Addr, Option<Ipv6Addr>) {
        let [a, b, c] = self.prefix;
        let number = FIRST_HOST + self.hosts;
        self.hosts += 1;
        let [p, q, r, s] = self.prefix6;
        let ip6 = Ipv6Addr::new(p, q, r, s, 0, 0, 0, number.into());
        let ip6 = self.firewall.is_some().then_some(ip6);
        (Ipv4Addr::new(a, b, c, number), ip6)
    }

    /// Returns whether an address lies in its network.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => ip.octets()[..3] == self.prefix,
            IpAddr::V6(ip) => self.firewall.is_some() && ip.segments()[..4] == self.prefix6,
        }
    }

    /// Returns whether packets to an address arrive at its box from outside.
    pub(super) fn is_seen_as(&self, ip: IpAddr) -> bool {
        if ip.is_ipv6() || self.nat.behavior().mapping == Mapping::Untranslated {
            self.contains(ip)
        } else {
            self.nat.is_outside(ip)
        }
    }

    /// Returns whether its box is what stands next behind `parent`; a carrier's NAT does not stand before IPv6.
    fn is_behind(&self, parent: Option<SiteId>, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(_) => self.parent == parent,
            IpAddr::V6(_) => parent.is_none(),
        }
    }

    /// Returns the box that packets from and to an address pass.
    pub(super) fn gate(&mut self, ip: IpAddr) -> &mut NatBox {
        match &mut self.firewall {
            Some(firewall) if ip.is_ipv6() => firewall,
            _ => &mut self.nat,
        }
    }
}

impl Site {
    fn load(&self) -> Load {
        let firewall = self.firewall.as_ref().map(NatBox::load);
        self.nat.load().and(firewall.unwrap_or_default())
    }
}

/// The first outside address of a site; there is room for a pool behind it.
const fn outside(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100 + number, 1)
}

/// What stands before the IPv6 of a site: the same box, which translates nothing.
fn firewall(behavior: &Behavior, filtering: Filtering) -> NatBox {
    let behavior = Behavior {
        mapping: Mapping::Untranslated,
        filtering,
        pool: Pool::ONE,
        ..*behavior
    };
    NatBox::new(behavior, Ipv4Addr::UNSPECIFIED)
}

impl World {
    /// Adds a site on the internet.
    pub fn site(&mut self, behavior: Behavior) -> SiteId {
        let number = self.next_site_number();
        let outside = outside(number);
        let prefix = if behavior.mapping == Mapping::Untranslated {
            [198, 51, 100 + number]
        } else {
            [192, 168, number]
        };
        self.add_site(behavior, None, outside, prefix)
    }

    /// Adds a carrier: a site on the internet whose customers are homes, not hosts.
    pub fn carrier(&mut self, behavior: Behavior) -> SiteId {
        let number = self.next_site_number();
        self.add_site(behavior, None, outside(number), [100, 64, number])
    }

    /// Adds a home behind a carrier.
    ///
    /// # Panics
    ///
    /// When its box does not translate: a carrier gives one address to a home.
    pub fn home_behind(&mut self, carrier: SiteId, behavior: Behavior) -> SiteId {
        assert_ne!(behavior.mapping, Mapping::Untranslated);
        let number = self.next_site_number();
        let (outside, _) = self.sites[carrier.0].next_host();
        self.add_site(behavior, Some(carrier), outside, [192, 168, number])
    }

    /// Returns the box of a site.
    #[must_use]
    pub fn nat(&self, site: SiteId) -> &NatBox {
        &self.sites[site.0].nat
    }

    /// Returns what the boxes of a site, and the carriers' above it, had to bear so far.
    #[must_use]
    pub fn load(&self, site: SiteId) -> Load {
        let mut load = Load::default();
        let mut next = Some(site);
        while let Some(site) = next {
            let site = &self.sites[site.0];
            load = load.worse(site.load());
            next = site.parent;
        }
        load
    }

    /// Returns the box of a site, to change or restart it.
    pub fn nat_mut(&mut self, site: SiteId) -> &mut NatBox {
        &mut self.sites[site.0].nat
    }

    /// Gives a site on the internet a line of its own, the same both ways. By default it has no delay.
    pub fn set_line(&mut self, site: SiteId, link: Link) {
        self.sites[site.0].up = Pipe::new(link);
        self.sites[site.0].down = Pipe::new(link);
    }

    /// From now on nothing passes between two sites on the internet, or behind carriers of their own.
    pub fn cut(&mut self, site: SiteId, other: SiteId) {
        let (here, there) = (self.public_ips(site), self.public_ips(other));
        self.cut_between(&here, &there);
    }

    /// From now on nothing passes between a site and a server.
    pub fn cut_server(&mut self, site: SiteId, server: usize) {
        let (here, there) = (self.public_ips(site), self.servers[server].ips());
        self.cut_between(&here, &there);
    }

    /// From now on nothing passes from a site to another, and everything the other way.
    pub fn cut_one_way(&mut self, from: SiteId, to: SiteId) {
        for here in self.public_ips(from) {
            let there = self.public_ips(to);
            self.cut
                .extend(there.into_iter().map(|there| (here, there)));
        }
    }

    /// From now on only payloads of at most so many bytes pass between two sites, as through a tunnel on the way
    /// that tells nobody how narrow it is. The way to servers is as wide as before.
    pub fn narrow(&mut self, site: SiteId, other: SiteId, payload_max: usize) {
        for here in self.public_ips(site) {
            for there in self.public_ips(other) {
                let both = [(here, there, payload_max), (there, here, payload_max)];
                self.narrowed.extend(both);
            }
        }
    }

    fn cut_between(&mut self, here: &[IpAddr], there: &[IpAddr]) {
        for here in here {
            for there in there {
                self.cut.extend([(*here, *there), (*there, *here)]);
            }
        }
    }

    /// All cables are in their sockets again.
    pub fn mend(&mut self) {
        self.cut.clear();
        self.narrowed.clear();
    }

    /// Returns the site whose line carries a site's packets.
    pub(super) fn root_of(&self, site: SiteId) -> SiteId {
        let mut root = site;
        while let Some(parent) = self.sites[root.0].parent {
            root = parent;
        }
        root
    }

    /// Returns the site, behind `parent` or on the internet, that is seen under an address.
    pub(super) fn seen_as(&self, parent: Option<SiteId>, ip: IpAddr) -> Option<SiteId> {
        let site = self
            .sites
            .iter()
            .position(|site| site.is_behind(parent, ip) && site.is_seen_as(ip));
        site.map(SiteId)
    }

    /// Returns the host with a socket at an address inside a site.
    pub(super) fn host_at(&self, site: SiteId, address: SocketAddr) -> Option<usize> {
        self.hosts
            .iter()
            .position(|host| host.config.site == site && host.has_socket_at(address))
    }

    fn public_ips(&self, site: SiteId) -> Vec<IpAddr> {
        let root = self.root_of(site);
        let hosts = self.hosts.iter();
        let hosts = hosts.filter(|host| self.root_of(host.config.site) == root);
        let untranslated = hosts
            .flat_map(Host::ips)
            .filter(|ip| ip.is_ipv6() || self.sites[root.0].is_seen_as(*ip));
        let mut ips: Vec<_> = untranslated.collect();
        ips.extend(self.sites[root.0].nat.outsides());
        ips
    }

    fn next_site_number(&self) -> u8 {
        let number = u8::try_from(self.sites.len()).expect("few sites");
        assert!(number < 100, "the address plan ends here");
        number
    }

    fn add_site(
        &mut self,
        behavior: Behavior,
        parent: Option<SiteId>,
        outside: Ipv4Addr,
        prefix: [u8; 3],
    ) -> SiteId {
        let number = u16::try_from(self.sites.len()).expect("few sites");
        self.sites.push(Site {
            nat: NatBox::new(behavior, outside),
            firewall: behavior
                .ipv6
                .map(|filtering| firewall(&behavior, filtering)),
            parent,
            prefix,
            prefix6: [0x2001, 0xdb8, 1, number],
            hosts: 0,
            up: Pipe::new(Link::default()),
            down: Pipe::new(Link::default()),
        });
        SiteId(self.sites.len() - 1)
    }
}

//! Sites: who is behind which box, and where the boxes stand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use session::Interface;

use super::World;
use crate::behavior::{Behavior, Mapping};
use crate::link::{Link, Pipe};
use crate::nat::NatBox;

/// The first host of a network; `.1` is its router.
const FIRST_HOST: u8 = 2;

/// Names a site of a [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub(crate) usize);

/// A network behind one box.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) nat: NatBox,
    /// The carrier it is a customer of; `None` on the internet.
    pub(super) parent: Option<SiteId>,
    /// The first three bytes of its /24.
    prefix: [u8; 3],
    hosts: u8,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
}

impl Site {
    pub(super) fn next_host(&mut self) -> (Ipv4Addr, Interface) {
        let [a, b, c] = self.prefix;
        let ip = Ipv4Addr::new(a, b, c, FIRST_HOST + self.hosts);
        self.hosts += 1;
        let net = format!("{ip}/24").parse().expect("an address and a prefix");
        let name = "eth0".to_owned();
        (ip, Interface { name, net })
    }

    /// Returns whether an address lies in its network.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => ip.octets()[..3] == self.prefix,
            IpAddr::V6(_) => false,
        }
    }

    /// Returns whether packets to an address arrive at its box from outside.
    pub(super) fn is_seen_as(&self, ip: IpAddr) -> bool {
        if self.nat.behavior().mapping == Mapping::Untranslated {
            self.contains(ip)
        } else {
            self.nat.outside() == ip
        }
    }
}

impl World {
    /// Adds a site on the internet.
    pub fn site(&mut self, behavior: Behavior) -> SiteId {
        let number = self.next_site_number();
        let outside = Ipv4Addr::new(198, 51, 100 + number, 1);
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
        let outside = Ipv4Addr::new(198, 51, 100 + number, 1);
        self.add_site(behavior, None, outside, [100, 64, number])
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
            .position(|site| site.parent == parent && site.is_seen_as(ip));
        site.map(SiteId)
    }

    /// Returns the host with a socket at an address inside a site.
    pub(super) fn host_at(&self, site: SiteId, address: SocketAddr) -> Option<usize> {
        self.hosts
            .iter()
            .position(|host| host.config.site == site && host.address() == address)
    }

    fn public_ips(&self, site: SiteId) -> Vec<IpAddr> {
        let root = self.root_of(site);
        let hosts = self.hosts.iter().filter(|host| host.config.site == root);
        let untranslated = hosts
            .map(|host| host.address().ip())
            .filter(|ip| self.sites[root.0].is_seen_as(*ip));
        let mut ips: Vec<_> = untranslated.collect();
        ips.push(self.sites[root.0].nat.outside());
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
        self.sites.push(Site {
            nat: NatBox::new(behavior, outside),
            parent,
            prefix,
            hosts: 0,
            up: Pipe::new(Link::default()),
            down: Pipe::new(Link::default()),
        });
        SiteId(self.sites.len() - 1)
    }
}

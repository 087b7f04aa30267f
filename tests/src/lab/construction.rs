//! How the machines of a lab are made: one `ip -batch` for the namespaces, one for the cables, then one shell in each
//! machine, all at once.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{
    host::Host,
    nat::Nat,
    ruleset::{FIREWALL_6, Router},
    topology::{
        Carrier, Home, HomeHosts, Lab, PUBLIC_GATEWAY, PUBLIC_GATEWAY_6, PUBLIC_ONE, PUBLIC_ONE_6,
        PUBLIC_TWO, PUBLIC_TWO_6, Plan, at,
    },
};
use crate::process::Place;

/// One machine being set up: what its shell is told.
struct Machine {
    host: Host,
    ip: String,
    nft: String,
    sysctl: String,
    has_ipv6: bool,
}

pub(super) struct Construction<'a> {
    prefix: &'a str,
    folder: PathBuf,
    /// Commands of one `ip -batch` that makes all namespaces and the cables between them.
    cables: String,
    machines: Vec<Machine>,
}

impl<'a> Construction<'a> {
    pub(super) fn new(prefix: &'a str, folder: PathBuf) -> Self {
        Self {
            prefix,
            folder,
            cables: String::new(),
            machines: Vec::new(),
        }
    }

    /// Adds a machine and returns its index.
    fn machine(&mut self, short: &str, address: Ipv4Addr) -> usize {
        let netns = format!("{}-{short}", self.prefix);
        let host = Host::new(short, Place::Namespace(netns), address, &self.folder);
        self.machines.push(Machine {
            host,
            ip: "link set lo up\n".into(),
            nft: String::new(),
            sysctl: String::new(),
            has_ipv6: false,
        });
        self.machines.len() - 1
    }

    fn netns(&self, machine: usize) -> &str {
        self.machines[machine].host.netns()
    }

    fn ip(&mut self, machine: usize, line: &str) {
        let ip = &mut self.machines[machine].ip;
        ip.push_str(line.trim_end());
        ip.push('\n');
    }

    fn cable(&mut self, (left, left_name): (usize, &str), (right, right_name): (usize, &str)) {
        let line = format!(
            "link add {left_name} netns {} type veth peer name {right_name} netns {}\n",
            self.netns(left),
            self.netns(right)
        );
        self.cables.push_str(&line);
    }

    fn interface(&mut self, machine: usize, name: &str, address: Ipv4Addr, len: u8) {
        self.ip(machine, &format!("addr add {address}/{len} dev {name}"));
        self.ip(machine, &format!("link set {name} up"));
    }

    /// Gives a machine's interface, which is up, an IPv6 address too. Nobody else has it, so that it may be used at once.
    fn address_6(&mut self, machine: usize, name: &str, address: Ipv6Addr) {
        self.machines[machine].has_ipv6 = true;
        self.ip(machine, &format!("addr add {address}/64 dev {name} nodad"));
    }

    pub(super) fn build(
        mut self,
        homes: [Home; 2],
        shared: Option<Carrier>,
        folder: TempDir,
    ) -> Lab {
        let inet = self.machine("inet", PUBLIC_GATEWAY);
        self.routes(inet);
        let public = self.machine("pub", PUBLIC_ONE);
        self.cable((public, "eth0"), (inet, "public"));
        self.interface(inet, "public", PUBLIC_GATEWAY, 24);
        self.interface(public, "eth0", PUBLIC_ONE, 24);
        self.ip(public, &format!("addr add {PUBLIC_TWO}/24 dev eth0"));
        self.ip(public, &format!("route add default via {PUBLIC_GATEWAY}"));
        if homes.iter().any(Home::has_ipv6) {
            self.internet_6(inet, public);
        }
        let [a, b] =
            [0, 1].map(|side: u8| Plan::new(homes[usize::from(side)], side, shared.is_some()));
        let shared = shared.map(|carrier| self.shared_carrier(inet, &a, carrier));
        let homes = [
            self.home(inet, shared, &a, ["home-a", "a", "a2", "ra", "ca"]),
            self.home(inet, shared, &b, ["home-b", "b", "b2", "rb", "cb"]),
        ];
        self.realise();

        let names = self
            .machines
            .iter()
            .map(|machine| machine.host.netns().to_owned())
            .collect();
        let mut hosts: Vec<Option<Host>> = self
            .machines
            .into_iter()
            .map(|machine| Some(machine.host))
            .collect();
        let mut take = |index: usize| hosts[index].take().expect("each machine is taken once");
        Lab {
            inet: take(inet),
            public: take(public),
            homes: homes.map(|home| HomeHosts {
                router: take(home.router),
                carrier: home.carrier.map(&mut take),
                hosts: home.hosts.map(&mut take),
            }),
            shared_carrier: shared.map(&mut take),
            names,
            folder: Some(folder),
        }
    }

    fn home(
        &mut self,
        inet: usize,
        shared: Option<usize>,
        plan: &Plan,
        names: [&str; 5],
    ) -> HomeIndexes {
        let [port, first, second, router_name, carrier_name] = names;
        let router = self.router(router_name, plan);
        let carrier = plan.home.carrier.map(|nat| {
            let carrier = self.carrier(carrier_name, plan, nat, false);
            self.cable((router, "wan"), (carrier, "lan"));
            self.interface(carrier, "lan", at(plan.carrier_net, 1), 24);
            carrier
        });
        match shared {
            Some(carrier) => {
                self.cable((router, "wan"), (carrier, port));
                self.ip(carrier, &format!("link set {port} master lan"));
                self.ip(carrier, &format!("link set {port} up"));
            }
            None => self.join_internet(inet, port, carrier.unwrap_or(router), plan),
        }
        if let Some(carrier) = carrier.or(shared) {
            self.interface(router, "wan", plan.router_wan(), 24);
            let gateway = at(plan.carrier_net, 1);
            self.ip(router, &format!("route add default via {gateway}"));
            self.ip(carrier, &plan.route_to_lan());
        } else {
            self.ip(inet, &plan.route_to_lan());
        }

        self.ip(router, "link add lan type bridge");
        let gateway = at(plan.lan_prefix, plan.lan_router);
        self.interface(router, "lan", gateway, plan.lan_len);
        let hosts = [(first, 0), (second, 1)].map(|(name, place)| {
            let address = at(plan.lan_prefix, plan.lan_hosts[place]);
            let host = self.machine(name, address);
            let port = format!("port{place}");
            self.cable((host, "eth0"), (router, &port));
            self.ip(router, &format!("link set {port} master lan"));
            self.ip(router, &format!("link set {port} up"));
            self.interface(host, "eth0", address, plan.lan_len);
            self.ip(host, &format!("route add default via {gateway}"));
            host
        });
        if plan.home.ipv6 {
            assert!(!plan.has_carrier, "a carrier's NAT does not pass IPv6 on");
            self.home_6(inet, port, plan, router, hosts);
        }
        HomeIndexes {
            router,
            carrier,
            hosts,
        }
    }

    /// IPv6 in the middle.
    fn internet_6(&mut self, inet: usize, public: usize) {
        self.address_6(inet, "public", PUBLIC_GATEWAY_6);
        self.forwards_6(inet);
        for address in [PUBLIC_ONE_6, PUBLIC_TWO_6] {
            self.address_6(public, "eth0", address);
        }
        self.ip(public, &format!("route add default via {PUBLIC_GATEWAY_6}"));
        self.machines[public].host.set_address_6(PUBLIC_ONE_6);
    }

    /// IPv6 of a home: every host has a public address, and the router lets only answers in.
    fn home_6(&mut self, inet: usize, port: &str, plan: &Plan, router: usize, hosts: [usize; 2]) {
        let [above, edge] = [1, 2].map(|host| plan.at_6(0, host));
        self.address_6(inet, port, above);
        self.address_6(router, "wan", edge);
        self.ip(router, &format!("route add default via {above}"));
        let gateway = plan.at_6(1, 1);
        self.ip(
            inet,
            &format!("route add {}/64 via {edge}", plan.at_6(1, 0)),
        );
        self.address_6(router, "lan", gateway);
        self.forwards_6(router);
        self.machines[router].nft.push_str(FIREWALL_6);
        self.machines[router].host.set_address_6(edge);
        for (place, host) in hosts.into_iter().enumerate() {
            let address = plan.at_6(1, u16::from(plan.lan_hosts[place]));
            self.address_6(host, "eth0", address);
            self.ip(host, &format!("route add default via {gateway}"));
            self.machines[host].host.set_address_6(address);
        }
    }

    /// The home's own router.
    fn router(&mut self, name: &str, plan: &Plan) -> usize {
        let router = self.machine(name, plan.router_wan());
        self.routes(router);
        let rules = Router {
            nat: plan.home.nat,
            hairpin: false,
            wan_firewall: plan.home.wan_firewall,
            external: plan.router_wan(),
        };
        self.machines[router].nft = rules.ruleset();
        if let Some(idle) = plan.home.udp_timeout {
            let secs = idle.as_secs();
            self.machines[router].sysctl.push_str(&format!(
                "echo {secs} > /proc/sys/net/netfilter/nf_conntrack_udp_timeout\n\
                 echo {secs} > /proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream\n"
            ));
        }
        router
    }

    /// A carrier's router.
    fn carrier(&mut self, name: &str, plan: &Plan, nat: Nat, hairpin: bool) -> usize {
        let carrier = self.machine(name, plan.edge());
        self.routes(carrier);
        let rules = Router {
            nat,
            hairpin,
            wan_firewall: true,
            external: plan.edge(),
        };
        self.machines[carrier].nft = rules.ruleset();
        carrier
    }

    /// A carrier's router with a network that both homes join.
    fn shared_carrier(&mut self, inet: usize, plan: &Plan, carrier: Carrier) -> usize {
        let Carrier { nat, hairpin } = carrier;
        let carrier = self.carrier("c", plan, nat, hairpin);
        self.ip(carrier, "link add lan type bridge");
        self.interface(carrier, "lan", at(plan.carrier_net, 1), 24);
        self.join_internet(inet, "homes", carrier, plan);
        carrier
    }

    /// Joins what is outermost of a home to the internet.
    fn join_internet(&mut self, inet: usize, port: &str, edge: usize, plan: &Plan) {
        let gateway = at(plan.outside, 1);
        self.cable((edge, "wan"), (inet, port));
        self.interface(inet, port, gateway, 25);
        self.interface(edge, "wan", plan.edge(), 25);
        self.ip(edge, &format!("route add default via {gateway}"));
    }

    /// Makes a machine forward packets.
    fn routes(&mut self, machine: usize) {
        self.machines[machine]
            .sysctl
            .push_str("echo 1 > /proc/sys/net/ipv4/ip_forward\n");
    }

    /// Makes a machine forward IPv6 packets too.
    fn forwards_6(&mut self, machine: usize) {
        self.machines[machine]
            .sysctl
            .push_str("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n");
    }

    /// Lets the kernel make it: namespaces and cables first, then all machines at once.
    fn realise(&self) {
        let mut batch = String::new();
        for machine in &self.machines {
            writeln!(batch, "netns add {}", machine.host.netns()).expect("a String takes it");
        }
        let mut command = Command::new("ip");
        finish(
            feed(command.args(["-batch", "-"]), &batch),
            "namespaces",
            &batch,
        );
        let mut command = Command::new("ip");
        finish(
            feed(command.args(["-batch", "-"]), &self.cables),
            "cables",
            &self.cables,
        );
        let scripts: Vec<String> = self.machines.iter().map(Machine::script).collect();
        let running: Vec<Child> = self
            .machines
            .iter()
            .zip(&scripts)
            .map(|(machine, script)| feed(&mut machine.host.command("sh"), script))
            .collect();
        for (child, script) in running.into_iter().zip(&scripts) {
            finish(child, "a machine", script);
        }
    }
}

struct HomeIndexes {
    router: usize,
    carrier: Option<usize>,
    hosts: [usize; 2],
}

impl Machine {
    fn script(&self) -> String {
        // No IPv6 unless a test asks for it, and then without the second of waiting whether an address is taken; no reverse
        // path filter, since homes are asymmetric by nature here; a low TTL must be answered however many checks expire.
        let ipv6 = if self.has_ipv6 {
            "echo 0 > $dir/accept_dad\necho 0 > $dir/accept_ra"
        } else {
            "echo 1 > $dir/disable_ipv6"
        };
        format!(
            "set -e\n\
             for dir in all default; do\n\
             echo 0 > /proc/sys/net/ipv4/conf/$dir/rp_filter\n\
             done\n\
             for dir in /proc/sys/net/ipv6/conf/*; do\n\
             [ -e $dir ] || continue\n\
             {ipv6}\n\
             done\n\
             {}\
             ip -batch - <<'END'\n{}END\n\
             nft -f - <<'END'\n{}END\n",
            self.sysctl, self.ip, self.nft
        )
    }
}

fn feed(command: &mut Command, input: &str) -> Child {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ip and nsenter are installed");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    stdin
        .write_all(input.as_bytes())
        .expect("the child reads its input");
    child
}

fn finish(child: Child, what: &str, input: &str) {
    let output = child
        .wait_with_output()
        .expect("the child can be waited for");
    assert!(
        output.status.success(),
        "lab: {what} could not be made: {}\nfrom:\n{input}",
        String::from_utf8_lossy(&output.stderr)
    );
}

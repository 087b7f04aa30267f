//! Several clients of one server at once: two behind one NAT, one beside the server, one with no NAT at all. Each has the
//! same local ports and services of its own, and none feels what another does.

use std::time::Duration;

use serde_json::Value;
use stunfwd_tests::{
    bed::ROOM,
    crowd::Crowd,
    footprint::{counter, holdings},
    lab::{self, Home, Host, Lab, Nat},
    process::Process,
    product::{Config, Peer, Role, Signaling},
    tool, wait,
};

const PATIENCE: Duration = Duration::from_secs(15);

/// The local ports of every client.
const EXCHANGE: &str = "127.0.0.1:8080";
const NAME: &str = "127.0.0.1:8081";
const ECHO: &str = "127.0.0.1:8082";
const UDP: &str = "127.0.0.1:6000";

/// How many connections each client holds.
const CROWD: u64 = 25;

struct Client<'a> {
    host: &'a Host,
    peer: Peer<'a>,
    name: String,
    _services: Vec<Process>,
}

impl<'a> Client<'a> {
    /// Starts the client of that number and, at the server, the services that are its own.
    fn start(number: usize, host: &'a Host, server: &Host, signaling: &Signaling<'_>) -> Self {
        let [exchange, greet, echo, udp] = [9000, 9001, 9002, 9100].map(|port| port + number * 10);
        let name = format!("service of client {number}");
        let at = |port: usize| format!("127.0.0.1:{port}");
        let services = vec![
            tool::serve(server, "tcp-exchange", &at(exchange)),
            tool::serve_args(server, &["greet", &at(greet), &name]),
            tool::serve(server, "tcp-echo", &at(echo)),
            tool::serve(server, "udp-echo", &at(udp)),
        ];
        let mappings = [
            format!("tcp:8080:{exchange}"),
            format!("tcp:8081:{greet}"),
            format!("tcp:8082:{echo}"),
            format!("udp:6000:{udp}"),
        ];
        let config = Config::new(ROOM, &signaling.url())
            .with_mappings(&mappings.each_ref().map(String::as_str));
        Self {
            host,
            peer: Peer::start(Role::Client, host, &config),
            name,
            _services: services,
        }
    }

    fn path_changes(&self) -> u64 {
        let status = self.peer.status().expect("the client answers");
        counter(&status, "/peers/0/pathChanges")
    }

    fn assert_reaches_its_own(&self) {
        let report = tool::run(self.host, &["read", NAME]);
        assert_eq!(report["text"], *self.name, "{report}");
    }

    fn udp_check(&self) -> Process {
        let args = ["udp-check", UDP, "--count", "200", "--interval-us", "5000"];
        tool::start(self.host, &args)
    }
}

fn assert_all_echoed(mut check: Process) {
    let report = tool::finish(&mut check, PATIENCE);
    let tally = ["received", "corrupt", "repeated"].map(|key| report[key].as_u64());
    assert_eq!(tally, [Some(200), Some(0), Some(0)], "{report}");
}

/// All crowds exchange their data at the same time; every byte comes back to its own.
fn exchange_at_once(crowds: &mut [&mut Crowd]) {
    for crowd in &mut *crowds {
        crowd.begin("exchange 200000");
    }
    for crowd in crowds {
        let report = crowd.finish("exchange 200000");
        assert_eq!(report["correct"], CROWD, "{report}");
    }
}

#[test]
fn four_clients_of_one_server_do_not_feel_each_other() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let lab = Lab::new(home, home);
        let signaling = Signaling::start(lab.public());
        let config = Config::new(ROOM, &signaling.url());
        let mut server = Peer::start(Role::Server, lab.b(), &config);
        let places = [
            (lab.a(), "direct"),
            (lab.a2(), "direct"),
            (lab.b2(), "lan"),
            (lab.public(), "direct"),
        ];
        let mut number = 0;
        let mut clients = places.map(|(host, _)| {
            number += 1;
            Client::start(number, host, lab.b(), &signaling)
        });
        for (client, (_, kind)) in clients.iter().zip(places) {
            client.peer.await_connected(PATIENCE);
            client.peer.await_kind(PATIENCE, kind);
        }
        server.await_status(PATIENCE, "four clients", |status| {
            let peers = status["peers"].as_array();
            peers.is_some_and(|peers| {
                peers.len() == 4 && peers.iter().all(|peer| peer["state"] == "connected")
            })
        });

        // Everybody at once.
        let checks = clients.each_ref().map(Client::udp_check);
        let mut crowds = clients
            .each_ref()
            .map(|client| Crowd::tcp(client.host, ECHO));
        for crowd in &mut crowds {
            crowd.begin(&format!("open {CROWD}"));
        }
        for crowd in &mut crowds {
            let report = crowd.finish("open");
            assert_eq!(report["correct"], CROWD, "{report}");
        }
        exchange_at_once(&mut crowds.each_mut());
        for client in &clients {
            client.assert_reaches_its_own();
        }
        for check in checks {
            assert_all_echoed(check);
        }
        let before = clients.each_ref().map(Client::path_changes);

        // One fills its path with an upload that has no end, its neighbour behind the same NAT is killed.
        let endless = ["transfer", EXCHANGE, "--up", "1000000000000", "--down", "0"];
        let mut upload = tool::start(clients[0].host, &endless);
        let uploaded = |client: &Client<'_>| {
            let status = client.peer.status().expect("the client answers");
            counter(&status, "/mappings/0/bytesOut")
        };
        wait::until(PATIENCE, "the upload to flow", || {
            uploaded(&clients[0]) > 5_000_000
        });
        clients[1].peer.process().kill();
        let [_, orphans, beside, public] = &mut crowds;
        let checks = [&clients[2], &clients[3]].map(Client::udp_check);
        for _ in 0..3 {
            exchange_at_once(&mut [&mut *beside, &mut *public]);
        }
        for client in &clients[2..] {
            client.assert_reaches_its_own();
        }
        for check in checks {
            assert_all_echoed(check);
        }
        let report = orphans.step("echo");
        assert_eq!(
            report["open"], 0,
            "what the killed client held is over: {report}"
        );
        let flowed = uploaded(&clients[0]);
        wait::until(PATIENCE, "the upload to go on", || {
            uploaded(&clients[0]) > flowed
        });
        assert_eq!(upload.ended(), None, "{}", upload.stderr());
        drop(upload);

        // The killed one comes back: what the server still held for it is over, and its place is its own again.
        clients[1].peer.start_again();
        clients[1].peer.await_connected(PATIENCE);
        clients[1].assert_reaches_its_own();
        for (index, crowd) in crowds.iter_mut().enumerate() {
            if index != 1 {
                crowd.all("echo", CROWD);
            }
        }
        let udp_flows = 2 * (4 - 1);
        wait::until(PATIENCE, "nothing but three crowds", || {
            holdings(&mut server).flows <= 3 * CROWD + udp_flows
        });
        let after = clients.each_ref().map(Client::path_changes);
        for index in [0, 2, 3] {
            assert_eq!(
                before[index], after[index],
                "client {index} changed its path"
            );
        }
        let state = |peer: &Peer<'_>| peer.status().map(|status| status["state"].clone());
        assert!(
            clients
                .iter()
                .all(|client| state(&client.peer) == Some(Value::from("connected")))
        );
    });
}

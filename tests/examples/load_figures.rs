//! Prints what forwarding costs on this machine, each figure beside the same thing without the tunnel:
//!
//! ```sh
//! cargo build -p stunfwd-client -p stunfwd-server -p signaling --bins
//! cargo run -p stunfwd-tests --example load_figures
//! ```
//!
//! Everything runs on the loopback with the programs of this build, once on a path without a relay and once through it.
//! Absolute numbers say something about a machine, ratios about the program; nothing is asserted.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::time::Duration;

use serde_json::Value;
use stunfwd_tests::{
    crowd::Crowd,
    footprint::memory,
    lab::Host,
    loopback::free_port,
    process::Process,
    product::{Config, Peer, Role, Signaling},
    tool,
};

const PATIENCE: Duration = Duration::from_secs(20);
const ROOM: &str = "figures-heron-20b7c4d9e8f1a365";

/// Long enough that the start is no part of the figure, short enough for a slow build.
const TRANSFER_BYTES: u64 = 100_000_000;
const FAIR_BYTES: u64 = 10_000_000;
const SETUPS: u64 = 1_000;
const IDLE: u64 = 2_000;
const ECHO_ROUNDS: u64 = 50;
const ECHO_SOCKETS: u64 = 64;

/// A service and the port that leads to it through the tunnel.
struct Forwarded {
    _process: Process,
    spec: String,
    direct: String,
    forwarded: String,
}

struct Bench<'a> {
    host: &'a Host,
    exchange: &'a Forwarded,
    echo: &'a Forwarded,
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let host = Host::local(folder.path());
    let [http, stun] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let flags = ["--relay-allow", "127.0.0.0/8"];
    let signaling = Signaling::start_with(&host, &http, &[&stun], &flags);
    let [exchange, echo, udp] = [
        forward(&host, "tcp", "tcp-exchange"),
        forward(&host, "tcp", "tcp-echo"),
        forward(&host, "udp", "udp-echo"),
    ];
    let bench = Bench {
        host: &host,
        exchange: &exchange,
        echo: &echo,
    };
    let without = [
        bench.throughput(&exchange.direct),
        bench.setups(&echo.direct),
        bench.udp_echoes(&udp.direct),
    ];
    println!(
        "without a tunnel: {:.0} MB/s, {:.0} connections/s, {:.0} UDP echoes/s",
        without[0], without[1], without[2]
    );
    for (path, direct) in [("lan", "true"), ("relay", "false")] {
        let config = Config::new(ROOM, &signaling.url())
            .with_mappings(&[&exchange.spec, &echo.spec, &udp.spec])
            .with_line(&format!("direct: {direct}"));
        let mut server = Peer::start(Role::Server, &host, &config);
        let mut client = Peer::start(Role::Client, &host, &config);
        client.await_connected(PATIENCE);
        client.await_kind(PATIENCE, path);
        let with = [
            bench.throughput(&exchange.forwarded),
            bench.setups(&echo.forwarded),
            bench.udp_echoes(&udp.forwarded),
        ];
        // Last: what the start needed, 19 MiB for the room's key alone, is given back only while something happens.
        let idle = bench.idle_memory(&mut client, &mut server);
        println!(
            "{path}: {:.0} MB/s (1/{:.1}), {:.0} connections/s (1/{:.1}), {:.0} UDP echoes/s (1/{:.1})",
            with[0],
            without[0] / with[0],
            with[1],
            without[1] / with[1],
            with[2],
            without[2] / with[2]
        );
        println!(
            "{path}: 1,000 idle connections hold {:.1} MB at the client, {:.1} MB at the server",
            idle[0], idle[1]
        );
        println!("{path}: ten uploads at once: {}", bench.fairness());
        client.stop();
        server.stop();
    }
}

impl Bench<'_> {
    /// MB/s of one upload.
    fn throughput(&self, address: &str) -> f64 {
        let bytes = TRANSFER_BYTES.to_string();
        let args = ["transfer", address, "--up", &bytes, "--down", "0"];
        TRANSFER_BYTES as f64 / 1e3 / millis(&tool::run(self.host, &args))
    }

    /// Connections per second, each proven by an echo, 32 at a time.
    fn setups(&self, address: &str) -> f64 {
        let mut crowd = Crowd::tcp(self.host, address);
        let report = crowd.all(&format!("open {SETUPS}"), SETUPS);
        SETUPS as f64 * 1e3 / millis(&report)
    }

    /// Echoes of 1,000 bytes per second, eight under way.
    fn udp_echoes(&self, address: &str) -> f64 {
        let mut swarm = Crowd::udp(self.host, address, [1_000, 1_000]);
        swarm.step(&format!("open {ECHO_SOCKETS}"));
        let echoes = ECHO_ROUNDS * ECHO_SOCKETS;
        let report = swarm.all(&format!("echo {ECHO_ROUNDS}"), echoes);
        echoes as f64 * 1e3 / millis(&report)
    }

    /// MB per 1,000 idle connections at either end.
    fn idle_memory(&self, client: &mut Peer<'_>, server: &mut Peer<'_>) -> [f64; 2] {
        let before = [memory(client), memory(server)];
        let mut crowd = Crowd::tcp(self.host, &self.echo.forwarded);
        crowd.all(&format!("open {IDLE}"), IDLE);
        std::thread::sleep(Duration::from_secs(2));
        let held = [memory(client), memory(server)];
        [0, 1].map(|end| held[end].saturating_sub(before[end]) as f64 / 1e3 / IDLE as f64)
    }

    /// How far ten equal uploads that began together ended apart.
    fn fairness(&self) -> String {
        let bytes = FAIR_BYTES.to_string();
        let address = self.exchange.forwarded.as_str();
        let args = ["transfer", address, "--up", &bytes, "--down", "0"];
        let mut uploads: Vec<Process> = (0..10).map(|_| tool::start(self.host, &args)).collect();
        let finish = |upload: &mut Process| millis(&tool::finish(upload, Duration::from_secs(120)));
        let mut times: Vec<f64> = uploads.iter_mut().map(finish).collect();
        times.sort_by(f64::total_cmp);
        let rates: Vec<f64> = times.iter().map(|time| 1.0 / time).collect();
        let sum: f64 = rates.iter().sum();
        let jain = sum * sum / (10.0 * rates.iter().map(|rate| rate * rate).sum::<f64>());
        format!(
            "the first ended after {:.0} ms, the last after {:.0} ms; Jain's index {jain:.3} (1 is equal)",
            times[0], times[9]
        )
    }
}

fn millis(report: &Value) -> f64 {
    report["ms"]
        .as_f64()
        .expect("a report says how long it took")
}

fn forward(host: &Host, protocol: &str, service: &str) -> Forwarded {
    let (near, far) = (free_port(), free_port());
    let direct = format!("127.0.0.1:{far}");
    Forwarded {
        _process: tool::serve(host, service, &direct),
        spec: format!("{protocol}:{near}:{far}"),
        direct,
        forwarded: format!("127.0.0.1:{near}"),
    }
}

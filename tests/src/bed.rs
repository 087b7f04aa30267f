//! What most end-to-end tests need: one lab, signaling, the services, and a client in home A with a server in home B.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    lab::{Host, Lab},
    process::Process,
    product::{Config, Peer, Role, Signaling, path_kind},
    tool, wait,
};

/// The echo service behind the forwarded TCP port.
pub const ECHO: &str = "127.0.0.1:8082";
/// The exchange service of `transfer`.
pub const EXCHANGE: &str = "127.0.0.1:8080";
/// The digest service of `half-close`.
pub const DIGEST: &str = "127.0.0.1:8081";
/// The service that never reads.
pub const SINK: &str = "127.0.0.1:8083";
/// The forwarded UDP port.
pub const UDP: &str = "127.0.0.1:6000";

/// How the client reaches what [`serve`] starts.
pub const MAPPINGS: [&str; 5] = [
    "tcp:8080:9000",
    "tcp:8081:9001",
    "tcp:8082:9002",
    "tcp:8083:9003",
    "udp:6000:9100",
];

/// A room name long enough that no program warns about it.
pub const ROOM: &str = "quiet-otter-lab-7f3a9c51e2d84b06";

/// How long both ends may take to a first byte, and to a direct path.
pub const START: Duration = Duration::from_secs(3);

/// Starts the services of [`MAPPINGS`] on a host.
pub fn serve(host: &Host) -> Vec<Process> {
    [
        ("tcp-exchange", "127.0.0.1:9000"),
        ("tcp-digest", "127.0.0.1:9001"),
        ("tcp-echo", "127.0.0.1:9002"),
        ("tcp-sink", "127.0.0.1:9003"),
        ("udp-echo", "127.0.0.1:9100"),
    ]
    .map(|(service, address)| tool::serve(host, service, address))
    .into()
}

/// A client and a server that have just been started.
#[derive(Debug)]
pub struct Pair<'a> {
    /// The host of the client.
    pub host: &'a Host,
    /// The client.
    pub client: Peer<'a>,
    /// The server.
    pub server: Peer<'a>,
    services: Vec<Process>,
    started: Instant,
}

impl<'a> Pair<'a> {
    /// Starts the services and both programs in home A (client) and home B (server).
    pub fn start(lab: &'a Lab, signaling: &Signaling<'_>) -> Self {
        let config = Config::new(ROOM, &signaling.url()).with_mappings(&MAPPINGS);
        Self::start_on(lab.a(), lab.b(), &config)
    }

    /// Starts the services and both programs on these hosts, with one configuration.
    pub fn start_on(client: &'a Host, server: &'a Host, config: &Config) -> Self {
        Self::start_each(client, server, [config, config])
    }

    /// Starts the services and both programs on these hosts, each with a configuration of its own.
    pub fn start_each(
        client: &'a Host,
        server: &'a Host,
        [client_config, server_config]: [&Config; 2],
    ) -> Self {
        let services = serve(server);
        let started = wait::now();
        Self {
            host: client,
            server: Peer::start(Role::Server, server, server_config),
            client: Peer::start(Role::Client, client, client_config),
            services,
            started,
        }
    }

    /// How long ago both programs were started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Asserts that a byte makes the round trip to the echo service within [`START`] of both programs' start.
    ///
    /// # Panics
    /// When it does not.
    pub fn assert_first_byte(&self) {
        let secs = START.as_secs_f64().to_string();
        tool::run(self.host, &["first-byte", ECHO, "--secs", &secs]);
        let taken = self.started.elapsed();
        assert!(taken <= START, "the first byte took {taken:?}");
    }

    /// Asserts that both ends report a path of that kind within [`START`] of both programs' start.
    pub fn assert_kind_at_once(&self, kind: &str) {
        let left = || START.saturating_sub(self.started.elapsed());
        self.client.await_kind(left(), kind);
        self.server.await_kind(left(), kind);
    }

    /// Asserts that both ends report a path of that kind now.
    ///
    /// # Panics
    /// When either does not.
    pub fn assert_kind(&self, kind: &str) {
        for peer in [&self.client, &self.server] {
            let status = peer.status().expect("the program answers");
            assert_eq!(path_kind(&status), Some(kind), "{status:#}");
        }
    }

    /// Waits until both ends are connected.
    pub fn await_connected(&self, patience: Duration) {
        self.client.await_connected(patience);
        self.server.await_connected(patience);
    }

    /// Moves `bytes` each way at the same time through the forwarded port; the tool compares every byte and both hashes.
    pub fn transfer(&self, bytes: u64) -> Value {
        let bytes = bytes.to_string();
        tool::run(
            self.host,
            &["transfer", EXCHANGE, "--up", &bytes, "--down", &bytes],
        )
    }

    /// Sends, ends its direction, and reads the long answer to its end.
    pub fn half_close(&self) -> Value {
        tool::run(self.host, &["half-close", DIGEST])
    }

    /// Asserts that 500 UDP payloads of 12 to 8,000 bytes come back, each once and whole.
    ///
    /// # Panics
    /// When they do not.
    pub fn assert_udp_echoes(&self) {
        self.assert_udp_echoes_but(0);
    }

    /// The same where the way leads over a TCP connection to a relay: what comes while the stream is behind has to be
    /// dropped at some point (coturn does so above 32 KiB, which is four of these payloads in one burst).
    ///
    /// # Panics
    /// When more is lost than one in fifty, or any comes back otherwise than it went.
    pub fn assert_udp_echoes_over_a_stream(&self) {
        self.assert_udp_echoes_but(10);
    }

    fn assert_udp_echoes_but(&self, lost_max: u64) {
        let report = tool::run(
            self.host,
            &[
                "udp-check",
                UDP,
                "--count",
                "500",
                "--min",
                "12",
                "--max",
                "8000",
            ],
        );
        let [received, lost, corrupt, repeated] =
            ["received", "lost", "corrupt", "repeated"].map(|key| report[key].as_u64());
        assert_eq!([corrupt, repeated], [Some(0), Some(0)], "{report}");
        let lost = lost.expect("the tool counts what is lost");
        assert_eq!(received, Some(500 - lost), "{report}");
        assert!(lost <= lost_max, "{report}");
    }

    /// What the service of that index in [`MAPPINGS`] has printed.
    pub fn service_output(&self, index: usize) -> String {
        self.services[index].stdout()
    }
}

//! STUN and TURN on this machine, for examples that want to work without a network.

use std::net::SocketAddr;

use anyhow::Context;
use relay::server::{SharedSecret, time_limited_credentials};
use signaling::{Settings, Signaling};
use tokio_util::sync::CancellationToken;

/// A STUN and TURN server inside this process.
#[derive(Debug)]
pub struct LocalServers {
    /// Where it answers, over UDP and TCP.
    pub address: SocketAddr,
    shutdown: CancellationToken,
}

/// The secret that the server and [`LocalServers::credentials`] share.
const SECRET: &str = "only-for-examples-on-this-machine";

impl LocalServers {
    /// Starts it on free ports of the loopback interface, with relaying to loopback allowed.
    ///
    /// # Errors
    /// When its sockets cannot be opened.
    pub fn start() -> anyhow::Result<Self> {
        let mut settings = Settings::default();
        for (key, value) in [
            ("listen", "127.0.0.1:0"),
            ("stun", "127.0.0.1:0"),
            ("relay-allow", "127.0.0.0/8"),
            ("turn-secret", SECRET),
        ] {
            settings.flag(key, value);
        }
        let server = Signaling::bind(settings.resolve()?).context("STUN and TURN")?;
        let address = *server.stun_addrs().first().context("one STUN address")?;
        let shutdown = CancellationToken::new();
        tokio::spawn(server.run(shutdown.clone()));
        Ok(Self { address, shutdown })
    }

    /// Returns a username and password for its relay that end at a time far away.
    #[must_use]
    pub fn credentials(&self) -> (String, String) {
        const IN_2096: u64 = 4_000_000_000;
        time_limited_credentials(&SharedSecret::new(SECRET), "example", IN_2096)
    }
}

impl Drop for LocalServers {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

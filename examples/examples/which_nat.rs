//! Which NAT is this machine behind? `natprobe` alone, with its ready driver.
//!
//!     cargo run -p stunfwd-examples --example which_nat -- 203.0.113.10:3478   # a STUN server of yours
//!     cargo run -p stunfwd-examples --example which_nat                        # one on this machine
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use natprobe::ProbeConfig;
use stunfwd_examples::servers::LocalServers;
use tokio::net::UdpSocket;

/// A clean network takes about a second; this is for one that loses packets.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let given: Vec<SocketAddr> = std::env::args()
        .skip(1)
        .map(|text| {
            text.parse()
                .with_context(|| format!("`{text}` is no address and port"))
        })
        .collect::<anyhow::Result<_>>()?;
    let local = if given.is_empty() {
        Some(LocalServers::start()?)
    } else {
        None
    };
    let servers = local.as_ref().map_or(given, |local| vec![local.address]);

    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    let config = ProbeConfig {
        servers,
        local_addresses: vec![Ipv4Addr::LOCALHOST.into()],
        ..ProbeConfig::default()
    };
    let report = natprobe::tokio::probe(&socket, config, PATIENCE)
        .await?
        .context("no server answered")?;
    println!("type       {}", report.nat_type());
    println!("mapping    {}", report.mapping);
    println!("filtering  {}", report.filtering);
    println!("seen as    {:?}", report.reflexive);
    Ok(())
}

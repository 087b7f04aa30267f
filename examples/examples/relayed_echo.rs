//! A UDP socket whose address is on a relay: `relay` alone, with its ready driver.
//!
//!     cargo run -p stunfwd-examples --example relayed_echo
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::net::Ipv4Addr;
use std::time::Duration;

use relay::tokio::RelaySocket;
use stunfwd_examples::servers::LocalServers;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let servers = LocalServers::start()?;
    let (username, password) = servers.credentials();
    let mut relayed = timeout(
        PATIENCE,
        RelaySocket::allocate(servers.address, &username, password.into()),
    )
    .await??;
    println!("the relay gave us {}", relayed.relayed());

    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let peer_address = peer.local_addr()?;
    timeout(PATIENCE, relayed.bind(peer_address)).await??;
    peer.send_to(b"hello through the relay", relayed.relayed())
        .await?;
    let (payload, from) = timeout(PATIENCE, relayed.recv_from()).await?;
    println!("{from} says: {}", String::from_utf8_lossy(&payload));

    relayed.send_to(b"and hello back", from).await?;
    let mut buffer = [0; 64];
    let (length, from) = timeout(PATIENCE, peer.recv_from(&mut buffer)).await??;
    println!(
        "{from} says: {}",
        String::from_utf8_lossy(&buffer[..length])
    );
    relayed.close().await?;
    Ok(())
}

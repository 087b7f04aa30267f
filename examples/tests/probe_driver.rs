//! The ready driver of `natprobe` (its feature `tokio`) examines what is in front of a socket of a program.

use std::net::Ipv4Addr;
use std::time::Duration;

use natprobe::{NatType, PortAllocation, ProbeConfig};
use stunfwd_examples::servers::LocalServers;
use tokio::net::UdpSocket;

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_socket_on_loopback_is_behind_nothing() {
    let servers = LocalServers::start().unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let config = ProbeConfig {
        servers: vec![servers.address],
        ..ProbeConfig::default()
    };
    let report = natprobe::tokio::probe(&socket, config, PATIENCE)
        .await
        .unwrap()
        .expect("an answer in time");
    assert_eq!(report.nat_type(), NatType::NoNat);
    assert_eq!(report.reflexive, [socket.local_addr().unwrap()]);
    assert_eq!(report.ports, PortAllocation::Preserving);
}

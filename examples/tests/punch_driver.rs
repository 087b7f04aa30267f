//! The ready driver of `punch` (its feature `tokio`) opens a path between two sockets of a program.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use punch::{Agent, AgentConfig, Candidate, CandidateKind, PairCredentials, Role};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn two_sockets_open_a_path_to_each_other() {
    let (ours, theirs) = (bind().await, bind().await);
    let (our_address, their_address) = (ours.local_addr().unwrap(), theirs.local_addr().unwrap());
    let mut left = agent(
        Role::Controlling,
        ["left", "right"],
        our_address,
        their_address,
    );
    let mut right = agent(
        Role::Controlled,
        ["right", "left"],
        their_address,
        our_address,
    );
    // The side that is done first goes on answering.
    let right = tokio::spawn(async move {
        loop {
            let path = punch::tokio::punch(&theirs, their_address, &mut right).await;
            assert_eq!(path.unwrap().remote.address, our_address);
        }
    });
    let path = timeout(PATIENCE, punch::tokio::punch(&ours, our_address, &mut left))
        .await
        .expect("a path in time")
        .unwrap();
    assert_eq!(path.remote.address, their_address);
    assert!(path.is_validated());
    right.abort();
}

async fn bind() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port of loopback is free")
}

fn agent(role: Role, [own, other]: [&str; 2], base: SocketAddr, remote: SocketAddr) -> Agent {
    let credentials = PairCredentials {
        local_ufrag: own.to_owned(),
        remote_ufrag: other.to_owned(),
        password: "both sides know it".to_owned(),
    };
    let now = Instant::now().into_std();
    let mut agent = Agent::new(
        AgentConfig::default(),
        role,
        credentials,
        rand::random(),
        now,
    );
    let host = |address| Candidate::new(CandidateKind::Host, address, address, 65535);
    agent.add_local_candidate(host(base), now);
    agent.add_remote_candidate(host(remote), now);
    agent
}

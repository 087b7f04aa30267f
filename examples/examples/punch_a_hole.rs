//! Two sockets open a path to each other with authenticated checks: `punch` alone, with its ready driver.
//!
//!     cargo run -p stunfwd-examples --example punch_a_hole
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use punch::{Agent, AgentConfig, Candidate, CandidateKind, PairCredentials, Role};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (ours, theirs) = (bind().await?, bind().await?);
    let (our_address, their_address) = (ours.local_addr()?, theirs.local_addr()?);
    // Each side has to learn the other's address and the password by some other way: that is signaling.
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
    let both = async {
        tokio::try_join!(
            punch::tokio::punch(&ours, our_address, &mut left),
            punch::tokio::punch(&theirs, their_address, &mut right),
        )
    };
    let (left, right) = timeout(PATIENCE, both).await??;
    println!("left:  {} -> {}", left.local.address, left.remote.address);
    println!("right: {} -> {}", right.local.address, right.remote.address);
    Ok(())
}

async fn bind() -> std::io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await
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
    agent.add_local_candidate(Candidate::new(CandidateKind::Host, base, base, 65535), now);
    agent.add_remote_candidate(
        Candidate::new(CandidateKind::Host, remote, remote, 65535),
        now,
    );
    agent
}

//! Sockets that come and go by the hundred beside those that carry.

#![expect(
    clippy::unwrap_used,
    reason = "a test helper that finds nothing fails its test"
)]

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tunnel::carrier::{
    CarrierConfig, CarrierEndpoint, ControlDatagram, DemuxSocket, DialOptions, KnownKeys, Route,
    Side, public_key,
};

const LIMIT: Duration = Duration::from_secs(10);
/// The most that a birthday search opens.
const MANY: usize = 256;

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn bind_many(socket: &Arc<DemuxSocket>) -> Vec<SocketAddr> {
    let bound: Vec<_> = (0..MANY)
        .map(|_| socket.bind_extra(any_port()).unwrap())
        .collect();
    let different: BTreeSet<_> = bound.iter().copied().collect();
    assert_eq!(different.len(), MANY, "no two share a port");
    bound
}

/// A Binding request without attributes.
fn stun(fill: u8) -> Vec<u8> {
    let mut packet = vec![fill; 20];
    packet[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    packet
}

async fn heard(socket: &DemuxSocket) -> ControlDatagram {
    timeout(LIMIT, socket.recv_control())
        .await
        .expect("a datagram in time")
}

fn seed(side: Side) -> [u8; 32] {
    match side {
        Side::Ingress => [1; 32],
        Side::Egress => [2; 32],
    }
}

fn endpoint(side: Side) -> (Arc<DemuxSocket>, CarrierEndpoint) {
    let socket = DemuxSocket::new();
    let known_keys = KnownKeys::new();
    known_keys.insert(public_key(&seed(side.other())));
    let config = CarrierConfig {
        side,
        identity_seed: seed(side),
        known_keys,
        proof_password: [7; 32],
        instance: seed(side)[..16].try_into().unwrap(),
        resume: Duration::from_secs(3600),
        features: 0,
        max_connections: 100,
        seed: seed(side),
    };
    let endpoint = CarrierEndpoint::new(socket.clone(), config).unwrap();
    (socket, endpoint)
}

#[tokio::test]
async fn each_of_hundreds_sends_at_once_and_hears_what_is_sent_to_it() {
    let (socket, _endpoint) = endpoint(Side::Ingress);
    // As the driver does it: so many take longer than packets may wait.
    let beside = socket.clone();
    let opening = tokio::task::spawn_blocking(move || bind_many(&beside));
    let extras = opening.await.unwrap();
    let peer = UdpSocket::bind(any_port()).unwrap();
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    let remote = peer.local_addr().unwrap();
    // Not one turn of the runtime lies between the binding and the sending.
    for (index, local) in extras.iter().enumerate() {
        let ttl = (index % 2 == 0).then_some(3);
        socket.send_control(*local, remote, ttl, &stun(1)).unwrap();
    }
    let mut buffer = [0; 64];
    let senders: BTreeSet<_> = extras
        .iter()
        .map(|_| peer.recv_from(&mut buffer).unwrap().1)
        .collect();
    assert_eq!(senders, extras.iter().copied().collect());

    for local in &extras {
        peer.send_to(&stun(2), local).unwrap();
    }
    let mut hearers = BTreeSet::new();
    for _ in &extras {
        let datagram = heard(&socket).await;
        assert_eq!(
            (datagram.remote, datagram.payload.to_vec()),
            (remote, stun(2))
        );
        hearers.insert(datagram.local);
    }
    assert_eq!(hearers, extras.into_iter().collect());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn those_that_are_taken_out_leave_nothing_open() {
    let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (socket, _endpoint) = endpoint(Side::Ingress);
    let before = open_files();
    for _ in 0..5 {
        let extras = bind_many(&socket);
        assert_eq!(socket.extra_sockets(), MANY);
        assert!(open_files() >= before + MANY);
        for local in &extras {
            assert!(socket.remove_socket(*local));
            assert!(!socket.remove_socket(*local), "it is gone");
            let sent = socket.send_control(*local, "127.0.0.1:9".parse().unwrap(), None, b"x");
            assert_eq!(sent.unwrap_err().kind(), std::io::ErrorKind::NotFound);
        }
        assert_eq!(socket.extra_sockets(), 0);
    }
    // Their tasks end at their next turn, and the sockets with them.
    let closed = timeout(LIMIT, async {
        while open_files() > before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    closed.await.expect("all files are closed");
}

#[tokio::test]
async fn ports_that_nobody_listens_on_do_not_end_a_socket() {
    let (socket, _endpoint) = endpoint(Side::Ingress);
    let local = socket.bind_extra(any_port()).unwrap();
    let closed = UdpSocket::bind(any_port()).unwrap().local_addr().unwrap();
    for _ in 0..200 {
        // The kernel may tell of the refusal at the next call.
        let _ = socket.send_control(local, closed, Some(1), &stun(1));
        tokio::task::yield_now().await;
    }
    let peer = UdpSocket::bind(any_port()).unwrap();
    peer.send_to(&stun(2), local).unwrap();
    assert_eq!(heard(&socket).await.local, local);
    assert_eq!(
        (socket.extra_sockets(), socket.stats().sockets_failed),
        (1, 0)
    );
}

#[tokio::test]
async fn one_that_wins_carries_a_carrier_like_a_main_socket() {
    let (ingress_socket, ingress) = endpoint(Side::Ingress);
    let (egress_socket, egress) = endpoint(Side::Egress);
    let extras = bind_many(&ingress_socket);
    let winner = extras[100];
    // The other end's won, too, and the handshake arrives there before its route is known.
    let far = egress_socket.bind_extra(any_port()).unwrap();
    let route = |local, remote| Route::Direct { local, remote };
    let near_addr = ingress_socket.allocate();
    ingress_socket
        .install(near_addr, route(winner, far))
        .unwrap();
    assert_eq!(ingress_socket.sockets(), [winner]);
    assert_eq!(ingress_socket.extra_sockets(), MANY - 1);
    for local in extras.iter().filter(|local| **local != winner) {
        ingress_socket.remove_socket(*local);
    }

    let dial = tokio::spawn(async move { ingress.dial(near_addr, DialOptions::default()).await });
    let sent = || ingress_socket.route_stats(near_addr).unwrap().packets_out;
    let begun = timeout(LIMIT, async {
        while sent() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    begun.await.expect("the handshake begins");
    // On the loopback it is there at once; the reading of it is one turn of the runtime.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(egress_socket.extra_sockets(), 1);
    let far_addr = egress_socket.allocate();
    egress_socket.install(far_addr, route(far, winner)).unwrap();
    assert!(egress_socket.stats().early_delivered > 0);
    let accepted = timeout(LIMIT, egress.accept()).await.unwrap().unwrap();
    let dialled = timeout(LIMIT, dial).await.unwrap().unwrap().unwrap();

    let said = Bytes::from_static(b"over the winner");
    dialled.send_datagram(said.clone()).unwrap();
    assert_eq!(
        timeout(LIMIT, accepted.read_datagram())
            .await
            .unwrap()
            .unwrap(),
        said
    );
}

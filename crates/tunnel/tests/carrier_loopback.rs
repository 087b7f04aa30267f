//! Two carrier endpoints over real sockets on the loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a test helper that finds nothing fails its test"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::timeout;
use tunnel::carrier::{
    Carrier, CarrierClosed, CarrierConfig, CarrierEndpoint, CarrierError, CarrierToken,
    DemuxSocket, DialOptions, KindView, KnownKeys, Notice, PathKind, ProofError, RelayStreamId,
    Route, Side, VirtualAddr, public_key,
};

const INGRESS_SEED: [u8; 32] = [1; 32];
const EGRESS_SEED: [u8; 32] = [2; 32];
const LIMIT: Duration = Duration::from_secs(10);

struct Node {
    socket: Arc<DemuxSocket>,
    endpoint: CarrierEndpoint,
    local: SocketAddr,
}

fn config(side: Side, instance: u8) -> CarrierConfig {
    let known_keys = KnownKeys::new();
    known_keys.insert(public_key(&INGRESS_SEED));
    known_keys.insert(public_key(&EGRESS_SEED));
    CarrierConfig {
        side,
        identity_seed: if side == Side::Ingress {
            INGRESS_SEED
        } else {
            EGRESS_SEED
        },
        known_keys,
        proof_password: [7; 32],
        instance: [instance; 16],
        resume: Duration::from_secs(3600),
        features: 0,
        max_connections: 100,
        seed: [instance; 32],
    }
}

impl Node {
    fn new(config: CarrierConfig) -> Self {
        let socket = DemuxSocket::new();
        let local = socket.bind("127.0.0.1:0".parse().unwrap()).unwrap().local;
        let endpoint = CarrierEndpoint::new(socket.clone(), config).unwrap();
        Self {
            socket,
            endpoint,
            local,
        }
    }

    fn route_to(&self, remote: SocketAddr) -> VirtualAddr {
        let addr = self.socket.allocate();
        self.socket
            .install(
                addr,
                Route::Direct {
                    local: self.local,
                    remote,
                },
            )
            .unwrap();
        addr
    }

    async fn dial(&self, addr: VirtualAddr) -> Result<Carrier, CarrierError> {
        timeout(LIMIT, self.endpoint.dial(addr, DialOptions::default()))
            .await
            .expect("dialled in time")
    }

    async fn accept(&self) -> Carrier {
        timeout(LIMIT, self.endpoint.accept())
            .await
            .expect("accepted in time")
            .expect("endpoint lives")
    }
}

fn pair() -> (Node, Node, VirtualAddr, VirtualAddr) {
    let ingress = Node::new(config(Side::Ingress, 1));
    let egress = Node::new(config(Side::Egress, 2));
    let to_egress = ingress.route_to(egress.local);
    let to_ingress = egress.route_to(ingress.local);
    (ingress, egress, to_egress, to_ingress)
}

async fn connect(ingress: &Node, egress: &Node, addr: VirtualAddr) -> (Carrier, Carrier) {
    let (dialed, accepted) = tokio::join!(ingress.dial(addr), egress.accept());
    (dialed.unwrap(), accepted)
}

/// Sends `len` bytes each way on one stream and compares them.
async fn exchange(ingress: &Carrier, egress: &Carrier, len: usize) {
    let pattern: Bytes = (0..len)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect();
    let (mut sender, mut receiver) = ingress.open_stream().await.unwrap();
    let sent = pattern.clone();
    let far = egress.clone();
    let echo = tokio::spawn(async move {
        let (mut sender, mut receiver) = far.accept_stream().await.unwrap();
        while let Some(chunk) = receiver.read_chunk(64 << 10).await.unwrap() {
            let mut chunks = [chunk];
            while !chunks[0].is_empty() {
                sender.write_chunks(&mut chunks).await.unwrap();
            }
        }
        sender.finish();
    });
    let write = async {
        let mut chunks = [sent];
        while !chunks[0].is_empty() {
            sender.write_chunks(&mut chunks).await.unwrap();
        }
        sender.finish();
    };
    let read = async {
        let mut received = Vec::new();
        while let Some(chunk) = receiver.read_chunk(64 << 10).await.unwrap() {
            received.extend_from_slice(&chunk);
        }
        received
    };
    let ((), received) = timeout(LIMIT, async { tokio::join!(write, read) })
        .await
        .expect("echoed in time");
    assert!(
        received == pattern,
        "{} of {len} bytes came back, or others",
        received.len()
    );
    echo.await.unwrap();
}

#[tokio::test]
async fn a_carrier_is_proven_and_carries_streams_and_datagrams_both_ways() {
    let (ingress, egress, addr, _) = pair();
    let (a, b) = connect(&ingress, &egress, addr).await;
    assert_eq!(
        (a.peer_key(), b.peer_key()),
        (public_key(&EGRESS_SEED), public_key(&INGRESS_SEED))
    );
    assert_eq!((a.peer_instance(), b.peer_instance()), ([2; 16], [1; 16]));
    assert_eq!((a.token(), a.virtual_addr()), (b.token(), addr));
    assert_ne!(a.token(), CarrierToken(0));
    assert!(a.is_first_of_pair() && b.is_first_of_pair());
    exchange(&a, &b, 3 << 20).await;
    a.send_datagram(Bytes::from_static(b"ping")).unwrap();
    assert_eq!(
        timeout(LIMIT, b.read_datagram()).await.unwrap().unwrap(),
        "ping"
    );
    b.send_datagram(Bytes::from_static(b"pong")).unwrap();
    assert_eq!(
        timeout(LIMIT, a.read_datagram()).await.unwrap().unwrap(),
        "pong"
    );
    assert!(a.stats().bytes_out > 3 << 20 && a.last_received().is_some());
    assert_eq!(egress.endpoint.stats().failed_proofs, 0);
}

#[tokio::test]
async fn later_carriers_prove_by_mac_and_several_at_once_share_one_first_proof() {
    let (ingress, egress, addr, _) = pair();
    let dials = futures_util::future::join_all((0..4).map(|_| ingress.dial(addr)));
    let accepts = async {
        let mut accepted = Vec::new();
        for _ in 0..4 {
            accepted.push(egress.accept().await);
        }
        accepted
    };
    let (dialed, accepted) = tokio::join!(dials, accepts);
    let first = dialed
        .iter()
        .filter(|carrier| carrier.as_ref().unwrap().is_first_of_pair())
        .count();
    assert_eq!(
        (
            first,
            accepted
                .iter()
                .filter(|carrier| carrier.is_first_of_pair())
                .count()
        ),
        (1, 1)
    );
    let (a, b) = connect(&ingress, &egress, addr).await;
    assert!(!a.is_first_of_pair());
    exchange(&a, &b, 1000).await;
}

/// Passes datagrams between `server` and whoever speaks first, and nothing of his more once the server's handshake has
/// come back: TLS ends well on his side, and the path is lost at that moment.
async fn path_lost_after_tls(server: SocketAddr) -> (SocketAddr, SocketAddr, Arc<Notify>) {
    let (front, back) = (
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    );
    let addresses = (front.local_addr().unwrap(), back.local_addr().unwrap());
    let lost = Arc::new(Notify::new());
    let lost_tx = lost.clone();
    tokio::spawn(async move {
        let (mut question, mut answer) = (vec![0; 2048], vec![0; 2048]);
        let (mut client, mut is_lost) = (None, false);
        loop {
            tokio::select! {
                Ok((len, from)) = front.recv_from(&mut question) => {
                    client = Some(from);
                    if !is_lost {
                        back.send_to(&question[..len], server).await.unwrap();
                    }
                }
                Ok((len, _)) = back.recv_from(&mut answer) => {
                    front.send_to(&answer[..len], client.unwrap()).await.unwrap();
                    // A mere acknowledgement is short; what carries the handshake is padded.
                    if len >= 1000 && !is_lost {
                        is_lost = true;
                        lost_tx.notify_one();
                    }
                }
            }
        }
    });
    (addresses.0, addresses.1, lost)
}

#[tokio::test]
async fn a_proof_whose_path_is_lost_does_not_hold_up_the_other_paths_until_it_fails() {
    let (ingress, egress, addr, _) = pair();
    let (front, back, lost) = path_lost_after_tls(egress.local).await;
    let lossy = ingress.route_to(front);
    egress.route_to(back);
    let endpoint = ingress.endpoint.clone();
    let cut = tokio::spawn(async move { endpoint.dial(lossy, DialOptions::default()).await });
    timeout(LIMIT, lost.notified()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;

    let (a, _b) = connect(&ingress, &egress, addr).await;
    assert!(a.is_first_of_pair());
    assert!(!cut.is_finished(), "the other path waited for it to fail");
    assert_eq!(
        timeout(LIMIT, cut).await.unwrap().unwrap().unwrap_err(),
        CarrierError::ProofTimeout
    );
}

#[tokio::test]
async fn another_room_is_refused() {
    let ingress = Node::new(CarrierConfig {
        proof_password: [8; 32],
        ..config(Side::Ingress, 1)
    });
    let egress = Node::new(config(Side::Egress, 2));
    let addr = ingress.route_to(egress.local);
    egress.route_to(ingress.local);
    assert_eq!(
        ingress.dial(addr).await.unwrap_err(),
        CarrierError::Proof(ProofError::WrongRoom)
    );
    timeout(LIMIT, async {
        while egress.endpoint.stats().accepted.proof_failed == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the egress hears of it");
    assert_eq!(egress.endpoint.stats().failed_proofs, 1);
}

#[tokio::test]
async fn a_key_that_nobody_described_is_refused_in_the_handshake_on_either_side() {
    let (ingress, _, _, _) = pair();
    let stranger = Node::new(CarrierConfig {
        identity_seed: [9; 32],
        ..config(Side::Egress, 2)
    });
    let addr = ingress.route_to(stranger.local);
    stranger.route_to(ingress.local);
    assert!(matches!(
        ingress.dial(addr).await,
        Err(CarrierError::Refused(CarrierClosed::Tls(_)))
    ));

    let (_, egress, _, _) = pair();
    let stranger = Node::new(CarrierConfig {
        identity_seed: [9; 32],
        ..config(Side::Ingress, 3)
    });
    let addr = stranger.route_to(egress.local);
    egress.route_to(stranger.local);
    assert!(matches!(
        stranger.dial(addr).await,
        Err(CarrierError::Refused(CarrierClosed::Tls(_)))
    ));
    let stats = egress.endpoint.stats();
    assert_eq!(
        (stats.accepted.proven, stats.failed_proofs),
        (0, 0),
        "it never came to a proof"
    );
}

#[tokio::test]
async fn a_known_peer_that_is_not_the_one_dialled_is_refused() {
    let (ingress, _egress, addr, _) = pair();
    let options = DialOptions {
        peer_key: Some([5; 32]),
        ..DialOptions::default()
    };
    let refused = timeout(LIMIT, ingress.endpoint.dial(addr, options))
        .await
        .unwrap();
    assert_eq!(
        refused.unwrap_err(),
        CarrierError::WrongPeer(public_key(&EGRESS_SEED))
    );
}

#[tokio::test]
async fn a_restarted_egress_is_proven_anew_although_the_ingress_expects_the_old_run() {
    let (ingress, egress, addr, _) = pair();
    let _old = connect(&ingress, &egress, addr).await;
    let restarted = Node::new(config(Side::Egress, 22));
    let addr = ingress.route_to(restarted.local);
    restarted.route_to(ingress.local);
    let (a, b) = connect(&ingress, &restarted, addr).await;
    assert!(a.is_first_of_pair());
    assert_eq!(a.peer_instance(), [22; 16]);
    exchange(&a, &b, 1000).await;
}

#[tokio::test]
async fn notices_travel_both_ways() {
    let (ingress, egress, addr, _) = pair();
    let (a, b) = connect(&ingress, &egress, addr).await;
    let view = KindView {
        kind: PathKind::Direct,
        local: Some("192.0.2.1:1".into()),
        remote: None,
    };
    a.send_notice(Notice::Kind(view.clone())).unwrap();
    a.send_notice(Notice::Prefer { token: a.token() }).unwrap();
    assert_eq!(
        timeout(LIMIT, b.notices()).await.unwrap(),
        Some(Notice::Kind(view))
    );
    assert_eq!(
        timeout(LIMIT, b.notices()).await.unwrap(),
        Some(Notice::Prefer { token: a.token() })
    );
    b.send_notice(Notice::Dead {
        token: CarrierToken(5),
    })
    .unwrap();
    assert_eq!(
        timeout(LIMIT, a.notices()).await.unwrap(),
        Some(Notice::Dead {
            token: CarrierToken(5)
        })
    );
}

#[tokio::test]
async fn a_close_and_its_words_reach_the_peer() {
    let (ingress, egress, addr, _) = pair();
    let (a, b) = connect(&ingress, &egress, addr).await;
    a.close(42, "moving on");
    assert_eq!(a.close_reason(), Some(CarrierClosed::Local));
    let heard = timeout(LIMIT, b.closed()).await.unwrap();
    assert_eq!(
        heard,
        CarrierClosed::Peer {
            code: 42,
            text: "moving on".into()
        }
    );
    assert_eq!(timeout(LIMIT, b.notices()).await.unwrap(), None);
}

#[tokio::test]
async fn a_carrier_closes_with_its_last_handle_and_not_before() {
    let (ingress, egress, addr, _) = pair();
    let (a, b) = connect(&ingress, &egress, addr).await;
    let (mut sender, _receiver) = a.open_stream().await.unwrap();
    drop(a);
    sender
        .write_chunks(&mut [Bytes::from_static(b"still here")])
        .await
        .unwrap();
    let (_, mut receiver) = timeout(LIMIT, b.accept_stream()).await.unwrap().unwrap();
    assert_eq!(
        receiver.read_chunk(100).await.unwrap().unwrap(),
        "still here"
    );
    drop((sender, _receiver));
    assert!(matches!(
        timeout(LIMIT, b.closed()).await.unwrap(),
        CarrierClosed::Peer { code: 0, .. }
    ));
}

#[tokio::test]
async fn an_unproven_peer_gets_one_stream_only_and_the_ingress_accepts_none() {
    let (ingress, egress, addr, _) = pair();
    let (a, b) = connect(&ingress, &egress, addr).await;
    assert!(
        timeout(Duration::from_millis(100), b.open_stream())
            .await
            .is_err(),
        "the egress opens no streams"
    );
    let mut streams = Vec::new();
    for _ in 0..115 {
        streams.push(
            timeout(LIMIT, a.open_stream())
                .await
                .expect("100 flows and a few more")
                .unwrap(),
        );
    }
    assert!(
        timeout(Duration::from_millis(100), a.open_stream())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_rebinding_changes_the_route_and_the_carrier_goes_on() {
    let (ingress, egress, addr, to_ingress) = pair();
    let (a, b) = connect(&ingress, &egress, addr).await;
    exchange(&a, &b, 100_000).await;
    let fresh = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let rebound = ingress
        .socket
        .replace_socket(ingress.local, fresh)
        .unwrap()
        .local;
    assert_ne!(rebound, ingress.local);
    egress
        .socket
        .replace(
            to_ingress,
            Route::Direct {
                local: egress.local,
                remote: rebound,
            },
        )
        .unwrap();
    exchange(&a, &b, 100_000).await;
    assert_eq!((a.close_reason(), b.close_reason()), (None, None));
    assert_eq!(
        ingress.socket.route(addr),
        Some(Route::Direct {
            local: rebound,
            remote: egress.local
        })
    );
}

#[tokio::test]
async fn a_first_flight_that_comes_before_the_route_is_not_lost() {
    let ingress = Node::new(config(Side::Ingress, 1));
    let egress = Node::new(config(Side::Egress, 2));
    let addr = ingress.route_to(egress.local);
    let late = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        egress.route_to(ingress.local);
        egress.accept().await
    };
    let started = tokio::time::Instant::now();
    let (dialed, _accepted) = tokio::join!(ingress.dial(addr), late);
    dialed.unwrap();
    assert!(egress.socket.stats().early_delivered > 0);
    assert!(
        started.elapsed() < Duration::from_millis(900),
        "QUIC would repeat it after a second"
    );
}

/// Cuts a path, and sends a datagram into the cut: the socket where it arrives.
async fn lose(node: &Node, addr: VirtualAddr, carrier: &Carrier) -> UdpSocket {
    let nowhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (local, remote) = (node.local, nowhere.local_addr().unwrap());
    let cut = Route::Direct { local, remote };
    node.socket.replace(addr, cut).unwrap();
    carrier.send_datagram(Bytes::from_static(b"lost")).unwrap();
    nowhere
}

/// Whether a carrier awaits nothing within the limit.
async fn is_quiet(carrier: &Carrier) -> bool {
    let quiet = async {
        while carrier.unanswered().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, quiet).await.is_ok()
}

async fn assert_awaited(carrier: &Carrier) {
    let is_awaited = |waiting| waiting >= Duration::from_millis(100);
    timeout(LIMIT, async {
        while !carrier.unanswered().is_some_and(is_awaited) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the datagram is awaited");
}

#[tokio::test]
async fn nothing_is_awaited_on_a_quiet_carrier_and_something_is_when_the_path_is_cut() {
    let (ingress, egress, addr, to_ingress) = pair();
    let (a, b) = connect(&ingress, &egress, addr).await;
    exchange(&a, &b, 1000).await;
    assert!(is_quiet(&a).await, "a quiet carrier awaits nothing");
    let _nowhere = lose(&ingress, addr, &a).await;
    assert_awaited(&a).await;
    // The path is back; the copy of the last packet is all it takes.
    ingress
        .socket
        .replace(
            addr,
            Route::Direct {
                local: ingress.local,
                remote: egress.local,
            },
        )
        .unwrap();
    assert!(a.resend_last());
    assert!(is_quiet(&a).await, "it is answered");
    assert!(egress.socket.route_stats(to_ingress).unwrap().packets_in > 0);
}

#[tokio::test]
async fn what_was_lost_before_anybody_asked_is_awaited_all_the_same() {
    let (ingress, egress, addr, _) = pair();
    let (a, b) = connect(&ingress, &egress, addr).await;
    exchange(&a, &b, 1000).await;
    let nowhere = lose(&ingress, addr, &a).await;
    // It is under way before the first question, which can therefore only see what QUIC asks afterwards.
    let mut buffer = [0; 2000];
    let sent = timeout(LIMIT, nowhere.recv(&mut buffer)).await;
    assert!(sent.unwrap().unwrap() > 0);
    assert_awaited(&a).await;
}

#[tokio::test]
async fn a_peer_that_never_answers_is_given_up_after_five_seconds() {
    tokio::time::pause();
    let ingress = Node::new(config(Side::Ingress, 1));
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = ingress.route_to(nobody.local_addr().unwrap());
    let started = tokio::time::Instant::now();
    let failed = ingress.endpoint.dial(addr, DialOptions::default()).await;
    assert_eq!(failed.unwrap_err(), CarrierError::HandshakeTimeout);
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_carrier_through_a_udp_relay_works_like_any_other() {
    let ingress = Node::new(config(Side::Ingress, 1));
    let egress = Node::new(config(Side::Egress, 2));
    let relay = Relay::start(egress.local).await;
    ingress.socket.set_relay_servers(&[relay.server]);
    let addr = ingress.socket.allocate();
    let route = Route::RelayedUdp {
        local: ingress.local,
        server: relay.server,
        channel: 0x4007,
    };
    ingress.socket.install(addr, route).unwrap();
    egress.route_to(relay.relayed);
    let (a, b) = connect(&ingress, &egress, addr).await;
    exchange(&a, &b, 300_000).await;
    assert_eq!(ingress.socket.stats().unroutable_dropped, 0);
    assert!(a.stats().mtu_bytes <= 1400);
}

#[tokio::test]
async fn a_carrier_through_a_relays_stream_works_like_any_other() {
    let ingress = Node::new(config(Side::Ingress, 1));
    let egress = Node::new(config(Side::Egress, 2));
    let stream = RelayStreamId(3);
    let mut queue = ingress.socket.relay_stream_queue(stream);
    let relayed = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relayed_addr = relayed.local_addr().unwrap();
    let (socket, target) = (ingress.socket.clone(), egress.local);
    let relay = tokio::spawn(async move {
        let mut buffer = vec![0; 2048];
        loop {
            tokio::select! {
                frame = queue.recv() => {
                    let Some(frame) = frame else { return };
                    assert_eq!(frame.len() % 4, 0);
                    let len = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
                    relayed.send_to(&frame[4..4 + len], target).await.unwrap();
                }
                received = relayed.recv(&mut buffer) => {
                    let len = received.unwrap();
                    assert!(socket.push_relayed(stream, 0x4001, &buffer[..len]));
                }
            }
        }
    });
    let addr = ingress.socket.allocate();
    ingress
        .socket
        .install(
            addr,
            Route::RelayedStream {
                stream,
                channel: 0x4001,
            },
        )
        .unwrap();
    egress.route_to(relayed_addr);
    let (a, b) = connect(&ingress, &egress, addr).await;
    exchange(&a, &b, 300_000).await;
    relay.abort();
}

#[tokio::test]
async fn endpoints_close_in_order_and_end_what_waits_for_them() {
    let (ingress, egress, addr, _) = pair();
    let (a, b) = connect(&ingress, &egress, addr).await;
    ingress.endpoint.close(3, "bye").await;
    assert_eq!(a.close_reason(), Some(CarrierClosed::Local));
    assert_eq!(
        timeout(LIMIT, b.closed()).await.unwrap(),
        CarrierClosed::Peer {
            code: 3,
            text: "bye".into()
        }
    );
    egress.endpoint.close(3, "bye").await;
    assert!(
        timeout(LIMIT, egress.endpoint.accept())
            .await
            .unwrap()
            .is_none()
    );
}

/// A TURN server reduced to one bound channel: `ChannelData` on one side, plain datagrams on the other.
struct Relay {
    server: SocketAddr,
    relayed: SocketAddr,
}

impl Relay {
    async fn start(peer: SocketAddr) -> Self {
        let client_side = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let peer_side = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            server: client_side.local_addr().unwrap(),
            relayed: peer_side.local_addr().unwrap(),
        };
        tokio::spawn(async move {
            let mut client = None;
            let (mut up, mut down) = (vec![0; 2048], vec![0; 2048]);
            loop {
                tokio::select! {
                    received = client_side.recv_from(&mut up) => {
                        let (len, from) = received.unwrap();
                        client = Some(from);
                        assert_eq!(up[..2], [0x40, 0x07]);
                        assert_eq!(usize::from(u16::from_be_bytes([up[2], up[3]])), len - 4);
                        peer_side.send_to(&up[4..len], peer).await.unwrap();
                    }
                    received = peer_side.recv(&mut down) => {
                        let len = received.unwrap();
                        let header = [&[0x40, 0x07][..], &u16::try_from(len).unwrap().to_be_bytes()].concat();
                        let frame = [&header[..], &down[..len]].concat();
                        if let Some(client) = client {
                            client_side.send_to(&frame, client).await.unwrap();
                        }
                    }
                }
            }
        });
        relay
    }
}

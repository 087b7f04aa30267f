//! Real connections through real carriers over the loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a test helper that finds nothing fails its test"
)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mapping_core::{AllowList, MappingId, PortMapping};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};
use tunnel::carrier::{
    Carrier, CarrierConfig, CarrierEndpoint, DemuxSocket, DialOptions, KnownKeys, Route, Side,
    public_key,
};
use tunnel::forward::{
    Egress, EgressConfig, ForwardEvent, ForwardEvents, Ingress, IngressConfig, MappingState,
    PeerInstance,
};

const INGRESS_SEED: [u8; 32] = [1; 32];
const EGRESS_SEED: [u8; 32] = [2; 32];
const LIMIT: Duration = Duration::from_secs(60);
const MEGABYTE: usize = 1_000_000;

#[tokio::test]
async fn a_connection_is_forwarded_and_its_mapping_is_shown_active() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(1, service).await;
    world.connect().await;
    assert_eq!(through(local, b"hello").await, b"hello");
    let snapshot = world.ingress.snapshot();
    assert_eq!((snapshot.version, snapshot.committed), (1, Some(1)));
    let mapping = &snapshot.mappings[0];
    assert_eq!(
        (mapping.state, mapping.error.as_deref()),
        (MappingState::Active, None)
    );
    assert_eq!(
        (mapping.listen, mapping.total_connections),
        (Some(local), 1)
    );
    assert_eq!((mapping.bytes_in, mapping.bytes_out), (5, 5));
    let far = world.egress.snapshot();
    assert_eq!(
        (far.committed, far.mappings[0].bytes_in, far.bytes_out),
        (Some(1), 5, 5)
    );
    let committed = ForwardEvent::TableCommitted {
        version: 1,
        accepted: 1,
        refused: 0,
    };
    world.expect_event(|event| *event == committed).await;
    world
        .until(|world| world.ingress.snapshot().tcp_flows == 0)
        .await;
}

#[tokio::test]
async fn a_connection_that_came_before_the_peer_waits_for_it() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(1, service).await;
    let early = tokio::spawn(async move { through(local, b"early").await });
    sleep(Duration::from_millis(200)).await;
    world.connect().await;
    assert_eq!(early.await.unwrap(), b"early");
}

#[tokio::test]
async fn a_connection_for_which_no_peer_comes_is_reset_and_not_closed() {
    let config = IngressConfig {
        path_wait: Duration::from_millis(300),
        ..IngressConfig::default()
    };
    let mut world = World::with(config, EgressConfig::default()).await;
    let local = world.map_tcp(1, free_address().await).await;
    let mut socket = TcpStream::connect(local).await.unwrap();
    assert_reset(&mut socket).await;
}

#[tokio::test]
async fn each_direction_closes_by_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    let local = world.map_tcp(1, listener.local_addr().unwrap()).await;
    world.connect().await;
    let service = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        socket.read_to_end(&mut request).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        socket.write_all(b"answer to ").await.unwrap();
        socket.write_all(&request).await.unwrap();
    });
    assert_eq!(through(local, b"the end").await, b"answer to the end");
    service.await.unwrap();
}

#[tokio::test]
async fn a_reset_by_the_application_reaches_the_service() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    let local = world.map_tcp(1, listener.local_addr().unwrap()).await;
    world.connect().await;
    let mut socket = TcpStream::connect(local).await.unwrap();
    socket.write_all(b"x").await.unwrap();
    let (mut service, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    service.read_u8().await.unwrap();
    socket2::SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(socket);
    assert_reset(&mut service).await;
}

#[tokio::test]
async fn a_reset_by_the_service_reaches_the_application() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    let local = world.map_tcp(1, listener.local_addr().unwrap()).await;
    world.connect().await;
    let mut socket = TcpStream::connect(local).await.unwrap();
    let (service, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    socket2::SockRef::from(&service)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(service);
    assert_reset(&mut socket).await;
}

#[tokio::test]
async fn a_service_that_is_not_there_resets_the_connection_and_says_why() {
    let mut world = World::new().await;
    let nobody = free_address().await;
    let local = world.map_tcp(1, nobody).await;
    world.connect().await;
    let mut socket = TcpStream::connect(local).await.unwrap();
    assert_reset(&mut socket).await;
    let refused = |event: &ForwardEvent| matches!(event, ForwardEvent::FlowRefused { mapping: 1, reason } if reason.contains("refused"));
    world.expect_event(refused).await;
    world
        .until(|world| world.ingress.snapshot().tcp_flows == 0)
        .await;
}

#[tokio::test]
async fn a_mapping_that_the_server_forbids_is_closed_and_the_others_work() {
    let service = echo_service().await;
    let allow = AllowList::new(vec![format!("tcp:{}", service.port()).parse().unwrap()]);
    let config = EgressConfig {
        allow,
        ..EgressConfig::default()
    };
    let mut world = World::with(IngressConfig::default(), config).await;
    let (good, bad) = (free_address().await, free_address().await);
    world.ingress.set_table(vec![
        mapping(1, "tcp", good, service.port()),
        mapping(2, "tcp", bad, 1),
    ]);
    world.until_listening(2).await;
    world.connect().await;
    assert_eq!(through(good, b"allowed").await, b"allowed");
    world
        .until(|world| world.ingress.snapshot().mappings[1].state == MappingState::Error)
        .await;
    let error = world.ingress.snapshot().mappings[1].error.clone().unwrap();
    assert!(error.contains("not"), "{error}");
    world.until_refused(bad).await;
}

#[tokio::test]
async fn twenty_megabytes_pass_both_ways_at_once() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(1, service).await;
    world.connect().await;
    echo_of(local, 20 * MEGABYTE, 1).await;
}

#[tokio::test]
async fn a_connection_moves_between_carriers_under_load_without_losing_a_byte() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(1, service).await;
    let (first, _) = world.connect().await;
    let (second, _) = world.connect().await;
    let transfers = tokio::spawn(async move {
        tokio::join!(
            echo_of(local, 20 * MEGABYTE, 2),
            echo_of(local, 5 * MEGABYTE, 3)
        );
    });
    let mut moves = 0;
    while !transfers.is_finished() {
        for carrier in [&second, &first] {
            world.ingress.prefer(carrier.id());
            sleep(Duration::from_millis(15)).await;
            moves += 1;
        }
    }
    transfers.await.unwrap();
    assert!(moves >= 4, "{moves} moves");
}

#[tokio::test]
async fn a_connection_outlives_the_death_of_its_carriers_under_load() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(1, service).await;
    let (mut alive, _) = world.connect().await;
    let transfer = tokio::spawn(echo_of(local, 30 * MEGABYTE, 4));
    for round in 0..5 {
        sleep(Duration::from_millis(40)).await;
        // With a standby, and without one.
        let standby = if round % 2 == 0 {
            Some(world.connect().await.0)
        } else {
            None
        };
        alive.close(1, "killed by the test");
        alive = match standby {
            Some(standby) => standby,
            None => {
                sleep(Duration::from_millis(50)).await;
                world.connect().await.0
            }
        };
    }
    transfer.await.unwrap();
    world
        .expect_event(|event| *event == ForwardEvent::NoCarrier)
        .await;
}

#[tokio::test]
async fn a_service_that_never_reads_stops_its_own_flow_only() {
    let service = echo_service().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    let stuck_at = free_address().await;
    let echo_at = free_address().await;
    let stuck_port = listener.local_addr().unwrap().port();
    world.ingress.set_table(vec![
        mapping(1, "tcp", stuck_at, stuck_port),
        mapping(2, "tcp", echo_at, service.port()),
    ]);
    world.until_listening(2).await;
    world.connect().await;
    let mut stuck = TcpStream::connect(stuck_at).await.unwrap();
    let (unread, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let writer = tokio::spawn(async move {
        while let Ok(length) = stuck.write(&[7; 65_536]).await {
            counted.fetch_add(length, Ordering::Relaxed);
        }
    });
    let mut before = 1;
    while before != written.load(Ordering::Relaxed) || before == 0 {
        before = written.load(Ordering::Relaxed);
        sleep(Duration::from_millis(300)).await;
    }
    // The kernel's four socket buffers may be large; the flow holds one window at each end.
    assert!(world.egress.snapshot().mappings[0].bytes_in < 24 << 20);
    echo_of(echo_at, 5 * MEGABYTE, 5).await;
    drop(unread);
    timeout(LIMIT, writer)
        .await
        .expect("the reset of the service ends the writer")
        .unwrap();
}

#[tokio::test]
async fn removing_a_mapping_resets_its_connections_and_touches_no_others() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let (stays, goes) = (free_address().await, free_address().await);
    let keep = mapping(1, "tcp", stays, service.port());
    world
        .ingress
        .set_table(vec![keep.clone(), mapping(2, "tcp", goes, service.port())]);
    world.until_listening(2).await;
    world.connect().await;
    let mut kept = TcpStream::connect(stays).await.unwrap();
    let mut reset = TcpStream::connect(goes).await.unwrap();
    for socket in [&mut kept, &mut reset] {
        ask(socket, b"before").await;
    }
    assert_eq!(world.ingress.set_table(vec![keep.clone()]), 2);
    assert_eq!(
        world.ingress.set_table(vec![keep]),
        2,
        "the same table has the same version"
    );
    assert_reset(&mut reset).await;
    world.until_refused(goes).await;
    world
        .until(|world| world.ingress.committed_version() == Some(2))
        .await;
    ask(&mut kept, b"after").await;
}

#[tokio::test]
async fn a_port_that_another_program_has_is_an_error_until_it_is_free() {
    let service = echo_service().await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = other.local_addr().unwrap();
    let mut world = World::new().await;
    world
        .ingress
        .set_table(vec![mapping(1, "tcp", taken, service.port())]);
    world.connect().await;
    world
        .until(|world| world.ingress.snapshot().mappings[0].state == MappingState::Error)
        .await;
    drop(other);
    world
        .until(|world| world.ingress.snapshot().mappings[0].state == MappingState::Active)
        .await;
    assert_eq!(through(taken, b"free").await, b"free");
}

#[tokio::test]
async fn a_peer_that_is_gone_for_good_resets_its_connections_on_both_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    let local = world.map_tcp(1, listener.local_addr().unwrap()).await;
    world.connect().await;
    let mut socket = TcpStream::connect(local).await.unwrap();
    let (mut service, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    socket.write_all(b"x").await.unwrap();
    service.read_u8().await.unwrap();
    world.ingress.peer_gone(world.peer);
    world.egress.shutdown();
    assert_reset(&mut socket).await;
    assert_reset(&mut service).await;
    assert_eq!(world.ingress.committed_version(), None);
}

#[tokio::test]
async fn a_connection_that_a_dead_peer_never_answered_goes_to_the_next_with_every_byte_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = IngressConfig {
        max_connections: 3,
        ..IngressConfig::default()
    };
    let mut world = World::with(config, EgressConfig::default()).await;
    let local = world.map_tcp(1, listener.local_addr().unwrap()).await;
    let (_, far) = world.connect().await;
    let mut answered = TcpStream::connect(local).await.unwrap();
    let (mut service, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    answered.write_all(b"x").await.unwrap();
    service.read_u8().await.unwrap();
    world.silence(&far);

    let payload: Vec<u8> = (0..100_000u32).map(|at| (at * 7) as u8).collect();
    let mut complete = TcpStream::connect(local).await.unwrap();
    complete.write_all(&payload).await.unwrap();
    complete.shutdown().await.unwrap();
    let mut open = TcpStream::connect(local).await.unwrap();
    open.write_all(b"before ").await.unwrap();
    let taken = payload.len() as u64 + 7 + 1;
    world
        .until(|world| world.ingress.snapshot().bytes_out == taken)
        .await;

    world.ingress.peer_gone(world.peer);
    assert_reset(&mut answered).await;
    // No peer at all for a moment, in which more is said.
    open.write_all(b"between ").await.unwrap();
    world
        .until(|world| world.ingress.snapshot().bytes_out == taken + 8)
        .await;
    world.restart_egress();
    world.connect().await;
    open.write_all(b"after").await.unwrap();
    open.shutdown().await.unwrap();

    let mut requests = Vec::new();
    for _ in 0..2 {
        let (mut socket, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        let mut request = Vec::new();
        timeout(LIMIT, socket.read_to_end(&mut request))
            .await
            .expect("the end of the request")
            .unwrap();
        socket
            .write_all(format!("got {}", request.len()).as_bytes())
            .await
            .unwrap();
        requests.push(request);
    }
    requests.sort_by_key(Vec::len);
    assert_eq!(requests[0], b"before between after");
    assert!(requests[1] == payload, "{} bytes", requests[1].len());
    for (socket, answer) in [(&mut complete, "got 100000"), (&mut open, "got 20")] {
        let mut got = String::new();
        timeout(LIMIT, socket.read_to_string(&mut got))
            .await
            .expect("an answer in time")
            .unwrap();
        assert_eq!(got, answer);
    }
    world
        .until(|world| world.ingress.snapshot().tcp_flows == 0)
        .await;
    let mapping = &world.ingress.snapshot().mappings[0];
    assert_eq!((mapping.connections, mapping.total_connections), (0, 3));
    assert_eq!(mapping.bytes_out, taken + 8 + 5);
}

#[tokio::test]
async fn a_connection_that_a_dead_peer_never_answered_is_reset_in_its_time_when_no_other_comes() {
    let config = IngressConfig {
        path_wait: Duration::from_millis(600),
        ..IngressConfig::default()
    };
    let mut world = World::with(config, EgressConfig::default()).await;
    let local = world.map_tcp(1, free_address().await).await;
    let (_, far) = world.connect().await;
    world
        .until(|world| world.ingress.committed_version() == Some(1))
        .await;
    world.silence(&far);
    let accepted = tokio::time::Instant::now();
    let mut socket = TcpStream::connect(local).await.unwrap();
    socket.write_all(b"x").await.unwrap();
    world
        .until(|world| world.ingress.snapshot().bytes_out == 1)
        .await;
    world.ingress.peer_gone(world.peer);
    assert_reset(&mut socket).await;
    let waited = accepted.elapsed();
    assert!((500..2000).contains(&waited.as_millis()), "{waited:?}");
    world
        .until(|world| world.ingress.snapshot().tcp_flows == 0)
        .await;
}

#[tokio::test]
async fn a_reset_by_the_application_is_noticed_while_the_next_peer_is_waited_for() {
    let mut world = World::new().await;
    let local = world.map_tcp(1, free_address().await).await;
    let (_, far) = world.connect().await;
    world
        .until(|world| world.ingress.committed_version() == Some(1))
        .await;
    world.silence(&far);
    let socket = TcpStream::connect(local).await.unwrap();
    world
        .until(|world| world.ingress.snapshot().tcp_flows == 1)
        .await;
    world.ingress.peer_gone(world.peer);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.ingress.snapshot().tcp_flows, 1);
    socket2::SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(socket);
    world
        .until(|world| world.ingress.snapshot().tcp_flows == 0)
        .await;
}

#[tokio::test]
async fn connections_above_the_limit_are_reset_and_counted() {
    let service = echo_service().await;
    let config = IngressConfig {
        max_connections: 2,
        ..IngressConfig::default()
    };
    let mut world = World::with(config, EgressConfig::default()).await;
    let local = world.map_tcp(1, service).await;
    world.connect().await;
    let mut first = TcpStream::connect(local).await.unwrap();
    let mut second = TcpStream::connect(local).await.unwrap();
    ask(&mut first, b"one").await;
    ask(&mut second, b"two").await;
    assert_reset(&mut TcpStream::connect(local).await.unwrap()).await;
    assert_eq!(world.ingress.snapshot().refused_connections, 1);
    drop(first);
    world
        .until(|world| world.ingress.snapshot().tcp_flows < 2)
        .await;
    ask(&mut TcpStream::connect(local).await.unwrap(), b"three").await;
}

#[tokio::test]
async fn a_connection_without_a_carrier_is_reset_when_resume_expires() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    world.ingress.set_resume(Duration::from_millis(400));
    world.egress.set_resume(Duration::from_millis(400));
    let local = world.map_tcp(1, listener.local_addr().unwrap()).await;
    let (carrier, _) = world.connect().await;
    let mut socket = TcpStream::connect(local).await.unwrap();
    let (mut service, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    carrier.close(1, "killed by the test");
    assert_reset(&mut socket).await;
    assert_reset(&mut service).await;
}

#[tokio::test]
async fn udp_payloads_of_every_size_come_back_whole() {
    let service = udp_echo_service().await;
    let mut world = World::new().await;
    let local = world.map_udp(1, service).await;
    world.connect().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(local).await.unwrap();
    for length in [1, 0, 100, 1100, 1162, 1200, 1500, 9000, 65_507] {
        let payload: Vec<u8> = (0..length)
            .map(|at: usize| (at * 7 + length) as u8)
            .collect();
        assert_eq!(udp_ask(&socket, &payload).await, payload, "{length} bytes");
    }
    let snapshot = world.ingress.snapshot();
    assert_eq!(
        (snapshot.udp_flows, snapshot.mappings[0].connections),
        (1, 1)
    );
}

#[tokio::test]
async fn no_udp_packet_is_lost_in_a_planned_move() {
    let service = udp_echo_service().await;
    let mut world = World::new().await;
    let local = world.map_udp(1, service).await;
    let (first, first_far) = world.connect().await;
    let (second, second_far) = world.connect().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(local).await.unwrap();
    let mut answer = [0; 2000];
    udp_ask(&socket, b"warm").await;
    for number in 0..400u32 {
        if number % 50 == 0 {
            let even = number % 100 == 0;
            world
                .ingress
                .prefer(if even { second.id() } else { first.id() });
            world.egress.prefer(if even {
                second_far.id()
            } else {
                first_far.id()
            });
        }
        socket.send(&number.to_be_bytes()).await.unwrap();
        let length = timeout(LIMIT, socket.recv(&mut answer))
            .await
            .expect("nothing is lost")
            .unwrap();
        assert_eq!(answer[..length], number.to_be_bytes());
    }
}

#[tokio::test]
async fn two_sources_of_one_udp_mapping_are_kept_apart() {
    let service = udp_echo_service().await;
    let mut world = World::new().await;
    let local = world.map_udp(1, service).await;
    world.connect().await;
    for name in [b"first ", b"second"] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(local).await.unwrap();
        assert_eq!(udp_ask(&socket, name).await, name);
    }
    assert_eq!(world.ingress.snapshot().udp_flows, 2);
    assert_eq!(world.egress.snapshot().udp_flows, 2);
}

#[tokio::test]
async fn two_hundred_connections_share_a_carrier() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(1, service).await;
    world.connect().await;
    let all: Vec<_> = (0..200)
        .map(|seed| tokio::spawn(echo_of(local, 20_000, seed)))
        .collect();
    for one in all {
        one.await.unwrap();
    }
    world
        .until(|world| world.ingress.snapshot().tcp_flows == 0)
        .await;
    world
        .until(|world| world.egress.snapshot().tcp_flows == 0)
        .await;
}

struct Node {
    socket: Arc<DemuxSocket>,
    endpoint: CarrierEndpoint,
}

impl Node {
    fn new(side: Side) -> Self {
        let known_keys = KnownKeys::new();
        known_keys.insert(public_key(&INGRESS_SEED));
        known_keys.insert(public_key(&EGRESS_SEED));
        let (identity_seed, instance) = if side == Side::Ingress {
            (INGRESS_SEED, 1)
        } else {
            (EGRESS_SEED, 2)
        };
        let config = CarrierConfig {
            side,
            identity_seed,
            known_keys,
            proof_password: [7; 32],
            instance: [instance; 16],
            resume: Duration::from_secs(3600),
            features: 0,
            max_connections: 1000,
            seed: [instance; 32],
        };
        let socket = DemuxSocket::new();
        let endpoint = CarrierEndpoint::new(socket.clone(), config).unwrap();
        Self { socket, endpoint }
    }

    fn bind(&self) -> SocketAddr {
        self.socket
            .bind("127.0.0.1:0".parse().unwrap())
            .unwrap()
            .local
    }
}

struct World {
    peer: PeerInstance,
    ingress: Ingress,
    events: ForwardEvents,
    egress: Egress,
    _egress_events: ForwardEvents,
    nodes: [Node; 2],
}

impl World {
    async fn new() -> Self {
        Self::with(IngressConfig::default(), EgressConfig::default()).await
    }

    async fn with(ingress: IngressConfig, egress: EgressConfig) -> Self {
        // The endpoints spawn their drivers.
        tokio::task::yield_now().await;
        let (ingress, events) = Ingress::new(ingress);
        let (egress, egress_events) = Egress::new(egress);
        let nodes = [Node::new(Side::Ingress), Node::new(Side::Egress)];
        Self {
            peer: PeerInstance([2; 16]),
            ingress,
            events,
            egress,
            _egress_events: egress_events,
            nodes,
        }
    }

    async fn map_tcp(&mut self, id: u32, service: SocketAddr) -> SocketAddr {
        self.map(id, "tcp", service).await
    }

    async fn map_udp(&mut self, id: u32, service: SocketAddr) -> SocketAddr {
        self.map(id, "udp", service).await
    }

    async fn map(&mut self, id: u32, protocol: &str, service: SocketAddr) -> SocketAddr {
        let local = free_address().await;
        self.ingress
            .set_table(vec![mapping(id, protocol, local, service.port())]);
        self.until_listening(1).await;
        local
    }

    async fn until_listening(&self, count: usize) {
        let listening = |world: &Self| {
            world
                .ingress
                .snapshot()
                .mappings
                .iter()
                .filter(|mapping| mapping.listen.is_some())
                .count()
        };
        self.until(|world| listening(world) == count).await;
    }

    /// One more carrier between the two.
    async fn connect(&mut self) -> (Carrier, Carrier) {
        let locals = [self.nodes[0].bind(), self.nodes[1].bind()];
        let routes = [0, 1].map(|end| {
            let socket = &self.nodes[end].socket;
            let addr = socket.allocate();
            let route = Route::Direct {
                local: locals[end],
                remote: locals[1 - end],
            };
            socket.install(addr, route).unwrap();
            addr
        });
        let dialled = self.nodes[0]
            .endpoint
            .dial(routes[0], DialOptions::default());
        let accepted = self.nodes[1].endpoint.accept();
        let both = async { tokio::join!(dialled, accepted) };
        let (dialled, accepted) = timeout(LIMIT, both).await.expect("a carrier in time");
        let (near, far) = (dialled.unwrap(), accepted.unwrap());
        self.egress.add_carrier(far.clone());
        self.ingress.peer_connected(self.peer);
        self.ingress.add_carrier(near.clone());
        (near, far)
    }

    /// The egress neither hears nor says anything on this carrier from now on, and nobody is told.
    fn silence(&self, far: &Carrier) {
        assert!(self.nodes[1].socket.remove(far.virtual_addr()));
    }

    /// The egress was started again, and this is its next instance.
    fn restart_egress(&mut self) {
        self.peer.0[0] += 1;
        (self.egress, self._egress_events) = Egress::new(EgressConfig::default());
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, wait)
            .await
            .unwrap_or_else(|_| panic!("{:#?}", self.ingress.snapshot()));
    }

    async fn until_refused(&self, address: SocketAddr) {
        let wait = async {
            while TcpStream::connect(address).await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, wait).await.expect("the port is closed");
    }

    async fn expect_event(&mut self, is_it: impl Fn(&ForwardEvent) -> bool) {
        let wait = async { while !is_it(&self.events.recv().await.expect("the ingress lives")) {} };
        timeout(LIMIT, wait).await.expect("the event");
    }
}

fn mapping(id: u32, protocol: &str, local: SocketAddr, service: u16) -> (MappingId, PortMapping) {
    (
        MappingId::new(id),
        format!("{protocol}:{}:{service}", local.port())
            .parse()
            .unwrap(),
    )
}

/// An address on which nobody listens.
async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

async fn echo_service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                // What becomes of a connection that a test resets does not matter here.
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    address
}

async fn udp_echo_service() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            socket.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    address
}

/// Sends, closes that direction, and returns what comes back.
async fn through(local: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(local).await.unwrap();
    socket.write_all(request).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(LIMIT, socket.read_to_end(&mut answer))
        .await
        .expect("an answer in time")
        .unwrap();
    answer
}

async fn ask(socket: &mut TcpStream, request: &[u8]) {
    socket.write_all(request).await.unwrap();
    let mut answer = vec![0; request.len()];
    timeout(LIMIT, socket.read_exact(&mut answer))
        .await
        .expect("an answer in time")
        .unwrap();
    assert_eq!(answer, request);
}

/// Asks until there is an answer: packets before the table is agreed on are dropped.
async fn udp_ask(socket: &UdpSocket, payload: &[u8]) -> Vec<u8> {
    let mut answer = vec![0; 65_536];
    let ask = async {
        loop {
            socket.send(payload).await.unwrap();
            let answered = timeout(Duration::from_millis(500), socket.recv(&mut answer)).await;
            if let Ok(length) = answered {
                break length.unwrap();
            }
        }
    };
    let length = timeout(LIMIT, ask).await.expect("an answer in time");
    answer[..length].to_vec()
}

/// Sends pseudo-random bytes through an echo, in pieces of all sizes, and compares what comes back.
async fn echo_of(local: SocketAddr, length: usize, seed: u32) {
    let socket = TcpStream::connect(local).await.unwrap();
    let (mut read, mut write) = socket.into_split();
    let sent = tokio::spawn(async move {
        let (mut hash, mut left, mut state) = (Sha256::new(), length, seed.wrapping_add(1));
        while left > 0 {
            let piece: Vec<u8> = (0..left.min(1 + (state as usize >> 8) % 200_000))
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            hash.update(&piece);
            left -= piece.len();
            write.write_all(&piece).await.unwrap();
        }
        write.shutdown().await.unwrap();
        hash.finalize()
    });
    let (mut hash, mut total, mut buffer) = (Sha256::new(), 0, vec![0; 65_536]);
    loop {
        let got = timeout(LIMIT, read.read(&mut buffer))
            .await
            .expect("progress")
            .unwrap();
        if got == 0 {
            break;
        }
        hash.update(&buffer[..got]);
        total += got;
    }
    assert_eq!(total, length);
    assert_eq!(hash.finalize(), sent.await.unwrap());
}

async fn assert_reset(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = timeout(LIMIT, socket.read_to_end(&mut rest))
        .await
        .expect("an end in time");
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
}

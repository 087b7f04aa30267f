//! Connections for which a peer, or a path to it, is not there yet, any more, or again.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tunnel::forward::{EgressConfig, ForwardEvent, IngressConfig};

use crate::world::{LIMIT, World, assert_reset, echo_service, free_address, through};

#[tokio::test]
async fn a_connection_that_came_before_the_peer_waits_for_it() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(service).await;
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
    let local = world.map_tcp(free_address().await).await;
    let mut socket = TcpStream::connect(local).await.unwrap();
    assert_reset(&mut socket).await;
}

#[tokio::test]
async fn a_peer_that_is_gone_for_good_resets_its_connections_on_both_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    let local = world.map_tcp(listener.local_addr().unwrap()).await;
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
    let local = world.map_tcp(listener.local_addr().unwrap()).await;
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
    let local = world.map_tcp(free_address().await).await;
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
    let local = world.map_tcp(free_address().await).await;
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
async fn a_connection_without_a_carrier_is_reset_when_resume_expires() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    world.ingress.set_resume(Duration::from_millis(400));
    world.egress.set_resume(Duration::from_millis(400));
    let local = world.map_tcp(listener.local_addr().unwrap()).await;
    let (carrier, _) = world.connect().await;
    let mut socket = TcpStream::connect(local).await.unwrap();
    let (mut service, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    carrier.close(1, "killed by the test");
    assert_reset(&mut socket).await;
    assert_reset(&mut service).await;
}

#[tokio::test]
async fn a_peer_that_forgot_the_conversation_and_comes_back_is_noticed() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(service).await;
    let (near, _) = world.connect().await;
    assert_eq!(through(local, b"before").await, b"before");
    // The ingress took another server for the one in the room, and the first comes back without a restart.
    world.ingress.peer_gone(world.peer);
    near.close(0, "superseded");
    world
        .until(|world| world.egress.snapshot().carriers.is_empty())
        .await;
    world.connect().await;
    let told = async {
        loop {
            let event = world._egress_events.recv().await.expect("the egress lives");
            if matches!(event, ForwardEvent::ControlFailed { .. }) {
                return;
            }
        }
    };
    timeout(LIMIT, told).await.expect("nothing hangs");
    let broken = |event: &ForwardEvent| matches!(event, ForwardEvent::ControlFailed { .. });
    world.expect_event(broken).await;
    // Both ends start over, as their shells do when they are told.
    world.ingress.peer_gone(world.peer);
    world.egress.shutdown();
    let peer = world.peer;
    world.restart_egress();
    world.peer = peer;
    world.connect().await;
    assert_eq!(through(local, b"after").await, b"after");
}

//! Real connections through real carriers over the loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a test helper that finds nothing fails its test"
)]

mod peers;
mod table;
mod udp;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mapping_core::AllowList;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tunnel::forward::{EgressConfig, ForwardEvent, IngressConfig, MappingState};

use world::{LIMIT, World, ask, assert_reset, echo_of, echo_service, free_address, rule, through};

const MEGABYTE: usize = 1_000_000;

#[tokio::test]
async fn a_connection_is_forwarded_and_its_mapping_is_shown_active() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(service).await;
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
async fn each_direction_closes_by_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    let local = world.map_tcp(listener.local_addr().unwrap()).await;
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
    let local = world.map_tcp(listener.local_addr().unwrap()).await;
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
    let local = world.map_tcp(listener.local_addr().unwrap()).await;
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
    let local = world.map_tcp(nobody).await;
    world.connect().await;
    let mut socket = TcpStream::connect(local).await.unwrap();
    assert_reset(&mut socket).await;
    let refused = |event: &ForwardEvent| matches!(event, ForwardEvent::FlowRefused { mapping: 0, reason } if reason.contains("refused"));
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
    world.add([rule("tcp", good, service.port()), rule("tcp", bad, 1)]);
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
    let local = world.map_tcp(service).await;
    world.connect().await;
    echo_of(local, 20 * MEGABYTE, 1).await;
}

#[tokio::test]
async fn a_connection_moves_between_carriers_under_load_without_losing_a_byte() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(service).await;
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
    let local = world.map_tcp(service).await;
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
    world.add([
        rule("tcp", stuck_at, stuck_port),
        rule("tcp", echo_at, service.port()),
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
    let [_, removed] = world.add([
        rule("tcp", stays, service.port()),
        rule("tcp", goes, service.port()),
    ]);
    world.until_listening(2).await;
    world.connect().await;
    let mut kept = TcpStream::connect(stays).await.unwrap();
    let mut reset = TcpStream::connect(goes).await.unwrap();
    for socket in [&mut kept, &mut reset] {
        ask(socket, b"before").await;
    }
    world.remove(removed);
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
    world.add([rule("tcp", taken, service.port())]);
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
async fn connections_above_the_limit_are_reset_and_counted() {
    let service = echo_service().await;
    let config = IngressConfig {
        max_connections: 2,
        ..IngressConfig::default()
    };
    let mut world = World::with(config, EgressConfig::default()).await;
    let local = world.map_tcp(service).await;
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
async fn two_hundred_connections_share_a_carrier() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let local = world.map_tcp(service).await;
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

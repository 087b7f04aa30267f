//! Changes of the table while connections are open.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;
use tunnel::forward::MappingState;

use crate::world::{
    LIMIT, World, ask, assert_reset, echo_of, echo_service, free_address, rule, through, udp_ask,
    udp_echo_service,
};

const MEGABYTE: usize = 1_000_000;

impl World {
    async fn until_committed(&self) {
        let version = self.table.version();
        self.until(|world| world.ingress.committed_version() == Some(version))
            .await;
    }
}

#[tokio::test]
async fn ports_open_and_close_while_an_unrelated_transfer_passes_untouched() {
    let service = echo_service().await;
    let mut world = World::new().await;
    let stays = world.map_tcp(service).await;
    world.connect().await;
    let transfer = tokio::spawn(echo_of(stays, 30 * MEGABYTE, 9));
    let mut changes = 0;
    while !transfer.is_finished() || changes < 3 {
        let hot = free_address().await;
        let [id] = world.add([rule("tcp", hot, service.port())]);
        world.until_listening(2).await;
        assert_eq!(through(hot, b"new").await, b"new");
        world.remove(id);
        world.until_refused(hot).await;
        changes += 1;
    }
    transfer.await.unwrap();
    world.until_committed().await;
    assert_eq!(world.egress.committed_version(), Some(1 + 2 * changes));
    assert_eq!(world.egress.snapshot().mappings.len(), 1);
}

#[tokio::test]
async fn a_removed_mapping_resets_its_connections_at_both_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new().await;
    let local = free_address().await;
    let [id] = world.add([rule("tcp", local, listener.local_addr().unwrap().port())]);
    world.until_listening(1).await;
    world.connect().await;
    let mut socket = TcpStream::connect(local).await.unwrap();
    socket.write_all(b"x").await.unwrap();
    let (mut service, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    service.read_u8().await.unwrap();
    world.remove(id);
    assert_reset(&mut socket).await;
    assert_reset(&mut service).await;
    world
        .until(|world| world.egress.snapshot().tcp_flows == 0)
        .await;
}

#[tokio::test]
async fn a_removed_udp_mapping_ends_its_flows_at_both_ends_and_no_others() {
    let service = udp_echo_service().await;
    let mut world = World::new().await;
    let (stays, goes) = (free_address().await, free_address().await);
    let [_, removed] = world.add([
        rule("udp", stays, service.port()),
        rule("udp", goes, service.port()),
    ]);
    world.until_listening(2).await;
    world.connect().await;
    let [kept, ended] = [stays, goes].map(|local| async move {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(local).await.unwrap();
        socket
    });
    let (kept, ended) = (kept.await, ended.await);
    for socket in [&kept, &ended] {
        udp_ask(socket, b"before").await;
    }
    assert_eq!(world.egress.snapshot().udp_flows, 2);
    world.remove(removed);
    world
        .until(|world| world.egress.snapshot().udp_flows == 1)
        .await;
    let far = world.egress.snapshot();
    assert_eq!((far.mappings.len(), far.mappings[0].connections), (1, 1));
    assert_eq!(world.ingress.snapshot().udp_flows, 1);
    // The port is closed, so the system may say so; the other flow is the one that it was.
    world
        .until(|world| world.ingress.snapshot().closing_ports == 0)
        .await;
    assert!(UdpSocket::bind(goes).await.is_ok(), "its port is free");
    assert_eq!(udp_ask(&kept, b"after").await, b"after");
    assert_eq!(world.egress.snapshot().udp_flows, 1);
}

#[tokio::test]
async fn one_change_gives_a_port_to_another_mapping() {
    let (first, second) = (echo_service().await, TcpListener::bind("127.0.0.1:0").await);
    let second = second.unwrap();
    let mut world = World::new().await;
    let local = free_address().await;
    let [old] = world.add([rule("tcp", local, first.port())]);
    world.until_listening(1).await;
    world.connect().await;
    let mut before = TcpStream::connect(local).await.unwrap();
    ask(&mut before, b"the old one").await;

    let mut draft = world.table.draft();
    draft.remove(old).unwrap();
    let port = second.local_addr().unwrap().port();
    draft.add(rule("tcp", local, port)).unwrap();
    world.table = draft.finish();
    world.ingress.set_table(&world.table);
    assert_reset(&mut before).await;
    world.until_listening(1).await;
    let mut after = TcpStream::connect(local).await.unwrap();
    let (mut service, _) = timeout(LIMIT, second.accept()).await.unwrap().unwrap();
    service.write_all(b"the new one").await.unwrap();
    let mut answer = [0; 11];
    timeout(LIMIT, after.read_exact(&mut answer))
        .await
        .expect("an answer in time")
        .unwrap();
    assert_eq!(&answer, b"the new one");
}

#[tokio::test]
async fn changes_that_come_without_a_path_or_without_a_peer_are_agreed_on_later() {
    let service = echo_service().await;
    let mut world = World::new().await;
    world.map_tcp(service).await;
    let (near, far) = world.connect().await;
    world.until_committed().await;

    world.silence(&far);
    let second = world.map_more(service).await;
    let third = world.map_more(service).await;
    assert_eq!(world.ingress.committed_version(), Some(1));
    let pending = |world: &World, at: usize| {
        world.ingress.snapshot().mappings[at].state == MappingState::Pending
    };
    assert!(pending(&world, 1) && pending(&world, 2));
    near.close(1, "its path is dead");
    world.connect().await;
    world.until_committed().await;
    assert_eq!(through(second, b"later").await, b"later");
    assert_eq!(through(third, b"too").await, b"too");

    world.ingress.peer_gone(world.peer);
    world.restart_egress();
    let fourth = world.map_more(service).await;
    assert_eq!(world.ingress.committed_version(), None);
    world.connect().await;
    world.until_committed().await;
    assert_eq!(world.egress.snapshot().mappings.len(), 4);
    for local in [second, third, fourth] {
        assert_eq!(through(local, b"again").await, b"again");
    }
}

/// A connection to a new mapping may come before both ends have agreed on it.
#[tokio::test]
async fn a_connection_to_a_mapping_that_is_not_agreed_on_yet_waits() {
    let service = echo_service().await;
    let mut world = World::new().await;
    world.map_tcp(service).await;
    let (near, far) = world.connect().await;
    world.until_committed().await;
    world.silence(&far);
    let local = world.map_more(service).await;
    let early = tokio::spawn(async move { through(local, b"early").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!early.is_finished());
    near.close(1, "its path is dead");
    world.connect().await;
    assert_eq!(early.await.unwrap(), b"early");
}

#[tokio::test]
async fn a_packet_that_meets_the_end_of_its_udp_mapping_begins_no_flow() {
    const MAPPINGS: usize = 16;
    let service = udp_echo_service().await;
    let mut world = World::new().await;
    let mut locals = Vec::new();
    let mut draft = world.table.draft();
    for _ in 0..MAPPINGS {
        let local = free_address().await;
        locals.push(local);
        draft.add(rule("udp", local, service.port())).unwrap();
    }
    world.table = draft.finish();
    world.ingress.set_table(&world.table);
    world.until_listening(MAPPINGS).await;
    world.connect().await;
    world.until_committed().await;

    let application = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for local in locals {
        application.send_to(b"late", local).unwrap();
    }
    // The ports have seen that there is something to read, and have not read it.
    tokio::task::yield_now().await;
    let mut draft = world.table.draft();
    for (id, _) in world.table.iter() {
        draft.remove(id).unwrap();
    }
    world.table = draft.finish();
    world.ingress.set_table(&world.table);
    world
        .until(|world| world.ingress.snapshot().closing_ports == 0)
        .await;
    assert_eq!(world.ingress.snapshot().udp_flows, 0);
}

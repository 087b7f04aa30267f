//! UDP.

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::world::{LIMIT, World, udp_ask, udp_echo_service};

#[tokio::test]
async fn udp_payloads_of_every_size_come_back_whole() {
    let service = udp_echo_service().await;
    let mut world = World::new().await;
    let local = world.map_udp(service).await;
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
    let local = world.map_udp(service).await;
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
    let local = world.map_udp(service).await;
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
async fn a_service_on_the_ipv6_loopback_alone_is_found_by_the_first_packet() {
    let service = UdpSocket::bind("[::1]:0").await.expect("an IPv6 loopback");
    let port = service.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 2000];
        while let Ok((length, from)) = service.recv_from(&mut buffer).await {
            service.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let mut world = World::new().await;
    // The mapping names no host: 127.0.0.1 comes first, where nobody listens.
    let local = world.map_udp(([127, 0, 0, 1], port).into()).await;
    world.connect().await;
    // UDP that comes before both ends agree is dropped.
    world
        .until(|world| world.ingress.committed_version().is_some())
        .await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(local).await.unwrap();
    socket.send(b"first").await.unwrap();
    let mut answer = [0; 16];
    let length = timeout(LIMIT, socket.recv(&mut answer))
        .await
        .expect("nothing is lost")
        .unwrap();
    assert_eq!(&answer[..length], b"first");
    assert_eq!(udp_ask(&socket, b"second").await, b"second");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn once_a_service_has_answered_its_flow_has_one_socket() {
    let service = udp_echo_service().await;
    let mut world = World::new().await;
    // The mapping names no host: 127.0.0.1 answers, and ::1 was prepared for.
    let local = world.map_udp(service).await;
    world.connect().await;
    world
        .until(|world| world.ingress.committed_version().is_some())
        .await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(local).await.unwrap();
    let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open_files();
    udp_ask(&socket, b"first").await;
    assert_eq!(world.egress.snapshot().udp_flows, 1);
    assert_eq!(open_files(), before + 1);
    assert_eq!(udp_ask(&socket, b"second").await, b"second");
}

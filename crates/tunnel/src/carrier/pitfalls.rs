//! The traps of quinn's socket trait (facts/quinn-socket.md, section 4), each as a test against real sockets.

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use quinn::AsyncUdpSocket;
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit};

use super::socket::DemuxSocket;
use super::virtual_addr::{RelayStreamId, Route, VirtualAddr};

const LOOPBACK: &str = "127.0.0.1:0";
const SERVER: &str = "192.0.2.9:3478";
const PEER: &str = "192.0.2.1:2000";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn quic(fill: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![fill; len];
    packet[0] = 0x41;
    packet
}

/// A Binding request of exactly `len` bytes.
fn stun(len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[1] = 1;
    packet[2..4].copy_from_slice(&u16::try_from(len - 20).unwrap().to_be_bytes());
    packet[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    packet
}

fn channel_data(channel: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap();
    [&channel.to_be_bytes()[..], &len.to_be_bytes(), payload].concat()
}

/// What quinn would see of one received buffer.
fn sorted(
    socket: &DemuxSocket,
    remote: &str,
    contents: &[u8],
    stride: usize,
) -> Option<(RecvMeta, Vec<u8>)> {
    let mut buffer = contents.to_vec();
    buffer.resize(contents.len() + 64, 0xee);
    let meta = RecvMeta {
        addr: addr(remote),
        len: contents.len(),
        stride,
        ecn: Some(EcnCodepoint::Ect0),
        dst_ip: Some("127.0.0.1".parse().unwrap()),
    };
    let mut metas = [meta];
    let mut bufs = [IoSliceMut::new(&mut buffer)];
    let kept = socket.sort(addr("0.0.0.0:1000"), &mut bufs, &mut metas, 1);
    let meta = metas[0];
    (kept == 1).then(|| (meta, buffer[..meta.len].to_vec()))
}

fn routed(route: Route) -> (Arc<DemuxSocket>, VirtualAddr) {
    let socket = DemuxSocket::new();
    socket.set_relay_servers(&[addr(SERVER)]);
    let virtual_addr = socket.allocate();
    socket.install(virtual_addr, route).unwrap();
    (socket, virtual_addr)
}

fn direct() -> Route {
    Route::Direct {
        local: addr("0.0.0.0:1000"),
        remote: addr(PEER),
    }
}

fn relayed(channel: u16) -> Route {
    Route::RelayedUdp {
        local: addr("0.0.0.0:1000"),
        server: addr(SERVER),
        channel,
    }
}

#[derive(Default)]
struct CountingWaker(std::sync::atomic::AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

fn poll_once(socket: &DemuxSocket, cx: &mut Context<'_>) -> Poll<Vec<(SocketAddr, Vec<u8>)>> {
    let mut storage = vec![vec![0; 4096]; 4];
    let mut bufs: Vec<IoSliceMut<'_>> = storage
        .iter_mut()
        .map(|buffer| IoSliceMut::new(buffer))
        .collect();
    let mut metas = [RecvMeta::default(); 4];
    socket.poll_recv(cx, &mut bufs, &mut metas).map(|received| {
        let count = received.expect("never an error");
        assert!(count > 0, "never zero packets");
        (0..count)
            .map(|index| {
                assert!(
                    metas[index].stride > 0 || metas[index].len == 0,
                    "never a stride of zero"
                );
                (metas[index].addr, bufs[index][..metas[index].len].to_vec())
            })
            .collect()
    })
}

fn transmit(destination: SocketAddr, contents: &[u8], segment_size: Option<usize>) -> Transmit<'_> {
    Transmit {
        destination,
        ecn: None,
        contents,
        segment_size,
        src_ip: None,
    }
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let socket = tokio::net::UdpSocket::from_std(socket.try_clone().unwrap()).unwrap();
    let mut buffer = vec![0; 2048];
    let received = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await;
    let len = received.expect("a packet within five seconds").unwrap();
    buffer.truncate(len);
    buffer
}

/// A socket on the loopback that tokio knows to be writable.
async fn writable_socket(socket: &DemuxSocket) -> SocketAddr {
    let local = socket.bind(addr(LOOPBACK)).unwrap().local;
    socket.socket(local).unwrap().writable().await;
    local
}

fn plain_socket() -> UdpSocket {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

#[tokio::test]
async fn stun_glued_to_quic_by_gro_goes_to_the_driver_and_the_quic_packets_to_quinn() {
    let (socket, virtual_addr) = routed(direct());
    let glued = [quic(1, 40), stun(40), quic(2, 40), stun(40), quic(3, 30)].concat();
    let (meta, contents) = sorted(&socket, PEER, &glued, 40).unwrap();
    assert_eq!(contents, [quic(1, 40), quic(2, 40), quic(3, 30)].concat());
    assert_eq!(
        (meta.addr, meta.stride),
        (virtual_addr.to_socket_addr(), 40)
    );
    for _ in 0..2 {
        let control = socket.recv_control().await;
        assert_eq!(
            (control.remote, control.payload.to_vec()),
            (addr(PEER), stun(40))
        );
    }
    assert_eq!(socket.route_stats(virtual_addr).unwrap().packets_in, 3);
}

#[tokio::test]
async fn direct_packets_keep_their_ecn_marks_and_lose_their_destination_address() {
    let (socket, _) = routed(direct());
    let (meta, _) = sorted(&socket, PEER, &quic(1, 40), 40).unwrap();
    assert_eq!((meta.ecn, meta.dst_ip), (Some(EcnCodepoint::Ect0), None));
}

#[tokio::test]
async fn channel_data_is_unwrapped_in_place_without_ecn() {
    let (socket, virtual_addr) = routed(relayed(0x4001));
    let glued = [
        channel_data(0x4001, &quic(1, 40)),
        channel_data(0x4001, &quic(2, 40)),
        channel_data(0x4001, &quic(3, 11)),
    ]
    .concat();
    let (meta, contents) = sorted(&socket, SERVER, &glued, 44).unwrap();
    assert_eq!(contents, [quic(1, 40), quic(2, 40), quic(3, 11)].concat());
    assert_eq!(
        (meta.addr, meta.stride, meta.ecn),
        (virtual_addr.to_socket_addr(), 40, None)
    );
}

#[tokio::test]
async fn packets_of_two_peers_glued_by_one_relay_reach_both_carriers() {
    let (socket, first) = routed(relayed(0x4001));
    let second = socket.allocate();
    socket.install(second, relayed(0x4002)).unwrap();
    let glued = [
        channel_data(0x4001, &quic(1, 40)),
        channel_data(0x4002, &quic(2, 40)),
        channel_data(0x4003, &[0; 40]),
        channel_data(0x4001, &quic(3, 40)),
    ]
    .concat();
    let (meta, contents) = sorted(&socket, SERVER, &glued, 44).unwrap();
    assert_eq!(meta.addr, first.to_socket_addr());
    assert_eq!(contents, [quic(1, 40), quic(3, 40)].concat());
    assert_eq!(socket.recv_control().await.payload[..2], [0x40, 0x03]);
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(
        poll_once(&socket, &mut cx),
        Poll::Ready(vec![(second.to_socket_addr(), quic(2, 40))])
    );
}

#[tokio::test]
async fn a_stride_of_zero_becomes_the_length() {
    let (socket, _) = routed(direct());
    let (meta, contents) = sorted(&socket, PEER, &quic(1, 40), 0).unwrap();
    assert_eq!((meta.stride, contents.len()), (40, 40));
}

#[tokio::test]
async fn a_buffer_without_quic_is_not_handed_over_at_all() {
    let (socket, _) = routed(direct());
    assert_eq!(
        sorted(&socket, PEER, &stun(40), 40).map(|(_, contents)| contents),
        None
    );
    assert_eq!(
        sorted(&socket, "203.0.113.1:5", &quic(1, 40), 40).map(|(_, contents)| contents),
        None
    );
    let stats = socket.stats();
    assert_eq!(
        (stats.control_in, stats.unmapped_dropped, stats.quic_in),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn a_stranger_cannot_fill_the_control_queue_without_being_counted() {
    let (socket, _) = routed(direct());
    for _ in 0..1030 {
        sorted(&socket, "203.0.113.1:5", &stun(20), 20);
    }
    let stats = socket.stats();
    assert_eq!((stats.control_in, stats.control_dropped), (1024, 6));
}

#[tokio::test]
async fn an_empty_socket_is_pending_and_not_zero_packets_even_when_all_was_ours() {
    let socket = DemuxSocket::new();
    let local = socket.bind(addr(LOOPBACK)).unwrap().local;
    let sender = plain_socket();
    sender.send_to(&stun(20), local).unwrap();
    let control = loop {
        tokio::task::yield_now().await;
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(poll_once(&socket, &mut cx), Poll::Pending);
        if socket.stats().control_in == 1 {
            break socket.recv_control().await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(
        (control.local, control.remote),
        (local, sender.local_addr().unwrap())
    );
}

#[tokio::test]
async fn without_any_socket_receiving_waits_and_a_new_socket_wakes_it() {
    let socket = DemuxSocket::new();
    let waker = Arc::new(CountingWaker::default());
    let std_waker = Waker::from(waker.clone());
    let mut cx = Context::from_waker(&std_waker);
    assert_eq!(poll_once(&socket, &mut cx), Poll::Pending);
    socket.bind(addr(LOOPBACK)).unwrap();
    assert_eq!(waker.0.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_came_over_a_relays_stream_wakes_the_receiver_and_is_delivered() {
    let stream = RelayStreamId(7);
    let (socket, virtual_addr) = routed(Route::RelayedStream {
        stream,
        channel: 0x4001,
    });
    let waker = Arc::new(CountingWaker::default());
    let std_waker = Waker::from(waker.clone());
    let mut cx = Context::from_waker(&std_waker);
    assert_eq!(poll_once(&socket, &mut cx), Poll::Pending);
    assert!(
        !socket.push_relayed(stream, 0x4002, &quic(1, 40)),
        "another channel is not ours"
    );
    assert!(socket.push_relayed(stream, 0x4001, &quic(1, 40)));
    assert_eq!(waker.0.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(
        poll_once(&socket, &mut cx),
        Poll::Ready(vec![(virtual_addr.to_socket_addr(), quic(1, 40))])
    );
    assert_eq!(poll_once(&socket, &mut cx), Poll::Pending);
}

#[tokio::test]
async fn a_packet_larger_than_quinns_buffer_is_dropped_and_counted() {
    let (socket, virtual_addr) = routed(direct());
    assert!(socket.inject(virtual_addr, &quic(1, 5000)));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(poll_once(&socket, &mut cx), Poll::Pending);
    assert_eq!(socket.stats().pending_dropped, 1);
}

#[tokio::test]
async fn waiting_packets_are_bounded() {
    let (socket, virtual_addr) = routed(direct());
    let taken = (0..2000)
        .filter(|_| socket.inject(virtual_addr, &quic(1, 40)))
        .count();
    assert_eq!((taken, socket.stats().pending_dropped), (1024, 976));
}

#[tokio::test]
async fn sending_never_fails_toward_quinn() {
    let socket = DemuxSocket::new();
    let local = writable_socket(&socket).await;
    let unknown = socket.allocate();
    let gone = socket.allocate();
    socket
        .install(
            gone,
            Route::Direct {
                local: addr("127.0.0.1:9"),
                remote: addr(PEER),
            },
        )
        .unwrap();
    let refused = socket.allocate();
    // Broadcast without permission: the kernel says EACCES.
    socket
        .install(
            refused,
            Route::Direct {
                local,
                remote: addr("255.255.255.255:9"),
            },
        )
        .unwrap();
    let other_family = socket.allocate();
    socket
        .install(
            other_family,
            Route::Direct {
                local,
                remote: addr("[::1]:9"),
            },
        )
        .unwrap();
    for target in [unknown, gone, refused, other_family] {
        assert!(
            socket
                .try_send(&transmit(target.to_socket_addr(), b"A", None))
                .is_ok()
        );
    }
    assert!(
        socket
            .try_send(&transmit(addr("192.0.2.1:5"), b"A", None))
            .is_ok()
    );
    let stats = socket.stats();
    assert_eq!((stats.unroutable_dropped, stats.send_errors), (4, 1));
}

#[tokio::test]
async fn a_full_relay_stream_drops_and_never_blocks() {
    let stream = RelayStreamId(1);
    let (socket, virtual_addr) = routed(Route::RelayedStream {
        stream,
        channel: 0x4001,
    });
    let target = virtual_addr.to_socket_addr();
    assert!(socket.try_send(&transmit(target, b"A", None)).is_ok());
    assert_eq!(socket.stats().unroutable_dropped, 1, "no queue, no stream");
    let mut queue = socket.relay_stream_queue(stream);
    for _ in 0..130 {
        assert!(socket.try_send(&transmit(target, b"Abcde", None)).is_ok());
    }
    assert_eq!(socket.stats().relay_stream_dropped, 2);
    assert_eq!(
        &queue.recv().await.unwrap()[..],
        b"\x40\x01\x00\x05Abcde\0\0\0"
    );
}

#[tokio::test]
async fn every_segment_for_a_relay_gets_its_own_header() {
    let socket = DemuxSocket::new();
    let local = writable_socket(&socket).await;
    let server = plain_socket();
    let virtual_addr = socket.allocate();
    let route = Route::RelayedUdp {
        local,
        server: server.local_addr().unwrap(),
        channel: 0x4abc,
    };
    socket.install(virtual_addr, route).unwrap();
    let contents = [quic(1, 100), quic(2, 100), quic(3, 60)].concat();
    socket
        .try_send(&transmit(
            virtual_addr.to_socket_addr(),
            &contents,
            Some(100),
        ))
        .unwrap();
    for (fill, len) in [(1, 100), (2, 100), (3, 60)] {
        assert_eq!(
            receive(&server).await,
            channel_data(0x4abc, &quic(fill, len))
        );
    }
}

#[tokio::test]
async fn the_last_packet_can_be_sent_once_more() {
    let socket = DemuxSocket::new();
    let local = writable_socket(&socket).await;
    let peer = plain_socket();
    let virtual_addr = socket.allocate();
    socket
        .install(
            virtual_addr,
            Route::Direct {
                local,
                remote: peer.local_addr().unwrap(),
            },
        )
        .unwrap();
    assert!(!socket.resend_last(virtual_addr), "nothing was sent yet");
    let contents = [quic(1, 100), quic(2, 60)].concat();
    socket
        .try_send(&transmit(
            virtual_addr.to_socket_addr(),
            &contents,
            Some(100),
        ))
        .unwrap();
    assert_eq!(
        (receive(&peer).await, receive(&peer).await),
        (quic(1, 100), quic(2, 60))
    );
    assert!(socket.resend_last(virtual_addr));
    assert_eq!(receive(&peer).await, quic(2, 60));
}

#[tokio::test]
async fn a_poller_waits_for_the_full_sockets_only_and_can_be_used_again() {
    let socket = DemuxSocket::new();
    let local = socket.bind(addr(LOOPBACK)).unwrap().local;
    let raw = socket.socket(local).unwrap();
    let mut poller = socket.clone().create_io_poller();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        poller.as_mut().poll_writable(&mut cx).is_ready(),
        "nothing is full"
    );
    for _ in 0..3 {
        raw.mark_blocked();
        std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx))
            .await
            .unwrap();
        assert!(!raw.is_blocked(), "it was seen writable");
    }
}

#[tokio::test]
async fn quinn_is_told_of_an_ipv6_address_and_that_packets_are_never_fragmented() {
    let socket = DemuxSocket::new();
    socket.bind(addr(LOOPBACK)).unwrap();
    assert!(socket.local_addr().unwrap().is_ipv6());
    assert_eq!(
        socket.may_fragment(),
        !cfg!(any(target_os = "linux", target_os = "windows"))
    );
    assert!(socket.max_transmit_segments() >= 1 && socket.max_receive_segments() >= 1);
}

#[tokio::test]
async fn a_control_datagram_can_have_its_own_ttl_and_the_next_has_the_usual_one() {
    for text in [LOOPBACK, "[::1]:0"] {
        let socket = DemuxSocket::new();
        let local = socket.bind(addr(text)).unwrap().local;
        let raw = socket.socket(local).unwrap();
        let usual = raw.ttl().unwrap();
        let peer = UdpSocket::bind(text).unwrap();
        peer.set_nonblocking(true).unwrap();
        socket
            .send_control(local, peer.local_addr().unwrap(), Some(1), b"low")
            .unwrap();
        assert_eq!(receive(&peer).await, b"low");
        assert_eq!(raw.ttl().unwrap(), usual);
    }
}

#[tokio::test]
async fn a_control_datagram_from_a_socket_that_is_gone_is_an_error() {
    let socket = DemuxSocket::new();
    let error = socket
        .send_control(addr("127.0.0.1:9"), addr(PEER), None, b"x")
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_handshake_that_came_before_its_route_is_delivered_by_install_and_only_for_that_route() {
    let socket = DemuxSocket::new();
    let mut initial = vec![0; 1200];
    initial[0] = 0xc0;
    assert_eq!(
        sorted(&socket, PEER, &initial, 1200).map(|(_, contents)| contents),
        None
    );
    let mut cx = Context::from_waker(Waker::noop());
    let other = socket.allocate();
    let elsewhere = Route::Direct {
        local: addr("0.0.0.0:1000"),
        remote: addr("192.0.2.1:2001"),
    };
    socket.install(other, elsewhere).unwrap();
    assert_eq!(poll_once(&socket, &mut cx), Poll::Pending);
    let virtual_addr = socket.allocate();
    socket.install(virtual_addr, direct()).unwrap();
    assert_eq!(
        poll_once(&socket, &mut cx),
        Poll::Ready(vec![(virtual_addr.to_socket_addr(), initial)])
    );
}

#[tokio::test(start_paused = true)]
async fn early_handshakes_are_few_and_do_not_keep() {
    let socket = DemuxSocket::new();
    let mut initial = vec![0; 1200];
    initial[0] = 0xc0;
    for _ in 0..20 {
        sorted(&socket, PEER, &initial, 1200);
    }
    assert_eq!(socket.stats().unmapped_dropped, 4);
    tokio::time::advance(Duration::from_secs(2)).await;
    socket.install(socket.allocate(), direct()).unwrap();
    assert_eq!(socket.stats().early_delivered, 0);
}

proptest::proptest! {
    #[test]
    fn no_buffer_makes_sorting_panic_or_hand_over_a_broken_meta(
        contents in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        stride in 0_usize..100,
        from_relay: bool,
        quic_bytes: bool,
    ) {
        let (socket, _) = routed(direct());
        let channel = socket.allocate();
        socket.install(channel, relayed(0x4001)).unwrap();
        let mut contents = contents;
        if quic_bytes {
            for start in (0..contents.len()).step_by(stride.max(1)) {
                contents[start] = 0x40;
            }
        }
        let remote = if from_relay { SERVER } else { PEER };
        if let Some((meta, kept)) = sorted(&socket, remote, &contents, stride) {
            proptest::prop_assert!(meta.stride > 0 && meta.len >= 1 && kept.len() <= contents.len());
            proptest::prop_assert!(VirtualAddr::from_socket_addr(meta.addr).is_some());
        }
    }
}

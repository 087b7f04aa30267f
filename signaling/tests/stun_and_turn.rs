//! STUN and TURN on loopback sockets.
//!
//! Loopback is private, so the two peers reach each other only because both are sources of authenticated
//! allocations of this server.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relay::{Client, ClientConfig, Event, Received, Transport};
use signal_client::{Identity, Info, RendezvousId, RoomClient, SlotName};
use signaling::{Settings, Signaling};
use stunwire::{
    ChangeRequest, Class, Message, MessageBuilder, Method, OtherAddress, ResponseOrigin,
    ResponsePort, TransactionId, XorMappedAddress, stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    http: SocketAddr,
    stun: Vec<SocketAddr>,
    shutdown: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn start(options: &[(&'static str, &str)]) -> Running {
    let mut settings = Settings::default();
    settings.flag("listen", "127.0.0.1:0");
    for (key, value) in options {
        settings.flag(key, *value);
    }
    let signaling = Signaling::bind(settings.resolve().unwrap()).unwrap();
    let (http, stun) = (signaling.http_addr(), signaling.stun_addrs().to_vec());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move { signaling.run(stop).await.unwrap() });
    Running {
        http,
        stun,
        shutdown,
    }
}

fn binding_request(change: Option<ChangeRequest>) -> Vec<u8> {
    let mut buffer = [0; 128];
    let id = TransactionId::new([7; 12]);
    let mut builder =
        MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).unwrap();
    if let Some(change) = change {
        builder = builder.attribute(&change).unwrap();
    }
    builder.finish().to_vec()
}

async fn ask_udp(
    server: SocketAddr,
    change: Option<ChangeRequest>,
) -> (SocketAddr, SocketAddr, Vec<u8>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket
        .send_to(&binding_request(change), server)
        .await
        .unwrap();
    let mut buffer = [0; 1500];
    let (len, from) = timeout(PATIENCE, socket.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    (socket.local_addr().unwrap(), from, buffer[..len].to_vec())
}

#[tokio::test]
async fn a_binding_request_is_answered_over_udp() {
    let running = start(&[("stun", "127.0.0.1:0")]);
    let (local, from, answer) = ask_udp(running.stun[0], None).await;
    assert_eq!(from, running.stun[0]);
    let message = Message::decode(&answer).unwrap();
    assert_eq!(message.class(), Class::SuccessResponse);
    assert_eq!(
        message.read::<XorMappedAddress>(),
        Ok(XorMappedAddress(local))
    );
    assert!(
        message.read::<OtherAddress>().is_err(),
        "one address has no other"
    );
}

#[tokio::test]
async fn a_wildcard_socket_answers_from_the_address_it_was_asked_at() {
    let running = start(&[("stun", "0.0.0.0:0")]);
    let asked = SocketAddr::from(([127, 0, 0, 9], running.stun[0].port()));
    let (_, from, _) = ask_udp(asked, None).await;
    assert_eq!(from, asked);
}

#[tokio::test]
async fn both_families_are_served_by_an_ipv6_wildcard() {
    let running = start(&[("stun", "[::]:0")]);
    let asked = SocketAddr::from(([127, 0, 0, 1], running.stun[0].port()));
    let (local, from, answer) = ask_udp(asked, None).await;
    assert_eq!(from, asked);
    let message = Message::decode(&answer).unwrap();
    assert_eq!(
        message.read::<XorMappedAddress>(),
        Ok(XorMappedAddress(local))
    );
}

#[tokio::test]
async fn two_addresses_answer_the_tests_of_rfc_5780() {
    let running = start(&[("stun", "127.0.0.1:0"), ("stun", "127.0.0.2:0")]);
    let [one, two] = running.stun[..] else {
        panic!("two addresses were asked for")
    };
    let alternate = |base: SocketAddr| SocketAddr::new(base.ip(), base.port() + 1);
    let (_, from, answer) = ask_udp(one, None).await;
    assert_eq!(from, one);
    let other = Message::decode(&answer).unwrap().read::<OtherAddress>();
    assert_eq!(other, Ok(OtherAddress(alternate(two))));
    for (ip, port, expected) in [
        (true, true, alternate(two)),
        (false, true, alternate(one)),
        (true, false, two),
    ] {
        let (_, from, answer) = ask_udp(one, Some(ChangeRequest { ip, port })).await;
        assert_eq!(from, expected);
        let origin = Message::decode(&answer).unwrap().read::<ResponseOrigin>();
        assert_eq!(origin, Ok(ResponseOrigin(expected)));
    }
}

#[tokio::test]
async fn one_address_knocks_at_another_port_from_a_port_that_nobody_has_written_to() {
    for stun in ["127.0.0.1:0", "0.0.0.0:0"] {
        let running = start(&[("stun", stun)]);
        let server = SocketAddr::from(([127, 0, 0, 1], running.stun[0].port()));
        let asking = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let knocked = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut buffer = [0; 128];
        let id = TransactionId::new([8; 12]);
        let request = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id)
            .unwrap()
            .attribute(&ChangeRequest {
                ip: false,
                port: true,
            })
            .unwrap()
            .attribute(&ResponsePort(knocked.local_addr().unwrap().port()))
            .unwrap()
            .finish()
            .to_vec();
        asking.send_to(&request, server).await.unwrap();
        let mut buffer = [0; 1500];
        let (len, from) = timeout(PATIENCE, knocked.recv_from(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(from.ip(), server.ip());
        assert_ne!(from.port(), server.port());
        let message = Message::decode(&buffer[..len]).unwrap();
        let mapped = XorMappedAddress(asking.local_addr().unwrap());
        assert_eq!(message.read::<XorMappedAddress>(), Ok(mapped));
    }
}

#[tokio::test]
async fn a_binding_request_is_answered_over_tcp_however_it_is_cut() {
    let running = start(&[("stun", "127.0.0.1:0")]);
    let mut stream = TcpStream::connect(running.stun[0]).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let requests = [binding_request(None), binding_request(None)].concat();
    for piece in requests.chunks(7) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = read_frame(&mut stream, &mut answers).await;
        let message = Message::decode(&answer).unwrap();
        let mapped = XorMappedAddress(stream.local_addr().unwrap());
        assert_eq!(message.read::<XorMappedAddress>(), Ok(mapped));
    }
}

#[tokio::test]
async fn a_stream_that_is_out_of_step_is_closed() {
    let running = start(&[("stun", "127.0.0.1:0")]);
    let mut stream = TcpStream::connect(running.stun[0]).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let closed = timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(closed.is_err() || rest.is_empty());
}

#[tokio::test]
async fn two_peers_reach_each_other_through_two_allocations() {
    for transports in [
        [Transport::Udp, Transport::Udp],
        [Transport::Tcp, Transport::Tcp],
    ] {
        let running = start(&[("stun", "127.0.0.1:0")]);
        let [mut one, mut two] = connect_both(&running, transports).await;
        let (addr_one, addr_two) = (one.client.relayed().unwrap(), two.client.relayed().unwrap());
        one.bind(addr_two).await;
        two.bind(addr_one).await;
        for size in [1, 100, 1200, 1201, 1202, 1203] {
            let payload = vec![u8::try_from(size % 251).unwrap(); size];
            one.send(addr_two, &payload).await;
            assert_eq!(
                two.receive().await,
                (addr_one, payload.clone()),
                "{transports:?} {size}"
            );
            two.send(addr_one, &payload).await;
            assert_eq!(
                one.receive().await,
                (addr_two, payload),
                "{transports:?} {size}"
            );
        }
    }
}

#[tokio::test]
async fn a_private_peer_without_an_allocation_is_reached_where_the_operator_allows_it() {
    let running = start(&[("stun", "127.0.0.1:0"), ("relay-allow", "127.0.0.0/8")]);
    let [mut one, _two] = connect_both(&running, [Transport::Udp, Transport::Udp]).await;
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let peer_addr = peer.local_addr().unwrap();
    one.bind(peer_addr).await;
    let relayed = one.client.relayed().unwrap();
    one.send(peer_addr, b"ping").await;
    let mut buffer = [0; 1500];
    let (len, from) = timeout(PATIENCE, peer.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&buffer[..len], from), (&b"ping"[..], relayed));
    peer.send_to(b"pong", relayed).await.unwrap();
    assert_eq!(one.receive().await, (peer_addr, b"pong".to_vec()));
}

#[tokio::test]
async fn without_a_relay_nobody_is_offered_or_given_one() {
    let running = start(&[("stun", "127.0.0.1:0"), ("no-relay", "true")]);
    assert_eq!(info(&running).await.turn, []);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = [0; 64];
    let id = TransactionId::new([1; 12]);
    let allocate = MessageBuilder::new(&mut buffer, Class::Request, Method::ALLOCATE, id).unwrap();
    socket
        .send_to(allocate.finish(), running.stun[0])
        .await
        .unwrap();
    // The Binding request behind it shows that the server had its turn.
    socket
        .send_to(&binding_request(None), running.stun[0])
        .await
        .unwrap();
    let mut buffer = [0; 1500];
    let (len, _) = timeout(PATIENCE, socket.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        Message::decode(&buffer[..len]).unwrap().method(),
        Method::BINDING
    );
}

async fn info(running: &Running) -> Info {
    let url = format!("http://{}", running.http);
    let rendezvous = RendezvousId([1; 32]);
    let identity = Identity::generate();
    let client = RoomClient::new(&url, None, rendezvous, SlotName::server(), identity).unwrap();
    client.info().await.unwrap()
}

async fn connect_both(running: &Running, transports: [Transport; 2]) -> [Peer; 2] {
    let [one, two] = transports;
    [
        Peer::connect(running, one).await,
        Peer::connect(running, two).await,
    ]
}

async fn read_frame(stream: &mut TcpStream, kept: &mut Vec<u8>) -> Vec<u8> {
    loop {
        if let Some(len) = stream::next_frame(kept).unwrap() {
            return kept.drain(..len).collect();
        }
        let read = timeout(PATIENCE, stream.read_buf(kept))
            .await
            .unwrap()
            .unwrap();
        assert_ne!(read, 0, "the relay closed the stream");
    }
}

enum Line {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, kept: Vec<u8> },
}

impl Line {
    async fn send(&mut self, payload: &[u8]) {
        match self {
            Self::Udp(socket) => drop(socket.send(payload).await.unwrap()),
            Self::Tcp { stream, .. } => stream.write_all(payload).await.unwrap(),
        }
    }

    async fn receive(&mut self) -> Vec<u8> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = vec![0; 2000];
                let len = socket.recv(&mut buffer).await.unwrap();
                buffer.truncate(len);
                buffer
            }
            Self::Tcp { stream, kept } => read_frame(stream, kept).await,
        }
    }
}

/// A TURN client with its line to the relay.
struct Peer {
    client: Client,
    line: Line,
}

impl Peer {
    async fn connect(running: &Running, transport: Transport) -> Self {
        let info = info(running).await;
        let server = running.stun[0];
        let (line, local) = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.connect(server).await.unwrap();
                let local = socket.local_addr().unwrap();
                (Line::Udp(socket), local)
            }
            Transport::Tcp => {
                let stream = TcpStream::connect(server).await.unwrap();
                let local = stream.local_addr().unwrap();
                (
                    Line::Tcp {
                        stream,
                        kept: Vec::new(),
                    },
                    local,
                )
            }
        };
        let config = ClientConfig {
            server,
            transport,
            local,
            username: info.turn[0].username.clone(),
            credential: info.turn[0].credential.as_str().into(),
        };
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&local.port().to_be_bytes());
        let mut peer = Self {
            client: Client::new(config, seed, now()),
            line,
        };
        if transport == Transport::Tcp {
            peer.client.reconnected(now());
        }
        peer.drive_until(|event| matches!(event, Event::Allocated { .. }))
            .await;
        peer
    }

    async fn bind(&mut self, to: SocketAddr) {
        self.client.bind(to, now());
        self.drive_until(|event| {
            assert!(!matches!(event, Event::BindRefused { .. }), "{event:?}");
            matches!(event, Event::Bound { peer, .. } if *peer == to)
        })
        .await;
    }

    async fn send(&mut self, to: SocketAddr, payload: &[u8]) {
        assert!(self.client.send(to, payload, now()));
        self.flush().await;
    }

    async fn receive(&mut self) -> (SocketAddr, Vec<u8>) {
        loop {
            let message = timeout(PATIENCE, self.line.receive()).await.unwrap();
            if let Received::Data { peer, payload } = self.client.handle_message(&message, now()) {
                return (peer, payload.to_vec());
            }
            self.flush().await;
        }
    }

    async fn flush(&mut self) {
        while let Some(transmit) = self.client.poll_transmit() {
            self.line.send(&transmit.payload).await;
        }
    }

    async fn drive_until(&mut self, wanted: impl Fn(&Event) -> bool) {
        let drive = async {
            loop {
                self.flush().await;
                while let Some(event) = self.client.poll_event() {
                    if wanted(&event) {
                        return;
                    }
                }
                let wake = self
                    .client
                    .poll_timeout()
                    .map_or_else(|| now() + PATIENCE, |deadline| deadline.at);
                tokio::select! {
                    message = self.line.receive() => {
                        let _ = self.client.handle_message(&message, now());
                    }
                    () = tokio::time::sleep_until(wake.into()) => {
                        self.client.handle_timeout(now());
                    }
                }
            }
        };
        timeout(PATIENCE, drive)
            .await
            .expect("the relay did not answer");
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

//! An ingress and an egress with real carriers between them, services behind, and applications in front.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mapping_core::{MappingId, MappingTable, PortMapping};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};
use tunnel::carrier::{
    Carrier, CarrierConfig, CarrierEndpoint, DemuxSocket, DialOptions, KnownKeys, Route, Side,
    public_key,
};
use tunnel::forward::{
    Egress, EgressConfig, ForwardEvent, ForwardEvents, Ingress, IngressConfig, PeerInstance,
};

const INGRESS_SEED: [u8; 32] = [1; 32];
const EGRESS_SEED: [u8; 32] = [2; 32];
/// What takes longer does not come.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    socket: Arc<DemuxSocket>,
    endpoint: CarrierEndpoint,
}

impl Node {
    pub(crate) fn new(side: Side) -> Self {
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

    pub(crate) fn bind(&self) -> SocketAddr {
        self.socket
            .bind("127.0.0.1:0".parse().unwrap())
            .unwrap()
            .local
    }
}

pub(crate) struct World {
    pub(crate) peer: PeerInstance,
    pub(crate) table: MappingTable,
    pub(crate) ingress: Ingress,
    pub(crate) events: ForwardEvents,
    pub(crate) egress: Egress,
    pub(crate) _egress_events: ForwardEvents,
    pub(crate) nodes: [Node; 2],
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(IngressConfig::default(), EgressConfig::default()).await
    }

    pub(crate) async fn with(ingress: IngressConfig, egress: EgressConfig) -> Self {
        // The endpoints spawn their drivers.
        tokio::task::yield_now().await;
        let (ingress, events) = Ingress::new(ingress);
        let (egress, egress_events) = Egress::new(egress);
        let nodes = [Node::new(Side::Ingress), Node::new(Side::Egress)];
        Self {
            peer: PeerInstance([2; 16]),
            table: MappingTable::new(),
            ingress,
            events,
            egress,
            _egress_events: egress_events,
            nodes,
        }
    }

    pub(crate) async fn map_tcp(&mut self, service: SocketAddr) -> SocketAddr {
        self.map("tcp", service).await
    }

    pub(crate) async fn map_udp(&mut self, service: SocketAddr) -> SocketAddr {
        self.map("udp", service).await
    }

    pub(crate) async fn map(&mut self, protocol: &str, service: SocketAddr) -> SocketAddr {
        let local = free_address().await;
        self.add([rule(protocol, local, service.port())]);
        self.until_listening(1).await;
        local
    }

    /// One more TCP mapping beside those that are there.
    pub(crate) async fn map_more(&mut self, service: SocketAddr) -> SocketAddr {
        let count = self.table.len();
        let local = free_address().await;
        self.add([rule("tcp", local, service.port())]);
        self.until_listening(count + 1).await;
        local
    }

    /// One more version of the table, with these mappings added.
    pub(crate) fn add<const N: usize>(&mut self, mappings: [PortMapping; N]) -> [MappingId; N] {
        let mut draft = self.table.draft();
        let ids = mappings.map(|mapping| draft.add(mapping).unwrap());
        self.table = draft.finish();
        self.ingress.set_table(&self.table);
        ids
    }

    /// One more version of the table, without this mapping.
    pub(crate) fn remove(&mut self, id: MappingId) {
        let mut draft = self.table.draft();
        draft.remove(id).unwrap();
        self.table = draft.finish();
        self.ingress.set_table(&self.table);
    }

    pub(crate) async fn until_listening(&self, count: usize) {
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
    pub(crate) async fn connect(&mut self) -> (Carrier, Carrier) {
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
    pub(crate) fn silence(&self, far: &Carrier) {
        assert!(self.nodes[1].socket.remove(far.virtual_addr()));
    }

    /// The egress was started again, and this is its next instance.
    pub(crate) fn restart_egress(&mut self) {
        self.peer.0[0] += 1;
        (self.egress, self._egress_events) = Egress::new(EgressConfig::default());
    }

    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, wait)
            .await
            .unwrap_or_else(|_| panic!("{:#?}", self.ingress.snapshot()));
    }

    pub(crate) async fn until_refused(&self, address: SocketAddr) {
        let wait = async {
            while TcpStream::connect(address).await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, wait).await.expect("the port is closed");
    }

    pub(crate) async fn expect_event(&mut self, is_it: impl Fn(&ForwardEvent) -> bool) {
        let wait = async { while !is_it(&self.events.recv().await.expect("the ingress lives")) {} };
        timeout(LIMIT, wait).await.expect("the event");
    }
}

/// The rule that leads from a local address to a service.
pub(crate) fn rule(protocol: &str, local: SocketAddr, service: u16) -> PortMapping {
    format!("{protocol}:{}:{service}", local.port())
        .parse()
        .unwrap()
}

/// An address on which nobody listens.
pub(crate) async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

pub(crate) async fn echo_service() -> SocketAddr {
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

pub(crate) async fn udp_echo_service() -> SocketAddr {
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
pub(crate) async fn through(local: SocketAddr, request: &[u8]) -> Vec<u8> {
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

pub(crate) async fn ask(socket: &mut TcpStream, request: &[u8]) {
    socket.write_all(request).await.unwrap();
    let mut answer = vec![0; request.len()];
    timeout(LIMIT, socket.read_exact(&mut answer))
        .await
        .expect("an answer in time")
        .unwrap();
    assert_eq!(answer, request);
}

/// Asks until there is an answer: packets before the table is agreed on are dropped.
pub(crate) async fn udp_ask(socket: &UdpSocket, payload: &[u8]) -> Vec<u8> {
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
pub(crate) async fn echo_of(local: SocketAddr, length: usize, seed: u32) {
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

pub(crate) async fn assert_reset(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = timeout(LIMIT, socket.read_to_end(&mut rest))
        .await
        .expect("an end in time");
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
}

//! The room API over loopback, with the client that participants use.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::time::Duration;

use mapping_core::{RoomId, Secret};
use signal_client::{
    Identity, PublishError, RequestError, RoomClient, RoomKeys, SlotName, SlotRemove, WatchEvent,
};
use signaling::{Settings, Signaling};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    http: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(options: &[(&'static str, &str)]) -> Self {
        let mut settings = Settings::default();
        for (key, value) in options {
            settings.flag(key, *value);
        }
        for key in ["listen", "stun"] {
            if !options.iter().any(|(named, _)| *named == key) {
                settings.flag(key, "127.0.0.1:0");
            }
        }
        let signaling = Signaling::bind(settings.resolve().unwrap()).unwrap();
        let http = signaling.http_addr();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { signaling.run(stop).await.unwrap() });
        Self {
            http,
            shutdown,
            task,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }

    fn url(&self) -> String {
        format!("http://{}", self.http)
    }
}

struct Participant {
    client: RoomClient,
    keys: RoomKeys,
    identity: Identity,
    slot: SlotName,
}

impl Participant {
    fn new(url: &str, token: Option<&str>, server: bool) -> Self {
        let keys = RoomKeys::derive(&RoomId::new("a room of tests".to_owned()).unwrap());
        let identity = Identity::generate();
        let slot = if server {
            SlotName::server()
        } else {
            SlotName::client(&identity.public_key())
        };
        let token = token.map(|token| Secret::new(token.to_owned()));
        let client =
            RoomClient::new(url, token, keys.rendezvous(), slot, identity.clone()).unwrap();
        Self {
            client,
            keys,
            identity,
            slot,
        }
    }

    async fn publish(&self, seq: u64, text: &str) -> Result<u64, PublishError> {
        let sealed = self.keys.seal(self.slot, seq, text.as_bytes());
        self.client
            .publish(seq, sealed)
            .await
            .map(|published| published.seq)
    }

    fn watch(&self) -> (mpsc::Receiver<WatchEvent>, CancellationToken) {
        let (watch_tx, watch_rx) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let (client, stop) = (self.client.clone(), cancel.clone());
        tokio::spawn(async move { client.watch(watch_tx, stop).await });
        (watch_rx, cancel)
    }
}

async fn next(watch_rx: &mut mpsc::Receiver<WatchEvent>) -> WatchEvent {
    timeout(PATIENCE, watch_rx.recv())
        .await
        .expect("nothing came")
        .expect("the watch ended")
}

async fn until_ready(watch_rx: &mut mpsc::Receiver<WatchEvent>) -> Option<u64> {
    loop {
        if let WatchEvent::Ready { own_seq } = next(watch_rx).await {
            return own_seq;
        }
    }
}

/// Sends a request as it is and returns the answer, read until the server closes.
async fn raw(http: SocketAddr, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

#[tokio::test]
async fn what_one_publishes_the_other_is_told_and_can_open() {
    let running = Running::start(&[]);
    let server = Participant::new(&running.url(), None, true);
    let client = Participant::new(&running.url(), None, false);
    let (mut watch_rx, _cancel) = server.watch();
    assert_eq!(next(&mut watch_rx).await, WatchEvent::Connected);
    assert_eq!(
        next(&mut watch_rx).await,
        WatchEvent::Ready { own_seq: None }
    );

    assert_eq!(client.publish(1, "here I am").await, Ok(1));
    let WatchEvent::Slot(state) = next(&mut watch_rx).await else {
        panic!("not a slot")
    };
    assert_eq!(
        (state.slot, state.key),
        (client.slot, client.identity.public_key())
    );
    assert_eq!(
        server
            .keys
            .open(state.slot, state.seq, &state.payload)
            .unwrap(),
        b"here I am"
    );

    assert_eq!(client.client.slots().await.unwrap().len(), 1);
    client.client.remove(1).await.unwrap();
    let rendezvous = server.keys.rendezvous();
    let removal = SlotRemove::sign(&client.identity, rendezvous, client.slot, 1);
    assert_eq!(
        next(&mut watch_rx).await,
        WatchEvent::Removed {
            slot: client.slot,
            removal: Some(removal)
        }
    );
    client
        .client
        .remove(1)
        .await
        .expect("what is gone is removed");
    running.stop().await;
}

#[tokio::test]
async fn a_stale_write_learns_the_current_sequence() {
    let running = Running::start(&[]);
    let server = Participant::new(&running.url(), None, true);
    server.publish(41, "x").await.unwrap();
    assert_eq!(
        server.publish(3, "y").await,
        Err(PublishError::Stale { current_seq: 41 })
    );
    assert_eq!(server.publish(42, "y").await, Ok(42));
    running.stop().await;
}

#[tokio::test]
async fn a_second_server_is_refused_with_the_key_and_age_of_the_first() {
    let running = Running::start(&[]);
    let first = Participant::new(&running.url(), None, true);
    let second = Participant::new(&running.url(), None, true);
    first.publish(1, "first").await.unwrap();
    let refused = second.publish(1, "second").await.unwrap_err();
    let PublishError::Taken { key, age } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(key, first.identity.public_key());
    assert!(age < Duration::from_secs(5), "{age:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_lost_its_memory_is_told_again() {
    let running = Running::start(&[]);
    let listen = running.http.to_string();
    let server = Participant::new(&running.url(), None, true);
    server.publish(7, "here").await.unwrap();
    let (mut watch_rx, _cancel) = server.watch();
    assert_eq!(until_ready(&mut watch_rx).await, Some(7));

    running.stop().await;
    let WatchEvent::Disconnected { .. } = next(&mut watch_rx).await else {
        panic!("the watch goes on without a server")
    };
    let running = Running::start(&[("listen", &listen)]);
    let began = tokio::time::Instant::now();
    assert_eq!(
        until_ready(&mut watch_rx).await,
        None,
        "our slot is missing"
    );
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(server.publish(8, "here").await, Ok(8));
    running.stop().await;
}

#[tokio::test]
async fn a_redial_begins_with_a_snapshot() {
    let running = Running::start(&[]);
    let server = Participant::new(&running.url(), None, true);
    server.publish(5, "here").await.unwrap();
    let (mut watch_rx, _cancel) = server.watch();
    assert_eq!(until_ready(&mut watch_rx).await, Some(5));
    server.client.redial_handle().redial();
    assert!(matches!(
        next(&mut watch_rx).await,
        WatchEvent::Disconnected { .. }
    ));
    assert_eq!(until_ready(&mut watch_rx).await, Some(5));
    running.stop().await;
}

#[tokio::test]
async fn a_watch_ends_when_it_is_cancelled_even_without_a_server() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = Participant::new(&format!("http://{nobody}"), None, true);
    let (mut watch_rx, cancel) = server.watch();
    let WatchEvent::Disconnected { reason } = next(&mut watch_rx).await else {
        panic!()
    };
    assert!(
        reason.to_lowercase().contains("connection refused"),
        "{reason}"
    );
    cancel.cancel();
    let ended = async { while watch_rx.recv().await.is_some() {} };
    timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test]
async fn without_the_access_token_there_is_no_room_and_no_credential() {
    let running = Running::start(&[("access-token", "open-sesame")]);
    for token in [None, Some("open-sesam")] {
        let stranger = Participant::new(&running.url(), token, true);
        let unauthorized = RequestError::Unauthorized;
        assert_eq!(
            stranger.publish(1, "x").await,
            Err(unauthorized.clone().into())
        );
        assert_eq!(stranger.client.info().await, Err(unauthorized.clone()));
        assert_eq!(stranger.client.slots().await, Err(unauthorized));
        let (mut watch_rx, _cancel) = stranger.watch();
        let WatchEvent::Disconnected { reason } = next(&mut watch_rx).await else {
            panic!()
        };
        assert!(reason.contains("access token"), "{reason}");
    }
    let member = Participant::new(&running.url(), Some("open-sesame"), true);
    assert_eq!(member.publish(1, "x").await, Ok(1));
    assert_eq!(member.client.info().await.unwrap().turn.len(), 2);
    let health = raw(running.http, "GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(health.starts_with("HTTP/1.0 200"), "{health}");
    running.stop().await;
}

#[tokio::test]
async fn a_write_that_another_key_signed_is_forbidden() {
    let running = Running::start(&[]);
    let keys = RoomKeys::derive(&RoomId::new("a room of tests".to_owned()).unwrap());
    let other = SlotName::client(&Identity::generate().public_key());
    let forger = RoomClient::new(
        &running.url(),
        None,
        keys.rendezvous(),
        other,
        Identity::generate(),
    )
    .unwrap();
    let refused = forger.publish(1, vec![1, 2, 3]).await.unwrap_err();
    assert!(
        matches!(
            refused,
            PublishError::Request(RequestError::Rejected { status: 403, .. })
        ),
        "{refused:?}"
    );
    running.stop().await;
}

#[tokio::test]
async fn unknown_paths_methods_and_sizes_are_answered_in_json() {
    let running = Running::start(&[]);
    let room = "ab".repeat(32);
    let large = "x".repeat(30_000);
    for (request, status, code) in [
        (
            "GET /nowhere HTTP/1.0\r\n\r\n".to_owned(),
            "404",
            "not-found",
        ),
        (
            "POST /v1/info HTTP/1.0\r\n\r\n".to_owned(),
            "405",
            "method-not-allowed",
        ),
        (
            "GET /v1/rooms/xyz/slots HTTP/1.0\r\n\r\n".to_owned(),
            "400",
            "malformed",
        ),
        (
            "GET /v1/info?key=1 HTTP/1.0\r\n\r\n".to_owned(),
            "400",
            "malformed",
        ),
        (
            format!("PUT /v1/rooms/{room}/slots/server HTTP/1.0\r\ncontent-length: 2\r\n\r\n{{}}"),
            "400",
            "malformed",
        ),
        (
            format!("PUT /v1/rooms/{room}/slots/x HTTP/1.0\r\ncontent-length: 2\r\n\r\n{{}}"),
            "400",
            "malformed",
        ),
        (
            format!(
                "PUT /v1/rooms/{room}/slots/server HTTP/1.0\r\ncontent-length: 30000\r\n\r\n{large}"
            ),
            "413",
            "too-large",
        ),
    ] {
        let answer = raw(running.http, &request).await;
        let head = &request[..request.len().min(60)];
        assert!(
            answer.starts_with(&format!("HTTP/1.0 {status}")),
            "{head}: {answer}"
        );
        assert!(
            answer.contains(&format!(r#"{{"error":"{code}""#)),
            "{head}: {answer}"
        );
        assert!(
            answer
                .to_lowercase()
                .contains("x-content-type-options: nosniff"),
            "{answer}"
        );
    }
    running.stop().await;
}

#[tokio::test]
async fn the_first_bytes_of_a_watch_come_at_once() {
    let running = Running::start(&[]);
    let mut stream = tokio::net::TcpStream::connect(running.http).await.unwrap();
    let room = "cd".repeat(32);
    let request = format!("GET /v1/rooms/{room}/watch HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("event: ready") {
        let mut piece = [0; 1000];
        let len = timeout(PATIENCE, stream.read(&mut piece))
            .await
            .unwrap()
            .unwrap();
        assert_ne!(len, 0, "{answer}");
        answer.push_str(std::str::from_utf8(&piece[..len]).unwrap());
    }
    assert!(
        answer.contains("content-type: text/event-stream"),
        "{answer}"
    );
    running.stop().await;
}

#[tokio::test]
async fn info_names_the_host_that_the_client_used_when_all_addresses_are_served() {
    let running = Running::start(&[("stun", "0.0.0.0:0")]);
    let member = Participant::new(&running.url(), None, true);
    let info = member.client.info().await.unwrap();
    assert_eq!(info.stun.len(), 1);
    assert!(info.stun[0].starts_with("127.0.0.1:"), "{:?}", info.stun);
    assert_eq!(
        info.turn[0].url,
        format!("turn:{}?transport=udp", info.stun[0])
    );
    running.stop().await;
}

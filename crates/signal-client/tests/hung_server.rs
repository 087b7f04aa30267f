//! Servers that accept and then say nothing, in virtual time over loopback.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use signal_client::{
    Identity, PublishError, RendezvousId, RequestError, RoomClient, SlotName, WatchEvent,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Accepts for ever, answers each connection's first bytes with `answer`, and then holds the line in silence.
async fn silent_server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut lines = Vec::new();
        while let Ok((mut line, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = line.read(&mut request).await;
            line.write_all(answer.as_bytes()).await.unwrap();
            lines.push(line);
        }
    });
    url
}

fn client(url: &str) -> RoomClient {
    let identity = Identity::from_seed([1; 32]);
    RoomClient::new(
        url,
        None,
        RendezvousId([2; 32]),
        SlotName::server(),
        identity,
    )
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_hangs_ends_after_10_s() {
    let url = silent_server("").await;
    let began = Instant::now();
    let hung = client(&url).publish(1, vec![0; 50]).await.unwrap_err();
    let PublishError::Request(RequestError::Unreachable(reason)) = hung else {
        panic!("{hung:?}")
    };
    assert_eq!(
        reason.to_string(),
        "signaling is unreachable: no answer in time"
    );
    assert!(
        (9..=11).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_dialled_anew_after_25_s() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: hello\n\n";
    let client = client(&silent_server(head).await);
    let (watch_tx, mut watch_rx) = mpsc::channel(8);
    let cancel = CancellationToken::new();
    tokio::spawn(async move { client.watch(watch_tx, cancel).await });
    let began = Instant::now();
    for _ in 0..2 {
        assert_eq!(watch_rx.recv().await, Some(WatchEvent::Connected));
        let reason = "signaling fell silent".to_owned();
        assert_eq!(
            watch_rx.recv().await,
            Some(WatchEvent::Disconnected { reason })
        );
    }
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(50) && took < Duration::from_secs(53),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn something_else_that_answers_is_named_as_such() {
    let page = "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello";
    let refused = client(&silent_server(page).await).info().await.unwrap_err();
    let message = "this does not look like stunfwd-signaling".to_owned();
    assert_eq!(
        refused,
        RequestError::Rejected {
            status: 404,
            message
        }
    );
}

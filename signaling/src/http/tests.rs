//! The API in virtual time, without sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use futures_util::StreamExt;
use signal_client::{ErrorBody, ErrorCode, Identity, RendezvousId, SlotName, SlotWrite, SlotsBody};
use tokio::time::advance;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::router::ConnectionAddr;
use super::{Advertised, ApiState, RoomService, build_router};
use crate::rooms::{EXPIRE_AFTER, RoomLimits, TAKE_OVER_AFTER};

const ROOM: RendezvousId = RendezvousId([1; 32]);

struct Api {
    router: Router,
    shutdown: CancellationToken,
}

impl Api {
    fn new() -> Self {
        let rooms = RoomService::new(RoomLimits::default());
        let shutdown = CancellationToken::new();
        let advertised = Advertised {
            stun: vec![],
            external_ip: None,
            relays: None,
        };
        let state = ApiState::new(Arc::clone(&rooms), advertised, None, shutdown.clone());
        let expiry = shutdown.clone();
        tokio::spawn(async move { rooms.run_expiry(expiry).await });
        Self {
            router: build_router(state),
            shutdown,
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Body) -> axum::response::Response {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(body)
            .unwrap();
        let from = SocketAddr::from(([192, 0, 2, 1], 40000));
        request.extensions_mut().insert(ConnectionAddr(from));
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn put_server(&self, identity: &Identity, seq: u64) -> (StatusCode, Option<ErrorBody>) {
        let write = SlotWrite::sign(identity, ROOM, SlotName::server(), seq, vec![1, 2, 3]);
        let body = Body::from(serde_json::to_vec(&write).unwrap());
        let answer = self
            .ask(Method::PUT, &format!("/v1/rooms/{ROOM}/slots/server"), body)
            .await;
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).ok())
    }

    async fn slots(&self) -> usize {
        let path = format!("/v1/rooms/{ROOM}/slots");
        let answer = self.ask(Method::GET, &path, Body::empty()).await;
        let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
        serde_json::from_slice::<SlotsBody>(&body)
            .unwrap()
            .slots
            .len()
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_slot_is_taken_over_when_its_owner_has_been_gone_for_30_s() {
    let api = Api::new();
    let [first, second] = [1, 2].map(|seed| Identity::from_seed([seed; 32]));
    assert_eq!(api.put_server(&first, 9).await.0, StatusCode::OK);
    advance(TAKE_OVER_AFTER - Duration::from_secs(1)).await;
    let (status, body) = api.put_server(&second, 1).await;
    let body = body.unwrap();
    assert_eq!(
        (status, body.error),
        (StatusCode::CONFLICT, ErrorCode::Taken)
    );
    assert_eq!(
        (body.key, body.age_ms),
        (Some(first.public_key()), Some(29_000))
    );
    advance(Duration::from_secs(1)).await;
    assert_eq!(api.put_server(&second, 1).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn an_idle_room_expires_after_five_minutes() {
    let api = Api::new();
    let identity = Identity::from_seed([1; 32]);
    api.put_server(&identity, 1).await;
    tokio::time::sleep(EXPIRE_AFTER - Duration::from_secs(1)).await;
    assert_eq!(api.slots().await, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(api.slots().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_shows_every_10_s_that_it_lives_and_ends_with_the_server() {
    let api = Api::new();
    let path = format!("/v1/rooms/{ROOM}/watch");
    let answer = api.ask(Method::GET, &path, Body::empty()).await;
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    let mut pieces = answer.into_body().into_data_stream();
    let first = pieces.next().await.unwrap().unwrap();
    assert_eq!(&first[..], b": stunfwd\n\nevent: ready\ndata: {}\n\n");
    let began = tokio::time::Instant::now();
    let second = pieces.next().await.unwrap().unwrap();
    assert_eq!(
        (&second[..], began.elapsed()),
        (&b": keep-alive\n\n"[..], Duration::from_secs(10))
    );
    api.shutdown.cancel();
    assert!(pieces.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_too_often_is_told_how_long_to_wait() {
    let api = Api::new();
    let mut limited = None;
    for _ in 0..2000 {
        let answer = api.ask(Method::GET, "/healthz", Body::empty()).await;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            limited = Some(answer);
            break;
        }
    }
    assert_eq!(limited.unwrap().headers()["retry-after"], "1");
}

/// What `openapi.json` says, with its paths as a request of [`ROOM`] would have them.
fn described() -> serde_json::Value {
    serde_json::from_str(include_str!("../../openapi.json")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_description_for_programs_has_every_method_of_every_path_and_no_other() {
    let api = Api::new();
    let description = described();
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 5);
    for (path, operations) in paths {
        let concrete = path
            .replace("{room}", &ROOM.to_string())
            .replace("{slot}", "server");
        for method in [
            Method::GET,
            Method::PUT,
            Method::POST,
            Method::DELETE,
            Method::PATCH,
        ] {
            let name = method.as_str().to_ascii_lowercase();
            let is_described = operations.get(&name).is_some();
            let answer = api.ask(method, &concrete, Body::empty()).await;
            let status = answer.status();
            assert_eq!(
                status != StatusCode::METHOD_NOT_ALLOWED,
                is_described,
                "{name} {path}"
            );
            if is_described {
                let answers = &operations[&name]["responses"];
                assert!(
                    answers.get(status.as_str()).is_some(),
                    "{name} {path}: {status}"
                );
                assert_ne!(status, StatusCode::NOT_FOUND, "{name} {path}");
            }
        }
    }
}

#[test]
fn the_description_for_programs_knows_the_codes_and_explains_every_word() {
    let description = described();
    let codes = &description["components"]["schemas"]["Error"]["properties"]["error"]["enum"];
    let codes: Vec<ErrorCode> = serde_json::from_value(codes.clone()).unwrap();
    assert!(!codes.contains(&ErrorCode::Unknown), "{codes:?}");
    let mut values = vec![&description];
    let mut references = 0;
    while let Some(value) = values.pop() {
        if let Some(reference) = value.get("$ref").and_then(|it| it.as_str()) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(description.pointer(pointer).is_some(), "{reference}");
            references += 1;
        }
        let members = value.as_object().into_iter().flatten();
        values.extend(members.map(|(_, member)| member));
        values.extend(value.as_array().into_iter().flatten());
    }
    assert!(references > 30);
}

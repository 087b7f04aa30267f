//! One function per path and method.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use serde::Deserialize;
use signal_client::{
    ErrorCode, PAYLOAD_BYTES_MAX, PublicKey, PublishedBody, RendezvousId, SEQ_MAX, SlotName,
    SlotRemove, SlotState, SlotWrite, SlotsBody,
};

use super::answer::{self, Problem};
use super::router::{ApiState, Requester};
use super::watch_stream;
use crate::rooms::Write;

/// A full payload in base64 is 22 KiB; the rest of a write is 300 bytes.
const BODY_BYTES_MAX: usize = 24 * 1024;
/// How long a body may take to arrive: a full one on a line of 20 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

type Answer = Result<Response<Body>, Problem>;

/// Who watches, and whose credentials are asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Who {
    slot: Option<SlotName>,
    key: Option<PublicKey>,
}

pub(super) async fn health(State(state): State<Arc<ApiState>>) -> Response<Body> {
    let stats = state.rooms.stats();
    let body =
        serde_json::json!({ "status": "ok", "rooms": stats.rooms, "watchers": stats.watchers });
    answer::json(StatusCode::OK, &body)
}

pub(super) async fn info(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    who: Result<Query<Who>, QueryRejection>,
) -> Answer {
    let Query(who) = who.map_err(|_| malformed("`key` must be 64 hexadecimal digits"))?;
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    Ok(answer::json(
        StatusCode::OK,
        &state.advertised.info(host, who.key, unix_now()),
    ))
}

pub(super) async fn slots(State(state): State<Arc<ApiState>>, Path(room): Path<String>) -> Answer {
    let slots = state
        .rooms
        .snapshot(parse_room(&room)?)
        .iter()
        .map(SlotState::from)
        .collect();
    Ok(answer::json(StatusCode::OK, &SlotsBody { slots }))
}

pub(super) async fn publish(
    State(state): State<Arc<ApiState>>,
    Path((room, slot)): Path<(String, String)>,
    body: Body,
) -> Answer {
    let (room, slot) = (parse_room(&room)?, parse_slot(&slot)?);
    let write: SlotWrite = read_json(body).await?;
    if write.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(too_large());
    }
    if write.seq > SEQ_MAX {
        return Err(malformed("`seq` is above 2^53 - 1"));
    }
    if !write.verify(room, slot) {
        return Err(forbidden());
    }
    let SlotWrite {
        key,
        seq,
        payload,
        signature,
    } = write;
    Ok(
        match state.rooms.publish(
            room,
            slot,
            Write {
                key,
                seq,
                payload,
                signature,
            },
        ) {
            Ok(seq) => answer::json(StatusCode::OK, &PublishedBody { seq }),
            Err(refusal) => answer::refused(refusal),
        },
    )
}

pub(super) async fn remove(
    State(state): State<Arc<ApiState>>,
    Path((room, slot)): Path<(String, String)>,
    body: Body,
) -> Answer {
    let (room, slot) = (parse_room(&room)?, parse_slot(&slot)?);
    let removal: SlotRemove = read_json(body).await?;
    if !removal.verify(room, slot) {
        return Err(forbidden());
    }
    Ok(match state.rooms.remove(room, slot, removal) {
        Ok(()) => answer::json(StatusCode::OK, &serde_json::json!({})),
        Err(refusal) => answer::refused(refusal),
    })
}

pub(super) async fn watch(
    State(state): State<Arc<ApiState>>,
    Extension(Requester(address)): Extension<Requester>,
    Path(room): Path<String>,
    who: Result<Query<Who>, QueryRejection>,
) -> Answer {
    let room = parse_room(&room)?;
    let Query(who) = who.map_err(|_| malformed("`slot` or `key` is malformed"))?;
    Ok(
        match state.rooms.open_watch(room, address, who.slot.zip(who.key)) {
            Ok((watch, snapshot)) => watch_stream::answer(watch, &snapshot, state.shutdown.clone()),
            Err(refusal) => answer::refused(refusal),
        },
    )
}

pub(super) async fn not_found() -> Problem {
    problem(
        StatusCode::NOT_FOUND,
        ErrorCode::NotFound,
        "there is nothing at this path",
    )
}

pub(super) async fn method_not_allowed() -> Problem {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    problem(
        status,
        ErrorCode::MethodNotAllowed,
        "this path knows other methods",
    )
}

fn parse_room(room: &str) -> Result<RendezvousId, Problem> {
    room.parse()
        .map_err(|_| malformed("a room is named by 64 hexadecimal digits"))
}

fn parse_slot(slot: &str) -> Result<SlotName, Problem> {
    slot.parse()
        .map_err(|error: signal_client::SlotNameError| malformed(&error.to_string()))
}

/// Reads a body of bounded size in bounded time.
async fn read_json<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let bytes = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX))
        .await
        .map_err(|_| {
            let status = StatusCode::REQUEST_TIMEOUT;
            problem(status, ErrorCode::Timeout, "the body took too long")
        })?
        // The limit, or a broken connection that nobody answers any more.
        .map_err(|_| too_large())?;
    serde_json::from_slice(&bytes).map_err(|error| malformed(&error.to_string()))
}

fn problem(status: StatusCode, code: ErrorCode, message: &str) -> Problem {
    Problem {
        status,
        code,
        message: message.to_owned(),
    }
}

fn malformed(message: &str) -> Problem {
    problem(StatusCode::BAD_REQUEST, ErrorCode::Malformed, message)
}

fn forbidden() -> Problem {
    let message = "the signature does not verify, or the key may not own this slot";
    problem(StatusCode::FORBIDDEN, ErrorCode::Forbidden, message)
}

fn too_large() -> Problem {
    let message = format!("a payload is at most {PAYLOAD_BYTES_MAX} bytes");
    problem(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge, &message)
}

#[expect(
    clippy::disallowed_methods,
    reason = "credentials expire by the wall clock"
)]
fn unix_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

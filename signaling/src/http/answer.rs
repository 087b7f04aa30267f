//! Answers: JSON, never cached, with a code for programs and a sentence for people.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use signal_client::{ErrorBody, ErrorCode};

use crate::rooms::{Occupant, Refusal};

/// What a refused writer is told to wait when the server is full: nothing changes sooner.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Makes an answer of a value.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let (status, body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            br#"{"error":"internal"}"#.to_vec(),
        ),
    };
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    answer
}

/// Makes an answer that is not a success.
pub(crate) fn error(status: StatusCode, code: ErrorCode, message: &str) -> Response<Body> {
    json(
        status,
        &ErrorBody {
            error: code,
            message: message.to_owned(),
            seq: None,
            key: None,
            age_ms: None,
        },
    )
}

/// A request that is not what it should be.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        error(self.status, self.code, &self.message)
    }
}

/// Makes the answer to whoever asks too often.
pub(crate) fn limited(retry_after: Duration) -> Response<Body> {
    let code = (StatusCode::TOO_MANY_REQUESTS, ErrorCode::Limited);
    with_retry_after(
        error(code.0, code.1, "too many requests from your address"),
        retry_after,
    )
}

/// Makes the answer to a refused command.
pub(crate) fn refused(refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Stale(occupant) => {
            conflict(ErrorCode::Stale, "the slot has a higher sequence", occupant)
        }
        Refusal::Taken(occupant) => conflict(
            ErrorCode::Taken,
            "the slot belongs to another key",
            occupant,
        ),
        Refusal::NotFound => error(
            StatusCode::NOT_FOUND,
            ErrorCode::NotFound,
            "there is no such slot",
        ),
        Refusal::Full(full) => {
            let answer = error(
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Full,
                &full.to_string(),
            );
            with_retry_after(answer, FULL_RETRY_AFTER)
        }
    }
}

fn conflict(code: ErrorCode, message: &str, occupant: Occupant) -> Response<Body> {
    let Occupant { key, seq, age } = occupant;
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    json(
        StatusCode::CONFLICT,
        &ErrorBody {
            error: code,
            message: message.to_owned(),
            seq: Some(seq),
            key: Some(key),
            age_ms: Some(age_ms),
        },
    )
}

fn with_retry_after(mut answer: Response<Body>, retry_after: Duration) -> Response<Body> {
    let secs = retry_after.as_millis().div_ceil(1000).max(1);
    if let Ok(value) = HeaderValue::from_str(&secs.to_string()) {
        answer.headers_mut().insert(header::RETRY_AFTER, value);
    }
    answer
}

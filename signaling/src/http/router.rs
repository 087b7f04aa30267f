//! Paths, and what every request passes before its handler.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::{get, put};
use mapping_core::Secret;
use signal_client::ErrorCode;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use super::rate_limit::RequestLimiter;
use super::{Advertised, RoomService, answer, handlers};
use crate::address_class::AddressClass;

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct ApiState {
    pub(crate) rooms: Arc<RoomService>,
    pub(crate) advertised: Advertised,
    pub(crate) access_token: Option<Secret>,
    pub(crate) limiter: RequestLimiter,
    pub(crate) shutdown: CancellationToken,
}

impl ApiState {
    pub(crate) fn new(
        rooms: Arc<RoomService>,
        advertised: Advertised,
        access_token: Option<Secret>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let limiter = RequestLimiter::new();
        Arc::new(Self {
            rooms,
            advertised,
            access_token,
            limiter,
            shutdown,
        })
    }
}

/// The address of the TCP connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionAddr(pub(crate) SocketAddr);

/// The stranger that a request counts for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requester(pub(super) AddressClass);

/// Makes the service of all paths. Requests carry their [`ConnectionAddr`] as an extension.
pub(crate) fn build_router(state: Arc<ApiState>) -> Router {
    let guarded = Router::new()
        .route("/v1/info", get(handlers::info))
        .route("/v1/rooms/{room}/slots", get(handlers::slots))
        .route(
            "/v1/rooms/{room}/slots/{slot}",
            put(handlers::publish).delete(handlers::remove),
        )
        .route("/v1/rooms/{room}/watch", get(handlers::watch))
        .route_layer(from_fn_with_state(Arc::clone(&state), check_token));
    Router::new()
        .merge(guarded)
        .route("/healthz", get(handlers::health))
        .fallback(handlers::not_found)
        .method_not_allowed_fallback(handlers::method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&state), check_rate))
        .layer(CatchPanicLayer::new())
        .with_state(state)
}

/// Counts the request for its address, and puts on every answer what all have in common.
async fn check_rate(
    State(state): State<Arc<ApiState>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let connection = request.extensions().get::<ConnectionAddr>();
    let Some(ConnectionAddr(connection)) = connection.copied() else {
        let code = (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal);
        return answer::error(code.0, code.1, "the connection has no address");
    };
    let address = AddressClass::of(requester_ip(connection.ip(), request.headers()));
    let mut answered = match state.limiter.check(address) {
        Ok(()) => {
            request.extensions_mut().insert(Requester(address));
            next.run(request).await
        }
        Err(retry_after) => answer::limited(retry_after),
    };
    let headers = answered.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answered
}

/// Keeps whoever lacks the access token, where there is one, off the rooms and the relay.
async fn check_token(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let Some(expected) = &state.access_token else {
        return next.run(request).await;
    };
    let bearer = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .map(|token| Secret::new(token.to_owned()));
    if bearer.as_ref() == Some(expected) {
        return next.run(request).await;
    }
    let message = "this server asks for an access token";
    let mut refused = answer::error(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message);
    refused
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refused
}

/// Returns the address that limits count for: that of the connection, or, where a reverse proxy on this
/// machine made it, the one that the proxy appended last.
fn requester_ip(connection: IpAddr, headers: &HeaderMap) -> IpAddr {
    let connection = connection.to_canonical();
    if !connection.is_loopback() {
        return connection;
    }
    headers
        .get_all("x-forwarded-for")
        .iter()
        .next_back()
        .and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok())
        .unwrap_or(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_on_this_machine_is_believed() {
        let mut headers = HeaderMap::new();
        headers.append(
            "x-forwarded-for",
            HeaderValue::from_static("203.0.113.9, 198.51.100.7"),
        );
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(requester_ip(ip("127.0.0.1"), &headers), ip("198.51.100.7"));
        assert_eq!(requester_ip(ip("192.0.2.1"), &headers), ip("192.0.2.1"));
        assert_eq!(requester_ip(ip("::1"), &HeaderMap::new()), ip("::1"));
    }
}

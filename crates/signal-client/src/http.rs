//! The signaling server's room API, as one participant uses it.

use std::net::IpAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use mapping_core::Secret;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::wire::{
    ErrorBody, ErrorCode, Info, PublishedBody, SEQ_MAX, SlotRemove, SlotWrite, SlotsBody,
};
use crate::{
    Identity, PublishError, Published, RendezvousId, RequestError, SignalError, SlotName,
    SlotState, SlotStore, Unreachable, WatchEvent, http_tls_config, watch,
};

/// How long a TCP and TLS handshake may take: two lost SYNs (1 s and 3 s) and a bit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a whole request may take, after which whoever waits for it had better try again.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sent bytes may stay unacknowledged before the kernel gives a connection up.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(8);
/// How often an HTTP/2 connection is asked for a sign of life, and how long that may take.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));
/// How long an idle connection is kept: shorter than a NAT's shortest TCP lifetime that matters.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// The longest answer to a simple request, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// The longest answer that lists a whole room, in bytes.
const ROOM_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long to wait when the server asks for patience and does not say how much.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// The most patience that a server can ask for: whoever waits adds to it and multiplies it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// A participant's connection to a room at a signaling server. Cheap to clone; all clones share one pool
/// of connections.
#[derive(Clone, Debug)]
pub struct RoomClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    base: String,
    headers: HeaderMap,
    direct: bool,
    rendezvous: RendezvousId,
    slot: SlotName,
    identity: Identity,
    /// Replaced as a whole when the connections in its pool are not to be trusted any more.
    http: RwLock<reqwest::Client>,
    redial: Arc<Notify>,
}

/// Makes the watch and every later request dial anew: after a change of network, or when signaling stays
/// silent while others answer.
#[derive(Clone, Debug)]
pub struct Redial {
    shared: Arc<Shared>,
}

impl Redial {
    /// Gives up all connections to signaling and dials at once. A request under way ends by its own timeout.
    pub fn redial(&self) {
        self.shared.renew_connections();
        self.shared.redial.notify_one();
    }
}

impl RoomClient {
    /// Makes a client; nothing is dialled yet.
    ///
    /// `url` is `http(s)://host[:port]`, with an optional path under which a reverse proxy serves the API.
    /// A proxy from the environment (`HTTPS_PROXY`…) is used for host names only: an address is reached
    /// directly.
    ///
    /// # Errors
    /// When the URL or the access token cannot be used.
    pub fn new(
        url: &str,
        access_token: Option<Secret>,
        rendezvous: RendezvousId,
        slot: SlotName,
        identity: Identity,
    ) -> Result<Self, SignalError> {
        let (base, direct) = parse_base(url)?;
        let mut headers = HeaderMap::new();
        if let Some(token) = access_token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .map_err(|_| SignalError::AccessToken)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = RwLock::new(build_http(&headers, direct)?);
        let redial = Arc::new(Notify::new());
        let shared = Shared {
            base,
            headers,
            direct,
            rendezvous,
            slot,
            identity,
            http,
            redial,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Returns a handle that makes this client dial anew.
    #[must_use]
    pub fn redial_handle(&self) -> Redial {
        Redial {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Returns the slot that this client writes.
    #[must_use]
    pub fn slot(&self) -> SlotName {
        self.shared.slot
    }

    /// Writes the own slot; `payload` is sealed for it and `seq`.
    ///
    /// # Errors
    /// See [`PublishError`]. It takes 10 s at most.
    pub async fn publish(&self, seq: u64, payload: Vec<u8>) -> Result<Published, PublishError> {
        let Shared {
            rendezvous,
            slot,
            ref identity,
            ..
        } = *self.shared;
        let write = SlotWrite::sign(identity, rendezvous, slot, seq, payload);
        let body = serde_json::to_vec(&write).expect("a write is always JSON");
        let answer = self
            .request(Method::PUT, &self.slot_path(), Some(body))
            .await?;
        let body = checked(answer, ANSWER_BYTES_MAX).await?;
        let published: PublishedBody = parse(&body)?;
        Ok(Published { seq: published.seq })
    }

    /// Removes the own slot. A slot that does not exist is a success.
    ///
    /// # Errors
    /// See [`PublishError`]. It takes 10 s at most.
    pub async fn remove(&self, seq: u64) -> Result<(), PublishError> {
        let Shared {
            rendezvous,
            slot,
            ref identity,
            ..
        } = *self.shared;
        let removal = SlotRemove::sign(identity, rendezvous, slot, seq);
        let body = serde_json::to_vec(&removal).expect("a removal is always JSON");
        let answer = self
            .request(Method::DELETE, &self.slot_path(), Some(body))
            .await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        checked(answer, ANSWER_BYTES_MAX).await.map(drop)
    }

    /// Asks what the server offers. TURN credentials are made for our key, so that newer ones can refresh
    /// an allocation that older ones made.
    ///
    /// # Errors
    /// See [`RequestError`]. It takes 10 s at most.
    pub async fn info(&self) -> Result<Info, RequestError> {
        let path = format!("/v1/info?key={}", self.shared.identity.public_key());
        let answer = self.request(Method::GET, &path, None).await?;
        parse(
            &checked(answer, ANSWER_BYTES_MAX)
                .await
                .map_err(only_request)?,
        )
    }

    /// Reads the whole room once. Slots whose signature does not verify are left out.
    ///
    /// # Errors
    /// See [`RequestError`]. It takes 10 s at most.
    pub async fn slots(&self) -> Result<Vec<SlotState>, RequestError> {
        let path = format!("/v1/rooms/{}/slots", self.shared.rendezvous);
        let answer = self.request(Method::GET, &path, None).await?;
        let body = checked(answer, ROOM_BYTES_MAX)
            .await
            .map_err(only_request)?;
        let mut slots = parse::<SlotsBody>(&body)?.slots;
        slots.retain(|slot| slot.verify(self.shared.rendezvous));
        Ok(slots)
    }

    /// Watches the room until `cancel` is cancelled or nobody receives any more: a snapshot, then every
    /// change. A connection that ends, or is silent for 25 s, is dialled anew for ever.
    pub async fn watch(&self, watch_tx: mpsc::Sender<WatchEvent>, cancel: CancellationToken) {
        watch::run_watch(self, watch_tx, cancel).await;
    }

    pub(crate) fn rendezvous(&self) -> RendezvousId {
        self.shared.rendezvous
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    pub(crate) fn redial_requested(&self) -> &Notify {
        &self.shared.redial
    }

    pub(crate) fn renew_connections(&self) {
        self.shared.renew_connections();
    }

    /// Opens the event stream; the timeout covers the head of the answer alone.
    pub(crate) async fn open_watch(&self) -> Result<Response, RequestError> {
        let Shared {
            rendezvous,
            slot,
            ref identity,
            ref base,
            ..
        } = *self.shared;
        let key = identity.public_key();
        let url = format!("{base}/v1/rooms/{rendezvous}/watch?slot={slot}&key={key}");
        let request = self
            .shared
            .http()
            .get(url)
            .header("accept", "text/event-stream");
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, request.send())
            .await
            .map_err(|_| Unreachable {
                reason: "no answer within 10 s".to_owned(),
            })?
            .map_err(|error| unreachable_because(&error))?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        Err(only_request(refusal(answer).await))
    }

    fn slot_path(&self) -> String {
        format!(
            "/v1/rooms/{}/slots/{}",
            self.shared.rendezvous, self.shared.slot
        )
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response, RequestError> {
        let url = format!("{}{path}", self.shared.base);
        let mut request = self
            .shared
            .http()
            .request(method, url)
            .timeout(REQUEST_TIMEOUT);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        request.send().await.map_err(|error| {
            // Whatever broke, the next attempt must not ride the same connection.
            self.shared.renew_connections();
            unreachable_because(&error).into()
        })
    }
}

impl SlotStore for RoomClient {
    async fn publish(&self, seq: u64, payload: Vec<u8>) -> Result<Published, PublishError> {
        Self::publish(self, seq, payload).await
    }

    async fn remove(&self, seq: u64) -> Result<(), PublishError> {
        Self::remove(self, seq).await
    }

    async fn info(&self) -> Result<Info, RequestError> {
        Self::info(self).await
    }

    async fn watch(&self, watch_tx: mpsc::Sender<WatchEvent>, cancel: CancellationToken) {
        Self::watch(self, watch_tx, cancel).await;
    }
}

impl Shared {
    fn http(&self) -> reqwest::Client {
        self.http
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn renew_connections(&self) {
        match build_http(&self.headers, self.direct) {
            Ok(renewed) => {
                *self
                    .http
                    .write()
                    .unwrap_or_else(std::sync::PoisonError::into_inner) = renewed;
            }
            Err(error) => debug!(%error, "keeping the old connections to signaling"),
        }
    }
}

/// Checks the URL and returns it without a trailing slash, and whether its host is an address.
fn parse_base(url: &str) -> Result<(String, bool), SignalError> {
    let wrong = |problem| SignalError::Url {
        url: url.to_owned(),
        problem,
    };
    let parsed =
        Url::parse(url).map_err(|_| wrong("not a URL; it looks like https://host:port"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(wrong("its scheme must be http or https"));
    }
    let Some(host) = parsed.host_str() else {
        return Err(wrong("it names no host"));
    };
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong("it must not hold a query or a fragment"));
    }
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .is_ok();
    let direct = address || host == "localhost";
    Ok((parsed.as_str().trim_end_matches('/').to_owned(), direct))
}

fn build_http(headers: &HeaderMap, direct: bool) -> Result<reqwest::Client, SignalError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(http_tls_config()?)
        .user_agent(concat!("stunfwd/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .tcp_keepalive(PING.0)
        .http2_keep_alive_interval(PING.0)
        .http2_keep_alive_timeout(PING.1)
        // The access token belongs to the host that the user named and to no other.
        .redirect(reqwest::redirect::Policy::none());
    #[cfg(any(target_os = "android", target_os = "linux"))]
    {
        builder = builder.tcp_user_timeout(UNACKNOWLEDGED_MAX);
    }
    if direct {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| SignalError::Tls {
        reason: explain(&error),
    })
}

/// Returns the body of a success, and everything else as an error.
async fn checked(answer: Response, bytes_max: usize) -> Result<Vec<u8>, PublishError> {
    if answer.status().is_success() {
        Ok(read_bounded(answer, bytes_max).await?)
    } else {
        Err(refusal(answer).await)
    }
}

async fn refusal(answer: Response) -> PublishError {
    let status = answer.status();
    let retry_after = retry_after(answer.headers());
    let body = read_bounded(answer, ANSWER_BYTES_MAX)
        .await
        .unwrap_or_default();
    let body: Option<ErrorBody> = serde_json::from_slice(&body).ok();
    judge_refusal(status, retry_after, body)
}

fn retry_after(headers: &HeaderMap) -> Duration {
    headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map_or(RETRY_AFTER_DEFAULT, Duration::from_secs)
        .min(RETRY_AFTER_MAX)
}

fn judge_refusal(
    status: StatusCode,
    retry_after: Duration,
    body: Option<ErrorBody>,
) -> PublishError {
    let code = body.as_ref().map(|body| body.error);
    match (status, body) {
        (
            StatusCode::CONFLICT,
            Some(ErrorBody {
                error: ErrorCode::Stale,
                seq: Some(current_seq),
                ..
            }),
            // No owner can write after the last sequence, and no store holds one above it.
        ) if current_seq < SEQ_MAX => PublishError::Stale { current_seq },
        (
            StatusCode::CONFLICT,
            Some(ErrorBody {
                key: Some(key),
                age_ms,
                ..
            }),
        ) => PublishError::Taken {
            key,
            age: Duration::from_millis(age_ms.unwrap_or(0)),
        },
        (StatusCode::UNAUTHORIZED, _) => RequestError::Unauthorized.into(),
        (StatusCode::TOO_MANY_REQUESTS, _) => RequestError::Limited { retry_after }.into(),
        (StatusCode::SERVICE_UNAVAILABLE, _) if code == Some(ErrorCode::Full) => {
            RequestError::Limited { retry_after }.into()
        }
        (status, None) if status.is_server_error() => RequestError::from(Unreachable {
            reason: format!("something answered {status}"),
        })
        .into(),
        (status, body) => {
            let stranger = if status.is_redirection() {
                "it sends us elsewhere, where the access token does not belong: name that place as the URL"
            } else {
                "this does not look like stunfwd-signaling"
            };
            let message = body.map_or_else(|| stranger.to_owned(), |body| body.message);
            RequestError::Rejected {
                status: status.as_u16(),
                message,
            }
            .into()
        }
    }
}

/// Narrows an error of a request that conflicts with nothing.
fn only_request(error: PublishError) -> RequestError {
    match error {
        PublishError::Request(error) => error,
        PublishError::Stale { .. } | PublishError::Taken { .. } => RequestError::Rejected {
            status: 409,
            message: error.to_string(),
        },
    }
}

async fn read_bounded(answer: Response, bytes_max: usize) -> Result<Vec<u8>, RequestError> {
    let mut body = Vec::new();
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| unreachable_because(&error))?;
        if body.len() + piece.len() > bytes_max {
            let reason = format!("its answer is above {bytes_max} bytes");
            return Err(Unreachable { reason }.into());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, RequestError> {
    serde_json::from_slice(body).map_err(|_| RequestError::Rejected {
        status: 200,
        message: "its answer is not what stunfwd-signaling says".to_owned(),
    })
}

pub(crate) fn unreachable_because(error: &reqwest::Error) -> Unreachable {
    Unreachable {
        reason: explain(error),
    }
}

/// Puts the innermost cause first in a person's words; the rest of the chain names our own URL again.
fn explain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str, token: Option<&str>) -> Result<RoomClient, SignalError> {
        RoomClient::new(
            url,
            token.map(|token| Secret::new(token.to_owned())),
            RendezvousId([0; 32]),
            SlotName::server(),
            Identity::from_seed([1; 32]),
        )
    }

    #[test]
    fn urls_of_signaling_servers_are_told_from_others() {
        for (url, base, direct) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", true),
            ("https://[2001:db8::1]/", "https://[2001:db8::1]", true),
            (
                "https://example.org/stunfwd/",
                "https://example.org/stunfwd",
                false,
            ),
        ] {
            assert_eq!(parse_base(url), Ok((base.to_owned(), direct)));
        }
        for (url, problem) in [
            ("example.org", "not a URL; it looks like https://host:port"),
            ("ftp://example.org", "its scheme must be http or https"),
            (
                "https://example.org/?a=b",
                "it must not hold a query or a fragment",
            ),
        ] {
            let expected = SignalError::Url {
                url: url.to_owned(),
                problem,
            };
            assert_eq!(client(url, None).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_server_cannot_ask_for_more_patience_than_a_minute() {
        let asked = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers)
        };
        assert_eq!(asked("7"), Duration::from_secs(7));
        assert_eq!(asked("18446744073709551615"), RETRY_AFTER_MAX);
        assert_eq!(asked("Fri, 31 Dec 1999 23:59:59 GMT"), RETRY_AFTER_DEFAULT);
    }

    #[test]
    fn a_sequence_that_leaves_no_next_one_is_no_stale_write() {
        let stale = |seq| {
            let body = ErrorBody {
                error: ErrorCode::Stale,
                message: String::new(),
                seq: Some(seq),
                key: None,
                age_ms: None,
            };
            judge_refusal(StatusCode::CONFLICT, RETRY_AFTER_DEFAULT, Some(body))
        };
        assert_eq!(
            stale(SEQ_MAX - 1),
            PublishError::Stale {
                current_seq: SEQ_MAX - 1
            }
        );
        for seq in [SEQ_MAX, u64::MAX] {
            assert!(matches!(
                stale(seq),
                PublishError::Request(RequestError::Rejected { status: 409, .. })
            ));
        }
    }

    #[test]
    fn a_redirect_is_refused_and_explained() {
        let refused = judge_refusal(StatusCode::MOVED_PERMANENTLY, RETRY_AFTER_DEFAULT, None);
        let text = refused.to_string();
        assert!(text.contains("301: it sends us elsewhere"), "{text}");
    }

    #[test]
    fn a_token_is_checked_and_never_printed() {
        assert_eq!(
            client("https://example.org", Some("a\nb")).unwrap_err(),
            SignalError::AccessToken
        );
        let made = client("https://example.org", Some("hunter2")).unwrap();
        assert!(!format!("{made:?}").contains("hunter2"));
    }
}

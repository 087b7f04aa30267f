//! The accept loop: how many connections, from whom, and how slow they may be.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::router::ConnectionAddr;
use crate::address_class::AddressClass;

/// Connections at once: every watcher and some more.
const CONNECTIONS_MAX: usize = 25_000;
/// Connections from one address: a watch and a request for each of the participants behind one NAT.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_200;
/// How long the head of a request may take, and how long a connection may idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long written bytes may stay unacknowledged: a watcher whose network is gone holds its slot no longer.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);
/// When a connection on which nothing is written is asked whether its other end still exists.
const TCP_KEEPALIVE: Duration = Duration::from_secs(20);
/// How long to wait after the system refused to accept: it is out of descriptors, and asking again at once
/// only burns a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests under way may take when the process is to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves HTTP until cancelled.
pub(crate) async fn run_http(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let open = Arc::new(OpenConnections::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = OpenConnections::take_place(&open, AddressClass::of(remote.ip())) else {
            debug!(%remote, "too many connections: one more is closed");
            continue;
        };
        if let Err(error) = prepare(&stream) {
            debug!(%remote, %error, "cannot prepare an HTTP connection");
        }
        serve(stream, remote, router.clone(), &graceful, place);
    }
    drop(listener);
    if tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        debug!("some HTTP connections did not end in time");
    }
}

fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    router: Router,
    graceful: &GracefulShutdown,
    place: Place,
) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectionAddr(remote));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(
                router
                    .oneshot(request)
                    .await
                    .unwrap_or_else(|never| match never {}),
            )
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%remote, %error, "an HTTP connection ended");
        }
        drop(place);
    });
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}

/// How many connections there are, in all and by address.
#[derive(Debug, Default)]
struct OpenConnections {
    by_address: Mutex<(usize, BTreeMap<AddressClass, usize>)>,
}

/// One of the places; given back when it is dropped.
#[derive(Debug)]
struct Place {
    open: Arc<OpenConnections>,
    address: AddressClass,
}

impl OpenConnections {
    fn take_place(open: &Arc<Self>, address: AddressClass) -> Option<Place> {
        let mut guard = open
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *guard;
        let of_address = by_address.get(&address).copied().unwrap_or(0);
        if *all >= CONNECTIONS_MAX || of_address >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        *all += 1;
        by_address.insert(address, of_address + 1);
        drop(guard);
        Some(Place {
            open: Arc::clone(open),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guard = self
            .open
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *guard;
        *all = all.saturating_sub(1);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_address_and_given_back() {
        let open = Arc::new(OpenConnections::default());
        let [one, other] = [1, 2].map(|last| AddressClass::of([192, 0, 2, last].into()));
        let take = |address| OpenConnections::take_place(&open, address);
        let places: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX)
            .map(|_| take(one))
            .collect();
        assert!(places.iter().all(Option::is_some));
        assert!(take(one).is_none());
        assert!(take(other).is_some());
        drop(places);
        assert!(take(one).is_some());
        assert!(
            open.by_address.lock().unwrap().1.is_empty(),
            "nothing is remembered of the quiet"
        );
    }
}

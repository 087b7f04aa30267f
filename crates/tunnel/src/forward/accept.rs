//! What becomes of an accepted connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::net::TcpStream;

use super::clock::{lock, now, sleep_until};
use super::ingress::Inner;
use super::listeners::Port;
use super::local;
use super::peer::Peer;
use super::shared_flow::SharedFlow;
use super::stats::Meter;
use super::supervise::Outcome;
use crate::flow::{Flow, OpenRequest, ResetCode};

/// Forwards the connection to a peer, or resets it when there is none in time.
///
/// A peer instance that goes for good before it said anything of the connection may have been dead when the
/// connection came: the next one is asked for what is left of the time.
pub(super) async fn serve(inner: Arc<Inner>, port: Arc<Port>, socket: TcpStream, from: SocketAddr) {
    let answer_by = now() + inner.config.path_wait;
    let meter = Meter::new(Arc::clone(&port.counters), Arc::clone(&inner.tcp));
    if inner.tcp.connections.load(Ordering::Relaxed) as usize + inner.udp_flows()
        > inner.connections_max()
    {
        inner.refuse_for_limit();
        return local::reset_on_drop(&socket);
    }
    let request = |table_version| OpenRequest {
        table_version,
        mapping: port.mapping,
        port_offset: port.offset,
        local_peer: Some(from),
    };
    let (mut peer, version) = tokio::select! {
        _ = given_up(&port, answer_by) => return local::reset_on_drop(&socket),
        found = agreed_peer(&inner, port.mapping) => found,
    };
    let mut id = lock(&peer.table).next_id();
    let flow = Flow::open(inner.flow_config(), id, request(version), now());
    let flow = SharedFlow::new(flow);
    local::spawn(Arc::clone(&flow), socket, meter);
    loop {
        let (mapping, closed) = (Some(port.mapping), port.closed.clone());
        let supervision = peer.supervise(&flow, id, mapping, Some(answer_by), closed);
        // A peer that is gone is kept by nobody who waits for the next.
        drop(peer);
        if supervision.await == Outcome::Over {
            return;
        }
        let version;
        (peer, version) = tokio::select! {
            () = flow.aborted() => return,
            code = given_up(&port, answer_by) => return flow.with(|flow, now| flow.reset(code, now)),
            found = agreed_peer(&inner, port.mapping) => found,
        };
        id = lock(&peer.table).next_id();
        let config = inner.flow_config();
        flow.with(|flow, now| flow.reopen(config, id, request(version), now));
    }
}

/// Waits until the connection need not wait for a peer any longer, and returns why.
async fn given_up(port: &Port, answer_by: Instant) -> ResetCode {
    tokio::select! {
        () = port.closed.cancelled() => ResetCode::Removed,
        () = sleep_until(Some(answer_by)) => ResetCode::NoPeer,
    }
}

/// Waits for a peer that has accepted the mapping.
async fn agreed_peer(inner: &Inner, mapping: u32) -> (Arc<Peer>, u64) {
    let mut peers = inner.peer.subscribe();
    loop {
        let peer = peers.borrow_and_update().clone();
        let Some(peer) = peer else {
            if peers.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            continue;
        };
        let mut agreed = peer.agreed.subscribe();
        loop {
            let version = agreed.borrow_and_update().version_for(mapping);
            if let Some(version) = version {
                return (peer, version);
            }
            tokio::select! {
                _ = agreed.changed() => {}
                _ = peers.changed() => break,
            }
        }
    }
}

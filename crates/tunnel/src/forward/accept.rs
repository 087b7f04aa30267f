//! What becomes of an accepted connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::TcpStream;

use super::clock::{lock, now};
use super::ingress::Inner;
use super::listeners::Port;
use super::local;
use super::peer::Peer;
use super::shared::SharedFlow;
use super::stats::Meter;
use crate::flow::{Flow, OpenRequest};

/// Finds a peer for the connection, or resets it.
pub(super) async fn serve(inner: Arc<Inner>, port: Arc<Port>, socket: TcpStream, from: SocketAddr) {
    let answer_by = now() + inner.config.path_wait;
    let meter = Meter::new(Arc::clone(&port.counters), Arc::clone(&inner.tcp));
    if inner.tcp.connections.load(Ordering::Relaxed) as usize + inner.udp_flows()
        > inner.connections_max()
    {
        inner.refuse_for_limit();
        return local::reset_on_drop(&socket);
    }
    let (peer, table_version) = tokio::select! {
        () = port.closed.cancelled() => return local::reset_on_drop(&socket),
        () = tokio::time::sleep_until(answer_by.into()) => return local::reset_on_drop(&socket),
        found = agreed_peer(&inner, port.mapping) => found,
    };
    let request = OpenRequest {
        table_version,
        mapping: port.mapping,
        port_offset: port.offset,
        local_peer: Some(from),
    };
    let flow_config = inner.flow_config();
    let (id, flow) = {
        let mut table = lock(&peer.table);
        let id = table.next_id();
        let flow = SharedFlow::new(Flow::open(flow_config, id, request, now()));
        table.insert(id, Arc::clone(&flow));
        (id, flow)
    };
    peer.supervise(
        &flow,
        id,
        Some(port.mapping),
        Some(answer_by),
        port.closed.clone(),
    );
    local::spawn(flow, socket, meter);
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

//! What tasks report to the loop.

use std::net::SocketAddr;

use bytes::Bytes;
use session::{InstanceId, PathId, RelayStreamId, SocketRequestId};
use tunnel::carrier::{Carrier, CarrierClosed, CarrierError, CarrierId, Notice, VirtualAddr};
use tunnel::forward::ForwardEvent;

/// Something that a task finished or noticed.
pub(super) enum Input {
    /// A dial ended.
    Dialled {
        path: PathId,
        /// Where, in the socket's terms: the path may have another route by now.
        address: VirtualAddr,
        result: Result<Carrier, CarrierError>,
    },
    /// The peer dialled, and proved that it knows the room.
    Accepted(Carrier),
    /// The peer says something about a carrier.
    Notice { carrier: CarrierId, notice: Notice },
    /// A carrier is gone.
    CarrierClosed {
        carrier: CarrierId,
        reason: CarrierClosed,
    },
    /// The forwarders report; `instance` names the peer on the egress side.
    Forward {
        instance: Option<InstanceId>,
        event: ForwardEvent,
    },
    /// A TCP connection to a relay is there.
    StreamOpened { stream: RelayStreamId },
    /// A TCP connection to a relay ended, or could not be made.
    StreamClosed {
        stream: RelayStreamId,
        reason: String,
    },
    /// Extra sockets are open: as many as the system gives of those that were wanted.
    SocketsOpened {
        request: SocketRequestId,
        wanted: u16,
        sockets: Vec<SocketAddr>,
    },
    /// A frame from a relay that is not a carrier's packet.
    StreamFrame { stream: RelayStreamId, frame: Bytes },
}

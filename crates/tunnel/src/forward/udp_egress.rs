//! UDP at the egress: datagrams to services, and their answers back.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mapping_core::Protocol;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::admission;
use super::clock::{lock, now};
use super::dial::{self, Refusal};
use super::egress::Inner;
use super::event::ForwardEvent;
use super::stats::Meter;
use super::udp_ingress::send_all;
use crate::carrier::Carrier;
use crate::flow::{FlowId, OpenRequest};

/// The largest UDP packet there can be.
const PACKET_MAX: usize = 65_536;
/// How many packets are taken before the others run.
const TURN_PACKETS: usize = 64;
/// How often idle flows are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// The sockets of open flows.
#[derive(Debug, Default)]
pub(super) struct UdpServices {
    services: Mutex<BTreeMap<FlowId, Arc<Service>>>,
}

#[derive(Debug)]
struct Service {
    sockets: Mutex<Sockets>,
    /// Wakes whoever reads the socket that was in use.
    moved: Notify,
    meter: Meter,
    closed: CancellationToken,
}

/// A socket for each address at which the service may be, until one has answered.
#[derive(Debug)]
struct Sockets {
    used: Arc<UdpSocket>,
    /// What is tried when nobody listens at the address of the one in use, in that order.
    others: VecDeque<UdpSocket>,
    /// The last payload, while there are others: it is sent again through the next.
    unanswered: Option<Bytes>,
}

impl Service {
    fn socket(&self) -> Arc<UdpSocket> {
        Arc::clone(&lock(&self.sockets).used)
    }

    fn send(&self, payload: &Bytes) -> io::Result<usize> {
        let mut sockets = lock(&self.sockets);
        if !sockets.others.is_empty() {
            sockets.unanswered = Some(payload.clone());
        }
        sockets.used.try_send(payload)
    }

    /// Nobody listens at the present address: goes on to the next one, unless this one has ever answered.
    fn refused(&self) {
        let mut sockets = lock(&self.sockets);
        let Some(next) = sockets.others.pop_front() else {
            return;
        };
        sockets.used = Arc::new(next);
        if let Some(payload) = sockets.unanswered.take() {
            let _ = sockets.used.try_send(&payload);
        }
        self.moved.notify_one();
    }

    /// The service is here: a socket elsewhere would be a file for nothing.
    fn note_answer(&self) {
        let mut sockets = lock(&self.sockets);
        if !sockets.others.is_empty() {
            sockets.others = VecDeque::new();
            sockets.unanswered = None;
        }
    }
}

impl UdpServices {
    fn get(&self, flow: FlowId) -> Option<Arc<Service>> {
        lock(&self.services).get(&flow).cloned()
    }

    fn insert(&self, flow: FlowId, service: Arc<Service>) {
        lock(&self.services).insert(flow, service);
    }

    pub(super) fn close(&self, flow: FlowId) {
        if let Some(service) = lock(&self.services).remove(&flow) {
            service.closed.cancel();
        }
    }
}

/// Reads a carrier's datagrams until it ends: also those of a carrier that is no longer preferred.
pub(super) async fn receive(inner: Arc<Inner>, carrier: Carrier) {
    loop {
        let datagram = tokio::select! {
            () = inner.gone.cancelled() => return,
            datagram = carrier.read_datagram() => datagram,
        };
        let Ok(datagram) = datagram else { return };
        handle(&inner, &carrier, datagram);
    }
}

fn handle(inner: &Arc<Inner>, carrier: &Carrier, datagram: Bytes) {
    let step = {
        let mut datagrams = lock(&inner.datagrams);
        let others = datagrams.len();
        let has_room = || {
            let room = lock(&inner.table).has_room(others);
            if !room {
                inner.refuse_for_limit();
            }
            room
        };
        datagrams.handle_datagram(datagram, has_room, now())
    };
    if let Some((flow, request)) = step.open {
        tokio::spawn(serve(Arc::clone(inner), flow, request));
    }
    if let Some((flow, payload)) = step.deliver {
        deliver(inner, inner.services.get(flow).as_deref(), &payload);
    }
    if let Some(reply) = step.reply {
        send(inner, Some(carrier.clone()), reply);
    }
}

fn deliver(inner: &Inner, service: Option<&Service>, payload: &Bytes) {
    let Some(service) = service else {
        return count_dropped(inner);
    };
    match service.send(payload) {
        Ok(_) => service.meter.count_in(payload.len()),
        Err(error) => {
            tracing::trace!(%error, "service did not take a packet");
            if is_passing(&error) {
                service.refused();
            }
            count_dropped(inner);
        }
    }
}

fn send(inner: &Inner, carrier: Option<Carrier>, datagram: Bytes) {
    if carrier.is_none_or(|carrier| carrier.send_datagram(datagram).is_err()) {
        count_dropped(inner);
    }
}

fn count_dropped(inner: &Inner) {
    inner.dropped_datagrams.fetch_add(1, Ordering::Relaxed);
}

/// Opens a flow's socket, and passes its service's packets on until it is closed.
async fn serve(inner: Arc<Inner>, flow: FlowId, request: OpenRequest) {
    let opened = tokio::select! {
        () = inner.gone.cancelled() => return,
        opened = connect(&inner, &request) => opened,
    };
    let sockets = match opened {
        Ok(sockets) => sockets,
        Err(Refusal { code, text }) => {
            let reply = lock(&inner.datagrams).refuse(flow, code, text.clone(), now());
            let mapping = request.mapping;
            inner.events.tell(ForwardEvent::FlowRefused {
                mapping,
                reason: text,
            });
            if let Some(reply) = reply {
                send(&inner, inner.carriers.current(), reply);
            }
            return;
        }
    };
    let meter = Meter::new(inner.counters_of(request.mapping), Arc::clone(&inner.udp));
    let service = Arc::new(Service {
        sockets: Mutex::new(sockets),
        moved: Notify::new(),
        meter,
        closed: inner.gone.child_token(),
    });
    inner.services.insert(flow, Arc::clone(&service));
    let (waiting, reply) = lock(&inner.datagrams).opened(flow);
    if let Some(reply) = reply {
        send(&inner, inner.carriers.current(), reply);
    } else {
        // It was idle for so long that it is forgotten.
        return inner.services.close(flow);
    }
    for payload in waiting {
        deliver(&inner, Some(&service), &payload);
    }
    tokio::select! {
        () = service.closed.cancelled() => {}
        error = pass_on(&inner, flow, &service) => {
            tracing::debug!(?flow, %error, "service socket failed");
            lock(&inner.datagrams).forget(flow);
        }
    }
    inner.services.close(flow);
}

/// Makes a socket for each address at which the service may be: which of them has it is not known before
/// it answers, or the system says that nobody listens there.
async fn connect(inner: &Inner, request: &OpenRequest) -> Result<Sockets, Refusal> {
    let addresses = admission::admit(inner, request, Protocol::Udp).await?;
    let (first, others) = dial::connect_udp(&addresses).await?;
    for socket in std::iter::once(&first).chain(&others) {
        // Until the reactor has seen it, a new socket says that it would block, and the first packet is lost.
        let _ = socket.writable().await;
    }
    Ok(Sockets {
        used: Arc::new(first),
        others,
        unanswered: None,
    })
}

/// Reads the service until the socket fails.
async fn pass_on(inner: &Inner, flow: FlowId, service: &Service) -> io::Error {
    let mut buffer = Vec::new();
    loop {
        let socket = service.socket();
        let ready = tokio::select! {
            () = service.moved.notified() => continue,
            ready = socket.ready(Interest::READABLE | Interest::ERROR) => ready,
        };
        match ready {
            Ok(ready) if ready.is_error() => {
                take_passing_error(&socket, service);
                if !ready.is_readable() {
                    continue;
                }
            }
            Ok(_) => {}
            Err(error) => return error,
        }
        // An idle flow holds no buffer.
        buffer.resize(PACKET_MAX, 0);
        let mut emptied = false;
        for _ in 0..TURN_PACKETS {
            match socket.try_recv(&mut buffer) {
                Ok(length) => {
                    service.note_answer();
                    answer(inner, flow, service, &buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    emptied = true;
                    break;
                }
                // Nobody listens there at the moment, which UDP applications live with.
                Err(error) if is_passing(&error) => {
                    service.refused();
                    break;
                }
                Err(error) => return error,
            }
        }
        if emptied {
            buffer = Vec::new();
        } else {
            tokio::task::yield_now().await;
        }
    }
}

/// An ICMP answer makes a socket that has nothing to read neither readable nor writable.
fn take_passing_error(socket: &UdpSocket, service: &Service) {
    let seen = || Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock));
    let _ = socket.try_io(Interest::ERROR, seen);
    if matches!(socket.take_error(), Ok(Some(error)) if is_passing(&error)) {
        service.refused();
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

fn answer(inner: &Inner, flow: FlowId, service: &Service, payload: &[u8]) {
    let Some(carrier) = inner.carriers.current() else {
        return count_dropped(inner);
    };
    let mut datagrams = lock(&inner.datagrams);
    let fragments = datagrams.send(flow, payload, carrier.max_datagram_size(), now());
    if fragments.is_some_and(|fragments| send_all(&carrier, fragments)) {
        service.meter.count_out(payload.len());
    } else {
        count_dropped(inner);
    }
}

/// Closes idle flows for as long as the peer is there.
pub(super) async fn sweep(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            () = inner.gone.cancelled() => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
        let idle = lock(&inner.datagrams).handle_timeout(now());
        for flow in idle {
            inner.services.close(flow);
        }
    }
}

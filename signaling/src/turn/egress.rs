//! Datagrams on their way out: glued together where the kernel takes several at once.
//!
//! A burst of a QUIC connection arrives glued and leaves glued, so that the relay asks the kernel twice for
//! some forty packets instead of eighty times.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use relay::server::Frame;

use super::udp_socket::UdpSocket;

/// The most bytes in one transmit: the largest UDP payload, which the kernel checks before it cuts.
const BYTES_MAX: usize = 65_000;

/// Datagrams to one destination that have not been sent yet.
#[derive(Debug, Default)]
pub(super) struct Egress {
    target: Option<Target>,
    bytes: Vec<u8>,
    segment_size: usize,
    segments: usize,
    /// A segment shorter than the others ends a transmit.
    ended: bool,
    stats: EgressStats,
}

/// What became of the datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EgressStats {
    pub(super) sent: u64,
    pub(super) dropped: u64,
}

#[derive(Clone, Debug)]
struct Target {
    socket: Rc<UdpSocket>,
    from: IpAddr,
    destination: SocketAddr,
}

impl Egress {
    /// Adds a payload as it is.
    pub(super) fn push(
        &mut self,
        socket: &Rc<UdpSocket>,
        from: IpAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) {
        self.make_room(socket, from, destination, payload.len());
        self.bytes.extend_from_slice(payload);
        self.count(payload.len());
    }

    /// Adds a frame.
    pub(super) fn push_frame(
        &mut self,
        socket: &Rc<UdpSocket>,
        from: IpAddr,
        destination: SocketAddr,
        frame: &Frame<'_>,
    ) {
        self.make_room(socket, from, destination, frame.byte_len());
        frame.write_to(&mut self.bytes);
        self.count(frame.byte_len());
    }

    /// Sends what is there.
    pub(super) fn flush(&mut self) {
        if let Some(target) = self.target.take() {
            if self.segments == 1 {
                self.record(target.send(&self.bytes, None), 1);
            } else {
                let sent = target.send(&self.bytes, Some(self.segment_size));
                let refused =
                    matches!(&sent, Err(error) if error.kind() != io::ErrorKind::WouldBlock);
                if refused {
                    // A network card that cannot cut: the socket remembers, and these go one by one.
                    for segment in self.bytes.chunks(self.segment_size) {
                        let sent = target.send(segment, None);
                        count_outcome(&mut self.stats, &sent, 1);
                    }
                } else {
                    self.record(sent, self.segments);
                }
            }
        }
        self.bytes.clear();
        self.segments = 0;
        self.ended = false;
    }

    #[cfg(test)]
    pub(super) fn stats(&self) -> EgressStats {
        self.stats
    }

    fn make_room(
        &mut self,
        socket: &Rc<UdpSocket>,
        from: IpAddr,
        destination: SocketAddr,
        len: usize,
    ) {
        let fits = self.target.as_ref().is_some_and(|target| {
            Rc::ptr_eq(&target.socket, socket)
                && target.destination == destination
                && target.from == from
        }) && !self.ended
            && len > 0
            && len <= self.segment_size
            && self.segments < socket.segments_max()
            && self.bytes.len() + len <= BYTES_MAX;
        if !fits {
            self.flush();
            self.target = Some(Target {
                socket: Rc::clone(socket),
                from,
                destination,
            });
            self.segment_size = len;
        }
    }

    fn count(&mut self, len: usize) {
        self.segments += 1;
        self.ended = len < self.segment_size;
    }

    fn record(&mut self, outcome: io::Result<()>, datagrams: usize) {
        count_outcome(&mut self.stats, &outcome, datagrams);
    }
}

impl Target {
    fn send(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        self.socket
            .send(self.from, self.destination, contents, segment_size)
    }
}

fn count_outcome(stats: &mut EgressStats, outcome: &io::Result<()>, datagrams: usize) {
    let datagrams = datagrams as u64;
    match outcome {
        Ok(()) => stats.sent += datagrams,
        Err(error) => {
            tracing::trace!(%error, datagrams, "datagrams dropped");
            stats.dropped += datagrams;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::open::bind_udp;
    use super::*;

    #[tokio::test]
    async fn a_burst_arrives_as_it_was_pushed() {
        let socket = |()| bind_udp("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let (to, other) = (socket(()), socket(()));
        let from = Rc::new(UdpSocket::new(socket(())).unwrap());
        let local: IpAddr = [127, 0, 0, 1].into();
        let mut egress = Egress::default();
        let sizes = [900, 900, 900, 400, 900, 901, 901, 1, 1, 0, 5];
        for (number, size) in (0u8..).zip(sizes) {
            egress.push(&from, local, to.local_addr().unwrap(), &vec![number; size]);
        }
        egress.push(&from, local, other.local_addr().unwrap(), b"other");
        egress.flush();
        assert_eq!(
            egress.stats(),
            EgressStats {
                sent: 12,
                dropped: 0
            }
        );
        for socket in [&to, &other] {
            socket.set_nonblocking(false).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
        }
        let mut buffer = [0; 2000];
        for (number, size) in (0u8..).zip(sizes) {
            let len = to.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], vec![number; size]);
        }
        let len = other.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"other");
    }
}

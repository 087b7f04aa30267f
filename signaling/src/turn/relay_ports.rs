//! The sockets of allocations.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use relay::server::RelayPort;
use tokio::task::AbortHandle;

use super::open::bind_udp;
use super::plane::{Plane, run_relay_port};
use super::udp_socket::UdpSocket;

/// Buffers of one relay port, which the kernel may cap: a burst of one peer.
const BUFFER_BYTES: usize = 1024 * 1024;

/// The open relay ports; the server's quota bounds how many there are.
#[derive(Debug, Default)]
pub(super) struct RelayPorts {
    open: RefCell<BTreeMap<RelayPort, OpenPort>>,
}

#[derive(Debug)]
struct OpenPort {
    socket: Rc<UdpSocket>,
    reader: AbortHandle,
}

impl RelayPorts {
    /// Opens a port and starts to read it.
    pub(super) fn open(&self, plane: &Rc<Plane>, port: RelayPort) -> io::Result<()> {
        let socket = bind_udp(port.local(), BUFFER_BYTES).and_then(UdpSocket::new)?;
        let socket = Rc::new(socket);
        let reader = run_relay_port(Rc::clone(plane), port, Rc::clone(&socket));
        let reader = tokio::task::spawn_local(reader).abort_handle();
        if let Some(before) = self
            .open
            .borrow_mut()
            .insert(port, OpenPort { socket, reader })
        {
            before.reader.abort();
        }
        Ok(())
    }

    /// Closes a port; its socket ends with its reader.
    pub(super) fn close(&self, port: RelayPort) {
        if let Some(open) = self.open.borrow_mut().remove(&port) {
            open.reader.abort();
        }
    }

    /// Returns the socket of a port.
    pub(super) fn socket(&self, port: RelayPort) -> Option<Rc<UdpSocket>> {
        self.open
            .borrow()
            .get(&port)
            .map(|open| Rc::clone(&open.socket))
    }
}

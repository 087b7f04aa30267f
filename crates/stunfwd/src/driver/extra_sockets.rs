//! Sockets for a birthday search: hundreds, for seconds, on the word of session.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use session::SocketRequestId;
use tracing::{debug, warn};

use super::Driver;
use super::input::Input;
use crate::clock::now;
use crate::open_files;

impl Driver {
    /// Opens as many as the system and its limit of open files allow, beside the data thread: 256 were seen to take 80 ms,
    /// in which no packet would be moved.
    pub(super) fn on_open_sockets(&self, request: SocketRequestId, ipv6: bool, count: u16) {
        let any = if ipv6 {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        };
        let room = open_files::extra_sockets_max().saturating_sub(self.socket.extra_sockets());
        let room = usize::from(count).min(room);
        let (socket, inputs_tx) = (self.socket.clone(), self.inputs_tx.clone());
        tokio::task::spawn_blocking(move || {
            let bind = || {
                let bound = socket.bind_extra(any);
                bound.inspect_err(|error| debug!(%error, "an extra socket was refused"))
            };
            let sockets = (0..room).map_while(|_| bind().ok()).collect();
            let _ = inputs_tx.blocking_send(Input::SocketsOpened {
                request,
                wanted: count,
                sockets,
            });
        });
    }

    pub(super) fn on_sockets_opened(
        &mut self,
        request: SocketRequestId,
        wanted: u16,
        sockets: Vec<SocketAddr>,
    ) {
        let opened = sockets.len();
        if opened < usize::from(wanted) && !self.sockets_short {
            self.sockets_short = true;
            warn!(
                "only {opened} of {wanted} sockets for finding a direct path could be opened: raise the limit of open files"
            );
        }
        debug!(opened, "extra sockets are open");
        self.node.sockets_opened(request, sockets, now());
    }

    pub(super) fn on_close_sockets(&mut self, sockets: &[SocketAddr]) {
        for local in sockets {
            self.socket.remove_socket(*local);
            // One that carried a path and failed is not wanted any more either.
            self.failed_sockets.remove(local);
        }
        debug!(closed = sockets.len(), "extra sockets are closed");
    }
}

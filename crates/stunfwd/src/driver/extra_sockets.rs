//! Sockets for a birthday search: hundreds, for seconds, on the word of session.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use session::SocketRequestId;
use tracing::{debug, warn};

use super::Driver;
use crate::clock::now;
use crate::open_files;

impl Driver {
    /// Opens as many as the system and its limit of open files allow. 256 take some milliseconds, and not one of them
    /// waits for anything.
    pub(super) fn on_open_sockets(&mut self, request: SocketRequestId, ipv6: bool, count: u16) {
        let any = if ipv6 {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        };
        let room = open_files::extra_sockets_max().saturating_sub(self.socket.extra_sockets());
        let wanted = usize::from(count).min(room);
        let mut opened = Vec::with_capacity(wanted);
        for _ in 0..wanted {
            match self.socket.bind_extra(any) {
                Ok(local) => opened.push(local),
                Err(error) => {
                    debug!(%error, "an extra socket was refused");
                    break;
                }
            }
        }
        if opened.len() < usize::from(count) && !self.sockets_short {
            self.sockets_short = true;
            warn!(
                "only {} of {count} sockets for finding a direct path could be opened: raise the limit of open files",
                opened.len()
            );
        }
        debug!(opened = opened.len(), "extra sockets are open");
        self.node.sockets_opened(request, opened, now());
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

//! What tests need that run the programs on this machine as it is: no lab, no privileges.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use tempfile::TempDir;

use crate::{lab::Host, process::Process, product::Signaling, tool};

/// This machine as a host, with a folder that lives as long as the test.
///
/// # Panics
/// When no folder can be made.
pub fn machine() -> (TempDir, Host) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let host = Host::local(folder.path());
    (folder, host)
}

/// A TCP and UDP port that nobody uses at the moment.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port can be opened");
        let port = listener.local_addr().expect("it has an address").port();
        if port < 65_000 && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port was found");
}

/// An address of this machine with a port that nobody uses at the moment.
pub fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// Starts signaling on ports of its own.
pub fn start_signaling<'a>(host: &'a Host, flags: &[&str]) -> Signaling<'a> {
    Signaling::start_with(host, &free_address(), &[&free_address()], flags)
}

/// A forwarded service.
#[derive(Debug)]
pub struct Forwarded {
    _service: Process,
    /// The rule that leads to it.
    pub spec: String,
    /// Where it is reached on the client's side.
    pub near: String,
    /// The port of the service beside the server, as text.
    pub far: String,
}

/// Starts a service of `lab-tool`, and makes a rule for it.
pub fn forward(host: &Host, protocol: &str, service: &str) -> Forwarded {
    let (near, far) = (free_port(), free_port());
    Forwarded {
        _service: tool::serve(host, service, &format!("127.0.0.1:{far}")),
        spec: format!("{protocol}:{near}:{far}"),
        near: format!("127.0.0.1:{near}"),
        far: far.to_string(),
    }
}

//! Finding the UPnP device that is our gateway (SSDP, UPnP Device Architecture 1.1 §1.3).
//!
//! The search is ours and not the library's, since the library believes whoever answers first: here only the gateway's own
//! address is heard.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::route::Gateway;

const PORT: u16 = 1900;
const MULTICAST: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// Answers are a few hundred bytes.
const ANSWER_MAX: usize = 1500;
/// UDP may lose the first one, and devices may ignore a second one that follows at once.
const AGAIN: Duration = Duration::from_millis(600);
/// What an IGD of either version and any make calls itself.
const TARGETS: [&str; 4] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Searches, and returns the gateway's answer as it came.
pub(crate) async fn search(gateway: &Gateway, wait: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((gateway.local, 0)).await.ok()?;
    // Routers are one hop away; some drop a search whose TTL is 1.
    socket.set_multicast_ttl_v4(2).ok()?;
    let end = Instant::now() + wait;
    loop {
        send(&socket, gateway).await;
        let again = end.min(Instant::now() + AGAIN);
        if let Ok(answer) = timeout_at(again, answer(&socket, gateway)).await {
            return answer;
        }
        if again == end {
            return None;
        }
    }
}

/// Asks the gateway itself, which host firewalls let answer, and everybody, since some devices hear nothing else.
async fn send(socket: &UdpSocket, gateway: &Gateway) {
    let mut destinations = vec![gateway.at(PORT)];
    if !gateway.address.is_loopback() {
        destinations.push((MULTICAST, PORT).into());
    }
    for destination in destinations {
        for target in TARGETS {
            let request = request(target);
            if let Err(error) = socket.send_to(request.as_bytes(), destination).await {
                tracing::trace!(%destination, %error, "an SSDP search could not be sent");
            }
        }
    }
}

fn request(target: &str) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {MULTICAST}:{PORT}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n"
    )
}

/// Waits for an answer of the gateway; `None` when the socket fails.
async fn answer(socket: &UdpSocket, gateway: &Gateway) -> Option<Vec<u8>> {
    let mut buffer = [0; ANSWER_MAX];
    // A closed port makes the socket report errors of what was sent: as many as were sent, at most.
    let mut errors = 0;
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) if is_gateway(&buffer[..len], from, gateway) => {
                return Some(buffer[..len].to_vec());
            }
            Ok((_, from)) => tracing::trace!(%from, "not the gateway's answer"),
            Err(error) => {
                errors += 1;
                if errors > 2 * TARGETS.len() {
                    tracing::debug!(%error, "the SSDP search failed");
                    return None;
                }
            }
        }
    }
}

/// Returns whether an answer is the gateway's, and that of a device that can forward ports.
fn is_gateway(bytes: &[u8], from: SocketAddr, gateway: &Gateway) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let mut lines = text.lines();
    from.ip() == gateway.address
        && lines.next().is_some_and(|line| line.contains("200"))
        && lines.any(|line| line.to_ascii_lowercase().starts_with("location:"))
        && [
            "InternetGatewayDevice:",
            "WANIPConnection:",
            "WANPPPConnection:",
        ]
        .iter()
        .any(|name| text.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_internet_gateway_at_the_gateways_address_is_heard() {
        let gateway = Gateway {
            address: [192, 168, 1, 1].into(),
            scope_id: 0,
            local: [192, 168, 1, 2].into(),
        };
        let from = |last| SocketAddr::from(([192, 168, 1, last], PORT));
        let answer = "HTTP/1.1 200 OK\r\nLocation: http://192.168.1.1:5000/d.xml\r\n\
                      ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";
        assert!(is_gateway(answer.as_bytes(), from(1), &gateway));
        assert!(!is_gateway(answer.as_bytes(), from(7), &gateway));
        let printer = answer.replace("InternetGatewayDevice", "Printer");
        assert!(!is_gateway(printer.as_bytes(), from(1), &gateway));
        let nowhere = answer.replace("Location", "Nowhere");
        assert!(!is_gateway(nowhere.as_bytes(), from(1), &gateway));
        assert!(!is_gateway(b"\xff\xfe", from(1), &gateway));
    }
}

//! A service worth forwarding: a web page over TCP and an echo over UDP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

/// A visitor that sends no request for this long is shown out.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// More than any browser's request without a body.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Where the service listens, on loopback.
#[derive(Clone, Copy, Debug)]
pub struct DemoService {
    /// The web page.
    pub tcp: SocketAddr,
    /// The echo.
    pub udp: SocketAddr,
}

impl DemoService {
    /// Opens both ports, any free ones, and serves in the background.
    ///
    /// # Errors
    ///
    /// When the system gives no port.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let service = Self {
            tcp: listener.local_addr()?,
            udp: socket.local_addr()?,
        };
        tokio::spawn(async move {
            while let Ok((visitor, _)) = listener.accept().await {
                tokio::spawn(serve_page(visitor));
            }
        });
        tokio::spawn(echo(socket));
        Ok(service)
    }
}

async fn serve_page(mut visitor: TcpStream) {
    let mut request = Vec::new();
    let read = async {
        let mut chunk = [0; 1024];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = visitor.read(&mut chunk).await?;
            if count == 0 || request.len() > REQUEST_BYTES_MAX {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            request.extend_from_slice(&chunk[..count]);
        }
        Ok(())
    };
    if !matches!(timeout(REQUEST_TIMEOUT, read).await, Ok(Ok(()))) {
        return;
    }
    let body = "Hello from the service behind stunfwd.\n";
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = visitor.write_all(answer.as_bytes()).await;
    let _ = visitor.shutdown().await;
}

async fn echo(socket: UdpSocket) {
    let mut buffer = vec![0; 65_536];
    while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
        let _ = socket.send_to(&buffer[..count], from).await;
    }
}

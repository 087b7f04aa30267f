//! All of stunfwd on one machine: signaling, a server, a client, and a small service to forward to.
//!
//!     cargo run --release -p stunfwd-examples --example demo            # stays up; try it with curl
//!     cargo run --release -p stunfwd-examples --example demo -- --once  # shows that it works, and ends
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use mapping_core::config::{ClientConfig, ServerConfig};
use signaling::{Settings, Signaling};
use stunfwd::control::ControlClient;
use stunfwd::status::{State, Status};
use stunfwd::{Client, RunOptions, Server};
use stunfwd_examples::demo_service::DemoService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Where the forwarded ports are wanted; any free port where these are taken.
const TCP_PORT: u16 = 18_080;
const UDP_PORT: u16 = 18_053;
/// How long the two ends may take to find each other on loopback before the demo calls it a failure.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let once = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--once") => true,
        Some(other) => bail!("unknown argument `{other}`; `--once` is the only one"),
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,stunfwd=info".into()))
        .init();
    let shutdown = CancellationToken::new();
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let demo = Demo::start(folder.path(), &shutdown).await?;
    let shown = demo.show().await;
    if shown.is_ok() && !once {
        println!(
            "\nIt stays up. In another terminal:  curl http://{}/",
            demo.tcp
        );
        println!("Stop it with Ctrl-C.");
        tokio::signal::ctrl_c()
            .await
            .context("waiting for Ctrl-C")?;
    }
    shutdown.cancel();
    demo.stopped().await;
    shown
}

struct Demo {
    control: std::path::PathBuf,
    tcp: SocketAddr,
    udp: SocketAddr,
    service: DemoService,
    tasks: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Demo {
    async fn start(folder: &Path, shutdown: &CancellationToken) -> anyhow::Result<Self> {
        let service = DemoService::start().await.context("the demo service")?;
        let mut settings = Settings::default();
        settings.flag("listen", "127.0.0.1:0");
        settings.flag("stun", "127.0.0.1:0");
        let signaling = Signaling::bind(settings.resolve()?).context("signaling")?;
        let url = format!("http://{}", signaling.http_addr());
        println!("signaling, STUN and TURN    {url}");
        println!(
            "demo service                http://{} and UDP {}",
            service.tcp, service.udp
        );

        let room: String = (0..8)
            .map(|_| format!("{:04x}", rand::random::<u16>()))
            .collect();
        let common = format!("roomId: demo-{room}\nsignalingUrl: {url}\n");
        let tcp = SocketAddr::from((Ipv4Addr::LOCALHOST, free_tcp_port()));
        let udp = SocketAddr::from((Ipv4Addr::LOCALHOST, free_udp_port()));
        let mappings = format!(
            "mappings: [\"tcp:{}:{}\", \"udp:{}:{}\"]\n",
            tcp.port(),
            service.tcp.port(),
            udp.port(),
            service.udp.port()
        );
        let server = ServerConfig::parse("server.yml".as_ref(), &common)?;
        let client = ClientConfig::parse("client.yml".as_ref(), &(common + &mappings))?;
        let options = |role: &str| RunOptions {
            config_file: folder.join(format!("{role}.yml")),
            control: Some(folder.join(format!("{role}.sock"))),
            state_dir: Some(folder.join(role)),
        };
        let (server_options, client_options) = (options("server"), options("client"));
        let control = folder.join("client.sock");
        let (one, two, three) = (shutdown.clone(), shutdown.clone(), shutdown.clone());
        let tasks = vec![
            tokio::spawn(async move { Ok(signaling.run(one).await?) }),
            tokio::spawn(async move { Ok(Server::run(server, server_options, two).await?) }),
            tokio::spawn(async move { Ok(Client::run(client, client_options, three).await?) }),
        ];
        Ok(Self {
            control,
            tcp,
            udp,
            service,
            tasks,
        })
    }

    /// Waits for the tunnel, and shows both mappings and the status.
    async fn show(&self) -> anyhow::Result<()> {
        timeout(CONNECT_TIMEOUT, self.connected())
            .await
            .context("the two ends did not find each other")??;
        println!(
            "\nforwarded TCP               {} -> {}",
            self.tcp, self.service.tcp
        );
        println!("    it says: {}", self.fetch_page().await?);
        println!(
            "forwarded UDP               {} -> {}",
            self.udp, self.service.udp
        );
        println!("    it echoes: {}", self.echo().await?);
        println!("\n{}", self.status().await?);
        Ok(())
    }

    async fn status(&self) -> anyhow::Result<Status> {
        let (status, _) = ControlClient::new(self.control.clone())
            .status()
            .await
            .context("the client's status")?;
        Ok(status)
    }

    async fn connected(&self) -> anyhow::Result<()> {
        loop {
            if let Some(ended) = self.tasks.iter().find(|task| task.is_finished()) {
                bail!("one of the programs ended early ({:?})", ended.id());
            }
            if self
                .status()
                .await
                .is_ok_and(|status| status.state == State::Connected)
            {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn fetch_page(&self) -> anyhow::Result<String> {
        let mut connection = tokio::net::TcpStream::connect(self.tcp).await?;
        connection
            .write_all(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n")
            .await?;
        let mut answer = String::new();
        timeout(CONNECT_TIMEOUT, connection.read_to_string(&mut answer))
            .await
            .context("no answer through the tunnel")??;
        let body = answer
            .split("\r\n\r\n")
            .nth(1)
            .context("no page in the answer")?;
        Ok(body.trim().to_owned())
    }

    /// UDP may lose a packet even here, so the question is asked a few times.
    async fn echo(&self) -> anyhow::Result<String> {
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(self.udp).await?;
        let mut buffer = [0; 64];
        for _ in 0..10 {
            socket.send(b"anybody there?").await?;
            if let Ok(received) = timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await {
                return Ok(String::from_utf8_lossy(&buffer[..received?]).into_owned());
            }
        }
        bail!("no echo through the tunnel")
    }

    async fn stopped(self) {
        for task in self.tasks {
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("stopped with an error: {error:#}"),
                Err(error) => eprintln!("a program panicked: {error}"),
            }
        }
    }
}

fn free_tcp_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, TCP_PORT))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    listener
        .and_then(|it| it.local_addr())
        .map_or(TCP_PORT, |address| address.port())
}

fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, UDP_PORT))
        .or_else(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
    socket
        .and_then(|it| it.local_addr())
        .map_or(UDP_PORT, |address| address.port())
}

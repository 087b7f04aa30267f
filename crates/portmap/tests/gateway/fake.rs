//! A gateway on loopback that does what a test wants: PCP and NAT-PMP at port 5351, an IGD behind SSDP and HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use portmap::Gateway;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How a gateway behaves.
#[derive(Clone, Debug)]
pub(crate) struct Nature {
    pub pcp: bool,
    pub nat_pmp: bool,
    pub upnp: bool,
    pub external_ip: Ipv4Addr,
    /// What it grants, whatever is asked for.
    pub lifetime_secs: u32,
    /// The result code of every PCP and NAT-PMP mapping request.
    pub result: u8,
    /// Error 725 to every lease.
    pub permanent_only: bool,
    /// External ports of somebody else's.
    pub taken: BTreeSet<u16>,
    /// A machine on the LAN that answers searches before the gateway does.
    pub stranger: Option<Ipv4Addr>,
    /// Where the IGD says that its description is; `None` is at its own address.
    pub location: Option<String>,
    /// It answers everything with bytes that mean nothing.
    pub garbage: bool,
    /// It knows no outside address yet, and says so to NAT-PMP.
    pub offline: bool,
    /// The IGD makes a mapping, and never gets round to saying so.
    pub adds_silently: bool,
}

impl Default for Nature {
    fn default() -> Self {
        Self {
            pcp: true,
            nat_pmp: true,
            upnp: true,
            external_ip: Ipv4Addr::new(203, 0, 113, 77),
            lifetime_secs: 7200,
            result: 0,
            permanent_only: false,
            taken: BTreeSet::new(),
            stranger: None,
            location: None,
            garbage: false,
            offline: false,
            adds_silently: false,
        }
    }
}

/// What speaks nothing, to be added to.
pub(crate) fn mute() -> Nature {
    Nature {
        pcp: false,
        nat_pmp: false,
        upnp: false,
        ..Nature::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Pcp([u8; 12]),
    NatPmp,
    Upnp { lifetime_secs: u32 },
}

#[derive(Debug)]
pub(crate) struct State {
    pub nature: Nature,
    /// External port to internal port.
    pub mappings: BTreeMap<u16, (u16, Owner)>,
    /// Every request in one word: `announce`, `pcp-map`, `pcp-delete`, `external-address`, `pmp-map`, `pmp-delete`, an action.
    pub requests: Vec<String>,
    started: Instant,
}

impl State {
    /// Loses everything, as a reboot does.
    pub(crate) fn reboot(&mut self) {
        self.mappings.clear();
        self.started = Instant::now();
    }

    pub(crate) fn count(&self, request: &str) -> usize {
        self.requests.iter().filter(|it| *it == request).count()
    }

    fn epoch(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap()
    }

    /// Finds a port: the wanted one, unless it is somebody else's.
    fn assign(&self, wanted: u16, internal: u16) -> u16 {
        let is_free = |port: &u16| {
            let owner = self.mappings.get(port).map(|(internal, _)| *internal);
            !self.nature.taken.contains(port) && owner.is_none_or(|owner| owner == internal)
        };
        let wanted = if wanted == 0 { internal } else { wanted };
        (wanted..u16::MAX).find(is_free).unwrap()
    }
}

/// A running fake. Its tasks end with it.
pub(crate) struct Fake {
    ip: Ipv4Addr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    /// Starts it at 127.77.`number`.1; each test has a number of its own.
    pub(crate) async fn start(number: u8, nature: Nature) -> Self {
        let ip = Ipv4Addr::new(127, 77, number, 1);
        let state = Arc::new(Mutex::new(State {
            nature,
            mappings: BTreeMap::new(),
            requests: Vec::new(),
            // A router that has been there for a while.
            started: Instant::now() - std::time::Duration::from_secs(1000),
        }));
        let mut tasks = JoinSet::new();
        let control = UdpSocket::bind((ip, 5351)).await.unwrap();
        tasks.spawn(serve_control(control, state.clone()));
        let http = TcpListener::bind((ip, 0)).await.unwrap();
        let search = UdpSocket::bind((ip, 1900)).await.unwrap();
        let location = format!("http://{}/root.xml", http.local_addr().unwrap());
        tasks.spawn(serve_search(search, location, state.clone()));
        tasks.spawn(serve_http(http, state.clone()));
        Self {
            ip,
            state,
            _tasks: tasks,
        }
    }

    pub(crate) fn gateway(&self) -> Gateway {
        Gateway {
            address: self.ip.into(),
            scope_id: 0,
            local: Ipv4Addr::LOCALHOST.into(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn serve_control(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 1100];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let answer = {
            let mut state = state.lock().unwrap();
            if state.nature.garbage {
                Some(vec![0xff; 1100])
            } else if buffer[0] == 2 {
                pcp(&mut state, &buffer[..len])
            } else {
                nat_pmp(&mut state, &buffer[..len])
            }
        };
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

fn pcp(state: &mut State, request: &[u8]) -> Option<Vec<u8>> {
    if !state.nature.pcp {
        // RFC 6886 §3.5: version 0, result 1.
        return (state.nature.nat_pmp).then(|| vec![0, 0x80 | request[1], 0, 1, 0, 0, 0, 9]);
    }
    let mut answer = request.to_vec();
    answer[1] |= 0x80;
    answer[8..24].fill(0);
    answer[8..12].copy_from_slice(&state.epoch().to_be_bytes());
    if request[1] == 0 {
        state.requests.push("announce".to_owned());
        return Some(answer);
    }
    let client = IpAddr::from(<[u8; 16]>::try_from(&request[8..24]).unwrap()).to_canonical();
    assert_eq!(client, IpAddr::from(Ipv4Addr::LOCALHOST));
    let nonce: [u8; 12] = request[24..36].try_into().unwrap();
    let [internal, wanted] = [40, 42].map(|at| u16::from_be_bytes([request[at], request[at + 1]]));
    let owner = Owner::Pcp(nonce);
    if request[4..8] == [0; 4] {
        state.requests.push("pcp-delete".to_owned());
        state
            .mappings
            .retain(|_, mapping| *mapping != (internal, owner));
        return Some(answer);
    }
    state.requests.push("pcp-map".to_owned());
    if state.nature.result != 0 {
        answer[3] = state.nature.result;
        return Some(answer);
    }
    let own = state
        .mappings
        .iter()
        .find(|(_, mapping)| **mapping == (internal, owner));
    let port = own
        .map(|(port, _)| *port)
        .unwrap_or_else(|| state.assign(wanted, internal));
    state.mappings.insert(port, (internal, owner));
    answer[4..8].copy_from_slice(&state.nature.lifetime_secs.to_be_bytes());
    answer[42..44].copy_from_slice(&port.to_be_bytes());
    answer[44..60].copy_from_slice(&state.nature.external_ip.to_ipv6_mapped().octets());
    Some(answer)
}

fn nat_pmp(state: &mut State, request: &[u8]) -> Option<Vec<u8>> {
    if !state.nature.nat_pmp {
        return None;
    }
    let mut answer = vec![0, 0x80 | request[1], 0, 0];
    answer.extend(state.epoch().to_be_bytes());
    if request[1] == 0 {
        state.requests.push("external-address".to_owned());
        if state.nature.offline {
            // RFC 6886 §3.5: network failure.
            answer[3] = 3;
            return Some(answer);
        }
        answer.extend(state.nature.external_ip.octets());
        return Some(answer);
    }
    let [internal, wanted] = [4, 6].map(|at| u16::from_be_bytes([request[at], request[at + 1]]));
    let deletes = request[8..12] == [0; 4];
    answer.extend(internal.to_be_bytes());
    if deletes {
        state.requests.push("pmp-delete".to_owned());
        state
            .mappings
            .retain(|_, mapping| *mapping != (internal, Owner::NatPmp));
        answer.extend([0; 6]);
        return Some(answer);
    }
    state.requests.push("pmp-map".to_owned());
    answer[3] = state.nature.result;
    let own = state
        .mappings
        .iter()
        .find(|(_, mapping)| **mapping == (internal, Owner::NatPmp));
    let port = own
        .map(|(port, _)| *port)
        .unwrap_or_else(|| state.assign(wanted, internal));
    if state.nature.result == 0 {
        state.mappings.insert(port, (internal, Owner::NatPmp));
    }
    answer.extend(port.to_be_bytes());
    answer.extend(state.nature.lifetime_secs.to_be_bytes());
    Some(answer)
}

async fn serve_search(socket: UdpSocket, location: String, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((_, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let nature = state.lock().unwrap().nature.clone();
        let answer = |location: &str| {
            format!(
                "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
                 LOCATION: {location}\r\n\r\n"
            )
        };
        if let Some(stranger) = nature.stranger {
            let other = UdpSocket::bind((stranger, 0)).await.unwrap();
            let elsewhere = answer("http://127.77.0.99:80/root.xml");
            other.send_to(elsewhere.as_bytes(), from).await.unwrap();
        }
        if nature.garbage {
            let _ = socket.send_to(&[0xff; 1400], from).await;
        } else if nature.upnp {
            let location = nature.location.as_ref().unwrap_or(&location);
            let _ = socket.send_to(answer(location).as_bytes(), from).await;
        }
    }
}

async fn serve_http(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let _ = answer_http(stream, &state).await;
        });
    }
}

async fn answer_http(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut more = [0; 4096];
        let len = stream.read(&mut more).await?;
        if len == 0 {
            return Ok(());
        }
        bytes.extend(&more[..len]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().unwrap())
        });
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let answer = if head.starts_with("GET /root.xml") {
        Ok(ROOT.to_owned())
    } else if head.starts_with("GET /wan.xml") {
        Ok(wan_xml())
    } else {
        soap(
            &mut state.lock().unwrap(),
            stream.peer_addr()?,
            &head,
            &body,
        )
    };
    if state.lock().unwrap().nature.adds_silently && head.contains("#AddPortMapping") {
        std::future::pending::<()>().await;
    }
    let (status, body) = match answer {
        Ok(body) => ("200 OK", body),
        Err(body) => ("500 Internal Server Error", body),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

fn soap(state: &mut State, from: SocketAddr, head: &str, body: &str) -> Result<String, String> {
    let value = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_owned())
    };
    let number = |name: &str| value(name).unwrap().parse::<u32>().unwrap();
    let port = |name: &str| u16::try_from(number(name)).unwrap();
    let action = [
        "GetExternalIPAddress",
        "AddPortMapping",
        "DeletePortMapping",
    ]
    .into_iter()
    .find(|action| head.contains(&format!("#{action}")))
    .unwrap();
    state.requests.push(action.to_owned());
    match action {
        "GetExternalIPAddress" => {
            let ip = state.nature.external_ip;
            Ok(envelope(
                action,
                &format!("<NewExternalIPAddress>{ip}</NewExternalIPAddress>"),
            ))
        }
        "AddPortMapping" => {
            assert_eq!(
                value("NewInternalClient"),
                Some("127.0.0.1".to_owned()),
                "{from}"
            );
            assert_eq!(value("NewProtocol").as_deref(), Some("UDP"));
            let lifetime_secs = number("NewLeaseDuration");
            let (external, internal) = (port("NewExternalPort"), port("NewInternalPort"));
            if state.nature.permanent_only && lifetime_secs != 0 {
                return Err(fault(725));
            }
            if state.nature.taken.contains(&external) {
                return Err(fault(718));
            }
            let owner = Owner::Upnp { lifetime_secs };
            state.mappings.insert(external, (internal, owner));
            Ok(envelope(action, ""))
        }
        _ => match state.mappings.remove(&port("NewExternalPort")) {
            Some(_) => Ok(envelope(action, "")),
            None => Err(fault(714)),
        },
    }
}

fn envelope(action: &str, inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
         <u:{action}Response xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">{inside}</u:{action}Response>\
         </s:Body></s:Envelope>"
    )
}

fn fault(code: u16) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><s:Fault>\
         <faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
         <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>{code}</errorCode>\
         <errorDescription>no</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>"
    )
}

const ROOT: &str = "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device>\
    <deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>\
    <deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>\
    <deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>\
    <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
    <serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><controlURL>/control</controlURL>\
    <eventSubURL>/events</eventSubURL><SCPDURL>/wan.xml</SCPDURL></service></serviceList>\
    </device></deviceList></device></deviceList></device></root>";

/// What the service can do.
fn wan_xml() -> String {
    let add = [
        "NewRemoteHost",
        "NewExternalPort",
        "NewProtocol",
        "NewInternalPort",
        "NewInternalClient",
        "NewEnabled",
        "NewPortMappingDescription",
        "NewLeaseDuration",
    ];
    let actions = [
        ("AddPortMapping", &add[..]),
        ("DeletePortMapping", &add[..3]),
        ("GetExternalIPAddress", &[]),
    ];
    let actions: String = actions
        .iter()
        .map(|(name, arguments)| {
            let arguments: String = arguments
                .iter()
                .map(|argument| {
                    format!("<argument><name>{argument}</name><direction>in</direction></argument>")
                })
                .collect();
            format!("<action><name>{name}</name><argumentList>{arguments}</argumentList></action>")
        })
        .collect();
    format!(
        "<?xml version=\"1.0\"?><scpd xmlns=\"urn:schemas-upnp-org:service-1-0\"><actionList>{actions}</actionList></scpd>"
    )
}

//! One scenario, tried: the real programs in a lab of their own, everything measured, nothing given up at the first fault.

use std::{
    any::Any,
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    time::Duration,
};

use natlab::Possible;
use serde_json::Value;

use super::{Scenario, truth::Truth};
use crate::{
    bed::{ECHO, Pair, START, UDP},
    gateway::{Miniupnpd, Side, Speaks},
    lab::{Home, Host, Lab},
    product::{Peer, Signaling, path_kind},
    tool, wait,
};

/// What is moved each way, at the same time.
const TRANSFER_BYTES: u64 = 4_000_000;

/// How long is waited for what is late already: a late fact says more than a missing one.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the first bytes may take over the relay while ports are still being guessed (issue 4).
pub const RELAY_START: Duration = Duration::from_secs(1);

/// How long classification may take. It is done when the filtering tests have been silent for as long as a lost answer
/// would need to be asked for again.
const CLASSIFIED: Duration = Duration::from_secs(20);

/// The longest lease of a router that opens ports: longer than any trial.
const LEASE_MAX_SECS: u32 = 7_200;

/// How much of each program's log is printed for a failed trial.
const LOG_TAIL_BYTES: usize = 6_000;

/// What one end said in the end.
#[derive(Debug, Clone, Default)]
pub struct EndFacts {
    /// Kind of its path.
    pub kind: Option<String>,
    /// What kind of candidate won.
    pub via: Option<String>,
    /// How the relay is reached, or `udp`.
    pub transport: Option<String>,
    /// When the path that it has in the end was chosen.
    pub path_at: Option<Duration>,
    /// Type of its NAT.
    pub nat: Option<String>,
    /// When it was seen to be classified right.
    pub nat_at: Option<Duration>,
}

/// What was measured in one scenario. Times are counted from the moment both programs have been started.
#[derive(Debug, Clone)]
pub struct Row {
    /// The scenario.
    pub scenario: Scenario,
    /// When the first byte came back over TCP.
    pub tcp: Option<Duration>,
    /// When the first datagram came back.
    pub udp: Option<Duration>,
    /// When both ends had the direct path, where there must be one.
    pub direct: Option<Duration>,
    /// How long both directions of the transfer took.
    pub transfer: Option<Duration>,
    /// The client, then the server.
    pub ends: [EndFacts; 2],
    /// What is not as it must be.
    pub faults: Vec<String>,
    /// Where the logs are, when there are faults.
    pub kept: Option<PathBuf>,
}

impl Row {
    const fn new(scenario: Scenario) -> Self {
        const NOTHING: EndFacts = EndFacts {
            kind: None,
            via: None,
            transport: None,
            path_at: None,
            nat: None,
            nat_at: None,
        };
        Self {
            scenario,
            tcp: None,
            udp: None,
            direct: None,
            transfer: None,
            ends: [NOTHING; 2],
            faults: Vec::new(),
            kept: None,
        }
    }

    /// Does a part of the trial; when it panics, that is a fault and the trial goes on.
    fn attempt<T>(&mut self, what: &str, body: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let done = panic::catch_unwind(AssertUnwindSafe(|| body(self)));
        done.map_err(|panic| self.faults.push(format!("{what}: {}", words(&*panic))))
            .ok()
    }

    fn within(&mut self, bound: Duration, what: &str, at: Option<Duration>) {
        match at {
            None => self.faults.push(format!("{what}: not in time")),
            Some(at) if at > bound => self
                .faults
                .push(format!("{what}: after {at:?}, above {bound:?}")),
            Some(_) => {}
        }
    }
}

/// How a trial is done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Capture everything that crosses the router in the middle; kept with the logs, fault or not.
    pub capture: bool,
}

/// Tries one scenario in a lab of its own; to be called inside [`lab::test`](crate::lab::test) or
/// [`lab::program`](crate::lab::program).
pub fn run(scenario: Scenario, options: Options) -> Row {
    let mut row = Row::new(scenario);
    row.attempt("the trial", |row| {
        let mut lab = scenario.build();
        in_lab(row, &lab, options);
        if !row.faults.is_empty() || options.capture {
            row.kept = Some(lab.keep());
        }
    });
    row
}

fn in_lab(row: &mut Row, lab: &Lab, options: Options) {
    let capture = options.capture.then(|| lab.inet().capture("any"));
    let gateways = gateways(&row.scenario, lab);
    let signaling = Signaling::start(lab.public());
    let pair = Pair::start(lab, &signaling);
    row.attempt("first bytes", |row| first_bytes(row, &pair));
    row.attempt("paths", |row| paths(row, &pair));
    row.attempt("transfer", |row| {
        let report = pair.transfer(TRANSFER_BYTES);
        row.transfer = report["ms"].as_u64().map(Duration::from_millis);
    });
    row.attempt("UDP echoes", |row| {
        if row.scenario.needs_a_stream() {
            pair.assert_udp_echoes_over_a_stream();
        } else {
            pair.assert_udp_echoes();
        }
    });
    row.attempt("NAT types", |row| {
        nat_types(row, &truths(&row.scenario, lab, &gateways), &pair)
    });
    row.attempt("the end", |row| last_words(row, &pair, lab.folder()));
    drop(capture);
}

/// Waits for the first byte over TCP and the first datagram's echo, asked for at the same time.
fn first_bytes(row: &mut Row, pair: &Pair<'_>) {
    let secs = PATIENCE.as_secs().to_string();
    let mut tools = [
        tool::start(pair.host, &["first-byte", ECHO, "--secs", &secs]),
        tool::start(
            pair.host,
            &["udp-say", UDP, "x", "--again-ms", "20", "--secs", &secs],
        ),
    ];
    let mut arrived = [None; 2];
    wait::answer_within(PATIENCE + START, || {
        for (tool, arrived) in tools.iter_mut().zip(&mut arrived) {
            if arrived.is_none() && tool.ended().is_some() {
                *arrived = Some(pair.age());
            }
        }
        arrived.iter().all(Option::is_some).then_some(())
    });
    let [tcp, udp] = tools.each_ref().map(tool::reports);
    row.tcp = arrived[0].filter(|_| !tcp.is_empty());
    row.udp = arrived[1].filter(|_| udp.first().is_some_and(|said| said["answer"] == "x"));
    let bound = match row.scenario.possible() {
        Possible::Plain | Possible::Ipv6 | Possible::No => START,
        Possible::PortMapped
        | Possible::OnlyPredicted
        | Possible::OnlyBlock
        | Possible::OnlyBirthday => RELAY_START,
    };
    row.within(bound, "first byte over TCP", row.tcp);
    row.within(bound, "first echo over UDP", row.udp);
}

/// Waits until both ends have the path that the oracle says, and notes since when.
fn paths(row: &mut Row, pair: &Pair<'_>) {
    let expected = row.scenario.expected_kind();
    let bound = row.scenario.bound();
    let late = bound.map_or(PATIENCE, |bound| PATIENCE.max(2 * bound));
    let mut since = [None; 2];
    for (peer, since) in [&pair.client, &pair.server].into_iter().zip(&mut since) {
        let patience = late.saturating_sub(pair.age());
        let status = wait::answer_within(patience, || {
            peer.status()
                .filter(|status| path_kind(status) == Some(expected))
        });
        *since = status.and_then(|status| path_age(&status, pair.age()));
    }
    let [client, server] = since;
    let both = client
        .zip(server)
        .map(|(client, server)| client.max(server));
    if let Some(bound) = bound {
        row.direct = both;
        row.within(bound, "direct at both ends", both);
    } else if both.is_none() {
        row.faults.push(format!("no {expected} path at both ends"));
    }
}

/// When the path of a status was chosen.
pub(super) fn path_age(status: &Value, now: Duration) -> Option<Duration> {
    let peer = status["peers"].as_array()?.first()?;
    let since = Duration::from_millis(peer["path"]["sinceMs"].as_u64()?);
    Some(now.saturating_sub(since))
}

/// Waits until both ends say what is true of their NATs.
fn nat_types(row: &mut Row, truths: &[Truth; 2], pair: &Pair<'_>) {
    for (index, (name, peer)) in ends(pair).into_iter().enumerate() {
        let mut nat = Value::Null;
        let is_true = wait::answer_within(CLASSIFIED.saturating_sub(pair.age()), || {
            nat = peer.status()?["nat"].clone();
            truths[index].contradictions(&nat).is_empty().then_some(())
        });
        let end = &mut row.ends[index];
        end.nat = nat["type"].as_str().map(str::to_owned);
        match is_true {
            Some(()) => end.nat_at = Some(pair.age()),
            None => {
                let wrong = truths[index].contradictions(&nat).join("; ");
                row.faults.push(format!("NAT of the {name}: {wrong}"));
            }
        }
    }
}

/// Both ends must still be connected over what the oracle says.
fn last_words(row: &mut Row, pair: &Pair<'_>, folder: &Path) {
    for (index, (name, peer)) in ends(pair).into_iter().enumerate() {
        let status = peer.status().expect("the program answers");
        let file = folder.join(format!("status-{name}.json"));
        fs::write(file, format!("{status:#}")).expect("the status can be written");
        let path = &status["peers"][0]["path"];
        let text = |key: &str| path[key].as_str().map(str::to_owned);
        let end = &mut row.ends[index];
        (end.kind, end.via, end.transport) = (text("kind"), text("via"), text("transport"));
        end.path_at = path_age(&status, pair.age());
        if status["state"] != "connected" {
            row.faults
                .push(format!("the {name} is {} in the end", status["state"]));
        }
        let expected = row.scenario.expected_kind();
        if path_kind(&status) != Some(expected) {
            row.faults.push(format!(
                "the {name}'s path is {path} in the end, not {expected}"
            ));
        }
    }
}

fn ends<'pair, 'host>(pair: &'pair Pair<'host>) -> [(&'static str, &'pair Peer<'host>); 2] {
    [("client", &pair.client), ("server", &pair.server)]
}

/// Starts what opens ports on the routers that do.
fn gateways<'lab>(scenario: &Scenario, lab: &'lab Lab) -> [Option<Miniupnpd<'lab>>; 2] {
    [(scenario.client, Side::A), (scenario.server, Side::B)].map(|(home, side)| {
        let start = || Miniupnpd::start(lab, side, Speaks::Everything, LEASE_MAX_SECS);
        home.has_gateway().then(start)
    })
}

/// What is true of the NATs of both ends.
fn truths(scenario: &Scenario, lab: &Lab, gateways: &[Option<Miniupnpd<'_>>; 2]) -> [Truth; 2] {
    let shared = scenario.carrier.map(|carrier| carrier.nat.behavior());
    let truth = |home: &Home, edge: &Host, host: &Host, gateway: Option<&Miniupnpd<'_>>| {
        let mut behavior = home.behavior();
        if let Some(shared) = &shared {
            behavior = behavior.behind(shared);
        }
        let is_public = matches!(behavior.mapping, natlab::Mapping::Untranslated);
        let outside = if is_public { host } else { edge };
        // A gateway has another outside address than the lab gave its router.
        let seen = gateway.map_or_else(|| outside.address(), Miniupnpd::outside);
        Truth::of(&behavior, seen).with_ipv6(host.address_6())
    };
    let carrier = |own| lab.shared_carrier().or(own);
    let edges = [
        carrier(lab.carrier_a()).unwrap_or_else(|| lab.router_a()),
        carrier(lab.carrier_b()).unwrap_or_else(|| lab.router_b()),
    ];
    [
        truth(&scenario.client, edges[0], lab.a(), gateways[0].as_ref()),
        truth(&scenario.server, edges[1], lab.b(), gateways[1].as_ref()),
    ]
}

/// What a panic said.
pub(super) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panicked").to_owned()
}

impl Row {
    /// The ends of the logs of a failed trial, for whoever cannot look into its folder.
    pub fn log_tails(&self) -> String {
        let Some(folder) = &self.kept else {
            return String::new();
        };
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.retain(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".err") && name.contains("stunfwd-")
        });
        files.sort();
        let tail = |file: &PathBuf| {
            let bytes = fs::read(file).unwrap_or_default();
            let start = bytes.len().saturating_sub(LOG_TAIL_BYTES);
            let text = String::from_utf8_lossy(&bytes[start..]).into_owned();
            format!("--- {}\n{text}\n", file.display())
        };
        files.iter().map(tail).collect()
    }
}

//! What was measured, as a Markdown document.

use std::{fmt::Write as _, fs, time::Duration};

use natlab::Possible;

use super::{
    Row, Scenario,
    draw::said_by,
    scenario::{KINDS, LONGEST, PREDICTED, home_text},
    summary::{Summary, median, sorted},
    trial::{EndFacts, RELAY_START},
};
use crate::bed::START;

/// Where and when a run was made: what a reader must know before a number means anything.
#[derive(Debug)]
pub struct Circumstances {
    pub(super) command: String,
    pub(super) date: String,
    pub(super) commit: String,
    pub(super) machine: String,
    pub(super) load_before: String,
}

impl Circumstances {
    /// Notes them at the start of a run.
    pub fn now(command: &str) -> Self {
        let mut commit = said_by("git", &["rev-parse", "--short", "HEAD"]);
        if !said_by("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() {
            commit.push_str(" with uncommitted changes");
        }
        Self {
            command: command.to_owned(),
            date: said_by("date", &["-u", "+%F %R UTC"]),
            commit,
            machine: format!(
                "Linux {}, {} cores",
                said_by("uname", &["-r"]),
                said_by("nproc", &[])
            ),
            load_before: load(),
        }
    }
}

/// The load averages over 1, 5 and 15 minutes.
pub(super) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The whole document.
pub fn document(circumstances: &Circumstances, rows: &[Row]) -> String {
    let mut text = String::new();
    write_head(&mut text, circumstances, rows).expect("a String takes it");
    write_grid(&mut text, rows).expect("a String takes it");
    write_rows(&mut text, rows).expect("a String takes it");
    write_faults(&mut text, rows).expect("a String takes it");
    text
}

fn write_head(text: &mut String, seen: &Circumstances, rows: &[Row]) -> std::fmt::Result {
    let Circumstances {
        command,
        date,
        commit,
        machine,
        load_before,
    } = seen;
    let failed = rows.iter().filter(|row| !row.faults.is_empty()).count();
    let scenarios = Summary::of(rows).len();
    writeln!(
        text,
        "# NAT matrix\n\n\
         Written by `{command}`; do not edit.\n\n\
         {scenarios} scenarios, {} trials, {failed} with faults. {date}, commit {commit}, {machine}, debug build, load average \
         {load_before} before and {} after.\n\n\
         Each trial is a laboratory of its own made of network namespaces and nftables (`tests/src/lab`), with \
         stunfwd-signaling on a public machine and stunfwd-client and stunfwd-server behind the NATs named, forwarding a TCP and \
         a UDP port. Rows are the client's NAT, columns the server's. Links have no delay. What is possible is said by the \
         oracle of `natlab`, which a test compares with what was measured by hand:\n\n\
         - `P`: a direct path by plain punching. Both ends must have it within {} s.\n\
         - `6`: only over IPv6, both routers being firewalls there; within {} s. `M`: only where a router opens a port, asked by \
         PCP, NAT-PMP or UPnP; within {} s.\n\
         - `p`: only by guessing the ports of a NAT that counts; within {} s, or {} s where both count.\n\
         - `b`, `B`: only by a birthday attack, on the ports of a block or on all; within {} s.\n\
         - `-`: never over UDP. The path must be the relay.\n\n\
         In every trial the first byte over TCP and the first echo over UDP must come within {} s ({} s where the relay \
         carries them until ports are guessed), a transfer of 4 MB each way and 500 datagrams of 12 to 8,000 bytes must \
         arrive whole, both ends must report the same kind of path, and both must name the type, mapping, filtering and \
         public address of their NAT rightly.\n",
        rows.len(),
        load(),
        START.as_secs(),
        START.as_secs(),
        LONGEST.as_secs(),
        PREDICTED.as_secs(),
        LONGEST.as_secs(),
        LONGEST.as_secs(),
        START.as_secs(),
        RELAY_START.as_secs(),
    )
}

/// One NAT in front of each end.
fn write_grid(text: &mut String, rows: &[Row]) -> std::fmt::Result {
    let summaries = Summary::of(rows);
    let find = |name: String| {
        let mut summaries = summaries.iter();
        summaries.find(|it| it.scenario.to_string() == name)
    };
    let is_pair = |scenario: Scenario| {
        let Scenario {
            client,
            server,
            carrier,
        } = scenario;
        carrier.is_none() && KINDS.contains(&client) && KINDS.contains(&server)
    };
    if !summaries.iter().any(|it| is_pair(it.scenario)) {
        return Ok(());
    }
    writeln!(
        text,
        "## Every kind with every kind\n\n\
         The oracle's letter, how many of the rounds ended on a direct path, the median of the milliseconds from the start of \
         both programs until both ends had chosen it, and how the path was found (`via` of the client; a block counts as \
         predicted).\n"
    )?;
    write!(text, "| client \\ server |")?;
    for server in KINDS {
        write!(text, " {} |", home_text(&server))?;
    }
    write!(text, "\n|---|{}", "---|".repeat(KINDS.len()))?;
    for client in KINDS {
        write!(text, "\n| {} |", home_text(&client))?;
        for server in KINDS {
            let cell = find(Scenario::pair(client, server).to_string()).map(cell);
            write!(text, " {} |", cell.unwrap_or_default())?;
        }
    }
    writeln!(text, "\n")
}

fn cell(summary: &Summary<'_>) -> String {
    let letter = summary.scenario.possible().letter();
    let mut cell = format!("{letter} {}/{}", summary.direct(), summary.rounds.len());
    if let Some(direct) = summary.median(|row| row.direct) {
        let via = summary.words(|row| word(row.ends[0].via.as_ref()));
        cell = format!("{cell} {} {via}", direct.as_millis());
    }
    if summary.is_at_fault() {
        cell.push_str(" **fault**");
    }
    cell
}

fn write_rows(text: &mut String, rows: &[Row]) -> std::fmt::Result {
    writeln!(
        text,
        "## Every scenario\n\n\
         A home is `NAT`, `NAT@CARRIER` (a carrier's NAT in front of it), `NAT+ipv6` (IPv6 beside it, behind a firewall that lets \
         only answers in), `NAT+gateway` (a router that opens ports when it is asked) or `NAT/open` (a router without a WAN \
         firewall, which confirms the peer's first packet when it comes too early). `in CARRIER`: both homes behind one carrier, \
         which turns its customers' packets round (`+hairpin`) or does not. Times are medians of the rounds.\n\n\
         - TCP, UDP: milliseconds from the start of both programs until the first byte and the first datagram were back at the \
         client's application (which asks every 20 ms).\n\
         - direct: until both ends had chosen the direct path; of how many rounds.\n\
         - path: kind in the end, the transport to the relay, and which kind of candidate the client's path uses.\n\
         - 4 MB: milliseconds for 4 MB each way at the same time.\n\
         - NAT: the type that each end shows, and the milliseconds after which it was seen to be right with mapping, filtering and \
         public address (asked after the transfers, so an upper bound).\n\n\
         | client | server | in | oracle | path | TCP | UDP | direct | 4 MB | client's NAT | server's NAT |\n\
         |---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for summary in Summary::of(rows) {
        let Scenario {
            client,
            server,
            carrier,
        } = summary.scenario;
        let carrier = carrier.map(|carrier| {
            let hairpin = if carrier.hairpin { "+hairpin" } else { "" };
            format!("{}{hairpin}", carrier.nat.name())
        });
        let median = |what: fn(&Row) -> Option<Duration>| millis(summary.median(what));
        let nat = |index: usize| {
            let name = summary.words(|row| word(row.ends[index].nat.as_ref()));
            let at = summary.median(|row| row.ends[index].nat_at);
            at.map_or_else(
                || format!("{name} (wrong)"),
                |at| format!("{name} {}", at.as_millis()),
            )
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} {}/{} | {} | {} | {} |",
            home_text(&client),
            home_text(&server),
            carrier.unwrap_or_default(),
            summary.scenario.possible().letter(),
            summary.words(|row| path(&row.ends[0])),
            median(|row| row.tcp),
            median(|row| row.udp),
            median(|row| row.direct),
            summary.direct(),
            summary.rounds.len(),
            median(|row| row.transfer),
            nat(0),
            nat(1),
        )?;
    }
    writeln!(text)?;
    let direct = Possible::ALL.map(|possible| {
        let such = rows
            .iter()
            .filter(|row| row.scenario.possible() == possible);
        let times = sorted(such.map(|row| row.direct));
        (format!("direct, {}", possible.letter()), times)
    });
    let first = [
        (
            "first byte over TCP",
            sorted(rows.iter().map(|row| row.tcp)),
        ),
        (
            "first echo over UDP",
            sorted(rows.iter().map(|row| row.udp)),
        ),
    ];
    let first = first.map(|(what, times)| (what.to_owned(), times));
    for (what, times) in first.into_iter().chain(direct) {
        let (worst, count) = (times.last().copied(), times.len());
        if let (Some(middle), Some(worst)) = (median(times), worst) {
            writeln!(
                text,
                "{what}: median {} ms, worst {} ms of {count}.  ",
                middle.as_millis(),
                worst.as_millis(),
            )?;
        }
    }
    writeln!(text)
}

fn write_faults(text: &mut String, rows: &[Row]) -> std::fmt::Result {
    let failed: Vec<&Row> = rows.iter().filter(|row| !row.faults.is_empty()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    writeln!(text, "## Faults\n")?;
    for row in failed {
        writeln!(text, "- `{}`: {}", row.scenario, row.faults.join(" · "))?;
    }
    Ok(())
}

/// One line for whoever watches a run.
pub fn line(row: &Row) -> String {
    let [client, server] = &row.ends;
    let mut line = format!(
        "{}  {} {}  TCP {}  UDP {}  direct {}  | {} | {}",
        row.scenario,
        row.scenario.possible().letter(),
        path(client),
        millis(row.tcp),
        millis(row.udp),
        millis(row.direct),
        nat(client),
        nat(server)
    );
    for fault in &row.faults {
        write!(line, "\n    FAULT {fault}").expect("a String takes it");
    }
    if let Some(folder) = &row.kept {
        write!(line, "\n    logs: {}", folder.display()).expect("a String takes it");
    }
    line
}

pub(super) fn millis(time: Option<Duration>) -> String {
    time.map(|time| time.as_millis().to_string())
        .unwrap_or_default()
}

fn path(end: &EndFacts) -> String {
    let Some(kind) = &end.kind else {
        return "none".to_owned();
    };
    let [transport, via] = [&end.transport, &end.via].map(|word| word.as_deref().unwrap_or("?"));
    format!("{kind} {transport} {via}")
}

fn word(word: Option<&String>) -> String {
    word.map_or_else(|| "none".to_owned(), Clone::clone)
}

fn nat(end: &EndFacts) -> String {
    let name = end.nat.as_deref().unwrap_or("not asked");
    match end.nat_at {
        Some(at) => format!("{name} {}", at.as_millis()),
        None => format!("{name} (wrong)"),
    }
}

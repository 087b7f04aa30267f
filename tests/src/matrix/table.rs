//! What was measured, as a Markdown document.

use std::{fmt::Write as _, fs, time::Duration};

use natlab::Possible;

use super::{
    Row, Scenario,
    draw::said_by,
    scenario::{KINDS, home_text},
    trial::EndFacts,
};
use crate::bed::START;

/// Where and when a run was made: what a reader must know before a number means anything.
#[derive(Debug)]
pub struct Circumstances {
    command: String,
    date: String,
    commit: String,
    machine: String,
    load_before: String,
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
fn load() -> String {
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
    writeln!(
        text,
        "# NAT matrix\n\n\
         Written by `{command}`; do not edit.\n\n\
         {} scenarios, {failed} with faults. {date}, commit {commit}, {machine}, debug build, load average {load_before} before and \
         {} after.\n\n\
         Each scenario is a laboratory of its own made of network namespaces and nftables (`tests/src/lab`), with \
         stunfwd-signaling on a public machine and stunfwd-client and stunfwd-server behind the NATs named, forwarding a TCP and \
         a UDP port. Rows are the client's NAT, columns the server's. Links have no delay. What is possible is said by the \
         oracle of `natlab`, which a test compares with what was measured by hand:\n\n\
         - `P`: a direct path by plain punching. Both ends must have it within {} s.\n\
         - `p`, `B`: only by guessing ports (prediction, birthday), which this version does not do; `-`: never over UDP. The \
         path must be the relay.\n\n\
         In every scenario the first byte over TCP and the first echo over UDP must come within {} s, a transfer of 4 MB each way \
         and 500 datagrams of 12 to 8,000 bytes must arrive whole, both ends must report the same kind of path, and both must \
         name the type, mapping, filtering and public address of their NAT rightly.\n",
        rows.len(),
        load(),
        START.as_secs(),
        START.as_secs(),
    )
}

/// One NAT in front of each end.
fn write_grid(text: &mut String, rows: &[Row]) -> std::fmt::Result {
    let find = |name: String| rows.iter().find(|row| row.scenario.to_string() == name);
    let is_pair = |row: &Row| {
        let is_single = |nat| KINDS.contains(&nat);
        let Scenario {
            client,
            server,
            carrier,
        } = row.scenario;
        let alone = client.carrier().is_none() && server.carrier().is_none() && carrier.is_none();
        alone && is_single(client.nat()) && is_single(server.nat())
    };
    if !rows.iter().any(is_pair) {
        return Ok(());
    }
    writeln!(
        text,
        "## Every kind with every kind\n\n\
         The oracle's letter, the kind of path in the end, and for direct paths the milliseconds from the start of both \
         programs until both ends had chosen it.\n"
    )?;
    write!(text, "| client \\ server |")?;
    for server in KINDS {
        write!(text, " {} |", server.name())?;
    }
    write!(text, "\n|---|{}", "---|".repeat(KINDS.len()))?;
    for client in KINDS {
        write!(text, "\n| {} |", client.name())?;
        for server in KINDS {
            let cell = find(Scenario::pair(client, server).to_string()).map(cell);
            write!(text, " {} |", cell.unwrap_or_default())?;
        }
    }
    writeln!(text, "\n")
}

fn cell(row: &Row) -> String {
    let letter = row.scenario.possible().letter();
    let kind = row.ends[0].kind.as_deref().unwrap_or("none");
    let mut cell = format!("{letter} {kind}");
    if let Some(direct) = row.direct {
        cell = format!("{cell} {}", direct.as_millis());
    }
    if !row.faults.is_empty() {
        cell.push_str(" **fault**");
    }
    cell
}

fn write_rows(text: &mut String, rows: &[Row]) -> std::fmt::Result {
    writeln!(
        text,
        "## Every scenario\n\n\
         A home is `NAT`, `NAT@CARRIER` (a carrier's NAT in front of it) or `NAT/open` (a router without a WAN firewall, which \
         confirms the peer's first packet when it comes too early). `in CARRIER`: both homes behind one carrier, which turns its \
         customers' packets round (`+hairpin`) or does not.\n\n\
         - TCP, UDP: milliseconds from the start of both programs until the first byte and the first datagram were back at the \
         client's application (which asks every 20 ms).\n\
         - direct: until both ends had chosen the direct path.\n\
         - path: kind in the end, the transport to the relay, and which kind of candidate the client's path uses.\n\
         - 4 MB: milliseconds for 4 MB each way at the same time.\n\
         - NAT: the type that each end shows, and the milliseconds after which it was seen to be right with mapping, filtering and \
         public address (asked after the transfers, so an upper bound).\n\n\
         | client | server | in | oracle | path | TCP | UDP | direct | 4 MB | client's NAT | server's NAT |\n\
         |---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for row in rows {
        let Scenario {
            client,
            server,
            carrier,
        } = row.scenario;
        let carrier = carrier.map(|carrier| {
            let hairpin = if carrier.hairpin { "+hairpin" } else { "" };
            format!("{}{hairpin}", carrier.nat.name())
        });
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            home_text(&client),
            home_text(&server),
            carrier.unwrap_or_default(),
            row.scenario.possible().letter(),
            path(&row.ends[0]),
            millis(row.tcp),
            millis(row.udp),
            millis(row.direct),
            millis(row.transfer),
            nat(&row.ends[0]),
            nat(&row.ends[1]),
        )?;
    }
    let plain = rows
        .iter()
        .filter(|row| row.scenario.possible() == Possible::Plain);
    writeln!(text)?;
    for (what, times) in [
        ("first byte over TCP", times(rows.iter().map(|row| row.tcp))),
        ("first echo over UDP", times(rows.iter().map(|row| row.udp))),
        ("direct", times(plain.map(|row| row.direct))),
    ] {
        if let (Some(middle), Some(worst)) = (times.get(times.len() / 2), times.last()) {
            writeln!(
                text,
                "{what}: median {} ms, worst {} ms of {}.  ",
                middle.as_millis(),
                worst.as_millis(),
                times.len()
            )?;
        }
    }
    writeln!(text)
}

fn times(times: impl Iterator<Item = Option<Duration>>) -> Vec<Duration> {
    let mut times: Vec<Duration> = times.flatten().collect();
    times.sort();
    times
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

fn millis(time: Option<Duration>) -> String {
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

fn nat(end: &EndFacts) -> String {
    let name = end.nat.as_deref().unwrap_or("not asked");
    match end.nat_at {
        Some(at) => format!("{name} {}", at.as_millis()),
        None => format!("{name} (wrong)"),
    }
}

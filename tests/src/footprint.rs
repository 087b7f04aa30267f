//! What a running program holds: memory, descriptors, and what it says itself of tasks and flows.

use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::Value;

use crate::{product::Peer, wait};

/// How long a program may take to let go of what has ended: the last words of thousands of connections on a busy
/// machine.
const SETTLING: Duration = Duration::from_secs(30);

/// How many looks in a row must agree before a program counts as quiet; they are [`LOOKS_APART`] apart.
const LOOKS: usize = 5;

/// Longer than a program's own rhythm of small things; a second and a half of quiet altogether.
const LOOKS_APART: Duration = Duration::from_millis(300);

/// Tasks of one carrier and its path, of which a program may keep one more or one less at another time. What a crowd leaves
/// behind comes by hundreds, and what a single connection leaves is a flow.
const CARRIER_TASKS: u64 = 10;

/// The port of signaling's HTTP in every test.
const SIGNALING_PORT: u16 = 8080;

/// What a program holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors, without connections to signaling: HTTP keeps those, or not, by rules of its own.
    pub files: usize,
    /// Live tasks of its data plane.
    pub tasks: u64,
    /// Open TCP connections and UDP flows.
    pub flows: u64,
}

/// What the program holds now.
///
/// # Panics
/// When it does not answer, or does not say what it should.
pub fn holdings(peer: &mut Peer<'_>) -> Holdings {
    let status = peer.status().expect("the program answers");
    let field = |name: &str| {
        let value = status["process"][name].as_u64();
        value.unwrap_or_else(|| panic!("status says nothing of process.{name}: {status:#}"))
    };
    let (tasks, flows) = (field("tasks"), field("flows"));
    Holdings {
        files: files(peer.process().id()),
        tasks,
        flows,
    }
}

/// Counts the descriptors of a process.
fn files(process: u32) -> usize {
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp")).expect("the process runs");
    let remote = format!(":{SIGNALING_PORT:04X}");
    let to_signaling: BTreeSet<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(2).is_some_and(|field| field.ends_with(&remote)))
        .filter_map(|fields| Some(format!("socket:[{}]", fields.get(9)?)))
        .collect();
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("the process runs");
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| !to_signaling.contains(&*target.to_string_lossy()))
        .count()
}

/// Waits until the program holds the same for a while, and returns that.
///
/// # Panics
/// When it goes on changing for half a minute.
pub fn quiet(peer: &mut Peer<'_>) -> Holdings {
    let deadline = wait::now() + SETTLING;
    let (mut last, mut same) = (holdings(peer), 1);
    while same < LOOKS {
        std::thread::sleep(LOOKS_APART);
        let seen = holdings(peer);
        same = if seen == last { same + 1 } else { 1 };
        last = seen;
        assert!(wait::now() < deadline, "never quiet: {last:?}");
    }
    last
}

/// Waits until the program holds again what it held before: the same flows and descriptors, and no tasks but those of its
/// paths.
///
/// # Panics
/// When it still holds something else after half a minute: with both.
pub fn await_return(peer: &mut Peer<'_>, before: Holdings) {
    let mut last = before;
    let back = wait::answer_within(SETTLING, || {
        last = holdings(peer);
        let same = (last.flows, last.files) == (before.flows, before.files);
        (same && last.tasks <= before.tasks + CARRIER_TASKS).then_some(())
    });
    assert!(
        back.is_some(),
        "{}: something is left: {last:?}, before {before:?}; status {:#}",
        peer.role().word(),
        peer.status().unwrap_or_default()
    );
}

/// Memory in bytes that the program itself has written to: no file's pages, which only say what code has run.
///
/// # Panics
/// When it is gone.
pub fn memory(peer: &mut Peer<'_>) -> u64 {
    let file = format!("/proc/{}/status", peer.process().id());
    let text = fs::read_to_string(&file).expect("the program is running");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.expect("a running process has RssAnon in kB") * 1024
}

/// The number of a field of the status, for counters.
///
/// # Panics
/// When there is none.
pub fn counter(status: &Value, pointer: &str) -> u64 {
    let value = status.pointer(pointer).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no number at {pointer}: {status:#}"))
}

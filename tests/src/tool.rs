//! Starts the traffic generators of `lab-tool` on a machine.

use std::time::Duration;

use serde_json::Value;

use crate::{artifacts, lab::Host, process::Process, wait};

/// How long a service may take to open its socket.
const START: Duration = Duration::from_secs(5);

/// Starts a service of `lab-tool` on a host and waits until it listens.
pub fn serve(host: &Host, service: &str, address: &str) -> Process {
    serve_args(host, &[service, address])
}

/// Like [`serve`], with all arguments given.
pub fn serve_args(host: &Host, args: &[&str]) -> Process {
    let process = start(host, args);
    wait::until(START, &format!("{args:?} to listen"), || {
        process.stdout().contains("listening")
    });
    process
}

/// Starts a client of `lab-tool` that runs on; its lines of JSON are read with [`reports`] or [`finish`].
pub fn start(host: &Host, args: &[&str]) -> Process {
    host.spawn(artifacts::program("lab-tool"), args, &[])
}

/// Runs a client of `lab-tool` to its end and returns the last line of JSON that it printed.
///
/// # Panics
/// When it fails.
pub fn run(host: &Host, args: &[&str]) -> Value {
    last_json(&host.run(&artifacts::program("lab-tool").display().to_string(), args))
}

/// Waits for a started client's end and returns the last line of JSON that it printed.
///
/// # Panics
/// When it does not end within `patience`, or fails.
pub fn finish(process: &mut Process, patience: Duration) -> Value {
    let status = process.wait(patience);
    let status = status.unwrap_or_else(|| panic!("lab-tool has not ended after {patience:?}"));
    assert!(
        status.success(),
        "lab-tool ended with {status}: {}",
        process.stderr()
    );
    last_json(&process.stdout())
}

/// The lines of JSON that a client has printed so far.
///
/// # Panics
/// When a finished line is no JSON.
pub fn reports(process: &Process) -> Vec<Value> {
    let text = process.stdout();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

fn last_json(text: &str) -> Value {
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("`{line}` is no JSON: {error}"))
}

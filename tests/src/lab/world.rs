//! Where a lab may be built: a private network, mount and (where the kernel lets us) process namespace.
//!
//! A lab test runs its own executable again through `unshare`, once, for the one test. Everything it makes,
//! names under `/run/netns`, interfaces, firewalls and processes, then lives in namespaces that die with it, so
//! that a test that is killed leaves nothing behind and two labs never meet. With `CAP_SYS_ADMIN` that is
//! done directly, else in a user namespace of its own.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode, Output},
};

/// Set in the inner run: the file that the test writes when its body has returned; empty for a program.
const WITNESS: &str = "STUNFWD_LAB_WITNESS";

/// What a world needs beyond the namespaces: a place for `ip netns` names that nobody else sees.
const PREPARE: &str =
    "mount -t tmpfs stunfwd-lab /run && mkdir /run/netns && ip link set lo up && exec \"$@\"";

/// The ways into a world, best first: with a process namespace the kernel ends every process of the test.
const WAYS: [&[&str]; 4] = [
    &[
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ],
    &["--net", "--mount"],
    &[
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ],
    &["--user", "--map-root-user", "--net", "--mount"],
];

/// Runs `body` in a private world.
///
/// # Panics
/// When `body` panics, and when this machine has neither root nor user namespaces, or lacks `ip`, `nft` or
/// `nsenter`: a lab test that did not run is a failed test. `./test` leaves the lab out on such a machine, loudly
/// and never with `CI=true`.
pub fn test(body: impl FnOnce()) {
    if let Some(witness) = env::var_os(WITNESS) {
        body();
        fs::write(&witness, "the body returned").expect("the witness file can be written");
        return;
    }
    let way = find_way().unwrap_or_else(|tried| panic!("{}", explanation(&tried)));
    run_again(way);
}

/// Runs a program's `body` in a private world, with the program's own arguments, and returns its exit code.
///
/// # Panics
/// As [`test()`].
pub fn program(body: impl FnOnce() -> ExitCode) -> ExitCode {
    if is_inside() {
        return body();
    }
    let way = find_way().unwrap_or_else(|tried| panic!("{}", explanation(&tried)));
    let status = enter(way)
        .arg(env::current_exe().expect("a program knows its own executable"))
        .args(env::args_os().skip(1))
        .env(WITNESS, "")
        .status()
        .expect("unshare starts");
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Whether this process already is inside a world made by [`test()`] (or says so by the same variable).
pub fn is_inside() -> bool {
    env::var_os(WITNESS).is_some()
}

fn run_again(way: &[&str]) {
    let name = current_test();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let witness: PathBuf = folder.path().join("witness");
    let status = enter(way)
        .arg(env::current_exe().expect("the test knows its own executable"))
        .args([
            "--exact",
            &name,
            "--nocapture",
            "--include-ignored",
            "--test-threads=1",
        ])
        .env(WITNESS, &witness)
        .status()
        .expect("unshare starts");
    assert!(
        status.success(),
        "`{name}` failed in its lab ({status}); its output is above"
    );
    assert!(
        witness.exists(),
        "`{name}` was not run in its lab: no test of that name was found"
    );
}

fn enter(way: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(way).args(["sh", "-c", PREPARE, "sh"]);
    command
}

/// The test that this thread runs: libtest names the thread after it, nextest passes it as an argument.
fn current_test() -> String {
    let thread = std::thread::current();
    if let Some(name) = thread.name().filter(|name| *name != "main") {
        return name.to_owned();
    }
    env::args()
        .skip_while(|argument| argument != "--exact")
        .nth(1)
        .expect("a lab test runs on libtest's thread of that name or is named by --exact")
}

/// The first way in that works here, or what every way said.
fn find_way() -> Result<&'static [&'static str], Vec<String>> {
    let mut tried = Vec::new();
    for way in WAYS {
        let attempt = enter(way)
            .args([
                "sh",
                "-ec",
                "ip netns add probe; nsenter --net=/run/netns/probe nft list ruleset",
            ])
            .output();
        match attempt {
            Ok(Output { status, .. }) if status.success() => return Ok(way),
            Ok(output) => tried.push(format!(
                "unshare {}: {}",
                way.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(error) => tried.push(format!("unshare: {error}")),
        }
    }
    Err(tried)
}

fn explanation(tried: &[String]) -> String {
    format!(
        "THE KERNEL LAB CANNOT RUN HERE, so nothing was proven.\n\
         It needs root or unprivileged user namespaces, and the packages iproute2, nftables and util-linux.\n\
         Tried:\n  {}",
        tried.join("\n  ")
    )
}

//! Who may import whom (DESIGN §2), read from every package's manifest.

use std::collections::BTreeMap;

use stunfwd_tests::workspace::{self, Package};

/// Each package and which packages of the workspace it may depend on.
const ARROWS: [(&str, &[&str]); 20] = [
    ("stunwire", &[]),
    ("sansio", &["stunwire"]),
    ("natprobe", &["stunwire", "sansio"]),
    ("punch", &["stunwire", "sansio"]),
    ("relay", &["stunwire", "sansio"]),
    (
        "session",
        &["stunwire", "sansio", "natprobe", "punch", "relay"],
    ),
    ("mapping-core", &[]),
    ("signal-client", &["mapping-core"]),
    ("tunnel", &["mapping-core"]),
    ("portmap", &[]),
    (
        "stunfwd",
        &[
            "stunwire",
            "sansio",
            "natprobe",
            "punch",
            "relay",
            "session",
            "mapping-core",
            "signal-client",
            "tunnel",
            "portmap",
        ],
    ),
    (
        "signaling",
        &[
            "stunwire",
            "sansio",
            "relay",
            "mapping-core",
            "signal-client",
        ],
    ),
    ("stunfwd-cli", &["stunfwd", "mapping-core"]),
    ("stunfwd-client", &["stunfwd-cli"]),
    ("stunfwd-server", &["stunfwd-cli"]),
    (
        "natlab",
        &[
            "stunwire", "sansio", "natprobe", "punch", "relay", "session",
        ],
    ),
    // What follows is on nobody's path: it may use what it shows or measures.
    (
        "stunfwd-examples",
        &[
            "sansio",
            "stunfwd",
            "signaling",
            "mapping-core",
            "natprobe",
            "punch",
            "relay",
        ],
    ),
    (
        "stunfwd-benches",
        &[
            "stunwire", "sansio", "punch", "tunnel", "relay", "session", "natlab",
        ],
    ),
    ("stunfwd-tests", &["natlab"]),
    (
        "stunfwd-fuzz",
        &[
            "stunwire",
            "relay",
            "session",
            "mapping-core",
            "signal-client",
            "tunnel",
        ],
    ),
];

/// A foreign crate and the only packages that may know it.
const CONFINED: [(&str, &[&str]); 15] = [
    (
        "tokio",
        &[
            "signal-client",
            "tunnel",
            "portmap",
            "stunfwd",
            "signaling",
            "stunfwd-cli",
            "stunfwd-examples",
        ],
    ),
    ("igd-next", &["portmap"]),
    ("netdev", &["portmap"]),
    ("clap", &["signaling", "stunfwd-cli", "stunfwd-examples"]),
    (
        "anyhow",
        &[
            "signaling",
            "stunfwd-cli",
            "stunfwd-examples",
            "stunfwd-tests",
        ],
    ),
    ("quinn", &["tunnel"]),
    ("quinn-proto", &["tunnel"]),
    ("quinn-udp", &["tunnel", "stunfwd", "signaling"]),
    ("reqwest", &["signal-client"]),
    ("rustyline", &["stunfwd-cli"]),
    ("notify", &["stunfwd-cli"]),
    ("nix", &["stunfwd-cli", "stunfwd-tests"]),
    ("axum", &["signaling"]),
    (
        "socket2",
        &["tunnel", "stunfwd", "signaling", "stunfwd-tests"],
    ),
    ("if-addrs", &["stunfwd", "signaling"]),
];

/// Pure crates: bytes and `now` in, bytes and deadlines out.
const PURE: [&str; 7] = [
    "stunwire",
    "sansio",
    "natprobe",
    "punch",
    "relay",
    "session",
    "mapping-core",
];

fn packages() -> BTreeMap<String, Package> {
    workspace::packages()
        .into_iter()
        .map(|package| (package.name.clone(), package))
        .collect()
}

#[test]
fn every_package_depends_only_on_what_lies_below_it() {
    let packages = packages();
    let arrows = BTreeMap::from(ARROWS);
    let mut wrong = Vec::new();
    for (name, package) in &packages {
        let Some(allowed) = arrows.get(name.as_str()) else {
            wrong.push(format!("{name} has no arrows in architecture.rs"));
            continue;
        };
        for dependency in &package.dependencies {
            if packages.contains_key(dependency) && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn tests_of_a_package_do_not_reach_above_it() {
    let packages = packages();
    let arrows = BTreeMap::from(ARROWS);
    let mut wrong = Vec::new();
    for (name, package) in packages
        .iter()
        .filter(|(name, _)| PURE.contains(&name.as_str()))
    {
        for dependency in &package.dev_dependencies {
            let ours = packages.contains_key(dependency) && dependency != "natlab";
            if ours && !arrows[name.as_str()].contains(&dependency.as_str()) && dependency != name {
                wrong.push(format!(
                    "the tests of {name} must not depend on {dependency}"
                ));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn runtimes_command_lines_and_transports_are_known_only_where_they_belong() {
    let mut wrong = Vec::new();
    for (name, package) in packages() {
        for (foreign, allowed) in CONFINED {
            // An optional driver (DESIGN §2: natprobe, punch and relay) is not the machine itself.
            let known = package
                .dependencies
                .iter()
                .any(|dependency| dependency == foreign)
                && !package
                    .optional
                    .iter()
                    .any(|dependency| dependency == foreign);
            if known && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{name} must not know {foreign}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn the_codec_knows_no_serialisation_framework() {
    let stunwire = &packages()["stunwire"];
    assert!(
        !stunwire
            .dependencies
            .iter()
            .any(|name| name.starts_with("serde")),
        "{stunwire:?}"
    );
}

#[test]
fn pure_crates_take_no_clock_no_socket_and_no_thread() {
    let banned = [
        "Instant::now",
        "SystemTime::now",
        "UdpSocket",
        "TcpStream",
        "TcpListener",
        "std::thread",
        "thread::spawn",
        "rand::rng()",
    ];
    let mut wrong = Vec::new();
    for file in workspace::sources().iter().filter(|file| file.is_product()) {
        let owner = file
            .path
            .components()
            .nth(1)
            .map(|part| part.as_os_str().to_string_lossy());
        let is_pure = file.path.starts_with("crates")
            && owner.is_some_and(|owner| PURE.contains(&&*owner))
            // The optional driver of a pure crate lives in a file of that name.
            && file.path.file_stem().is_some_and(|stem| stem != "tokio");
        if is_pure {
            for word in banned {
                wrong.extend(file.places(file.product_lines(), word));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

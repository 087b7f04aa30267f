//! Many conversations through one mapping: all of them right, and nothing left of them afterwards. Every crowd comes
//! again: what the first one leaves is what programs keep once, what a later one adds would be a leak.

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use stunfwd_tests::{
    bed::{DIGEST, ECHO, EXCHANGE, MAPPINGS, Pair, ROOM, UDP},
    crowd::Crowd,
    footprint::{Holdings, await_return, counter, holdings, memory, quiet},
    lab::{self, Home, Lab, Nat},
    product::{Config, Signaling},
    tool, wait,
};

const PATIENCE: Duration = Duration::from_secs(10);

const MIB: u64 = 1 << 20;

/// Rounds of every crowd: an allocator finds its rhythm in the first and the second, the third shows whether it stays there.
const ROUNDS: usize = 3;

/// How much more either program may hold after the last round than after the one before: what an allocator keeps of pages
/// that one small survivor holds, 7 MB at most as measured. One forgotten buffer of the smallest size for each connection of a
/// scan, 4 KiB 10,000 times, would be three times as much.
const SLACK_BYTES: u64 = 12 * MIB;

/// A pair whose holdings are known.
struct Watched<'a> {
    pair: Pair<'a>,
    before: [Holdings; 2],
    memory: [u64; 2],
    after_rounds: Vec<[u64; 2]>,
}

impl<'a> Watched<'a> {
    fn start(lab: &'a Lab, signaling: &Signaling<'_>, kind: &str) -> Self {
        let pair = Pair::start_on(lab.a(), lab.b(), &config(signaling));
        Self::watch(pair, kind)
    }

    fn watch(mut pair: Pair<'a>, kind: &str) -> Self {
        pair.await_connected(PATIENCE);
        pair.client.await_kind(PATIENCE, kind);
        pair.server.await_kind(PATIENCE, kind);
        // Everything that is allocated once is allocated now, and what only the start needed is given back.
        pair.transfer(5_000_000);
        let mut crowd = Crowd::tcp(pair.host, ECHO);
        crowd.all("open 20", 20);
        crowd.all("exchange 1000000", 20);
        crowd.all("close 20", 20);
        drop(crowd);
        let before = [quiet(&mut pair.client), quiet(&mut pair.server)];
        let memory = [memory(&mut pair.client), memory(&mut pair.server)];
        Self {
            pair,
            before,
            memory,
            after_rounds: Vec::new(),
        }
    }

    fn now(&mut self) -> [Holdings; 2] {
        [
            holdings(&mut self.pair.client),
            holdings(&mut self.pair.server),
        ]
    }

    /// By how much each program's memory is above what it was before the first round.
    fn growth(&mut self) -> [u64; 2] {
        let now = [memory(&mut self.pair.client), memory(&mut self.pair.server)];
        [0, 1].map(|end| now[end].saturating_sub(self.memory[end]))
    }

    /// Asserts that either program has `flows` conversations, and `files` more descriptors than before: as soon as what
    /// has just ended is gone, the control connection that asked for the count included.
    fn assert_holds(&mut self, flows: u64, files: [usize; 2]) {
        let before = self.before;
        let holds = |now: [Holdings; 2]| {
            [0, 1].into_iter().all(|end| {
                now[end].flows == flows && now[end].files == before[end].files + files[end]
            })
        };
        let held = wait::answer_within(PATIENCE, || Some(self.now()).filter(|now| holds(*now)));
        if held.is_none() {
            let now = self.now();
            panic!("{flows} conversations and {files:?} descriptors more than {before:?}: {now:?}");
        }
    }

    /// How many connections either program has refused.
    fn refused(&self) -> [u64; 2] {
        [&self.pair.client, &self.pair.server].map(|peer| {
            let status = peer.status().expect("the program answers");
            counter(&status, "/process/refusedConnections")
        })
    }

    /// Waits until both programs hold what they held before, and notes what memory they keep.
    fn await_return(&mut self) {
        // The server's flows end first, or with the client's.
        let [client, server] = self.before;
        await_return(&mut self.pair.server, server);
        await_return(&mut self.pair.client, client);
        let kept = self.growth();
        self.after_rounds.push(kept);
    }

    /// Asserts that the last round left no more than the one before it.
    fn assert_no_growth(&self) {
        let [.., earlier, last] = self.after_rounds[..] else {
            panic!("there were rounds");
        };
        for end in [0, 1] {
            assert!(
                last[end] <= earlier[end] + SLACK_BYTES,
                "memory grows from round to round: {:?}",
                self.after_rounds
            );
        }
    }
}

/// Nobody asks the routers for ports, which would hold a socket now and then: what is counted here is conversations.
fn config(signaling: &Signaling<'_>) -> Config {
    Config::new(ROOM, &signaling.url())
        .with_mappings(&MAPPINGS)
        .with_line("portMapping: false")
}

fn in_lab(nat: Nat, kind: &str, body: impl FnOnce(Watched<'_>)) {
    lab::test(|| {
        let lab = Lab::new(Home::behind(nat), Home::behind(nat));
        let signaling = Signaling::start(lab.public());
        body(Watched::start(&lab, &signaling, kind));
    });
}

/// What 500 echoes of 100 kB at once may hold at either end: each connection has at most 32 KiB under way, in pieces of
/// 8 KiB that lie in read buffers of twice their size and more, in each direction until they are acknowledged or written.
/// 30 to 70 MB were measured. All that was ever sent, held once, would be within this: it is what the credit of an echo
/// that is never read may cost (256 KiB each way), less than half.
const EXCHANGE_MAX_BYTES: u64 = 128 * MIB;

fn five_hundred_at_once(mut watched: Watched<'_>) {
    for _ in 0..ROUNDS {
        let mut crowd = Crowd::tcp(watched.pair.host, ECHO);
        crowd.all("open 500", 500);
        watched.assert_holds(500, [500, 500]);
        let report = crowd.all("exchange 100000", 500);
        let held = watched.growth();
        eprintln!("exchange: {report}; held {held:?}");
        assert!(
            held.iter().all(|held| *held < EXCHANGE_MAX_BYTES),
            "{held:?}"
        );
        crowd.all("echo", 500);
        crowd.all("close 500", 500);
        watched.await_return();
    }
    eprintln!("kept after each round: {:?}", watched.after_rounds);
    watched.assert_no_growth();
}

#[test]
fn five_hundred_connections_at_once_echo_their_own_data_directly() {
    in_lab(Nat::PortRestricted, "direct", five_hundred_at_once);
}

#[test]
fn five_hundred_connections_at_once_echo_their_own_data_through_the_relay() {
    in_lab(Nat::Symmetric, "relay", five_hundred_at_once);
}

/// What an idle connection may cost either end: five tasks of half a KiB to 2 KiB, the flow, a QUIC stream and a socket of a
/// few hundred bytes each. 6 to 9 kB were measured; the smallest buffer each way, 4 KiB and 4 KiB more, would be above this.
const IDLE_MAX_BYTES: u64 = 14 * 1024;

/// Lets the programs that are started from now on begin with as many files as a login shell usually gives.
fn give_few_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(1024);
    setrlimit(Resource::Nofile, limit).expect("a limit can be lowered");
}

#[test]
fn two_thousand_idle_connections_hold_no_buffers() {
    give_few_files();
    in_lab(Nat::PortRestricted, "direct", |mut watched| {
        for _ in 0..ROUNDS {
            let mut crowd = Crowd::tcp(watched.pair.host, ECHO);
            crowd.all("open 2000", 2000);
            watched.assert_holds(2000, [2000, 2000]);
            // Several seconds in which nothing is said.
            let idle = [
                quiet(&mut watched.pair.client),
                quiet(&mut watched.pair.server),
            ];
            let each = watched.growth().map(|bytes| bytes / 2000);
            eprintln!("idle: {each:?} bytes per connection, {idle:?}");
            assert!(each.iter().all(|each| *each < IDLE_MAX_BYTES), "{each:?}");
            crowd.all("echo", 2000);
            crowd.all("close 2000", 2000);
            watched.await_return();
        }
        eprintln!("kept after each round: {:?}", watched.after_rounds);
        watched.assert_no_growth();
    });
}

#[test]
fn connections_that_are_reset_leave_nothing() {
    in_lab(Nat::PortRestricted, "direct", |mut watched| {
        for _ in 0..ROUNDS {
            let mut crowd = Crowd::tcp(watched.pair.host, ECHO);
            crowd.all("open 500", 500);
            crowd.all("reset 250", 250);
            // The rest die with their program, in the middle of what they say.
            crowd.begin("exchange 50000000");
            drop(crowd);
            watched.await_return();
        }
        watched.assert_no_growth();
    });
}

/// What a UDP flow may cost either end while it is idle: a socket and a task at the server, an entry in a table at the
/// client.
const UDP_FLOW_MAX_BYTES: u64 = 16 * 1024;

#[test]
fn a_thousand_udp_sources_have_a_flow_each() {
    in_lab(Nat::PortRestricted, "direct", |mut watched| {
        let mut swarm = Crowd::udp(watched.pair.host, UDP, [12, 8_000]);
        swarm.step("open 1000");
        let report = swarm.all("echo 4", 4000);
        watched.assert_holds(1000, [0, 1000]);
        let held = [
            quiet(&mut watched.pair.client),
            quiet(&mut watched.pair.server),
        ];
        let each = watched.growth().map(|bytes| bytes / 1000);
        eprintln!("{report}; {each:?} bytes per flow; {held:?}");
        assert!(
            each.iter().all(|each| *each < UDP_FLOW_MAX_BYTES),
            "{each:?}"
        );
        // Two datagrams more find the flows that there are.
        swarm.all("echo 2", 2000);
        watched.assert_holds(1000, [0, 1000]);
        // A flow ends after two minutes without a datagram; with its mapping it ends at once.
        let spec = MAPPINGS[4];
        for (remove, add) in [(vec![spec], vec![]), (vec![], vec![spec])] {
            let answer = watched
                .pair
                .client
                .ask(&json!({ "cmd": "map-change", "add": add, "remove": remove }));
            assert_eq!(answer["outcome"], "committed", "{answer:#}");
        }
        watched.await_return();
        swarm.all("echo 1", 1000);
        watched.assert_holds(1000, [0, 1000]);
    });
}

#[test]
fn a_port_scan_leaves_the_mapping_healthy() {
    in_lab(Nat::PortRestricted, "direct", |mut watched| {
        let host = watched.pair.host;
        let moved = "60000000";
        for _ in 0..ROUNDS {
            let mut transfer = tool::start(
                host,
                &["transfer", EXCHANGE, "--up", moved, "--down", moved],
            );
            for how in ["close", "reset"] {
                let args = ["scan", EXCHANGE, "--count", "5000", "--how", how];
                let report = tool::run(host, &args);
                eprintln!("{how}: {report}");
                assert_eq!(report["connected"], 5000, "{report}");
            }
            // The transfer fails by itself when one byte is wrong.
            tool::finish(&mut transfer, Duration::from_secs(60));
            let report = tool::run(host, &["scan-syn", EXCHANGE, "--count", "5000"]);
            assert_eq!(report["answered"], 5000, "{report}");
            // Not the sink behind 8083: it never ends its side, and so its flow lives on, as it should.
            let report = tool::run(host, &["scan-ports", "127.0.0.1", "8000", "8082"]);
            assert_eq!(report["open"], json!([8080, 8081, 8082]), "{report}");
            watched.pair.transfer(2_000_000);
            watched.pair.half_close();
            watched.await_return();
        }
        eprintln!("kept after each round: {:?}", watched.after_rounds);
        watched.assert_no_growth();
    });
}

#[test]
fn connections_that_a_service_refuses_are_reset_and_leave_nothing() {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let lab = Lab::new(home, home);
        let signaling = Signaling::start(lab.public());
        let config = config(&signaling).with_mappings(&["tcp:8084:9004"]);
        let mut watched = Watched::watch(Pair::start_on(lab.a(), lab.b(), &config), "direct");
        for _ in 0..ROUNDS {
            let mut crowd = Crowd::tcp(lab.a(), "127.0.0.1:8084");
            let report = crowd.step("open 500");
            assert_eq!(report["reset"], 500, "{report}");
            watched.await_return();
        }
        watched.assert_no_growth();
        watched.pair.transfer(2_000_000);
    });
}

/// More than this many connections are too many for the end whose configuration says so.
const LIMIT: u64 = 40;

/// Connections above the limit of one end are reset and counted there, those below it feel nothing, and when some have
/// ended there is room again.
fn limited(limits: [u64; 2]) {
    lab::test(|| {
        let home = Home::behind(Nat::PortRestricted);
        let lab = Lab::new(home, home);
        let signaling = Signaling::start(lab.public());
        let config = config(&signaling);
        let configs = limits.map(|limit| {
            config
                .clone()
                .with_line(&format!("maxConnections: {limit}"))
        });
        let pair = Pair::start_each(lab.a(), lab.b(), configs.each_ref());
        let mut watched = Watched::watch(pair, "direct");
        let full = usize::try_from(LIMIT).expect("a small number");
        let mut crowd = Crowd::tcp(lab.a(), ECHO);
        crowd.all("open 40", LIMIT);
        for round in 1..=2 {
            let mut late = Crowd::tcp(lab.a(), DIGEST);
            let report = late.step("open 100");
            assert_eq!(report["reset"], 100, "{report}");
            watched.assert_holds(LIMIT, [full, full]);
            let counts = watched.refused();
            assert_eq!(counts.iter().sum::<u64>(), 100 * round, "{counts:?}");
            let counting = usize::from(limits[0] > limits[1]);
            assert_eq!(counts[counting], 100 * round, "{counts:?}");
            crowd.all("exchange 100000", LIMIT);

            crowd.all("close 15", 15);
            watched.assert_holds(LIMIT - 15, [full - 15, full - 15]);
            crowd.all("open 15", 15);
            crowd.all("echo", LIMIT);
        }
        crowd.all("close 40", LIMIT);
        watched.await_return();
    });
}

#[test]
fn the_client_resets_what_is_above_its_limit_and_has_room_again() {
    limited([LIMIT, 4096]);
}

#[test]
fn the_server_refuses_what_is_above_its_limit_and_has_room_again() {
    limited([4096, LIMIT]);
}

//! Plays whole populations of pairs in virtual time and prints what became of them:
//! `cargo run --release -p natlab --example population [-- --pairs N --mix NAME --seed S --threads T --svg FILE]`.
//!
//! Without `--mix` all mixes of facts/nat-population.md, section 6, are played, 20,000 pairs each. The same
//! seed prints the same bytes, on however many threads.
#![expect(clippy::print_stdout, reason = "that is its purpose")]
#![expect(
    clippy::print_stderr,
    reason = "how long it took is not part of the outcome"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "how long it took is worth knowing"
)]

use std::time::Instant;

use natlab::population::{Budget, MIXES, Mix, Record, Tally, chart, report, run_all};

const USAGE: &str =
    "usage: population [--pairs N] [--mix NAME] [--seed S] [--threads T] [--svg FILE] [--failures]";
/// Failures beyond this number look like the others.
const FAILURES_MAX: usize = 20;

struct Arguments {
    pairs: u64,
    mixes: Vec<&'static Mix>,
    seed: u64,
    threads: usize,
    svg: Option<String>,
    failures: bool,
}

fn main() {
    let arguments = Arguments::read();
    let mut outcomes = Vec::new();
    for mix in arguments.mixes {
        let begin = Instant::now();
        let records = run_all(mix, arguments.pairs, arguments.seed, arguments.threads);
        let took = begin.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a population is small")]
        let rate = arguments.pairs as f64 / took;
        eprintln!("{}: {took:.1} s, {rate:.0} pairs/s", mix.name);
        let tally = Tally::of(&records);
        print!("{}", report::print(mix, arguments.seed, &tally));
        if arguments.failures {
            print_failures(&records);
        }
        outcomes.push((mix, tally));
    }
    if let Some(file) = arguments.svg {
        std::fs::write(&file, chart::svg(&outcomes)).expect("the file can be written");
    }
}

/// What the oracle allows and the sessions did not find, what they gave a wrong cause, what cost too much.
fn print_failures(records: &[Record]) {
    let is_bad = |it: &&Record| {
        let is_missed = it.possible.is_direct() && it.direct.is_none();
        let is_misjudged = it.direct.is_none() && !it.names_its_cause();
        is_missed || is_misjudged || !it.is_within(&Budget::PROMISED)
    };
    for record in records.iter().filter(is_bad).take(FAILURES_MAX) {
        println!("* {record}");
    }
}

impl Arguments {
    fn read() -> Self {
        let mut arguments = Self {
            pairs: 20_000,
            mixes: MIXES.iter().collect(),
            seed: 1,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            svg: None,
            failures: false,
        };
        let mut given = std::env::args().skip(1);
        while let Some(name) = given.next() {
            if name == "--failures" {
                arguments.failures = true;
                continue;
            }
            let value = given.next().expect(USAGE);
            match name.as_str() {
                "--pairs" => arguments.pairs = value.parse().expect(USAGE),
                "--mix" => arguments.mixes.retain(|mix| mix.name == value),
                "--seed" => arguments.seed = value.parse().expect(USAGE),
                "--threads" => arguments.threads = value.parse().expect(USAGE),
                "--svg" => arguments.svg = Some(value),
                _ => panic!("{USAGE}"),
            }
        }
        let names: Vec<_> = MIXES.iter().map(|mix| mix.name).collect();
        assert!(!arguments.mixes.is_empty(), "a mix is one of {names:?}");
        arguments
    }
}

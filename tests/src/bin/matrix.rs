//! Sets every NAT against every other in the kernel lab, with the real programs, and writes what was measured.
#![expect(clippy::print_stdout, reason = "it reports to a person")]

use std::{env, fs, path::PathBuf, process::Command, process::ExitCode};

use anyhow::{Context as _, bail, ensure};
use stunfwd_tests::{
    lab,
    matrix::{Row, Scenario, draw, hard, table, trial},
};

const USAGE: &str = "cargo run -p stunfwd-tests --bin matrix -- WHAT… [--rounds N] [--capture] [--write FILE]
  --all                 every pair, and all further cases (carriers, routers without a WAN firewall)
  --further             the further cases only
  --pair CLIENT,SERVER[,CARRIER]   one scenario; repeatable. A home is NAT, NAT@CARRIER, NAT+ipv6, NAT+gateway or NAT/open, a
                        shared carrier NAT or NAT+hairpin
  --pairs N [--seed S]  N pairs that the seed draws
  --hard N              instead of these: the pairs where ports have to be guessed, N runs of each
  --rounds N            each scenario so often
  --list                names the scenarios of --all and runs nothing
RUST_LOG=trace in the environment reaches the programs. A scenario with faults keeps its logs and says where.";

fn main() -> ExitCode {
    match prepare() {
        Ok(Some(request)) => lab::program(|| match request.run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => complain(&error),
        }),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

#[expect(clippy::print_stderr, reason = "it reports to a person")]
fn complain(error: &anyhow::Error) -> ExitCode {
    eprintln!("matrix: {error:#}\n{USAGE}");
    ExitCode::from(2)
}

/// Reads the command line and, once, outside the lab's world, builds the programs.
fn prepare() -> anyhow::Result<Option<Request>> {
    let request = Request::parse(env::args().skip(1))?;
    if request.list {
        for scenario in &request.scenarios {
            println!("{scenario}  {}", scenario.possible().letter());
        }
        return Ok(None);
    }
    if !lab::world::is_inside() {
        build_programs()?;
    }
    Ok(Some(request))
}

/// What is measured is what the source says. Outside of cargo the programs are taken as they are.
fn build_programs() -> anyhow::Result<()> {
    let Some(cargo) = env::var_os("CARGO") else {
        return Ok(());
    };
    // Not all in one: cargo would put another build of this very program in its place.
    let programs: &[&str] = &[
        "--bins",
        "-p",
        "stunfwd-client",
        "-p",
        "stunfwd-server",
        "-p",
        "signaling",
    ];
    let tools: &[&str] = &["--bin", "lab-tool", "-p", "stunfwd-tests"];
    for what in [programs, tools] {
        let status = Command::new(&cargo)
            .args(["build", "--quiet"])
            .args(what)
            .status()
            .context("cargo build")?;
        ensure!(status.success(), "the programs do not build");
    }
    Ok(())
}

#[derive(Default)]
struct Request {
    scenarios: Vec<Scenario>,
    options: trial::Options,
    write: Option<PathBuf>,
    list: bool,
    rounds: Option<usize>,
    hard: Option<usize>,
}

impl Request {
    fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut request = Self::default();
        let (mut count, mut seed) = (None, None);
        while let Some(word) = words.next() {
            let mut value = || {
                let value = words.next();
                value.with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                "--all" | "--list" => {
                    request.scenarios.extend(Scenario::pairs());
                    request.scenarios.extend(Scenario::further());
                    request.list |= word == "--list";
                }
                "--further" => request.scenarios.extend(Scenario::further()),
                "--pair" => request.scenarios.push(value()?.parse()?),
                "--pairs" => count = Some(value()?.parse().context("--pairs")?),
                "--seed" => seed = Some(value()?.parse().context("--seed")?),
                "--rounds" => request.rounds = Some(value()?.parse().context("--rounds")?),
                "--hard" => request.hard = Some(value()?.parse().context("--hard")?),
                "--capture" => request.options.capture = true,
                "--write" => request.write = Some(value()?.into()),
                other => bail!("`{other}` is unknown"),
            }
        }
        if let Some(count) = count {
            let seed = seed.unwrap_or_else(draw::seed);
            println!("--seed {seed}");
            request.scenarios.extend(draw::pairs(seed, count));
        }
        ensure!(
            request.scenarios.is_empty() == request.hard.is_some(),
            "nothing to run, or --hard and others"
        );
        Ok(request)
    }

    /// Runs all of it; whether nothing was at fault.
    fn run(self) -> anyhow::Result<bool> {
        let words: Vec<String> = env::args().skip(1).collect();
        let command = format!(
            "cargo run -p stunfwd-tests --bin matrix -- {}",
            words.join(" ")
        );
        let circumstances = table::Circumstances::now(&command);
        let (document, failed) = match self.hard {
            Some(count) => run_hard(&circumstances, count),
            None => self.run_scenarios(&circumstances),
        };
        if let Some(file) = &self.write {
            fs::write(file, document)
                .with_context(|| format!("{} cannot be written", file.display()))?;
        }
        Ok(failed == 0)
    }

    /// The document, and how many trials had faults.
    fn run_scenarios(&self, circumstances: &table::Circumstances) -> (String, usize) {
        let rounds = self.rounds.unwrap_or(1);
        let all = self.scenarios.len() * rounds;
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..rounds {
            for scenario in &self.scenarios {
                let row = trial::run(*scenario, self.options);
                println!("{}/{all} {}", rows.len() + 1, table::line(&row));
                rows.push(row);
            }
        }
        let failed = rows.iter().filter(|row| !row.faults.is_empty()).count();
        println!("{all} trials, {failed} with faults");
        (table::document(circumstances, &rows), failed)
    }
}

/// The document, and how many pairs did not show what they must.
fn run_hard(circumstances: &table::Circumstances, count: usize) -> (String, usize) {
    let mut all = Vec::new();
    for (pair, goal) in hard::PAIRS {
        let mut runs = Vec::new();
        for number in 0..count {
            let run = hard::run(pair, number % 2 == 1);
            println!("{}/{count} {}", number + 1, hard::line(pair, &run));
            runs.push(run);
        }
        let series = hard::Series { pair, goal, runs };
        for fault in series.faults() {
            println!("FAULT {pair}: {fault}");
        }
        all.push(series);
    }
    let failed = all.iter().filter(|series| !series.faults().is_empty());
    let failed = failed.count();
    (hard::document(circumstances, &all), failed)
}

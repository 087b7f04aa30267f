//! Traffic generators, services and NAT probes that run inside the machines of the lab.
//!
//! One process has one job and needs no runtime: entering a network namespace from a
//! thread would need unsafe code, so `nsenter` puts a whole process there. Services print `listening` when they can be
//! reached; clients print lines of JSON.
#![expect(clippy::print_stdout, reason = "its output is what the tests read")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Context as _, bail};

mod crowd;
mod datagrams;
mod gateway;
mod nat;
mod pattern;
mod probes;
mod scan;
mod services;
mod swarm;
mod transfer;
mod web;

const USAGE: &str = "lab-tool JOB ADDRESS… [--option value]…
services: tcp-echo, tcp-sink, tcp-digest, tcp-exchange, udp-echo ADDR; greet ADDR TEXT; observe IP IP PORT
          lying-gateway IP OUTSIDE-IP
clients:  transfer ADDR --up BYTES --down BYTES     half-close ADDR --bytes BYTES
          udp-check ADDR --count N --min BYTES --max BYTES
          small-writes ADDR --secs S --interval-us US
          first-byte ADDR --secs S                  hold ADDR --secs S
          pulse ADDR --secs S --interval-ms MS      connect ADDR --secs S
          say ADDR TEXT                             udp-say ADDR TEXT
          read ADDR --secs S
          nat-probe IP IP PORT                      punch ADDR
          http-get ADDR PATH
many:     crowd ADDR (steps: open N, echo, exchange BYTES, close N, reset N)
          swarm ADDR --min BYTES --max BYTES (steps: open N, echo ROUNDS, close N)
          scan ADDR --count N --how close|reset     scan-ports IP LOW HIGH
          scan-syn ADDR --count N";

fn main() -> anyhow::Result<()> {
    open_many_files();
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let job = arguments.position(0)?;
    match job {
        "tcp-echo" => services::tcp_echo(arguments.position(1)?),
        "tcp-sink" => services::tcp_sink(arguments.position(1)?),
        "tcp-digest" => services::tcp_digest(arguments.position(1)?),
        "tcp-exchange" => services::tcp_exchange(arguments.position(1)?),
        "greet" => services::greet(arguments.position(1)?, arguments.position(2)?),
        "udp-echo" => datagrams::echo(arguments.position(1)?),
        "observe" => nat::observe(&arguments),
        "lying-gateway" => gateway::lie(&arguments),
        "transfer" => transfer::transfer(&arguments),
        "half-close" => transfer::half_close(&arguments),
        "udp-check" => datagrams::check(&arguments),
        "udp-say" => datagrams::say(&arguments),
        "small-writes" => probes::small_writes(&arguments),
        "first-byte" => probes::first_byte(&arguments),
        "hold" => probes::hold(&arguments),
        "pulse" => probes::pulse(&arguments),
        "connect" => probes::connect(&arguments),
        "read" => probes::read(&arguments),
        "say" => probes::say(&arguments),
        "nat-probe" => nat::probe(&arguments),
        "punch" => nat::punch(&arguments),
        "http-get" => web::get(&arguments),
        "crowd" => crowd::lead(&arguments),
        "swarm" => swarm::lead(&arguments),
        "scan" => scan::connect(&arguments),
        "scan-ports" => scan::ports(&arguments),
        "scan-syn" => scan::syn(&arguments),
        other => bail!("unknown job `{other}`\n{USAGE}"),
    }
}

/// Crowds need more files than the 1,024 that are usual; what cannot be had shows as a refused socket.
fn open_many_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// The command line: positions, and options with a value each.
struct Arguments {
    positions: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut arguments = Self {
            positions: Vec::new(),
            options: BTreeMap::new(),
        };
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(name) => {
                    let value = words
                        .next()
                        .with_context(|| format!("--{name} needs a value"))?;
                    arguments.options.insert(name.to_owned(), value);
                }
                None => arguments.positions.push(word),
            }
        }
        Ok(arguments)
    }

    fn position(&self, index: usize) -> anyhow::Result<&str> {
        self.positions
            .get(index)
            .map(String::as_str)
            .with_context(|| USAGE.to_owned())
    }

    fn option<T: FromStr>(&self, name: &str, default: T) -> anyhow::Result<T> {
        match self.options.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .with_context(|| format!("--{name} cannot be `{text}`")),
        }
    }
}

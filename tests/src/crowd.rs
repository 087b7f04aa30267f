//! Leads `lab-tool crowd` and `lab-tool swarm`: many conversations at once, one step at a time.

use std::time::Duration;

use serde_json::Value;

use crate::{lab::Host, process::Process, tool, wait};

/// How long a step of thousands of connections may take on a busy machine.
const STEP: Duration = Duration::from_secs(60);

/// A crowd of TCP connections, or a swarm of UDP sockets, toward one address. Dropping it ends them all at once.
#[derive(Debug)]
pub struct Crowd {
    process: Process,
    steps: usize,
}

impl Crowd {
    /// A crowd of TCP connections to an echo service, with nobody in it.
    pub fn tcp(host: &Host, address: &str) -> Self {
        Self::start(host, &["crowd", address])
    }

    /// A swarm of UDP sockets toward an echo service, with none in it.
    pub fn udp(host: &Host, address: &str, [min, max]: [usize; 2]) -> Self {
        let (min, max) = (min.to_string(), max.to_string());
        Self::start(host, &["swarm", address, "--min", &min, "--max", &max])
    }

    fn start(host: &Host, args: &[&str]) -> Self {
        let mut crowd = Self {
            process: tool::start(host, args),
            steps: 0,
        };
        crowd.report("start");
        crowd
    }

    /// Tells it to take a step, and waits for its report.
    pub fn step(&mut self, step: &str) -> Value {
        self.begin(step);
        self.finish(step)
    }

    /// Tells it to take a step, without waiting.
    pub fn begin(&mut self, step: &str) {
        self.process.write_line(step);
    }

    /// Waits for the report of a step that has begun.
    pub fn finish(&mut self, step: &str) -> Value {
        self.report(step)
    }

    /// Takes a step that every one of `count` must come through whole.
    ///
    /// # Panics
    /// When one does not: with what it met.
    pub fn all(&mut self, step: &str, count: u64) -> Value {
        let report = self.step(step);
        assert_eq!(report["correct"].as_u64(), Some(count), "{step}: {report}");
        report
    }

    fn report(&mut self, step: &str) -> Value {
        let deadline = wait::now() + STEP;
        loop {
            if let Some(report) = tool::reports(&self.process).get(self.steps) {
                self.steps += 1;
                return report.clone();
            }
            if let Some(status) = self.process.ended() {
                panic!(
                    "{step}: lab-tool ended with {status}: {}",
                    self.process.stderr()
                );
            }
            assert!(wait::now() < deadline, "{step}: no report after {STEP:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

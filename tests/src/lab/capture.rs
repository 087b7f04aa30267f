//! What went over a wire.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::host::Host;
use crate::{process::Process, wait};

/// How long tcpdump may take to open its interface.
const START: Duration = Duration::from_secs(5);

/// A file that has not grown for so long is complete.
const QUIET: Duration = Duration::from_millis(200);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    pub(super) fn start(host: &Host, interface: &str, folder: &Path) -> Self {
        let file = folder.join(format!("{}-{interface}.pcap", host.name()));
        let path = file.display().to_string();
        // Whole packets, written as they come, without changing the user: in a user namespace there is only one.
        let process = host.spawn(
            "tcpdump",
            &[
                "-i",
                interface,
                "--immediate-mode",
                "-s",
                "0",
                "-U",
                "-n",
                "-Z",
                "root",
                "-B",
                "16384",
                "-w",
                &path,
            ],
            &[],
        );
        wait::until(START, "tcpdump to listen", || {
            process.stderr().contains("listening on")
        });
        Self { process, file }
    }

    /// Ends the capture and returns the whole pcap file.
    ///
    /// # Panics
    /// When tcpdump does not end or left no file.
    pub fn finish(mut self) -> Vec<u8> {
        self.settle();
        self.process.terminate();
        self.process.wait(START).expect("tcpdump ends when told to");
        fs::read(&self.file).expect("tcpdump wrote its file")
    }
}

impl Capture {
    /// What has been captured so far.
    pub fn so_far(&self) -> Vec<u8> {
        fs::read(&self.file).unwrap_or_default()
    }

    /// Waits until tcpdump has written what it has seen: packets that nobody sends on purpose any more come far apart.
    fn settle(&self) {
        let size = || fs::metadata(&self.file).map_or(0, |file| file.len());
        let (mut last, mut since) = (size(), wait::now());
        wait::answer_within(START, || {
            if size() != last {
                (last, since) = (size(), wait::now());
            }
            (since.elapsed() >= QUIET).then_some(())
        });
    }
}

/// Whether `needle` is found in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

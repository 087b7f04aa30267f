//! What can be done on one machine of the lab.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
};

use super::capture::Capture;
use crate::process::{Place, Process};

/// One machine of the lab, a network namespace; or this one.
#[derive(Debug)]
pub struct Host {
    name: String,
    place: Place,
    address: Ipv4Addr,
    address_6: Option<Ipv6Addr>,
    folder: PathBuf,
}

impl Host {
    pub(super) fn new(name: &str, place: Place, address: Ipv4Addr, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            place,
            address,
            address_6: None,
            folder: folder.to_owned(),
        }
    }

    /// The machine the test itself runs on, for tests without a lab; logs go to `folder`.
    pub fn local(folder: &Path) -> Self {
        Self::new("here", Place::Here, Ipv4Addr::LOCALHOST, folder)
    }

    /// The short name: `a`, `rb`, `pub`…
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The main address: of a host its own, of a router the one on its outside.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(super) const fn set_address_6(&mut self, address: Ipv6Addr) {
        self.address_6 = Some(address);
    }

    /// The main IPv6 address, where the machine has IPv6.
    pub const fn address_6(&self) -> Option<Ipv6Addr> {
        self.address_6
    }

    /// Where logs, captures and configurations go.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where programs of this machine run.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn netns(&self) -> &str {
        match &self.place {
            Place::Namespace(name) => name,
            Place::Here => unreachable!("a lab's hosts are namespaces"),
        }
    }

    /// A command that will run on this machine.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        self.place.command(program)
    }

    /// Starts a program that runs on, with its output in the lab's folder.
    pub fn spawn(&self, program: impl AsRef<Path>, args: &[&str], env: &[(&str, &str)]) -> Process {
        let mut command = self.command(&program);
        command.args(args).envs(env.iter().copied());
        Process::spawn(&self.label(program.as_ref()), command, &self.folder)
    }

    /// Runs a program to its end and returns its standard output.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self
            .command(program)
            .args(args)
            .output()
            .expect("the program starts");
        assert!(
            output.status.success(),
            "{program} {args:?} on {} failed ({}): {}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Applies nftables rules on this machine, beside those of its NAT.
    ///
    /// # Panics
    /// When nft refuses them, with what it said.
    pub fn nft(&self, rules: &str) {
        self.run("nft", &[rules]);
    }

    /// Starts a capture of everything on one interface (`any` for all).
    pub fn capture(&self, interface: &str) -> Capture {
        Capture::start(self, interface, &self.folder)
    }

    fn label(&self, program: &Path) -> String {
        let program = program.file_name().unwrap_or(program.as_os_str());
        format!("{}-{}", self.name, program.to_string_lossy())
    }
}

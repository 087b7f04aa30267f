//! Signs: how a program is found wherever its control socket is.
//!
//! Every running program leaves a small file `ROLE-HASH.run` (a second one `ROLE-HASH.2.run`) where control
//! sockets are by default. It says where the socket is and to which configuration it belongs, which the
//! hash does not tell. It goes with the program; one that a killed program left is not believed, since
//! nobody answers at its socket, and is replaced.

use std::{
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{
    location::{SIGN_ENDING, absolute, is_sign, names},
    transport::is_answered,
};
use crate::state_dir::create_private;

/// Longest sign that is read: two paths of the longest kind that systems have, escaped.
const SIGN_BYTES_MAX: u64 = 16 * 1024;

/// What a sign says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sign {
    pub(super) socket: PathBuf,
    pub(super) config: PathBuf,
}

/// A sign that stands; it is taken down when the value is dropped.
#[derive(Debug)]
pub(super) struct StandingSign {
    file: PathBuf,
    sign: Sign,
}

impl Sign {
    /// Reads a sign; `None` when there is none or it is something else.
    pub(super) fn read(file: &Path) -> Option<Self> {
        let mut text = Vec::new();
        let opened = fs::File::open(file).ok()?;
        opened.take(SIGN_BYTES_MAX).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

impl StandingSign {
    /// Puts up the sign of the program that listens at `socket`, which exists.
    pub(super) fn put_up(
        directory: &Path,
        role: &str,
        config_file: &Path,
        socket: &Path,
    ) -> io::Result<Self> {
        create_private(directory)?;
        let sign = Sign {
            socket: absolute(socket),
            config: absolute(config_file),
        };
        let text = serde_json::to_vec(&sign)?;
        take_down_others(directory, &sign.socket)?;
        for name in names(role, config_file, SIGN_ENDING) {
            let file = directory.join(name);
            let is_taken =
                Sign::read(&file).is_some_and(|other| is_answered(&other.socket).unwrap_or(false));
            if is_taken {
                continue;
            }
            // Renamed into place, so that nobody reads half of it.
            let newborn = directory.join(format!(".{:08x}", rand::rng().random::<u32>()));
            let put_up = write_new(&newborn, &text).and_then(|()| fs::rename(&newborn, &file));
            if put_up.is_err() {
                let _ = fs::remove_file(&newborn);
            }
            return put_up.map(|()| Self { file, sign });
        }
        Err(io::Error::other("too many programs of one configuration"))
    }
}

impl Drop for StandingSign {
    fn drop(&mut self) {
        if Sign::read(&self.file).as_ref() == Some(&self.sign) {
            // What remains would not be believed.
            let _ = fs::remove_file(&self.file);
        }
    }
}

/// Takes down what a killed program left for a socket that is ours now: it would be believed.
fn take_down_others(directory: &Path, socket: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let file = entry?.path();
        if is_sign(&file) && Sign::read(&file).is_some_and(|sign| sign.socket == socket) {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

fn write_new(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)?.write_all(text)
}

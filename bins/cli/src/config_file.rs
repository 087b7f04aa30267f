//! Reads the configuration file.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use mapping_core::config::{ConfigError, FILE_BYTES_MAX};

/// Returns the text of a configuration file.
///
/// # Errors
/// [`ConfigError`] that names the file and what would be right.
pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    // One byte more than is allowed shows that there is too much, and no more is read.
    let read = File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(ConfigError::of_file(path, message(path, &error)));
    }
    String::from_utf8(bytes)
        .map_err(|_| ConfigError::of_file(path, "is not text in UTF-8: save it in that encoding"))
}

fn message(path: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::NotFound {
        return format!("cannot be read: {error}");
    }
    let place = match std::env::current_dir() {
        Ok(directory) if path.is_relative() => format!(" in {}", directory.display()),
        _ => String::new(),
    };
    format!(
        "there is no such file{place}: write one with roomId and signalingUrl, or name another with \
         --config FILE"
    )
}

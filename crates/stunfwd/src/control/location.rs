//! Where control sockets are by default.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Bytes of the hash in a socket's name: enough that no two configurations of a machine meet, few enough
/// that the path stays below the 104 bytes of some systems.
const HASH_BYTES: usize = 8;

/// Most processes of one role with one configuration.
pub(super) const SOCKETS_MAX: u32 = 16;

/// Returns the directory of the user's session; `None` where there is none.
pub(super) fn runtime_directory() -> Option<PathBuf> {
    let directory = PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?);
    (directory.is_absolute() && directory.is_dir()).then(|| directory.join("stunfwd"))
}

/// Returns the names that a process may take, best first.
pub(super) fn names(role: &str, config_file: &Path) -> impl Iterator<Item = String> {
    let stem = format!("{role}-{}", hash(config_file));
    (1..=SOCKETS_MAX).map(move |number| match number {
        1 => format!("{stem}.sock"),
        _ => format!("{stem}.{number}.sock"),
    })
}

/// Returns the sockets of a role in a directory, whether anybody answers there or not, in the order of
/// their names.
pub(super) fn candidates(directory: &Path, role: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let prefix = format!("{role}-");
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let is_ours = |name: &str| name.starts_with(&prefix) && name.ends_with(".sock");
        if name.to_str().is_some_and(is_ours) {
            found.push(directory.join(name));
        }
    }
    found.sort();
    Ok(found)
}

fn hash(config_file: &Path) -> String {
    // A configuration that was read has a canonical path; should it be gone since, its name must do.
    let canonical = fs::canonicalize(config_file).unwrap_or_else(|_| config_file.to_owned());
    let digest = Sha256::digest(canonical.as_os_str().as_encoded_bytes());
    HEXLOWER.encode(&digest[..HASH_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_configuration_has_one_name_however_it_is_written() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config.yml");
        fs::write(&config, "").unwrap();
        let detour = home.path().join(".").join("config.yml");
        let first = |path: &Path| names("client", path).next().unwrap();
        assert_eq!(first(&config), first(&detour));
        assert_ne!(first(&config), first(&home.path().join("other.yml")));
        assert!(first(&config).starts_with("client-") && first(&config).len() == 28);
        let second = names("client", &config).nth(1).unwrap();
        assert_eq!(second, first(&config).replace(".sock", ".2.sock"));
    }

    #[test]
    fn only_sockets_of_the_role_are_candidates() {
        let home = tempfile::tempdir().unwrap();
        for name in [
            "client-2.sock",
            "client-1.sock",
            "server-1.sock",
            "client-x",
            "identity-client",
        ] {
            fs::write(home.path().join(name), "").unwrap();
        }
        let found = candidates(home.path(), "client").unwrap();
        assert_eq!(
            found,
            ["client-1.sock", "client-2.sock"].map(|name| home.path().join(name))
        );
        assert!(
            candidates(&home.path().join("absent"), "client")
                .unwrap()
                .is_empty()
        );
    }
}

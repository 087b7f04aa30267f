//! Where control sockets and their signs are by default.

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

/// How the name of a socket ends.
pub(super) const SOCKET_ENDING: &str = ".sock";

/// How the name of a sign ends.
pub(super) const SIGN_ENDING: &str = ".run";

/// Returns the path of a control socket as a configuration file means it: a relative one begins in the
/// file's folder, from wherever the program is started.
#[must_use]
pub fn beside_config(config_file: &Path, control: &Path) -> PathBuf {
    config_file
        .parent()
        .map_or_else(|| control.to_owned(), |folder| folder.join(control))
}

/// Returns the names that a process may take, best first.
pub(super) fn names(role: &str, config_file: &Path, ending: &str) -> impl Iterator<Item = String> {
    let stem = stem(role, config_file);
    (1..=SOCKETS_MAX).map(move |number| match number {
        1 => format!("{stem}{ending}"),
        _ => format!("{stem}.{number}{ending}"),
    })
}

/// Returns the sockets and signs of a role, or of one configuration of it, in a directory, whether anybody
/// answers there or not, in the order of their names.
pub(super) fn candidates(
    directory: &Path,
    role: &str,
    config_file: Option<&Path>,
) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let prefix = match config_file {
        Some(config_file) => format!("{}.", stem(role, config_file)),
        None => format!("{role}-"),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let is_ours = |name: &str| {
            name.starts_with(&prefix)
                && (name.ends_with(SOCKET_ENDING) || name.ends_with(SIGN_ENDING))
        };
        if name.to_str().is_some_and(is_ours) {
            found.push(directory.join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// Says whether a file is a sign by its name.
pub(super) fn is_sign(file: &Path) -> bool {
    file.to_str()
        .is_some_and(|file| file.ends_with(SIGN_ENDING))
}

/// Returns the one path of a file. A configuration that was read has a canonical one; should it be gone
/// since, its name must do.
pub(super) fn absolute(file: &Path) -> PathBuf {
    fs::canonicalize(file)
        .or_else(|_| std::path::absolute(file))
        .unwrap_or_else(|_| file.to_owned())
}

fn stem(role: &str, config_file: &Path) -> String {
    let digest = Sha256::digest(absolute(config_file).as_os_str().as_encoded_bytes());
    format!("{role}-{}", HEXLOWER.encode(&digest[..HASH_BYTES]))
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
        let first = |path: &Path| names("client", path, SOCKET_ENDING).next().unwrap();
        assert_eq!(first(&config), first(&detour));
        assert_ne!(first(&config), first(&home.path().join("other.yml")));
        assert!(first(&config).starts_with("client-") && first(&config).len() == 28);
        let second = names("client", &config, SOCKET_ENDING).nth(1).unwrap();
        assert_eq!(second, first(&config).replace(".sock", ".2.sock"));
    }

    #[test]
    fn a_relative_socket_of_a_configuration_is_in_its_folder() {
        let beside = |config, control| beside_config(Path::new(config), Path::new(control));
        assert_eq!(beside("/etc/s/c.yml", "c.sock"), Path::new("/etc/s/c.sock"));
        assert_eq!(beside("c.yml", "c.sock"), Path::new("c.sock"));
        assert_eq!(beside("/etc/s/c.yml", "/run/c"), Path::new("/run/c"));
    }

    #[test]
    fn only_sockets_and_signs_of_the_role_are_candidates() {
        let home = tempfile::tempdir().unwrap();
        for name in [
            "client-2.sock",
            "client-1.sock",
            "client-1.run",
            "server-1.sock",
            "client-x",
            "identity-client",
        ] {
            fs::write(home.path().join(name), "").unwrap();
        }
        let found = candidates(home.path(), "client", None).unwrap();
        assert_eq!(
            found,
            ["client-1.run", "client-1.sock", "client-2.sock"].map(|name| home.path().join(name))
        );
        assert!(
            candidates(&home.path().join("absent"), "client", None)
                .unwrap()
                .is_empty()
        );
    }
}

//! Writes the running table to the configuration file: the `mappings` of it and nothing else.
//!
//! The text is edited, not printed anew, so comments, order and style of the rest stay (`yaml`, `json`).
//! What comes out is parsed before it is written: it must mean what the old text meant, but for the
//! mappings. Then a new file takes the old one's place at once (`replace`), so that nobody ever reads half
//! of it.

mod json;
mod replace;
mod yaml;

use std::{
    io,
    path::{Path, PathBuf},
};

use mapping_core::{
    PortMapping,
    config::{ClientConfig, CommonConfig, ConfigError},
};

use crate::config_file;

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It lists the mappings now.
    Written,
    /// It listed them before.
    Unchanged,
}

/// Why the file is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    /// It cannot be read, or is not valid any more.
    #[error("the file is not valid any more and is left as it is:\n{0}")]
    Invalid(ConfigError),
    /// It is written in a way that cannot be edited without changing what else it says.
    #[error(
        "{} is written in a way that cannot be edited safely and is left as it is; its mappings would be:\n{}",
        .file.display(), list(.mappings)
    )]
    Form {
        /// The file.
        file: PathBuf,
        /// What it should list.
        mappings: Vec<PortMapping>,
    },
    /// Somebody else wrote it at the same time.
    #[error("{} was changed by somebody else at this moment and is left as it is: try again", .0.display())]
    Raced(PathBuf),
    /// The system refused.
    #[error("{} cannot be written and is left as it is: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Makes a client's configuration file list these mappings.
///
/// # Errors
/// [`SaveError`]: the file is as it was.
pub(crate) fn save(file: &Path, mappings: &[PortMapping]) -> Result<Saved, SaveError> {
    let old = config_file::read(file).map_err(SaveError::Invalid)?;
    let config = ClientConfig::parse(file, &old).map_err(SaveError::Invalid)?;
    if sorted(&config.mappings) == sorted(mappings) {
        return Ok(Saved::Unchanged);
    }
    let new = rewritten(file, &old, &config, mappings).ok_or_else(|| SaveError::Form {
        file: file.to_owned(),
        mappings: mappings.to_vec(),
    })?;
    let wrap = |source| SaveError::Io {
        file: file.to_owned(),
        source,
    };
    let unchanged = || config_file::read(file).is_ok_and(|now| now == old);
    match replace::replace(file, &new, unchanged).map_err(wrap)? {
        true => Ok(Saved::Written),
        false => Err(SaveError::Raced(file.to_owned())),
    }
}

/// Returns the text with other mappings; `None` when no edit is known to be safe.
fn rewritten(
    file: &Path,
    old: &str,
    config: &ClientConfig,
    mappings: &[PortMapping],
) -> Option<String> {
    // JSON is YAML too, whatever the file is called.
    let is_braced = old
        .trim_start_matches('\u{feff}')
        .trim_start()
        .starts_with('{');
    let new = if is_braced {
        json::with_mappings(old, mappings)
    } else {
        yaml::with_mappings(old, &config.mappings, mappings)
    }?;
    let read = ClientConfig::parse(file, &new).ok()?;
    let is_meant = sorted(&read.mappings) == sorted(mappings)
        && without_warnings(&read.common) == without_warnings(&config.common);
    is_meant.then_some(new)
}

fn sorted(mappings: &[PortMapping]) -> Vec<&PortMapping> {
    let mut sorted: Vec<_> = mappings.iter().collect();
    sorted.sort();
    sorted
}

/// A file without mappings is warned of, which is no difference in what it says.
fn without_warnings(common: &CommonConfig) -> CommonConfig {
    CommonConfig {
        warnings: Vec::new(),
        ..common.clone()
    }
}

fn list(mappings: &[PortMapping]) -> String {
    let lines: Vec<_> = mappings
        .iter()
        .map(|mapping| format!("  - {mapping}"))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HEAD: &str = "roomId: hunter2\nsignalingUrl: http://127.0.0.1:1\n";

    fn mappings(specs: &[&str]) -> Vec<PortMapping> {
        specs.iter().map(|spec| spec.parse().unwrap()).collect()
    }

    fn saved(name: &str, text: &str, specs: &[&str]) -> (Result<Saved, String>, String) {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(name);
        fs::write(&file, text).unwrap();
        let saved = save(&file, &mappings(specs)).map_err(|error| error.to_string());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        (saved, fs::read_to_string(&file).unwrap())
    }

    #[test]
    fn the_mappings_are_written_and_nothing_else_changes() {
        let text = format!("{HEAD}mappings:\n  - tcp:1:1 # one\n  - tcp:2:2\nresume: 2h # why\n");
        let (written, now) = saved("config.yml", &text, &["tcp:1:1", "udp:3:3"]);
        assert_eq!(written, Ok(Saved::Written));
        assert_eq!(
            now,
            format!("{HEAD}mappings:\n  - tcp:1:1 # one\n  - udp:3:3\nresume: 2h # why\n")
        );
    }

    #[test]
    fn a_file_that_lists_them_already_is_not_touched() {
        let text = format!("{HEAD}mappings: [tcp:2:2, tcp:1:1]\n");
        let (written, now) = saved("config.yml", &text, &["tcp:1:1", "tcp:2:2"]);
        assert_eq!((written, now), (Ok(Saved::Unchanged), text));
    }

    #[test]
    fn a_file_that_is_not_valid_any_more_is_left_as_it_is() {
        let text = format!("{HEAD}mappings: [tcp:70000:1]\nx: 1\n");
        let (refused, now) = saved("config.yml", &text, &["tcp:1:1"]);
        let message = refused.unwrap_err();
        assert!(message.starts_with("the file is not valid any more"));
        assert_eq!(message.lines().count(), 3, "{message}");
        assert_eq!(now, text);
    }

    #[test]
    fn what_cannot_be_edited_safely_is_left_as_it_is_and_the_mappings_are_told() {
        let text = "{roomId: hunter2, signalingUrl: 'http://127.0.0.1:1', mappings: [tcp:1:1]}\n";
        let (refused, now) = saved("config.yml", text, &["tcp:2:2"]);
        let message = refused.unwrap_err();
        assert!(message.ends_with("its mappings would be:\n  - tcp:2:2"));
        assert_eq!(now, text);
    }

    #[test]
    fn json_is_edited_under_any_name() {
        let text = "{\"roomId\": \"hunter2\", \"signalingUrl\": \"http://127.0.0.1:1\"}";
        for name in ["config.json", "config.yml"] {
            let (written, now) = saved(name, text, &["tcp:2:2"]);
            assert_eq!(written, Ok(Saved::Written), "{name}");
            assert!(now.contains("\"mappings\": [\"tcp:2:2\"]"), "{now}");
        }
    }

    #[test]
    fn what_a_killed_program_of_our_number_left_is_no_obstacle() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config.yml");
        fs::write(&file, HEAD).unwrap();
        let left = format!(".config.yml.{}", std::process::id());
        fs::write(home.path().join(left), "half of").unwrap();
        assert_eq!(
            save(&file, &mappings(&["tcp:1:1"])).unwrap(),
            Saved::Written
        );
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, format!("{HEAD}mappings:\n  - tcp:1:1\n"));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn mode_and_symbolic_link_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let home = tempfile::tempdir().unwrap();
        let (real, link) = (home.path().join("real.yml"), home.path().join("config.yml"));
        fs::write(&real, HEAD).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.yml", &link).unwrap();
        assert_eq!(
            save(&link, &mappings(&["tcp:1:1"])).unwrap(),
            Saved::Written
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let text = fs::read_to_string(&real).unwrap();
        assert_eq!(text, format!("{HEAD}mappings:\n  - tcp:1:1\n"));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    }
}

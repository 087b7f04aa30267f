//! What is wrong with a configuration, said so that a person can put it right.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::grammar_error::shown;

/// One thing that is wrong.
///
/// Prints as ``config.yml:7: mappings[1]: `udp:70000:80`: port 70000 is above 65535``. The value of a secret
/// never gets in here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the user named it.
    pub file: PathBuf,
    /// The line counted from 1, where it is known for certain.
    pub line: Option<usize>,
    /// The key, with the place in a list: `mappings[1]`.
    pub key: Option<String>,
    /// The value as far as it may be shown.
    pub value: Option<String>,
    /// What is wrong with it and what would be right.
    pub message: String,
}

impl Problem {
    /// Makes a problem of a whole file.
    #[must_use]
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            file: file.to_owned(),
            line: None,
            key: None,
            value: None,
            message,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if let Some(key) = &self.key {
            write!(f, " {}:", shown(key))?;
        }
        if let Some(value) = &self.value {
            write!(f, " `{}`:", shown(value))?;
        }
        write!(f, " {}", self.message)
    }
}

/// Everything that is wrong with a configuration; prints one problem a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order of the file, what is missing last; never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// Makes an error of a single problem that concerns the file as a whole.
    #[must_use]
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self {
            problems: vec![Problem::of_file(file, message)],
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

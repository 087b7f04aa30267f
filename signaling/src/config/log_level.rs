//! How much is logged.

/// How much is logged: the words of `stunfwd-client --log`. Anything finer is for `RUST_LOG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What ends the program.
    Error,
    /// What should not happen.
    Warn,
    /// What an operator would notice.
    Info,
    /// Changes of state, with addresses.
    Debug,
    /// Single packets: checks, probes and what was dropped.
    Trace,
}

/// Targets that are ours, by their beginning.
const OURS: [&str; 7] = [
    "stunfwd",
    "signaling",
    "signal_client",
    "relay",
    "stunwire",
    "sansio",
    "mapping_core",
];

impl LogLevel {
    /// Parses a level, in whatever case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "off" => Self::Off,
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return None,
        })
    }

    /// Returns the directives as in `RUST_LOG`: the level for our crates, at most warnings of the others.
    #[must_use]
    pub fn directives(self) -> String {
        let (ours, others) = match self {
            Self::Off => ("off", "off"),
            Self::Error => ("error", "error"),
            Self::Warn => ("warn", "warn"),
            Self::Info => ("info", "warn"),
            Self::Debug => ("debug", "warn"),
            Self::Trace => ("trace", "warn"),
        };
        let ours = OURS.map(|target| format!(",{target}={ours}")).concat();
        format!("{others}{ours}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_are_levels() {
        assert_eq!(LogLevel::parse("DEBUG"), Some(LogLevel::Debug));
        for text in ["", "nonsense", "signaling=debug", "info "] {
            assert_eq!(LogLevel::parse(text), None, "{text}");
        }
        let directives = LogLevel::Debug.directives();
        assert!(directives.starts_with("warn,stunfwd=debug,signaling=debug"));
    }
}

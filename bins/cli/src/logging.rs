//! Where the log goes and how much of it.

use std::{
    env,
    io::{self, IsTerminal},
};

use anyhow::anyhow;
use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    args::{LogFormat, LogLevel},
    failure::Failure,
    log_sink::LogSink,
};

/// Targets that are ours, by their beginning; `wire` is the dumps of what is sent.
const OURS: [&str; 12] = [
    "stunfwd",
    "session",
    "natprobe",
    "punch",
    "relay",
    "tunnel",
    "signal_client",
    "mapping_core",
    "sansio",
    "stunwire",
    "wire",
    "stunfwd_cli",
];

/// Starts logging to standard error: `--log` for our crates with warnings of the others, else RUST_LOG to
/// the letter, else info. Returns where the lines go, for a prompt to have them written above itself.
pub(crate) fn start(level: Option<LogLevel>, format: LogFormat) -> Result<LogSink, Failure> {
    let filter = filter(level, env::var("RUST_LOG").ok().as_deref())?;
    let stderr_is_terminal = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let sink = LogSink::default();
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(sink.clone())
        .with_ansi(stderr_is_terminal);
    let started = match format {
        LogFormat::Text => builder.compact().with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::other(anyhow!("logging cannot be started: {error}")))?;
    Ok(sink)
}

fn filter(level: Option<LogLevel>, rust_log: Option<&str>) -> Result<EnvFilter, Failure> {
    match (level, rust_log) {
        (None, Some(directives)) if !directives.trim().is_empty() => EnvFilter::try_new(directives)
            // Its source says the same once more.
            .map_err(|error| anyhow!("RUST_LOG: `{directives}`: write for example info: {error}"))
            .map_err(Failure::usage),
        (level, _) => Ok(EnvFilter::new(directives(level.unwrap_or(LogLevel::Info)))),
    }
}

fn directives(level: LogLevel) -> String {
    let (ours, others) = match level {
        LogLevel::Off => ("off", "off"),
        LogLevel::Error => ("error", "error"),
        LogLevel::Warn => ("warn", "warn"),
        LogLevel::Info => ("info", "warn"),
        LogLevel::Debug => ("debug", "warn"),
        LogLevel::Trace => ("trace", "warn"),
    };
    let ours = OURS.map(|target| format!(",{target}={ours}")).concat();
    format!("{others}{ours}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_environment() {
        let text = |level, rust_log| filter(level, rust_log).unwrap().to_string();
        assert!(text(None, None).contains("stunfwd=info"));
        assert!(text(None, Some("")).contains("stunfwd=info"));
        assert_eq!(text(None, Some("quinn=trace")), "quinn=trace");
        assert!(text(Some(LogLevel::Debug), Some("quinn=trace")).contains("stunfwd=debug"));
        assert!(!text(Some(LogLevel::Debug), Some("quinn=trace")).contains("quinn"));
        let error = filter(None, Some("stunfwd=loud")).unwrap_err().to_string();
        assert!(
            error.starts_with("error: RUST_LOG: `stunfwd=loud`: "),
            "{error}"
        );
        let parsed = EnvFilter::try_new("stunfwd=loud").unwrap_err();
        let causes = [parsed.to_string(), error_source(&parsed)];
        for cause in causes.iter().filter(|cause| !cause.is_empty()) {
            assert_eq!(error.matches(cause).count(), 1, "{error}");
        }
    }

    fn error_source(error: &dyn std::error::Error) -> String {
        error.source().map_or_else(String::new, ToString::to_string)
    }

    #[test]
    fn every_level_is_a_valid_filter() {
        for level in [
            LogLevel::Off,
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Trace,
        ] {
            assert!(EnvFilter::try_new(directives(level)).is_ok());
        }
    }
}

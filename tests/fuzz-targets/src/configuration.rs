//! What a person writes: configuration files and the rules in them.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use mapping_core::config::{ClientConfig, ConfigError, ServerConfig, flat_entries};
use mapping_core::{AllowEntry, Host, HostPort, PortMapping, PortRange, Protocol, RelayUrl};

/// A file says at most so much of what is wrong with it: a line for each thing a person wrote.
const PROBLEM_BYTES_MAX: usize = 16 * 1024;

/// The first byte chooses what the rest is.
pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match choice % 8 {
        0 => check_client("config.yml", text),
        1 => check_client("config.json", text),
        2 => check_server("config.yml", text),
        3 => check_server("config.json", text),
        4 => check_client("config.yml", &with_required_keys(text)),
        5 => check_server("config.yml", &with_required_keys(text)),
        6 => check_grammar(text),
        _ => {
            check_flat("signaling.yml", text);
            check_flat("signaling.json", text);
        }
    }
}

/// The keys without which no file is accepted, so that the others are looked at.
fn with_required_keys(text: &str) -> String {
    format!("roomId: correct horse battery staple\nsignalingUrl: http://192.0.2.1:8080\n{text}")
}

fn check_client(file: &str, text: &str) {
    let parsed = ClientConfig::parse(Path::new(file), text);
    assert_eq!(ClientConfig::parse(Path::new(file), text), parsed);
    match parsed {
        Ok(config) => {
            config.mappings.iter().for_each(survives);
            config.common.stun_servers.iter().for_each(survives);
            assert!(!config.common.signaling_urls.is_empty());
            for (index, mapping) in config.mappings.iter().enumerate() {
                let mut others = config.mappings[index + 1..].iter();
                assert!(!others.any(|other| other.conflicts_with(mapping)));
            }
        }
        Err(error) => check_error(&error),
    }
}

fn check_server(file: &str, text: &str) {
    let parsed = ServerConfig::parse(Path::new(file), text);
    assert_eq!(ServerConfig::parse(Path::new(file), text), parsed);
    match parsed {
        Ok(config) => config.common.stun_servers.iter().for_each(survives),
        Err(error) => check_error(&error),
    }
}

/// A message says something, in lines that a terminal survives.
fn check_error(error: &ConfigError) {
    let text = error.to_string();
    assert!(
        !text.is_empty() && text.len() <= PROBLEM_BYTES_MAX,
        "{} bytes",
        text.len()
    );
    let printable = |character: char| character == '\n' || !character.is_control();
    assert!(text.chars().all(printable), "{text:?}");
}

fn check_grammar(text: &str) {
    parse_again::<PortMapping>(text);
    parse_again::<AllowEntry>(text);
    parse_again::<HostPort>(text);
    parse_again::<Host>(text);
    parse_again::<PortRange>(text);
    parse_again::<Protocol>(text);
    parse_again::<RelayUrl>(text);
    if let Ok(mapping) = text.parse::<PortMapping>() {
        assert_eq!(mapping.local_ports().len(), mapping.target_ports().len());
        assert_eq!(
            mapping.local_sockets().len(),
            usize::from(mapping.local_ports().len())
        );
        assert!(mapping.conflicts_with(&mapping));
    }
}

fn parse_again<T>(text: &str)
where
    T: FromStr<Err: Display> + Display + PartialEq + std::fmt::Debug,
{
    match text.parse::<T>() {
        Ok(value) => survives(&value),
        Err(error) => {
            let error = error.to_string();
            assert!(
                !error.is_empty() && !error.chars().any(char::is_control),
                "{error:?}"
            );
        }
    }
}

/// What was parsed is printed and parsed again.
fn survives<T>(value: &T)
where
    T: FromStr<Err: Display> + Display + PartialEq + std::fmt::Debug,
{
    let text = value.to_string();
    match text.parse::<T>() {
        Ok(again) => assert_eq!(&again, value, "by way of {text:?}"),
        Err(error) => panic!("{value:?} prints as {text:?}, which is refused: {error}"),
    }
}

/// The file of a program whose options are all flat, as signaling reads it.
fn check_flat(file: &str, text: &str) {
    match flat_entries(Path::new(file), text, "listen: 0.0.0.0:8080") {
        Ok(entries) => assert!(entries.len() <= text.len()),
        Err(error) => check_error(&error),
    }
}

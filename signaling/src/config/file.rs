//! Options from a file.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_yaml::Value;

use super::{KEYS, LATER_KEYS, Problem, Setting, Settings, Source, nearest_key};

/// The longest file that is read: a hundred times what one needs.
const FILE_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn read(path: &Path) -> Settings {
    let name = path.display().to_string();
    match read_text(path) {
        Ok(text) => {
            let json = path
                .extension()
                .is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
            parse(&name, &text, json)
        }
        Err(wrong) => only_problem(0, format!("{name}: {wrong}")),
    }
}

/// Returns the text, or what is wrong and what would be right.
fn read_text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "is larger than {FILE_BYTES_MAX} bytes: it can hold the options alone"
        ));
    }
    String::from_utf8(bytes)
        .map_err(|_| "is not text in UTF-8: save it in that encoding".to_owned())
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::NotFound {
        return format!(
            "cannot be read: {error}: name a file that this user may read with --config FILE"
        );
    }
    let place = match std::env::current_dir() {
        Ok(directory) if path.is_relative() => format!(" in {}", directory.display()),
        _ => String::new(),
    };
    format!(
        "there is no such file{place}: name another with --config FILE, or leave --config out, since \
         every option has a default"
    )
}

fn only_problem(line: usize, text: String) -> Settings {
    Settings {
        given: Vec::new(),
        problems: vec![Problem { line, text }],
    }
}

/// Reads the options; whatever cannot be one is a problem of the settings and hides no other.
fn parse(file: &str, text: &str, json: bool) -> Settings {
    let entries = if json {
        serde_json::from_str(text).map_err(|error| (error.line(), error.to_string()))
    } else {
        serde_yaml::from_str(text).map_err(|error| {
            let line = error.location().map_or(0, |location| location.line());
            (line, error.to_string())
        })
    };
    let Entries(entries) = match entries {
        Ok(entries) => entries,
        Err((0, error)) => return only_problem(0, format!("{file}: {error}")),
        Err((line, error)) => return only_problem(line, format!("{file}:{line}: {error}")),
    };
    let mut settings = Settings::default();
    let mut seen: Vec<String> = Vec::new();
    for (key, value) in entries {
        let typed = scalar(&key).unwrap_or_default();
        let before = seen.iter().filter(|seen| **seen == typed).count();
        let line = line_of(text, &typed, before);
        seen.push(typed.clone());
        match entry(file, line, &typed, &value, before) {
            Ok(given) => settings.given.extend(given),
            Err(wrong) => settings.problems.push(Problem {
                line,
                text: format!("{file}:{line}: {wrong}"),
            }),
        }
    }
    settings
}

/// Reads one entry, which follows `before` others with the same key.
fn entry(
    file: &str,
    line: usize,
    typed: &str,
    value: &Value,
    before: usize,
) -> Result<Vec<Setting>, String> {
    let mut known = KEYS.iter().chain(LATER_KEYS);
    let Some(key) = known.find(|known| **known == typed).copied() else {
        let hint = nearest_key(typed).map_or_else(
            || format!("known are {}", KEYS.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(format!("unknown key `{typed}`: {hint}"));
    };
    if before > 0 {
        return Err(format!("`{key}` is given twice: keep one of them"));
    }
    let values =
        scalars(value).ok_or_else(|| format!("`{key}` must be a text or a list of texts"))?;
    let source = Source::File {
        file: file.to_owned(),
        line,
    };
    let setting = |value| Setting {
        key,
        value,
        source: source.clone(),
    };
    Ok(values.into_iter().map(setting).collect())
}

/// The options in the order of the file, duplicates included, which a map would refuse without saying
/// where they are.
struct Entries(Vec<(Value, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("options such as `listen: 0.0.0.0:8080`")
    }

    /// A file without a value, such as one of comments alone.
    fn visit_none<E>(self) -> Result<Entries, E> {
        Ok(Entries(Vec::new()))
    }

    /// A file that says `null`.
    fn visit_unit<E>(self) -> Result<Entries, E> {
        Ok(Entries(Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

fn scalars(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Sequence(values) => values.iter().map(scalar).collect(),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Mapping(_)
        | Value::Tagged(_) => scalar(value).map(|value| vec![value]),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

/// Returns the line, as a person counts, that begins with a key, after `before` others that do.
fn line_of(text: &str, key: &str, before: usize) -> usize {
    let begins = |line: &str| {
        line.trim_start_matches([' ', '\t', '{', ','])
            .trim_start_matches(['"', '\''])
            .strip_prefix(key)
            .is_some_and(|rest| {
                rest.trim_start_matches(['"', '\''])
                    .trim_start()
                    .starts_with(':')
            })
    };
    // Several entries of a JSON file may share a line; then the last that begins with the key is nearest.
    let lines = text.lines().enumerate().filter(|(_, line)| begins(line));
    lines
        .take(before + 1)
        .last()
        .map_or(1, |(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::super::LogLevel;
    use super::*;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "listen: 127.0.0.1:9000\nstun:\n  - 192.0.2.1:3478\n  - 192.0.2.2:3478\nno-relay: true\n";
        let json = r#"{"listen":"127.0.0.1:9000","stun":["192.0.2.1:3478","192.0.2.2:3478"],"no-relay":true}"#;
        for (text, json) in [(yaml, false), (json, true)] {
            let config = parse("f", text, json).resolve().unwrap();
            assert_eq!(config.listen, "127.0.0.1:9000".parse().unwrap());
            assert_eq!(config.stun.len(), 2);
            assert!(!config.relay);
        }
    }

    #[test]
    fn every_unknown_key_is_named_with_its_line_and_a_guess() {
        let error = parse(
            "s.yml",
            "listn: x\nlog: info\nexternal_ip: y\nzebra: 1\nstun: {a: b}\n",
            false,
        )
        .resolve()
        .unwrap_err();
        assert_eq!(
            error.problems,
            [
                "s.yml:1: unknown key `listn`: did you mean `listen`?".to_owned(),
                "s.yml:3: unknown key `external_ip`: did you mean `external-ip`?".to_owned(),
                format!(
                    "s.yml:4: unknown key `zebra`: known are {}",
                    KEYS.join(", ")
                ),
                "s.yml:5: `stun` must be a text or a list of texts".to_owned(),
            ]
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_file_and_line() {
        let error = parse("s.yml", "# comment\nlisten: nowhere\n", false)
            .resolve()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "s.yml:2: `listen: nowhere`: must be an address and a port such as 0.0.0.0:8080"
        );
    }

    #[test]
    fn a_flag_counts_more_than_the_file() {
        let file = parse("s.yml", "listen: 127.0.0.1:1\nlog: debug\n", false);
        let mut flags = Settings::default();
        flags.flag("listen", "127.0.0.1:2");
        let config = file.overlaid_with(flags).resolve().unwrap();
        assert_eq!(
            (config.listen.port(), config.log),
            (2, Some(LogLevel::Debug))
        );
    }

    #[test]
    fn an_unknown_key_hides_no_other_problem() {
        let text = "relay-port: 1-2\nmetrics: 127.0.0.1:9\ntls-cert: c.pem\nstore: redis://h\nno-relay: maybe\n\
                    listen: nowhere\nlisten: 127.0.0.1:1\n";
        let error = parse("s.yml", text, false).resolve().unwrap_err();
        assert_eq!(
            error.problems,
            [
                "s.yml:1: unknown key `relay-port`: did you mean `relay-ports`?",
                "s.yml:2: `metrics: 127.0.0.1:9`: not yet in this version",
                "s.yml:3: `tls-cert: c.pem`: not yet in this version",
                "s.yml:4: `store: redis://h`: not yet in this version",
                "s.yml:5: `no-relay: maybe`: must be true or false",
                "s.yml:6: `listen: nowhere`: must be an address and a port such as 0.0.0.0:8080",
                "s.yml:7: `listen` is given twice: keep one of them",
            ]
        );
    }

    #[test]
    fn a_key_given_twice_is_named_with_its_second_line() {
        let twice = "listen: 127.0.0.1:1\n\nlisten: 127.0.0.1:1\n";
        let json =
            "{\"log\": \"info\",\n \"listen\": \"127.0.0.1:1\",\n \"listen\": \"127.0.0.1:1\"}";
        for (text, json) in [(twice, false), (json, true)] {
            let error = parse("s", text, json).resolve().unwrap_err();
            assert_eq!(
                error.to_string(),
                "s:3: `listen` is given twice: keep one of them"
            );
        }
    }

    #[test]
    fn a_file_that_holds_no_options_is_told_what_they_look_like() {
        for (text, json) in [("- a\n", false), ("[1]", true), ("word", false)] {
            let error = parse("s", text, json).resolve().unwrap_err().to_string();
            assert!(
                error.starts_with("s:1: ")
                    && error.contains("options such as `listen: 0.0.0.0:8080`"),
                "{error}"
            );
        }
        for nothing in ["", "# nothing\n", "---\n", "null\n"] {
            assert!(parse("s", nothing, false).resolve().is_ok(), "{nothing:?}");
        }
    }
}

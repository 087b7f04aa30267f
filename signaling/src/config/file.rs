//! Options from a file.

use std::io::Read;
use std::path::Path;

use serde_yaml::Value;

use super::{ConfigError, KEYS, LATER_KEYS, Setting, Settings, Source, nearest_key};

/// The longest file that is read: a hundred times what one needs.
const FILE_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn read(path: &Path) -> Result<Settings, ConfigError> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|error| ConfigError::one(format!("{name}: {error}")))?;
    let json = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    parse(&name, &text, json)
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

fn parse(file: &str, text: &str, json: bool) -> Result<Settings, ConfigError> {
    let value: Value = if json {
        serde_json::from_str(text).map_err(|error| ConfigError::one(format!("{file}: {error}")))?
    } else {
        serde_yaml::from_str(text).map_err(|error| ConfigError::one(format!("{file}: {error}")))?
    };
    let entries = match value {
        Value::Null => return Ok(Settings::default()),
        Value::Mapping(entries) => entries,
        Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Sequence(_)
        | Value::Tagged(_) => {
            let problem = "the file must hold options such as `listen: 0.0.0.0:8080`";
            return Err(ConfigError::one(format!("{file}: {problem}")));
        }
    };
    let (mut settings, mut problems) = (Vec::new(), Vec::new());
    for (key, value) in entries {
        let typed = scalar(&key).unwrap_or_default();
        let line = line_of(text, &typed);
        let Some(key) = KEYS
            .iter()
            .chain(LATER_KEYS)
            .find(|known| **known == typed)
            .copied()
        else {
            let hint = nearest_key(&typed).map_or_else(
                || format!("known are {}", KEYS.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            problems.push(format!("{file}:{line}: unknown key `{typed}`: {hint}"));
            continue;
        };
        let Some(values) = scalars(&value) else {
            problems.push(format!(
                "{file}:{line}: `{key}` must be a text or a list of texts"
            ));
            continue;
        };
        let source = Source::File {
            file: file.to_owned(),
            line,
        };
        settings.extend(values.into_iter().map(|value| Setting {
            key,
            value,
            source: source.clone(),
        }));
    }
    if problems.is_empty() {
        Ok(Settings(settings))
    } else {
        Err(ConfigError { problems })
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

/// Returns the first line that begins with a key, as a person counts.
fn line_of(text: &str, key: &str) -> usize {
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
    text.lines().position(begins).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "listen: 127.0.0.1:9000\nstun:\n  - 192.0.2.1:3478\n  - 192.0.2.2:3478\nno-relay: true\n";
        let json = r#"{"listen":"127.0.0.1:9000","stun":["192.0.2.1:3478","192.0.2.2:3478"],"no-relay":true}"#;
        for (text, json) in [(yaml, false), (json, true)] {
            let config = parse("f", text, json).unwrap().resolve().unwrap();
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
            .unwrap()
            .resolve()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "s.yml:2: `listen: nowhere`: must be an address and a port such as 0.0.0.0:8080"
        );
    }

    #[test]
    fn a_flag_counts_more_than_the_file() {
        let file = parse("s.yml", "listen: 127.0.0.1:1\nlog: debug\n", false).unwrap();
        let mut flags = Settings::default();
        flags.flag("listen", "127.0.0.1:2");
        let config = file.overlaid_with(flags).resolve().unwrap();
        assert_eq!(
            (config.listen.port(), config.log.as_deref()),
            (2, Some("debug"))
        );
    }
}

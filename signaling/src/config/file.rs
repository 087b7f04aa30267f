//! Options from a file.

use std::io::{self, Read};
use std::path::Path;

use mapping_core::{
    config::{self, FILE_BYTES_MAX, FlatEntry, FlatValue, decode, flat_entries},
    shown,
};

use super::{KEYS, LATER_KEYS, Problem, Setting, Settings, Source, nearest_key};

/// A line for whoever wrote no options.
const EXAMPLE: &str = "listen: 0.0.0.0:8080";

pub(super) fn read(path: &Path) -> Settings {
    let mut bytes = Vec::new();
    // One byte more than is allowed shows that there is too much, and no more is read.
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        let message = unreadable(path, &error);
        return problems(&config::ConfigError::of_file(path, message));
    }
    match decode(path, bytes) {
        Ok(text) => parse(path, &text),
        Err(error) => problems(&error),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::IsADirectory {
        return "is a directory: name the file in it with --config FILE".to_owned();
    }
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

fn problems(error: &config::ConfigError) -> Settings {
    let problem = |problem: &config::Problem| Problem {
        line: problem.line.unwrap_or(0),
        text: problem.to_string(),
    };
    Settings {
        given: Vec::new(),
        problems: error.problems.iter().map(problem).collect(),
    }
}

/// Reads the options; whatever cannot be one is a problem of the settings and hides no other.
pub(super) fn parse(path: &Path, text: &str) -> Settings {
    let entries = match flat_entries(path, text, EXAMPLE) {
        Ok(entries) => entries,
        Err(error) => return problems(&error),
    };
    let file = path.display().to_string();
    let mut settings = Settings::default();
    let mut seen: Vec<String> = Vec::new();
    for FlatEntry { key, line, value } in entries {
        let is_second = seen.contains(&key);
        // 0 is a line that the parser does not tell.
        let line = line.unwrap_or(0);
        match entry(&file, line, &key, value, is_second) {
            Ok(given) => settings.given.extend(given),
            Err(wrong) => settings.problems.push(Problem {
                line,
                text: format!("{}: {wrong}", place(&file, line)),
            }),
        }
        seen.push(key);
    }
    settings
}

/// Reads one entry.
fn entry(
    file: &str,
    line: usize,
    typed: &str,
    value: FlatValue,
    is_second: bool,
) -> Result<Vec<Setting>, String> {
    let mut known = KEYS.iter().chain(LATER_KEYS);
    let Some(key) = known.find(|known| **known == typed).copied() else {
        let hint = nearest_key(typed).map_or_else(
            || format!("known are {}", KEYS.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(format!("unknown key `{}`: {hint}", shown(typed)));
    };
    if is_second {
        return Err(format!("`{key}` is given twice: keep one of them"));
    }
    let setting = |line: usize, value| Setting {
        key,
        value,
        source: Source::File {
            file: file.to_owned(),
            line,
        },
    };
    match value {
        FlatValue::One(text) => Ok(vec![setting(line, text)]),
        FlatValue::Several(texts) => {
            let texts = texts.into_iter();
            Ok(texts
                .map(|(at, text)| setting(at.unwrap_or(line), text))
                .collect())
        }
        FlatValue::Other("nothing") => Err(format!(
            "`{key}` has no value: write one after the colon, or leave the key out"
        )),
        FlatValue::Other(kind) => Err(format!(
            "`{key}` must be a text or a list of texts, not {kind}"
        )),
    }
}

/// Names a line of a file; line 0 is not known.
pub(super) fn place(file: &str, line: usize) -> String {
    match line {
        0 => file.to_owned(),
        _ => format!("{file}:{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogLevel;
    use super::*;

    fn parse(name: &str, text: &str) -> Settings {
        super::parse(Path::new(name), text)
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "listen: 127.0.0.1:9000\nstun:\n  - 192.0.2.1:3478\n  - 192.0.2.2:3478\nno-relay: true\n";
        let json = r#"{"listen":"127.0.0.1:9000","stun":["192.0.2.1:3478","192.0.2.2:3478"],"no-relay":true}"#;
        for (name, text) in [("f.yml", yaml), ("f.json", json)] {
            let config = parse(name, text).resolve().unwrap();
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
                "s.yml:5: `stun` must be a text or a list of texts, not keys and values".to_owned(),
            ]
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_file_and_line() {
        let error = parse("s.yml", "# comment\nlisten: nowhere\n")
            .resolve()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "s.yml:2: `listen: nowhere`: must be an IP address and a port such as 0.0.0.0:8080"
        );
    }

    #[test]
    fn a_flag_counts_more_than_the_file() {
        let file = parse("s.yml", "listen: 127.0.0.1:1\nlog: debug\n");
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
        let error = parse("s.yml", text).resolve().unwrap_err();
        assert_eq!(
            error.problems,
            [
                "s.yml:1: unknown key `relay-port`: did you mean `relay-ports`?",
                "s.yml:2: `metrics: 127.0.0.1:9`: not yet in this version: leave it out",
                "s.yml:3: `tls-cert: c.pem`: not yet in this version: leave it out",
                "s.yml:4: `store: redis://h`: not yet in this version: write memory, or leave it out",
                "s.yml:5: `no-relay: maybe`: must be true or false",
                "s.yml:6: `listen: nowhere`: must be an IP address and a port such as 0.0.0.0:8080",
                "s.yml:7: `listen` is given twice: keep one of them",
            ]
        );
    }

    #[test]
    fn a_key_given_twice_is_named_with_its_second_line() {
        let twice = "listen: 127.0.0.1:1\n\nlisten: 127.0.0.1:1\n";
        let json =
            "{\"log\": \"info\",\n \"listen\": \"127.0.0.1:1\",\n \"listen\": \"127.0.0.1:1\"}";
        for (name, text) in [("s.yml", twice), ("s.json", json)] {
            let error = parse(name, text).resolve().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{name}:3: `listen` is given twice: keep one of them")
            );
        }
    }

    #[test]
    fn a_file_that_holds_no_options_is_told_what_they_look_like() {
        for (name, text) in [("s.yml", "- a\n"), ("s.json", "[1]"), ("s.yml", "word")] {
            let error = parse(name, text).resolve().unwrap_err().to_string();
            assert!(
                error.contains("must hold keys and values such as `listen: 0.0.0.0:8080`, not a "),
                "{error}"
            );
        }
        for nothing in ["", "# nothing\n", "---\n", "null\n"] {
            assert!(parse("s", nothing).resolve().is_ok(), "{nothing:?}");
        }
    }

    #[test]
    fn every_value_of_a_list_has_its_own_line_and_stays_as_written() {
        let text = "stun:\n  - 127.0.0.1:1\n  - x\n  - listen: 1\n";
        let error = parse("s.yml", text).resolve().unwrap_err().to_string();
        assert_eq!(
            error,
            "s.yml:1: `stun` must be a text or a list of texts, not a list that holds something else than texts"
        );
        let text = "x:\n  listen: 1\nrelay-allow:\n  - 10.0.0.0/8\n  - home\n";
        let error = parse("s.yml", text).resolve().unwrap_err().to_string();
        assert!(
            error.ends_with(
                "\ns.yml:5: `relay-allow: home`: must be an address or a network such as 10.1.0.0/16"
            ),
            "{error}"
        );
        let config = parse("s.yml", "access-token: 1e3\nno-relay: True\n")
            .resolve()
            .unwrap();
        assert_eq!(config.access_token.unwrap().expose(), "1e3");
        assert!(!config.relay);
    }
}

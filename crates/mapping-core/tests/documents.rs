//! The manual and the example files say what the code does.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use mapping_core::{
    Side,
    config::{
        CONNECTIONS_DEFAULT, ClientConfig, FALLBACK_STUN_SERVER, KEYS, Key, ServerConfig, decode,
    },
};

#[test]
fn every_example_is_good_for_the_side_it_is_written_for() {
    let mut read = 0;
    for file in examples() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = decode(&file, fs::read(&file).unwrap()).unwrap();
        let warnings = if name.starts_with("signaling") {
            // Another program's.
            continue;
        } else if name.starts_with("server") {
            ServerConfig::parse(&file, &text).unwrap().common.warnings
        } else {
            ClientConfig::parse(&file, &text).unwrap().common.warnings
        };
        read += 1;
        if !file.parent().unwrap().ends_with("original") {
            assert_eq!(warnings, [""; 0], "{name}");
        }
    }
    assert_eq!(read, 8);
}

#[test]
fn the_originals_files_work_and_what_has_no_meaning_here_is_said() {
    let read = |name: &str| {
        let file = folder().join("original").join(name);
        (fs::read_to_string(&file).unwrap(), file)
    };
    let (text, file) = read("client.yml");
    let client = ClientConfig::parse(&file, &text).unwrap();
    assert_eq!(client.common.room.expose(), "my room");
    assert_eq!(
        client.common.signaling_urls,
        ["https://example.org/signaling.php"]
    );
    let mappings: Vec<_> = client.mappings.iter().map(ToString::to_string).collect();
    assert_eq!(mappings, ["udp:6000:80", "tcp:8080:22"]);
    let (text, file) = read("server.yml");
    let server = ServerConfig::parse(&file, &text).unwrap();
    assert!(server.common.warnings.contains(
        &"`mappings` belongs in the client's configuration: it is ignored here".to_owned()
    ));
}

#[test]
fn the_manual_lists_every_key_with_its_side_and_nothing_else() {
    let manual = manual();
    let keys = section(&manual, "## Keys");
    let rows: Vec<Vec<&str>> = rows(keys);
    let names: Vec<_> = rows.iter().map(|row| row[0].to_owned()).collect();
    let known: Vec<_> = KEYS.iter().map(|key| format!("`{}`", key.name)).collect();
    assert_eq!(names, known);
    for (
        row,
        Key {
            name,
            side,
            available,
        },
    ) in rows.iter().zip(KEYS)
    {
        let side = match side {
            None => "both",
            Some(Side::Ingress) => "client",
            Some(Side::Egress) => "server",
        };
        assert_eq!(row[1], side, "{name}");
        assert_eq!(row[2] != "not yet in this version", *available, "{name}");
        let has_section = manual.contains(&format!("\n### `{name}`\n"));
        assert_eq!(has_section, *available, "{name}");
    }
}

#[test]
fn the_manuals_examples_are_good_and_its_defaults_are_those_of_the_code() {
    let manual = manual();
    let rows = rows(section(&manual, "## Keys"));
    let example = |key: &str, side: Side| {
        let row = rows.iter().find(|row| row[0] == format!("`{key}`"));
        let value = row.unwrap()[3].trim_matches('`');
        if key == "mode" {
            side.role().to_owned()
        } else {
            value.to_owned()
        }
    };
    let file = |side: Side| {
        let keys = KEYS
            .iter()
            .filter(|key| key.available && key.side.is_none_or(|owner| owner == side));
        let lines = keys.map(|key| format!("{}: {}\n", key.name, example(key.name, side)));
        lines.collect::<String>()
    };
    ClientConfig::parse(Path::new("manual.yml"), &file(Side::Ingress)).unwrap();
    ServerConfig::parse(Path::new("manual.yml"), &file(Side::Egress)).unwrap();
    assert!(manual.contains(&format!("| `{CONNECTIONS_DEFAULT}` |")));
    assert!(manual.contains(FALLBACK_STUN_SERVER));
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/configs")
}

fn manual() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    fs::read_to_string(file).unwrap()
}

fn examples() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in [folder(), folder().join("original")] {
        let entries = fs::read_dir(folder).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    files.retain(|file| file.is_file());
    files.sort();
    files
}

/// Returns the part of a document from a heading to the next one of any level.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let start = document.find(&format!("\n{heading}\n")).unwrap() + heading.len() + 2;
    let rest = &document[start..];
    &rest[..rest.find("\n#").unwrap_or(rest.len())]
}

/// Returns the cells of a table, without its head.
fn rows(section: &str) -> Vec<Vec<&str>> {
    let lines = section.lines().filter(|line| line.starts_with('|'));
    lines
        .skip(2)
        .map(|line| line.trim_matches('|').split(" |").map(str::trim).collect())
        .collect()
}

//! Whole files: what is no YAML or JSON, what is missing, where secrets stand.

use crate::assert_file_refused;

/// Name, text, answer.
pub(crate) const ROWS: &[(&str, &str, &str)] = &[
    (
        "config.yml",
        "\troomId: x\n",
        "config.yml:1: is not readable as YAML: found character that cannot start any token, while scanning for the next token: indent with spaces, not tabs, and put a value that begins with @, % or ` in quotes",
    ),
    (
        "config.yml",
        "roomId: [a\nsignalingUrl: http://h\n",
        "config.yml:2: is not readable as YAML: did not find expected ',' or ']' at line 2 column 13, while parsing a flow sequence at line 1 column 9: close every bracket, and separate what is in it by commas",
    ),
    (
        "config.yml",
        "roomId: \"x\nsignalingUrl: http://h\n",
        "config.yml:3: is not readable as YAML: found unexpected end of stream at line 3 column 1, while scanning a quoted scalar at line 1 column 9: close every quotation mark and bracket",
    ),
    (
        "config.yml",
        "roomId: a: b\n",
        "config.yml:1: is not readable as YAML: mapping values are not allowed in this context at line 1 column 10: put a value that contains `: ` in quotes, and begin the keys of a level in one column",
    ),
    (
        "config.yml",
        "roomId: *star\n",
        "config.yml:1: is not readable as YAML: unknown anchor at line 1 column 9: put a value that begins with `*` in quotes",
    ),
    (
        "config.yml",
        "roomId: !bang\n",
        "config.yml:1: is not readable as YAML: a YAML tag cannot be used here: put a value that begins with `!` in quotes",
    ),
    (
        "config.yml",
        "roomId: @at\n",
        "config.yml:1: is not readable as YAML: found character that cannot start any token at line 1 column 9, while scanning for the next token: indent with spaces, not tabs, and put a value that begins with @, % or ` in quotes",
    ),
    (
        "config.yml",
        "roomId: \"a\\qb\"\n",
        "config.yml:1: is not readable as YAML: found unknown escape character at line 1 column 11, while parsing a quoted scalar at line 1 column 9: write \\\\ for a backslash in double quotes, or use single quotes",
    ),
    (
        "config.yml",
        "roomId: x\n signalingUrl: http://h\n",
        "config.yml:2: is not readable as YAML: mapping values are not allowed in this context at line 2 column 14: put a value that contains `: ` in quotes, and begin the keys of a level in one column",
    ),
    (
        "config.yml",
        "roomId: x\nsignalingUrl:http://h\nmode: client\n",
        "config.yml:3: is not readable as YAML: could not find expected ':' at line 3 column 1, while scanning a simple key at line 2 column 1: write a colon and a space after each key, and close every quotation mark",
    ),
    (
        "config.yml",
        "roomId: x\n---\nroomId: y\n",
        "config.yml: is not readable as YAML: it holds more than one document: keep one of them, without lines of `---`",
    ),
    (
        "config.yml",
        "- roomId: x\n",
        "config.yml: must hold keys and values such as `roomId: …`, not a list",
    ),
    (
        "config.yml",
        "roomId\n",
        "config.yml: must hold keys and values such as `roomId: …`, not a text",
    ),
    (
        "config.yml",
        "",
        "config.yml: roomId: is missing: write the secret text that both sides share\nconfig.yml: signalingUrl: is missing: write the http(s)://host[:port] of stunfwd-signaling",
    ),
    (
        "config.yml",
        "# nothing yet\n",
        "config.yml: roomId: is missing: write the secret text that both sides share\nconfig.yml: signalingUrl: is missing: write the http(s)://host[:port] of stunfwd-signaling",
    ),
    (
        "config.yml",
        "signalingUrl: http://192.0.2.1:8080\n",
        "config.yml: roomId: is missing: write the secret text that both sides share",
    ),
    (
        "config.yml",
        "roomId: 4f1c9be0a37d5528e6f0b1749dc2a38f\n",
        "config.yml: signalingUrl: is missing: write the http(s)://host[:port] of stunfwd-signaling",
    ),
    (
        "config.yml",
        "roomId: #hunter2\nsignalingUrl:\n",
        "config.yml:1: roomId: has no value: write it after the colon, in quotes if it begins with `#`\nconfig.yml:2: signalingUrl: has no value: write it after the colon, in quotes if it begins with `#`",
    ),
    (
        "config.yml",
        "roomId: ' '\nsignalingUrl: http://192.0.2.1:8080\n",
        "config.yml:1: roomId: is empty: both sides need the same secret text",
    ),
    (
        "config.yml",
        "roomId: {a: hunter2}\nsignalingUrl: http://192.0.2.1:8080\n",
        "config.yml:1: roomId: must be a text, not keys and values: put it in quotes",
    ),
    (
        "config.yml",
        "roomId: hunter2\nroomId: hunter2\nsignalingUrl: http://192.0.2.1:8080\n",
        "config.yml:2: roomId: is given twice: keep one of them",
    ),
    (
        "config.yml",
        "roomId: hunter2\nsignalingUrl: signal.example.org\n",
        "config.yml:2: signalingUrl: `signal.example.org`: is not an http:// or https:// URL: write for example https://signal.example.org or http://192.0.2.1:8080",
    ),
    (
        "config.yml",
        "roomId: hunter2\nsignalingUrl: ftp://signal.example.org\n",
        "config.yml:2: signalingUrl: `ftp://signal.example.org`: is not an http:// or https:// URL: write for example https://signal.example.org or http://192.0.2.1:8080",
    ),
    (
        "config.yml",
        "roomId: hunter2\nsignalingUrl: []\n",
        "config.yml:2: signalingUrl: is an empty list: write an entry",
    ),
    (
        "config.yml",
        "roomId: hunter2\nsignalingUrl: http://signal.example.org/?room=hunter2\n",
        "config.yml:2: signalingUrl: `http://signal.example.org/…`: must end with its path, without `?` or `#`: write for example https://signal.example.org or http://192.0.2.1:8080",
    ),
    (
        "config.yml",
        "roomId: hunter2\nsignalingUrl: http://me:hunter2@signal.example.org\n",
        "config.yml:2: signalingUrl: `http://…@signal.example.org`: must not hold a user name or password: use accessToken",
    ),
    (
        "config.yml",
        "roomId: hunter2\nsignalingUrl: ['http://192.0.2.1', 'http://[::1']\n",
        "config.yml:2: signalingUrl[1]: `http://[::1`: brackets must enclose one IPv6 address, as in `[::1]`: write for example https://signal.example.org or http://192.0.2.1:8080",
    ),
    (
        "config.yml",
        "roomId: hunter2\nsignalingUrl: 'http://'\n",
        "config.yml:2: signalingUrl: `http://`: has no host: write for example https://signal.example.org or http://192.0.2.1:8080",
    ),
    (
        "config.yml",
        "roomId: hunter2\nsignalingUrl: http://signal.example.org:99999\n",
        "config.yml:2: signalingUrl: `http://signal.example.org:99999`: port 99999 is above 65535: write for example https://signal.example.org or http://192.0.2.1:8080",
    ),
    (
        "config.yml",
        "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
        "config.yml:1: is not readable as YAML: e[0][3][6][2]: it holds too many values at line 1 column 4: write fewer, and do not repeat them with `*`",
    ),
    (
        "config.yml",
        "a: [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]\n",
        "config.yml:1: is not readable as YAML: a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: it is nested too deeply at line 1 column 19: no value needs more than three levels",
    ),
    (
        "config.json",
        "{\n  \"roomId\": \"hunter2\",\n  \"signalingUrl\": \"http://192.0.2.1:8080\",\n}\n",
        "config.json:4: is not readable as JSON: key must be a string at line 4 column 1: write keys in double quotes, no comma after the last entry, and no comments",
    ),
    (
        "config.json",
        "{\n  // a comment\n  \"roomId\": \"hunter2\"\n}\n",
        "config.json:2: is not readable as JSON: key must be a string at line 2 column 3: write keys in double quotes, no comma after the last entry, and no comments",
    ),
    (
        "config.json",
        "{\n  \"roomId\": \"hunter2\"\n  \"signalingUrl\": \"http://192.0.2.1:8080\"\n}\n",
        "config.json:3: is not readable as JSON: expected `,` or `}` at line 3 column 3: separate entries by commas",
    ),
    (
        "config.json",
        "[]\n",
        "config.json: must hold keys and values such as `roomId: …`, not a list",
    ),
    (
        "config.json",
        "{\n  \"roomId\": \"hunter2\",\n  \"roomId\": \"hunter2\",\n  \"signalingURL\": \"http://192.0.2.1:8080\",\n  \"mappings\": \"tcp:1:1\",\n  \"resume\": 60,\n  \"direct\": null\n}\n",
        "config.json:3: roomId: is given twice: keep one of them\nconfig.json:4: signalingURL: is not a known key: did you mean `signalingUrl`?\nconfig.json:5: mappings: must be a list, not a text: put the entries in [ ]\nconfig.json:6: resume: `60`: has no unit: write 60s\nconfig.json:7: direct: has no value: write a text, or leave it out\nconfig.json: signalingUrl: is missing: write the http(s)://host[:port] of stunfwd-signaling",
    ),
    (
        "config.json",
        "roomId: hunter2\n",
        "config.json:1: is not readable as JSON: expected value at line 1 column 1: put texts in double quotes; a file in YAML must not be named .json",
    ),
    (
        "config.json",
        "{\"roomId\": \"\\ud800\"}\n",
        "config.json: is not readable as JSON: unexpected end of hex escape",
    ),
];

#[test]
fn every_bad_file_is_answered() {
    for (name, text, answer) in ROWS {
        assert_file_refused("stunfwd-client", name, text, answer);
    }
}

#[test]
fn a_room_that_is_too_long_is_measured_and_not_shown() {
    let text = format!(
        "roomId: {}\nsignalingUrl: http://192.0.2.1:8080\n",
        "x".repeat(1025)
    );
    let answer = "config.yml:1: roomId: is 1025 bytes long, at most 1024 are allowed";
    assert_file_refused("stunfwd-client", "config.yml", text, answer);
}

#[test]
fn a_file_that_is_no_text_is_answered() {
    let latin_1 = b"roomId: secret\n# Stra\xdfe\n";
    let answer = "config.yml:2: is not text in UTF-8: save the file in that encoding";
    assert_file_refused("stunfwd-client", "config.yml", latin_1, answer);
    assert_file_refused("stunfwd-signaling", "config.yml", latin_1, answer);
    let utf_16: Vec<u8> = "\u{feff}roomId: secret"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let answer = "config.yml: is text in UTF-16: save it in UTF-8";
    assert_file_refused("stunfwd-client", "config.yml", &utf_16, answer);
    assert_file_refused("stunfwd-signaling", "config.yml", &utf_16, answer);
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let large = "#".repeat(64 * 1024 + 1);
    let answer = "config.yml: is larger than 65536 bytes: it can hold the configuration alone, so name another file";
    for program in ["stunfwd-client", "stunfwd-server", "stunfwd-signaling"] {
        assert_file_refused(program, "config.yml", &large, answer);
    }
}

//! What a configuration file may say, and what is answered when it says something else.

use std::{path::Path, time::Duration};

use mapping_core::{
    Protocol,
    config::{ClientConfig, ConfigError, DirectPolicy, ServerConfig},
};

const HEAD: &str =
    "roomId: 4f1c9be0a37d5528e6f0b1749dc2a38f\nsignalingUrl: http://192.0.2.1:8080\n";

#[test]
fn the_originals_files_work_unchanged() {
    let text = "mode: \"client\"\nroomId: \"my room & more #1 ünï 🦀\"\n\
        signalingUrl: \"http://192.0.2.1:8080\"\nstunServer: \"stun.l.google.com:19302\"\n\
        mappings:\n  - \"udp:6000:80\"\n  - tcp:8080:22 # shell\n";
    let config = client(text).unwrap();
    assert_eq!(config.common.room.expose(), "my room & more #1 ünï 🦀");
    assert_eq!(config.common.signaling_urls, ["http://192.0.2.1:8080"]);
    assert_eq!(
        config.common.stun_servers[0].to_string(),
        "stun.l.google.com:19302"
    );
    let specs: Vec<_> = config.mappings.iter().map(ToString::to_string).collect();
    assert_eq!(specs, ["udp:6000:80", "tcp:8080:22"]);
    let config = server(&text.replace("client", "server")).unwrap();
    assert!(
        config
            .common
            .warnings
            .iter()
            .any(|warning| warning.contains("`mappings`"))
    );
}

#[test]
fn defaults_are_those_of_the_manual() {
    let config = client(HEAD).unwrap();
    assert_eq!(config.common.resume, Duration::from_secs(3600));
    assert_eq!(config.common.max_connections, 4096);
    assert_eq!(config.common.direct, DirectPolicy::Preferred);
    assert!(config.common.port_mapping);
    assert_eq!(config.common.access_token, None);
    assert_eq!(config.common.control, None);
    assert!(config.common.stun_servers.is_empty());
    assert_eq!(
        config.common.warnings,
        ["there are no `mappings`: nothing will be forwarded"]
    );
    let config = server(HEAD).unwrap();
    assert_eq!(
        config.allow.to_string(),
        "any port on the server's own loopback"
    );
    assert!(config.common.warnings.is_empty());
}

#[test]
fn every_key_of_both_sides_is_read() {
    let text = format!(
        "\u{feff}{HEAD}accessToken: 0123\nstunServer: [a.example:3478, '[2001:db8::1]:3478']\n\
         direct: require\nportMapping: false\nresume: 1h30m\nmaxConnections: 10\ncontrol: /run/x.sock\n"
    );
    let config = client(&format!("{text}mappings:\n")).unwrap().common;
    assert_eq!(config.access_token.unwrap().expose(), "0123");
    assert_eq!(config.stun_servers.len(), 2);
    assert_eq!(config.direct, DirectPolicy::Required);
    assert!(!config.port_mapping);
    assert_eq!(config.resume, Duration::from_secs(5400));
    assert_eq!(config.max_connections, 10);
    assert_eq!(config.control.unwrap(), Path::new("/run/x.sock"));
    let allow = server(&format!("{text}allow: [tcp:22, 'udp:192.168.1.10:53']"))
        .unwrap()
        .allow;
    assert_eq!(allow.to_string(), "tcp:22, udp:192.168.1.10:53");
}

#[test]
fn relays_are_read_with_their_credentials() {
    let text = format!(
        "{HEAD}relay:\n  - {{url: turn:h, username: u, credential: 0123}}\n  - url: turns:h:443\n    username: 7\n    credential: hunter2\n"
    );
    let relays = client(&text).unwrap().common.relays;
    assert_eq!(server(&text).unwrap().common.relays, relays);
    let urls: Vec<_> = relays.iter().map(|relay| relay.url.to_string()).collect();
    assert_eq!(urls, ["turn:h:3478?transport=udp", "turns:h:443"]);
    assert_eq!(
        (&relays[0].username[..], relays[0].credential.expose()),
        ("u", "0123")
    );
    assert_eq!(
        (&relays[1].username[..], relays[1].credential.expose()),
        ("7", "hunter2")
    );
    assert!(!format!("{relays:?}").contains("hunter2"));
}

#[test]
fn a_number_as_room_is_taken_as_written() {
    for (written, room) in [
        ("12345", "12345"),
        ("0123", "0123"),
        ("1.50", "1.50"),
        ("0x1F", "0x1F"),
        (
            "99999999999999999999999999999999999999999999",
            "99999999999999999999999999999999999999999999",
        ),
        ("1e3", "1e3"),
        ("True", "True"),
        ("'12 34'", "12 34"),
        ("a+b", "a+b"),
    ] {
        let text = format!("# first\nroomId: {written}\nsignalingUrl: http://h\n");
        assert_eq!(client(&text).unwrap().common.room.expose(), room);
    }
    for (written, room) in [
        ("12345", "12345"),
        ("1.50", "1.50"),
        ("\"\\ud83e\\udd80\"", "🦀"),
    ] {
        let text =
            format!(r#"{{"roomId": {written}, "signalingUrl": ["http://h", "https://i/"]}}"#);
        let config = ClientConfig::parse(Path::new("config.json"), &text).unwrap();
        assert_eq!(config.common.room.expose(), room);
        assert_eq!(config.common.signaling_urls, ["http://h", "https://i"]);
    }
}

#[test]
fn a_mapping_may_be_an_object() {
    let text = format!(
        "{HEAD}mappings:\n  - {{protocol: tcp, localPort: 8080, remotePort: 22}}\n  \
         - protocol: UDP\n    localPort: '53-54'\n    remotePort: 1053-1054\n"
    );
    let config = client(&text).unwrap();
    assert_eq!(config.mappings[0].to_string(), "tcp:8080:22");
    assert_eq!(config.mappings[1].to_string(), "udp:53-54:1053-1054");
    assert_eq!(config.mappings[1].protocol(), Protocol::Udp);
}

/// What follows the head (two lines) in a client's file, and the exact answer.
const CLIENT_PROBLEMS: &[(&str, &str)] = &[
    (
        "mappings: [udp:70000:80]",
        "config.yml:3: mappings[0]: `udp:70000:80`: port 70000 is above 65535",
    ),
    (
        "mappings:\n  - tcp:1:1\n  - udp:0:80",
        "config.yml:5: mappings[1]: `udp:0:80`: port 0 cannot be used (1 to 65535)",
    ),
    (
        "mappings:\n  -\n    sctp:1:1",
        "config.yml:5: mappings[0]: `sctp:1:1`: protocol `sctp` is neither tcp nor udp",
    ),
    (
        "mappings: tcp:1:1",
        "config.yml:3: mappings: must be a list, not a text: begin each entry with `- ` on a line of its own",
    ),
    (
        "mappings: {tcp: 1}",
        "config.yml:3: mappings: must be a list, not keys and values: begin each entry with `- ` on a line of its own",
    ),
    (
        "mappings: 8080",
        "config.yml:3: mappings: must be a list, not a number: begin each entry with `- ` on a line of its own",
    ),
    (
        "mappings: [8080]",
        "config.yml:3: mappings[0]: `8080`: the protocol is missing: write `tcp:` or `udp:` in front",
    ),
    (
        "mappings: [[]]",
        "config.yml:3: mappings[0]: must be a text such as `tcp:8080:80`, not a list",
    ),
    (
        "mappings:\n  -\n  - tcp:1:1",
        "config.yml:4: mappings[0]: has no value: write a text such as `tcp:8080:80`, or leave it out",
    ),
    (
        "mappings: ['']",
        "config.yml:3: mappings[0]: is empty: write for example `tcp:8080:80`",
    ),
    (
        "mappings: ['8080:80']",
        "config.yml:3: mappings[0]: `8080:80`: the protocol is missing: write `tcp:` or `udp:` in front",
    ),
    (
        "mappings: ['tcp:8080']",
        "config.yml:3: mappings[0]: `tcp:8080`: has 2 fields, a mapping is `proto:[bind:]localPort:[host:]serverPort` (IPv6 addresses in brackets)",
    ),
    (
        "mappings: ['tcp:http:80']",
        "config.yml:3: mappings[0]: `tcp:http:80`: `http` is not a port (1 to 65535) nor a range such as 8000-8010",
    ),
    (
        "mappings: ['tcp:9-8:1-2']",
        "config.yml:3: mappings[0]: `tcp:9-8:1-2`: range 9-8 is reversed: write 8-9",
    ),
    (
        "mappings: ['tcp:8-9:1']",
        "config.yml:3: mappings[0]: `tcp:8-9:1`: 8-9 is 2 port(s) but 1 is 1: both need the same number",
    ),
    (
        "mappings: ['tcp:eth0:80:80']",
        "config.yml:3: mappings[0]: `tcp:eth0:80:80`: `eth0` is not an address to listen on: write an IP address such as 127.0.0.1 or 0.0.0.0",
    ),
    (
        "mappings: ['tcp:80:0.0.0.0:80']",
        "config.yml:3: mappings[0]: `tcp:80:0.0.0.0:80`: 0.0.0.0 is not an address that can be connected to: write that of one machine",
    ),
    (
        "mappings: ['tcp:[::1:80:80']",
        "config.yml:3: mappings[0]: `tcp:[::1:80:80`: brackets must enclose one IPv6 address, as in `[::1]`",
    ),
    (
        "mappings:\n- tcp:1:1\n- tcp:1:2",
        "config.yml:5: mappings[1]: `tcp:1:2`: 127.0.0.1:1 is already taken by `tcp:1:1`: give one of them another local port, or leave it out",
    ),
    (
        "mappings:\n- {protocol: tcp, localPort: 0, remotePort: 1}",
        "config.yml:4: mappings[0].localPort: `0`: port 0 cannot be used (1 to 65535)",
    ),
    (
        "mappings:\n- protocol: tcp\n  localport: 1\n  remotePort: 1",
        "config.yml:4: mappings[0]: lacks `localPort`\nconfig.yml:5: mappings[0].localport: is not a known key: did you mean `localPort`?",
    ),
    (
        "mappings:\n- {}",
        "config.yml:4: mappings[0]: lacks `protocol`, `localPort`, `remotePort`",
    ),
    (
        "mappings:\n- protocol: tcp\n  localPort: 1-2\n  remotePort: 1",
        "config.yml:4: mappings[0]: 1-2 is 2 port(s) but 1 is 1: both need the same number",
    ),
    (
        "mode: server",
        "config.yml:3: mode: `server`: this is stunfwd-client: use stunfwd-server, or write `mode: client`",
    ),
    (
        "mode: both",
        "config.yml:3: mode: `both`: must be `client` here, or be left out",
    ),
    (
        "mode:",
        "config.yml:3: mode: has no value: write a text, or leave it out",
    ),
    (
        "roomid: hunter2",
        "config.yml:3: roomid: is not a known key: did you mean `roomId`?",
    ),
    (
        "roomId: hunter2",
        "config.yml:3: roomId: is given twice: keep one of them",
    ),
    (
        "colour: red",
        "config.yml:3: colour: is not a known key: the keys are mode, roomId, signalingUrl, accessToken, stunServer, mappings, relay, direct, portMapping, resume, maxConnections, control",
    ),
    (
        "7: x",
        "config.yml:3: 7: is not a known key: the keys are mode, roomId, signalingUrl, accessToken, stunServer, mappings, relay, direct, portMapping, resume, maxConnections, control",
    ),
    (
        "allow: [tcp:22]",
        "config.yml:3: allow: belongs in the server's configuration: leave it out here",
    ),
    (
        "relay: []",
        "config.yml:3: relay: is an empty list: write an entry, or leave the key out",
    ),
    (
        "relay:\n  - url: turn:h\n    username: u\n    credental: hunter2",
        "config.yml:4: relay[0]: lacks `credential`\nconfig.yml:6: relay[0].credental: is not a known key: did you mean `credential`?",
    ),
    (
        "relay: [{url: 'turn:h:0', username: '', credential: [hunter2]}]",
        "config.yml:3: relay[0].url: `turn:h:0`: port 0 cannot be used (1 to 65535): write for example turn:turn.example.org:3478?transport=udp or turns:turn.example.org:443\nconfig.yml:3: relay[0].username: is empty: write what the relay's operator gave you\nconfig.yml:3: relay[0].credential: must be a text, not a list: put it in quotes",
    ),
    (
        "relay: ['turn:u:hunter2@h', {url: 'turn:u:hunter2@h', username: u, credential: c}]",
        "config.yml:3: relay[0]: must be keys and values: `url`, `username` and `credential`, not a text\nconfig.yml:3: relay[1].url: must not hold a user name or password: write them under `username` and `credential`",
    ),
    (
        "tcpLane: true",
        "config.yml:3: tcpLane: is not yet in this version: leave the key out",
    ),
    (
        "metrics: 127.0.0.1:9",
        "config.yml:3: metrics: is not yet in this version: leave the key out",
    ),
    (
        "pin: x",
        "config.yml:3: pin: belongs in the server's configuration: leave it out here",
    ),
    (
        "stunServer: host",
        "config.yml:3: stunServer: `host`: the port is missing: write `host:port`",
    ),
    (
        "stunServer: stun:host:1",
        "config.yml:3: stunServer: `stun:host:1`: write only `host:port`, without `stun:`",
    ),
    (
        "stunServer:\n  - a:1\n  - ::1",
        "config.yml:5: stunServer[1]: `::1`: brackets must enclose one IPv6 address, as in `[::1]`",
    ),
    (
        "stunServer: []",
        "config.yml:3: stunServer: is an empty list: write an entry, or leave the key out",
    ),
    (
        "stunServer: host:99999",
        "config.yml:3: stunServer: `host:99999`: port 99999 is above 65535",
    ),
    (
        "accessToken: a b",
        "config.yml:3: accessToken: must be one or more visible ASCII characters without spaces",
    ),
    (
        "accessToken: [hunter2]",
        "config.yml:3: accessToken: must be a text, not a list: put it in quotes",
    ),
    (
        "portMapping: auto",
        "config.yml:3: portMapping: `auto`: must be true or false",
    ),
    (
        "direct: maybe",
        "config.yml:3: direct: `maybe`: must be true, false or \"require\"",
    ),
    (
        "resume: 3600",
        "config.yml:3: resume: `3600`: has no unit: write 3600s",
    ),
    (
        "resume: soon",
        "config.yml:3: resume: `soon`: is not a duration: write a number with its unit (ms, s, m, h, d), for example 1h or 90s",
    ),
    (
        "resume: 0s",
        "config.yml:3: resume: `0s`: is too short: at least 1s, or every change of path would reset connections",
    ),
    (
        "resume: 31d",
        "config.yml:3: resume: `31d`: is too long: at most 30d",
    ),
    (
        "maxConnections: 0",
        "config.yml:3: maxConnections: `0`: must be a whole number from 1 to 65535",
    ),
    (
        "maxConnections: many",
        "config.yml:3: maxConnections: `many`: must be a whole number from 1 to 65535",
    ),
    (
        "maxConnections: 1.5",
        "config.yml:3: maxConnections: `1.5`: must be a whole number from 1 to 65535",
    ),
    (
        "control: ''",
        "config.yml:3: control: must be the path of a socket, such as /run/stunfwd.sock",
    ),
    (
        "control: |\n  a\n\nresume: 1",
        "config.yml:6: resume: `1`: has no unit: write 1s",
    ),
    (
        "x: &x [1]\ny: *x",
        "config.yml:3: x: is not a known key: the keys are mode, roomId, signalingUrl, accessToken, stunServer, mappings, relay, direct, portMapping, resume, maxConnections, control\nconfig.yml:4: y: is not a known key: the keys are mode, roomId, signalingUrl, accessToken, stunServer, mappings, relay, direct, portMapping, resume, maxConnections, control",
    ),
];

#[test]
fn each_problem_of_a_client_names_line_key_value_and_what_would_be_right() {
    for (text, answer) in CLIENT_PROBLEMS {
        let error = client(&format!("{HEAD}{text}\n")).expect_err(text);
        assert_eq!(error.to_string(), *answer, "{text}");
        let windows = format!("{HEAD}{text}\n").replace('\n', "\r\n");
        assert_eq!(
            client(&windows).expect_err(text).to_string(),
            *answer,
            "{text} with CRLF"
        );
    }
    assert!(CLIENT_PROBLEMS.len() >= 40);
}

#[test]
fn each_problem_of_a_server_names_line_key_value_and_what_would_be_right() {
    for (text, answer) in [
        (
            "mode: client",
            "config.yml:3: mode: `client`: this is stunfwd-server: use stunfwd-client, or write `mode: server`",
        ),
        (
            "allow: tcp:22",
            "config.yml:3: allow: must be a list, not a text: begin each entry with `- ` on a line of its own",
        ),
        (
            "allow:",
            "config.yml:3: allow: has no value: write a list, or leave it out",
        ),
        (
            "allow: [22]",
            "config.yml:3: allow[0]: `22`: the protocol is missing: write `tcp:` or `udp:` in front",
        ),
        (
            "allow:\n  - tcp:22\n  - tcp:10.0.0.0/40:1",
            "config.yml:5: allow[1]: `tcp:10.0.0.0/40:1`: `10.0.0.0/40` is not a network: write for example 192.168.1.0/24",
        ),
        (
            "allow: ['tcp:1:2:3']",
            "config.yml:3: allow[0]: `tcp:1:2:3`: has 4 fields, an entry is `proto:[host:]port` (IPv6 addresses in brackets)",
        ),
        (
            "pin: [x]",
            "config.yml:3: pin: is not yet in this version: leave the key out",
        ),
        (
            "audit: x",
            "config.yml:3: audit: is not yet in this version: leave the key out",
        ),
        (
            "mapping: []",
            "config.yml:3: mapping: is not a known key: the keys are mode, roomId, signalingUrl, accessToken, stunServer, relay, allow, direct, portMapping, resume, maxConnections, control",
        ),
    ] {
        let error = server(&format!("{HEAD}{text}\n")).expect_err(text);
        assert_eq!(error.to_string(), answer, "{text}");
    }
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = "resume: 5\nrelay: []\nroomid: x\nmappings:\n  - tcp:1:1\n  - tcp:70000:1\n  - x\n";
    assert_eq!(
        client(text).unwrap_err().to_string(),
        "config.yml:1: resume: `5`: has no unit: write 5s\n\
         config.yml:2: relay: is an empty list: write an entry, or leave the key out\n\
         config.yml:3: roomid: is not a known key: did you mean `roomId`?\n\
         config.yml:6: mappings[1]: `tcp:70000:1`: port 70000 is above 65535\n\
         config.yml:7: mappings[2]: `x`: protocol `x` is neither tcp nor udp\n\
         config.yml: roomId: is missing: write the secret text that both sides share\n\
         config.yml: signalingUrl: is missing: write the http(s)://host[:port] of stunfwd-signaling"
    );
}

#[test]
fn signaling_urls_are_judged_one_by_one() {
    for (text, answer) in [
        (
            "example.org",
            "config.yml:2: signalingUrl: `example.org`: is not an http:// or https:// URL: write for example https://signal.example.org or http://192.0.2.1:8080",
        ),
        (
            "[]",
            "config.yml:2: signalingUrl: is an empty list: write an entry",
        ),
        (
            "[http://a, ftp://b]",
            "config.yml:2: signalingUrl[1]: `ftp://b`: is not an http:// or https:// URL: write for example https://signal.example.org or http://192.0.2.1:8080",
        ),
        (
            "http://h:0",
            "config.yml:2: signalingUrl: `http://h:0`: port 0 cannot be used (1 to 65535): write for example https://signal.example.org or http://192.0.2.1:8080",
        ),
    ] {
        let error = client(&format!("roomId: hunter2\nsignalingUrl: {text}\n")).unwrap_err();
        assert_eq!(error.to_string(), answer);
    }
}

#[test]
fn a_file_that_is_no_yaml_or_json_says_where_it_breaks() {
    for (text, start) in [
        (
            "roomId: [a\nx: 1",
            "config.yml:2: is not readable as YAML: ",
        ),
        (
            "a: b: c",
            "config.yml:1: is not readable as YAML: mapping values are not allowed",
        ),
        ("roomId: \"x", "config.yml:1: is not readable as YAML: "),
        ("\troomId: x", "config.yml:1: is not readable as YAML: "),
        (
            "roomId: !!int hunter2",
            "config.yml:1: is not readable as YAML: a YAML tag cannot be used here: put a value that begins with `!` in quotes",
        ),
        (
            "roomId: !secret hunter2",
            "config.yml:1: is not readable as YAML: a YAML tag cannot be used here: put a value that begins with `!` in quotes",
        ),
        (
            "roomId: *nowhere",
            "config.yml:1: is not readable as YAML: unknown anchor",
        ),
        (
            "- roomId",
            "config.yml: must hold keys and values such as `roomId: …`, not a list",
        ),
        (
            "hello",
            "config.yml: must hold keys and values such as `roomId: …`, not a text",
        ),
        (
            "a: 1\n---\nb: 2",
            "config.yml: is not readable as YAML: it holds more than one document: keep one of them, without lines of `---`",
        ),
        ("---\n", "config.yml: roomId: is missing: "),
        (
            "roomId: #hash",
            "config.yml:1: roomId: has no value: write it after the colon, in quotes if it begins with `#`",
        ),
        ("# nothing\n", "config.yml: roomId: is missing: "),
        ("", "config.yml: roomId: is missing: "),
    ] {
        let error = client(text).unwrap_err().to_string();
        assert!(error.starts_with(start), "{text:?}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    for (text, start) in [
        (
            "{\n\"roomId\": \"x\",\n}",
            "config.json:3: is not readable as JSON: ",
        ),
        (
            "{\"roomId\": \"\\ud800\"}",
            "config.json: is not readable as JSON: ",
        ),
        (
            "[]",
            "config.json: must hold keys and values such as `roomId: …`, not a list",
        ),
        (" ", "config.json: roomId: is missing: "),
    ] {
        let error = ClientConfig::parse(Path::new("config.json"), text)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(start), "{text:?}: {error}");
    }
}

#[test]
fn problems_in_json_have_lines_too() {
    let text = "{\n  \"roomId\" \n : \"hunter2\",\n  \"signalingUrl\": \"x\",\n  \"mappings\": [\n    \"tcp:1:1\",\n    \
        {\"protocol\": \"tcp\",\n     \"localPort\": 70000, \"remotePort\": 1}\n  ],\n  \"rel\\u0061y\": 1,\n  \"romId\": 2\n}";
    let error = ClientConfig::parse(Path::new("config.json"), text)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "config.json:4: signalingUrl: `x`: is not an http:// or https:// URL: write for example https://signal.example.org or http://192.0.2.1:8080\n\
         config.json:8: mappings[1].localPort: `70000`: port 70000 is above 65535\n\
         config.json:11: romId: is not a known key: did you mean `roomId`?\n\
         config.json: relay: must be a list, not a number: put the entries in [ ]"
    );
}

#[test]
fn hostile_files_are_bounded() {
    let large = format!("{HEAD}# {}", "x".repeat(64 * 1024));
    assert!(
        client(&large)
            .unwrap_err()
            .to_string()
            .contains("at most 65536 are read")
    );
    let bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
        c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
        e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    let refused = client(bomb).unwrap_err().to_string();
    assert!(
        refused.contains("too many values") || refused.contains("repetition limit"),
        "{refused}"
    );
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    assert!(
        client(&deep)
            .unwrap_err()
            .to_string()
            .contains("nested too deeply")
    );
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    let refused = ClientConfig::parse(Path::new("x.json"), &deep)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("nested too deeply") || refused.contains("recursion limit"),
        "{refused}"
    );
    let many = format!("{HEAD}mappings:\n{}", "- x\n".repeat(5000));
    let problems = client(&many).unwrap_err().problems;
    assert_eq!(problems.len(), 101);
    assert_eq!(
        problems[100].to_string(),
        "config.yml: has 4900 more problems"
    );
}

#[test]
fn no_message_shows_a_secret() {
    for text in [
        "roomId: [hunter2]",
        "roomId: {hunter2: hunter2}",
        "roomId: hunter2\naccessToken: hunter2 hunter2",
        "roomid: hunter2",
        "acessToken: hunter2",
        "signalingUrl: http://u:hunter2@h",
        "signalingUrl: [hunter2@h, 'ftp://h/?hunter2', 'https://h#hunter2']",
        "relay: [{url: 'turn:hunter2@h', credential: {hunter2: hunter2}}]",
        "relay: [hunter2, 'turn:u:hunter2@h']",
        "relay: {credential: hunter2}",
        "relay: [{credential: [hunter2]}, {Credential: hunter2}]",
    ] {
        let error = client(text).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let config = client("roomId: hunter2\nsignalingUrl: http://h\naccessToken: hunter2").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(config.common.warnings[0].contains("weak"));
}

fn client(text: &str) -> Result<ClientConfig, ConfigError> {
    ClientConfig::parse(Path::new("config.yml"), text)
}

fn server(text: &str) -> Result<ServerConfig, ConfigError> {
    ServerConfig::parse(Path::new("config.yml"), text)
}

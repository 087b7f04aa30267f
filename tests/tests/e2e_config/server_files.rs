//! `config.yml` of a server: what follows the two lines of the head, and the answer.

use crate::{HEAD, Row, assert_file_refused};

/// The lines are those of the whole file, so the first of a row is line 3.
pub(crate) const ROWS: &[Row] = &[
    (
        "mode: client\n",
        "config.yml:3: mode: `client`: this is stunfwd-server: use stunfwd-client, or write `mode: server`",
    ),
    (
        "allow: tcp:22\n",
        "config.yml:3: allow: must be a list, not a text: begin each entry with `- ` on a line of its own",
    ),
    (
        "allow:\n",
        "config.yml:3: allow: has no value: write a list, or leave it out",
    ),
    (
        "allow: [22]\n",
        "config.yml:3: allow[0]: `22`: the protocol is missing: write `tcp:` or `udp:` in front",
    ),
    (
        "allow: ['tcp:22-']\n",
        "config.yml:3: allow[0]: `tcp:22-`: `22-` is not a port (1 to 65535) nor a range such as 8000-8010",
    ),
    (
        "allow: ['tcp:30-20']\n",
        "config.yml:3: allow[0]: `tcp:30-20`: range 30-20 is reversed: write 20-30",
    ),
    (
        "allow: ['tcp:10.0.0.0/40:80']\n",
        "config.yml:3: allow[0]: `tcp:10.0.0.0/40:80`: `10.0.0.0/40` is not a network: write for example 192.168.1.0/24",
    ),
    (
        "allow: ['tcp:[fd00::1:80']\n",
        "config.yml:3: allow[0]: `tcp:[fd00::1:80`: brackets must enclose one IPv6 address, as in `[::1]`",
    ),
    (
        "allow:\n  - tcp:22\n  - icmp:1\n",
        "config.yml:5: allow[1]: `icmp:1`: protocol `icmp` is neither tcp nor udp",
    ),
    (
        "allow: ['tcp:8080:nas:80']\n",
        "config.yml:3: allow[0]: `tcp:8080:nas:80`: has 4 fields, an entry is `proto:[host:]port` (IPv6 addresses in brackets)",
    ),
    (
        "allow: ['*']\n",
        "config.yml:3: allow[0]: `*`: protocol `*` is neither tcp nor udp",
    ),
    (
        "alow: [tcp:22]\n",
        "config.yml:3: alow: is not a known key: did you mean `allow`?",
    ),
    (
        "pin: [x]\n",
        "config.yml:3: pin: is not yet in this version: leave the key out",
    ),
    (
        "audit: audit.log\n",
        "config.yml:3: audit: is not yet in this version: leave the key out",
    ),
    (
        "tcpLane: false\n",
        "config.yml:3: tcpLane: is not yet in this version: leave the key out",
    ),
];

#[test]
fn every_bad_file_of_a_server_is_answered() {
    for (text, answer) in ROWS {
        assert_file_refused(
            "stunfwd-server",
            "config.yml",
            format!("{HEAD}{text}"),
            answer,
        );
    }
}

//! Files of `stunfwd-signaling`: text and answer.

use crate::assert_file_refused;

/// Name, text, answer.
pub(crate) const ROWS: &[(&str, &str, &str)] = &[
    (
        "signaling.yml",
        "listen: 8080\n",
        "signaling.yml:1: `listen: 8080`: must be an IP address and a port such as 0.0.0.0:8080",
    ),
    (
        "signaling.yml",
        "listen: localhost:8080\n",
        "signaling.yml:1: `listen: localhost:8080`: must be an IP address and a port such as 0.0.0.0:8080",
    ),
    (
        "signaling.yml",
        "listen: 0.0.0.0:70000\n",
        "signaling.yml:1: `listen: 0.0.0.0:70000`: must be an IP address and a port such as 0.0.0.0:8080",
    ),
    (
        "signaling.yml",
        "stun:\n  - 192.0.2.1:3478\n  - 192.0.2.2\n",
        "signaling.yml:3: `stun: 192.0.2.2`: must be an IP address and a port such as 0.0.0.0:3478",
    ),
    (
        "signaling.yml",
        "stun:\n  - 192.0.2.1:3478\n  - '[2001:db8::1]:3478'\n",
        "signaling.yml:3: `stun: [2001:db8::1]:3478`: two addresses must be of one family and have the same port",
    ),
    (
        "signaling.yml",
        "stun:\n  - 192.0.2.1:3478\n  - 192.0.2.1:3479\n",
        "signaling.yml:3: `stun: 192.0.2.1:3479`: two addresses must have two different IP addresses",
    ),
    (
        "signaling.yml",
        "stun:\n  - 0.0.0.0:3478\n  - 192.0.2.1:3478\n",
        "signaling.yml:3: `stun: 192.0.2.1:3478`: two addresses must be two of this machine: neither can be all of them",
    ),
    (
        "signaling.yml",
        "stun: [192.0.2.1:1, 192.0.2.2:1, 192.0.2.3:1]\n",
        "signaling.yml:1: `stun: 192.0.2.3:1`: one or two addresses can be given",
    ),
    (
        "signaling.yml",
        "external-ip: example.org\n",
        "signaling.yml:1: `external-ip: example.org`: must be the IP address at which clients reach this machine",
    ),
    (
        "signaling.yml",
        "relay-ports: 60000-50000\n",
        "signaling.yml:1: `relay-ports: 60000-50000`: must be LO-HI with 1 ≤ LO ≤ HI ≤ 65535, such as 50000-50999",
    ),
    (
        "signaling.yml",
        "relay-ports: 50000\n",
        "signaling.yml:1: `relay-ports: 50000`: must be LO-HI with 1 ≤ LO ≤ HI ≤ 65535, such as 50000-50999",
    ),
    (
        "signaling.yml",
        "relay-allow:\n  - 10.0.0.0/8\n  - home\n",
        "signaling.yml:3: `relay-allow: home`: must be an address or a network such as 10.1.0.0/16",
    ),
    (
        "signaling.yml",
        "no-relay: maybe\n",
        "signaling.yml:1: `no-relay: maybe`: must be true or false",
    ),
    (
        "signaling.yml",
        "turn-url: turn:turn.example.org\n",
        "signaling.yml:1: `turn-url: turn:turn.example.org`: needs turn-secret too: the static-auth-secret of that relay, from which its credentials are made",
    ),
    (
        "signaling.yml",
        "turn-secret: hunter2\nturn-url: [turn:turn.example.org, turn.example.org]\n",
        "signaling.yml:2: `turn-url: turn.example.org`: is not a turn: or turns: URL: write for example turn:turn.example.org:3478?transport=udp or turns:turn.example.org:443",
    ),
    (
        "signaling.yml",
        "turn-secret: two words\n",
        "signaling.yml:1: `turn-secret`: must be one or more printable ASCII characters without spaces",
    ),
    (
        "signaling.yml",
        "access-token: ''\n",
        "signaling.yml:1: `access-token`: must be one or more printable ASCII characters without spaces",
    ),
    (
        "signaling.yml",
        "access-token:\n",
        "signaling.yml:1: `access-token` has no value: write one after the colon, or leave the key out",
    ),
    (
        "signaling.yml",
        "store: redis://127.0.0.1\n",
        "signaling.yml:1: `store: redis://127.0.0.1`: not yet in this version: write memory, or leave it out",
    ),
    (
        "signaling.yml",
        "store: file\n",
        "signaling.yml:1: `store: file`: must be memory, all that this version has",
    ),
    (
        "signaling.yml",
        "tls-cert: cert.pem\ntls-key: key.pem\nmetrics: 127.0.0.1:9090\n",
        "signaling.yml:1: `tls-cert: cert.pem`: not yet in this version: leave it out\nsignaling.yml:2: `tls-key: key.pem`: not yet in this version: leave it out\nsignaling.yml:3: `metrics: 127.0.0.1:9090`: not yet in this version: leave it out",
    ),
    (
        "signaling.yml",
        "listn: 127.0.0.1:8080\n",
        "signaling.yml:1: unknown key `listn`: did you mean `listen`?",
    ),
    (
        "signaling.yml",
        "roomId: hunter2\n",
        "signaling.yml:1: unknown key `roomId`: known are listen, stun, external-ip, relay-ports, relay-allow, turn-secret, turn-url, turn-ttl, no-relay, store, access-token, log, log-format",
    ),
    (
        "signaling.yml",
        "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n",
        "signaling.yml:2: `listen` is given twice: keep one of them",
    ),
    (
        "signaling.yml",
        "log: loud\nlog-format: xml\n",
        "signaling.yml:1: `log: loud`: must be off, error, warn, info, debug or trace\nsignaling.yml:2: `log-format: xml`: must be text or json",
    ),
    (
        "signaling.yml",
        "listen: {port: 8080}\n",
        "signaling.yml:1: `listen` must be a text or a list of texts, not keys and values",
    ),
    (
        "signaling.yml",
        "- listen\n",
        "signaling.yml: must hold keys and values such as `listen: 0.0.0.0:8080`, not a list",
    ),
    (
        "signaling.yml",
        "\tlisten: 127.0.0.1:1\n",
        "signaling.yml:1: is not readable as YAML: found character that cannot start any token, while scanning for the next token: indent with spaces, not tabs, and put a value that begins with @, % or ` in quotes",
    ),
    (
        "signaling.json",
        "{\"listen\": \"127.0.0.1:1\",}\n",
        "signaling.json:1: is not readable as JSON: key must be a string at line 1 column 26: write keys in double quotes, no comma after the last entry, and no comments",
    ),
];

#[test]
fn every_bad_file_of_signaling_is_answered() {
    for (name, text, answer) in ROWS {
        assert_file_refused("stunfwd-signaling", name, text, answer);
    }
}

//! `config.yml` of a client: what follows the two lines of the head, and the answer.

use crate::{HEAD, Row, assert_file_refused};

/// The lines are those of the whole file, so the first of a row is line 3.
pub(crate) const ROWS: &[Row] = &[
    (
        "mappings: [udp:70000:80]\n",
        "config.yml:3: mappings[0]: `udp:70000:80`: port 70000 is above 65535",
    ),
    (
        "mappings:\n  - tcp:8080:22\n  - udp:0:80\n",
        "config.yml:5: mappings[1]: `udp:0:80`: port 0 cannot be used (1 to 65535)",
    ),
    (
        "mappings: [tcp:-1:80]\n",
        "config.yml:3: mappings[0]: `tcp:-1:80`: `-1` is not a port (1 to 65535) nor a range such as 8000-8010",
    ),
    (
        "mappings: [tcp:1.5:80]\n",
        "config.yml:3: mappings[0]: `tcp:1.5:80`: `1.5` is not a port (1 to 65535) nor a range such as 8000-8010",
    ),
    (
        "mappings: ['tcp:abc:80']\n",
        "config.yml:3: mappings[0]: `tcp:abc:80`: `abc` is not a port (1 to 65535) nor a range such as 8000-8010",
    ),
    (
        "mappings: ['tcp:8080:99999999999999999999']\n",
        "config.yml:3: mappings[0]: `tcp:8080:99999999999999999999`: port 99999999999999999999 is above 65535",
    ),
    (
        "mappings: ['tcp:8080']\n",
        "config.yml:3: mappings[0]: `tcp:8080`: has 2 fields, a mapping is `proto:[bind:]localPort:[host:]serverPort` (IPv6 addresses in brackets)",
    ),
    (
        "mappings: ['8080:80']\n",
        "config.yml:3: mappings[0]: `8080:80`: the protocol is missing: write `tcp:` or `udp:` in front",
    ),
    (
        "mappings: ['8080']\n",
        "config.yml:3: mappings[0]: `8080`: the protocol is missing: write `tcp:` or `udp:` in front",
    ),
    (
        "mappings: [8080]\n",
        "config.yml:3: mappings[0]: `8080`: the protocol is missing: write `tcp:` or `udp:` in front",
    ),
    (
        "mappings: ['sctp:8080:80']\n",
        "config.yml:3: mappings[0]: `sctp:8080:80`: protocol `sctp` is neither tcp nor udp",
    ),
    (
        "mappings: ['tcp 8080 80']\n",
        "config.yml:3: mappings[0]: `tcp 8080 80`: protocol `tcp 8080 80` is neither tcp nor udp",
    ),
    (
        "mappings: ['']\n",
        "config.yml:3: mappings[0]: is empty: write for example `tcp:8080:80`",
    ),
    (
        "mappings:\n  -\n",
        "config.yml:4: mappings[0]: has no value: write a text such as `tcp:8080:80`, or leave it out",
    ),
    (
        "mappings: tcp:8080:80\n",
        "config.yml:3: mappings: must be a list, not a text: begin each entry with `- ` on a line of its own",
    ),
    (
        "mappings:\n  tcp: 8080\n",
        "config.yml:3: mappings: must be a list, not keys and values: begin each entry with `- ` on a line of its own",
    ),
    (
        "mappings: ['tcp:8010-8000:9010-9000']\n",
        "config.yml:3: mappings[0]: `tcp:8010-8000:9010-9000`: range 8010-8000 is reversed: write 8000-8010",
    ),
    (
        "mappings: ['tcp:8000-8010:9000-9005']\n",
        "config.yml:3: mappings[0]: `tcp:8000-8010:9000-9005`: 8000-8010 is 11 port(s) but 9000-9005 is 6: both need the same number",
    ),
    (
        "mappings: ['tcp:8000-8010:9000']\n",
        "config.yml:3: mappings[0]: `tcp:8000-8010:9000`: 8000-8010 is 11 port(s) but 9000 is 1: both need the same number",
    ),
    (
        "mappings:\n  - tcp:8080:22\n  - tcp:8080:23\n",
        "config.yml:5: mappings[1]: `tcp:8080:23`: 127.0.0.1:8080 is already taken by `tcp:8080:22`: give one of them another local port, or leave it out",
    ),
    (
        "mappings:\n  - tcp:8080:22\n  - tcp:8080:22\n",
        "config.yml:5: mappings[1]: `tcp:8080:22`: 127.0.0.1:8080 is already taken by `tcp:8080:22`: give one of them another local port, or leave it out",
    ),
    (
        "mappings:\n  - tcp:8080:22\n  - tcp:0.0.0.0:8080:22\n",
        "config.yml:5: mappings[1]: `tcp:0.0.0.0:8080:22`: 0.0.0.0:8080 is already taken by `tcp:8080:22`: give one of them another local port, or leave it out",
    ),
    (
        "mappings:\n  - tcp:0.0.0.0:8000-8010:9000-9010\n  - tcp:192.0.2.7:8005:22\n",
        "config.yml:5: mappings[1]: `tcp:192.0.2.7:8005:22`: 192.0.2.7:8005 is already taken by `tcp:0.0.0.0:8000-8010:9000-9010`: give one of them another local port, or leave it out",
    ),
    (
        "mappings: ['tcp:0.0.0.0-8192:1']\n",
        "config.yml:3: mappings[0]: `tcp:0.0.0.0-8192:1`: `0.0.0.0-8192` is not a port (1 to 65535) nor a range such as 8000-8010",
    ),
    (
        "mappings: ['tcp:1-8193:1-8193']\n",
        "config.yml:3: mappings[0]: `tcp:1-8193:1-8193`: would listen on 8193 ports in all, at most 8192 are allowed",
    ),
    (
        "mappings: ['tcp:eth0:8080:80']\n",
        "config.yml:3: mappings[0]: `tcp:eth0:8080:80`: `eth0` is not an address to listen on: write an IP address such as 127.0.0.1 or 0.0.0.0",
    ),
    (
        "mappings: ['tcp:8080:bad_host!:80']\n",
        "config.yml:3: mappings[0]: `tcp:8080:bad_host!:80`: `bad_host!` is neither an IP address nor a host name",
    ),
    (
        "mappings: ['tcp:8080:1.2.3:80']\n",
        "config.yml:3: mappings[0]: `tcp:8080:1.2.3:80`: `1.2.3` is neither an IP address nor a host name",
    ),
    (
        "mappings: ['tcp:8080:0.0.0.0:80']\n",
        "config.yml:3: mappings[0]: `tcp:8080:0.0.0.0:80`: 0.0.0.0 is not an address that can be connected to: write that of one machine",
    ),
    (
        "mappings: ['tcp:[::1:8080:80']\n",
        "config.yml:3: mappings[0]: `tcp:[::1:8080:80`: brackets must enclose one IPv6 address, as in `[::1]`",
    ),
    (
        "mappings: ['tcp:::1:8080:80']\n",
        "config.yml:3: mappings[0]: `tcp:::1:8080:80`: has 6 fields, a mapping is `proto:[bind:]localPort:[host:]serverPort` (IPv6 addresses in brackets)",
    ),
    (
        "mappings: ['tcp:8080:[nas]:80']\n",
        "config.yml:3: mappings[0]: `tcp:8080:[nas]:80`: `nas` is not an IPv6 address",
    ),
    (
        "mappings:\n  - protocol: tcp\n    localPort: 70000\n    remotePort: 80\n",
        "config.yml:5: mappings[0].localPort: `70000`: port 70000 is above 65535",
    ),
    (
        "mappings:\n  - protocol: tcp\n    localport: 8080\n    remotePort: 80\n",
        "config.yml:4: mappings[0]: lacks `localPort`\nconfig.yml:5: mappings[0].localport: is not a known key: did you mean `localPort`?",
    ),
    (
        "mappings:\n  - {protocol: icmp, localPort: 1, remotePort: 1, bind: 0.0.0.0}\n",
        "config.yml:4: mappings[0].bind: is not a known key: the keys are protocol, localPort, remotePort\nconfig.yml:4: mappings[0].protocol: `icmp`: protocol `icmp` is neither tcp nor udp",
    ),
    (
        "mappings:\n  - {protocol: tcp, localPort: [1], remotePort: 1}\n",
        "config.yml:4: mappings[0].localPort: must be a text, not a list",
    ),
    (
        "mode: server\n",
        "config.yml:3: mode: `server`: this is stunfwd-client: use stunfwd-server, or write `mode: client`",
    ),
    (
        "mode: both\n",
        "config.yml:3: mode: `both`: must be `client` here, or be left out",
    ),
    (
        "allow: [tcp:22]\n",
        "config.yml:3: allow: belongs in the server's configuration: leave it out here",
    ),
    (
        "stunServer: stun.example.org\n",
        "config.yml:3: stunServer: `stun.example.org`: the port is missing: write `host:port`",
    ),
    (
        "stunServer: stun:stun.example.org:3478\n",
        "config.yml:3: stunServer: `stun:stun.example.org:3478`: write only `host:port`, without `stun:`",
    ),
    (
        "stunServer: 2001:db8::1\n",
        "config.yml:3: stunServer: `2001:db8::1`: brackets must enclose one IPv6 address, as in `[::1]`",
    ),
    (
        "stunServer: [stun.example.org:3478, stun.example.org:0]\n",
        "config.yml:3: stunServer[1]: `stun.example.org:0`: port 0 cannot be used (1 to 65535)",
    ),
    (
        "stunServer: []\n",
        "config.yml:3: stunServer: is an empty list: write an entry, or leave the key out",
    ),
    (
        "stunServer: {host: stun.example.org}\n",
        "config.yml:3: stunServer: must be a text, not keys and values",
    ),
    (
        "relay: turn:turn.example.org\n",
        "config.yml:3: relay: must be a list, not a text: begin each entry with `- ` on a line of its own",
    ),
    (
        "relay: []\n",
        "config.yml:3: relay: is an empty list: write an entry, or leave the key out",
    ),
    (
        "relay: [turn:turn.example.org]\n",
        "config.yml:3: relay[0]: must be keys and values: `url`, `username` and `credential`, not a text",
    ),
    (
        "relay:\n  - url: https://turn.example.org\n    username: me\n    credential: hunter2\n",
        "config.yml:4: relay[0].url: `https://turn.example.org`: is not a turn: or turns: URL: write for example turn:turn.example.org:3478?transport=udp or turns:turn.example.org:443",
    ),
    (
        "relay:\n  - url: turn://turn.example.org\n    username: me\n    credential: hunter2\n",
        "config.yml:4: relay[0].url: `turn://turn.example.org`: has no `//` after `turn:`: write for example turn:turn.example.org:3478?transport=udp or turns:turn.example.org:443",
    ),
    (
        "relay:\n  - url: turn:turn.example.org?transport=sctp\n    username: me\n    credential: hunter2\n",
        "config.yml:4: relay[0].url: `turn:turn.example.org?transport=sctp`: `?transport=sctp` is neither `?transport=udp` nor `?transport=tcp`",
    ),
    (
        "relay:\n  - url: turns:turn.example.org?transport=udp\n    username: me\n    credential: hunter2\n",
        "config.yml:4: relay[0].url: `turns:turn.example.org?transport=udp`: `turns:` is TLS over TCP: leave `?transport=udp` out, or write `turn:`",
    ),
    (
        "relay:\n  - url: turn:turn.example.org:70000\n    username: me\n    credential: hunter2\n",
        "config.yml:4: relay[0].url: `turn:turn.example.org:70000`: port 70000 is above 65535: write for example turn:turn.example.org:3478?transport=udp or turns:turn.example.org:443",
    ),
    (
        "relay:\n  - url: turn:me:hunter2@turn.example.org\n    username: me\n    credential: hunter2\n",
        "config.yml:4: relay[0].url: must not hold a user name or password: write them under `username` and `credential`",
    ),
    (
        "relay:\n  - url: turn:turn.example.org\n    username: me\n",
        "config.yml:4: relay[0]: lacks `credential`",
    ),
    (
        "relay:\n  - url: turn:turn.example.org\n    user: me\n    password: hunter2\n",
        "config.yml:4: relay[0]: lacks `username`, `credential`\nconfig.yml:5: relay[0].user: is not a known key: the keys are url, username, credential\nconfig.yml:6: relay[0].password: is not a known key: the keys are url, username, credential",
    ),
    (
        "relay:\n  - url: turn:turn.example.org\n    username: ''\n    credential:\n",
        "config.yml:5: relay[0].username: is empty: write what the relay's operator gave you\nconfig.yml:6: relay[0].credential: has no value: write it after the colon, in quotes if it begins with `#`",
    ),
    (
        "accessToken: 'two words'\n",
        "config.yml:3: accessToken: must be one or more visible ASCII characters without spaces",
    ),
    (
        "accessToken:\n",
        "config.yml:3: accessToken: has no value: write a text, or leave it out",
    ),
    (
        "accessToken: [hunter2]\n",
        "config.yml:3: accessToken: must be a text, not a list: put it in quotes",
    ),
    (
        "direct: maybe\n",
        "config.yml:3: direct: `maybe`: must be true, false or \"require\"",
    ),
    (
        "direct: [true]\n",
        "config.yml:3: direct: must be a text, not a list",
    ),
    (
        "portMapping: auto\n",
        "config.yml:3: portMapping: `auto`: must be true or false",
    ),
    (
        "resume: 3600\n",
        "config.yml:3: resume: `3600`: has no unit: write 3600s",
    ),
    (
        "resume: 0s\n",
        "config.yml:3: resume: `0s`: is too short: at least 1s, or every change of path would reset connections",
    ),
    (
        "resume: soon\n",
        "config.yml:3: resume: `soon`: is not a duration: write a number with its unit (ms, s, m, h, d), for example 1h or 90s",
    ),
    (
        "resume: 1.5h\n",
        "config.yml:3: resume: `1.5h`: is not a duration: write a number with its unit (ms, s, m, h, d), for example 1h or 90s",
    ),
    (
        "resume: 31d\n",
        "config.yml:3: resume: `31d`: is too long: at most 30d",
    ),
    (
        "resume: 99999999999999999999d\n",
        "config.yml:3: resume: `99999999999999999999d`: is longer than can be counted: write a shorter time",
    ),
    (
        "maxConnections: 0\n",
        "config.yml:3: maxConnections: `0`: must be a whole number from 1 to 65535",
    ),
    (
        "maxConnections: 65536\n",
        "config.yml:3: maxConnections: `65536`: must be a whole number from 1 to 65535",
    ),
    (
        "maxConnections: -1\n",
        "config.yml:3: maxConnections: `-1`: must be a whole number from 1 to 65535",
    ),
    (
        "maxConnections: 1.5\n",
        "config.yml:3: maxConnections: `1.5`: must be a whole number from 1 to 65535",
    ),
    (
        "maxConnections: many\n",
        "config.yml:3: maxConnections: `many`: must be a whole number from 1 to 65535",
    ),
    (
        "control: ''\n",
        "config.yml:3: control: must be the path of a socket, such as /run/stunfwd.sock",
    ),
    (
        "control: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n",
        "config.yml:3: control: `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…`: is 104 bytes long with its folder: a socket's path may have 103, 91 of them in its folder: write a shorter one",
    ),
    (
        "control: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx/s\n",
        "config.yml:3: control: `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…`: is 94 bytes long with its folder: a socket's path may have 103, 91 of them in its folder: write a shorter one",
    ),
    (
        "colour: red\n",
        "config.yml:3: colour: is not a known key: the keys are mode, roomId, signalingUrl, accessToken, stunServer, mappings, relay, direct, portMapping, resume, maxConnections, control",
    ),
    (
        "mapping: [tcp:8080:80]\n",
        "config.yml:3: mapping: is not a known key: did you mean `mappings`?",
    ),
    (
        "max_connections: 5\n",
        "config.yml:3: max_connections: is not a known key: did you mean `maxConnections`?",
    ),
    (
        "direct: true\ndirect: false\n",
        "config.yml:4: direct: is given twice: keep one of them",
    ),
    (
        "tcpLane: true\n",
        "config.yml:3: tcpLane: is not yet in this version: leave the key out",
    ),
    (
        "metrics: 127.0.0.1:9090\n",
        "config.yml:3: metrics: is not yet in this version: leave the key out",
    ),
    (
        "pin: [x]\n",
        "config.yml:3: pin: belongs in the server's configuration: leave it out here",
    ),
];

#[test]
fn every_bad_file_of_a_client_is_answered() {
    for (text, answer) in ROWS {
        assert_file_refused(
            "stunfwd-client",
            "config.yml",
            format!("{HEAD}{text}"),
            answer,
        );
    }
}

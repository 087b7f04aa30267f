//! Properties of the grammar and of the configuration that hold for any text.

use std::{net::IpAddr, path::Path};

use mapping_core::{
    AllowEntry, Host, HostPort, PortMapping, PortRange, Protocol, RoomId,
    config::{ClientConfig, ServerConfig},
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_mapping_round_trips(mapping in mapping()) {
        prop_assert_eq!(mapping.to_string().parse::<PortMapping>(), Ok(mapping));
    }

    #[test]
    fn what_parses_prints_as_something_that_parses_the_same(text in "(tcp|UDP|udp):[0-9a-f.:\\[\\]x-]{1,30}") {
        if let Ok(mapping) = text.parse::<PortMapping>() {
            prop_assert_eq!(mapping.to_string().parse::<PortMapping>(), Ok(mapping));
        }
        if let Ok(entry) = text.parse::<AllowEntry>() {
            prop_assert_eq!(entry.to_string().parse::<AllowEntry>(), Ok(entry));
        }
    }

    #[test]
    fn no_text_panics_the_grammar(text in any::<String>()) {
        let _ = text.parse::<PortMapping>();
        let _ = text.parse::<AllowEntry>();
        if let Ok(host) = text.parse::<HostPort>() {
            prop_assert_eq!(host.to_string().parse::<HostPort>(), Ok(host));
        }
        let _ = RoomId::new(text).map(|room| room.strength_bits());
    }

    #[test]
    fn no_text_panics_the_configuration(text in any::<String>()) {
        parse_all(&text);
    }

    #[test]
    fn no_yaml_panics_the_configuration(text in yaml()) {
        parse_all(&text);
    }

    #[test]
    fn a_line_in_a_message_is_the_line_of_the_key(above in 0_usize..20, comment in "[ -~]{0,20}", indent in 0_usize..4) {
        let text = format!("{}x-y: 1\nroomId: a\nsignalingUrl: http://h\nmappings:\n{}-   {{localPort: 1,\n      protokol: tcp}}\n",
            format!("# {comment}\n").repeat(above), " ".repeat(indent));
        let error = ClientConfig::parse(Path::new("c.yml"), &text).unwrap_err();
        let lines: Vec<_> = error.problems.iter().map(|problem| problem.line).collect();
        prop_assert_eq!(lines, [above + 1, above + 5, above + 6].map(Some));
    }
}

fn parse_all(text: &str) {
    for name in ["config.yml", "config.json"] {
        for problem in [
            ClientConfig::parse(Path::new(name), text).map(|_| ()),
            ServerConfig::parse(Path::new(name), text).map(|_| ()),
        ] {
            if let Err(error) = problem {
                let lines = text.lines().count() + 1;
                assert!(!error.problems.is_empty());
                assert!(
                    error
                        .problems
                        .iter()
                        .all(|p| p.line.is_none_or(|line| line <= lines))
                );
            }
        }
    }
}

/// Texts that look like configurations: known and unknown keys with all sorts of values.
fn yaml() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("mode"),
        Just("roomId"),
        Just("signalingUrl"),
        Just("mappings"),
        Just("allow"),
        Just("stunServer"),
        Just("resume"),
        Just("direct"),
        Just("x"),
        Just("- a"),
        Just("? b"),
        Just("\"e\\u0061\""),
        Just("<<"),
        Just("&a k"),
    ];
    let value = prop_oneof![
        "[ -~]{0,20}",
        "[\\[\\]{},:*&!|>'\"#%@a1\n -]{0,20}",
        Just("*a".to_owned()),
        Just("\n  - tcp:1:1\n  - {protocol: udp, localPort: 1}".to_owned()),
    ];
    let line = (key, value).prop_map(|(key, value)| format!("{key}: {value}\n"));
    proptest::collection::vec(line, 0..8).prop_map(|lines| lines.concat())
}

fn mapping() -> impl Strategy<Value = PortMapping> {
    let ports = (1_u16..=65535, 1_u16..=65535, 0_u16..1000).prop_map(|(local, target, more)| {
        let more = more.min(65535 - local).min(65535 - target);
        let range = |first: u16| PortRange::new(first, first + more).expect("bounded above");
        (range(local), range(target))
    });
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let host = prop_oneof![
        any::<IpAddr>().prop_map(|address| Host::Ip(address.to_canonical())),
        "[a-z][a-z0-9_]{0,10}(\\.[a-z][a-z0-9]{0,5}){0,3}"
            .prop_map(|name| name.parse().expect("begins with a letter")),
    ];
    let all = (
        protocol,
        any::<Option<IpAddr>>(),
        ports,
        proptest::option::of(host),
    );
    all.prop_filter_map(
        "an address that nothing can be reached at",
        |(protocol, bind, ports, host)| {
            PortMapping::new(protocol, bind, ports.0, host, ports.1).ok()
        },
    )
}

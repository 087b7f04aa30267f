//! What a saved file changes: the difference between it and what it said before.

use mapping_core::{
    PortMapping,
    config::{ClientConfig, CommonConfig},
};
use stunfwd::{Change, MappingView, TableView};

/// What was taken out of the file, and what was put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) removed: Vec<PortMapping>,
    pub(super) added: Vec<PortMapping>,
}

impl Difference {
    /// Compares two lists; their order says nothing.
    pub(super) fn between(before: &[PortMapping], now: &[PortMapping]) -> Self {
        let missing = |from: &[PortMapping], other: &[PortMapping]| {
            let missing = from.iter().filter(|mapping| !other.contains(mapping));
            missing.cloned().collect()
        };
        Self {
            removed: missing(before, now),
            added: missing(now, before),
        }
    }

    /// Returns the changes that bring it to a table, which others may have changed: what they removed is
    /// not there to be removed, and what they added too is there already.
    ///
    /// `then` is the table of when the file was found changed, which `map save` may have written; what others did
    /// since is younger than the file, and stays done.
    pub(super) fn changes(&self, then: &TableView, now: &TableView) -> Vec<Change> {
        let removed = self
            .removed
            .iter()
            .filter_map(|mapping| find(then, mapping));
        let removed = removed.filter(|old| now.mappings.iter().any(|view| view.id == old.id));
        let added = self.added.iter();
        let added =
            added.filter(|mapping| [then, now].iter().all(|it| find(it, mapping).is_none()));
        removed
            .map(|view| Change::Remove(view.id))
            .chain(added.cloned().map(Change::Add))
            .collect()
    }
}

fn find<'t>(table: &'t TableView, mapping: &PortMapping) -> Option<&'t MappingView> {
    table.mappings.iter().find(|view| view.mapping == *mapping)
}

/// Returns the keys other than `mappings` that mean something else now.
pub(super) fn other_keys(before: &ClientConfig, now: &ClientConfig) -> Vec<&'static str> {
    // Taken apart, so that a key that is added later is not forgotten here.
    let CommonConfig {
        room,
        signaling_urls,
        access_token,
        stun_servers,
        relays,
        direct,
        port_mapping,
        resume,
        max_connections,
        control,
        warnings: _,
    } = &before.common;
    let now = &now.common;
    let compared = [
        ("roomId", *room == now.room),
        ("signalingUrl", *signaling_urls == now.signaling_urls),
        ("accessToken", *access_token == now.access_token),
        ("stunServer", *stun_servers == now.stun_servers),
        ("relay", *relays == now.relays),
        ("direct", *direct == now.direct),
        ("portMapping", *port_mapping == now.port_mapping),
        ("resume", *resume == now.resume),
        ("maxConnections", *max_connections == now.max_connections),
        ("control", *control == now.control),
    ];
    let changed = compared.into_iter().filter(|(_, is_same)| !is_same);
    changed.map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mapping_core::MappingId;
    use stunfwd::status::{MappingState, MappingStatus};

    use super::*;

    fn mappings(specs: &[&str]) -> Vec<PortMapping> {
        specs.iter().map(|spec| spec.parse().unwrap()).collect()
    }

    fn table(specs: &[&str]) -> TableView {
        let view = |(index, spec): (usize, &&str)| MappingView {
            id: MappingId::new(10 + u32::try_from(index).unwrap()),
            mapping: spec.parse().unwrap(),
            status: MappingStatus {
                index: index as u64,
                spec: (*spec).to_owned(),
                state: MappingState::Pending,
                error: None,
                listen: None,
                connections: 0,
                bytes_in: 0,
                bytes_out: 0,
            },
            via: None,
        };
        TableView {
            version: 1,
            committed: None,
            peer: false,
            mappings: specs.iter().enumerate().map(view).collect(),
        }
    }

    #[test]
    fn what_others_did_to_the_table_stays_done() {
        let before = mappings(&["tcp:1:1", "tcp:2:2", "tcp:3:3"]);
        let now = mappings(&["udp:5:5", "tcp:3:3", "udp:4:4"]);
        let difference = Difference::between(&before, &now);
        assert_eq!(difference.removed, mappings(&["tcp:1:1", "tcp:2:2"]));
        assert_eq!(difference.added, mappings(&["udp:5:5", "udp:4:4"]));
        // Others removed tcp:1:1 and tcp:3:3, and added udp:4:4 and udp:9:9.
        let table = table(&["tcp:2:2", "udp:9:9", "udp:4:4"]);
        assert_eq!(
            difference.changes(&table, &table),
            [
                Change::Remove(MappingId::new(10)),
                Change::Add("udp:5:5".parse().unwrap())
            ]
        );
        let same = Difference::between(&before, &mappings(&["tcp:3:3", "tcp:2:2", "tcp:1:1"]));
        assert_eq!(same, Difference::default());
    }

    #[test]
    fn what_others_do_while_the_file_is_being_read_is_younger_than_it() {
        // `map add tcp:2:2`, `map remove tcp:3:3`, `map save`, and then both are taken back.
        let before = mappings(&["tcp:1:1", "tcp:3:3"]);
        let difference = Difference::between(&before, &mappings(&["tcp:1:1", "tcp:2:2"]));
        let then = table(&["tcp:1:1", "tcp:2:2"]);
        let mut now = table(&["tcp:1:1"]);
        let mut back = table(&["tcp:3:3"]).mappings.remove(0);
        back.id = MappingId::new(20);
        now.mappings.push(back);
        assert_eq!(difference.changes(&then, &now), []);
    }

    #[test]
    fn keys_that_need_a_restart_are_named() {
        let parse = |more: &str| {
            let text = format!("signalingUrl: http://127.0.0.1:1\n{more}");
            ClientConfig::parse(Path::new("c.yml"), &text).unwrap()
        };
        let before = parse("roomId: a\n");
        assert!(other_keys(&before, &parse("roomId: a\nmappings: [tcp:1:1]\n")).is_empty());
        assert_eq!(
            other_keys(
                &before,
                &parse("roomId: b\ndirect: false\nportMapping: false\n")
            ),
            ["roomId", "direct", "portMapping"]
        );
    }
}

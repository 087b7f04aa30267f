//! Which keys there are, whose they are, and which one was meant.

use crate::Side;

/// A key of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// Whose file it belongs in; `None` is both.
    pub side: Option<Side>,
    /// Whether this version knows what to do with it.
    pub available: bool,
}

/// Every key of the interface, those of later versions included, so that they are told from typing errors.
pub const KEYS: &[Key] = &[
    both("mode"),
    both("roomId"),
    both("signalingUrl"),
    both("accessToken"),
    both("stunServer"),
    only("mappings", Side::Ingress),
    both("relay"),
    only("allow", Side::Egress),
    both("direct"),
    both("portMapping"),
    later("tcpLane", None),
    both("resume"),
    both("maxConnections"),
    later("pin", Some(Side::Egress)),
    later("audit", Some(Side::Egress)),
    both("control"),
    later("metrics", None),
];

/// The keys of a mapping that is written as an object.
pub(super) const MAPPING_KEYS: &[&str] = &["protocol", "localPort", "remotePort"];

/// The keys of a relay.
pub(super) const RELAY_KEYS: &[&str] = &["url", "username", "credential"];

const fn both(name: &'static str) -> Key {
    Key {
        name,
        side: None,
        available: true,
    }
}

const fn only(name: &'static str, side: Side) -> Key {
    Key {
        name,
        side: Some(side),
        available: true,
    }
}

const fn later(name: &'static str, side: Option<Side>) -> Key {
    Key {
        name,
        side,
        available: false,
    }
}

/// Looks a key up.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Says what is wrong with a key that is none of `known`.
pub(super) fn unknown(name: &str, known: &[&'static str]) -> String {
    match nearest(name, known) {
        Some(meant) => format!("is not a known key: did you mean `{meant}`?"),
        None => format!("is not a known key: the keys are {}", known.join(", ")),
    }
}

/// Returns the key that was most likely meant: the same letters, or few enough of them wrong.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let plain = |text: &str| -> Vec<char> {
        let letters = text.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
        letters
            .flat_map(char::to_lowercase)
            .take(NAME_CHARS_MAX)
            .collect()
    };
    let name = plain(name);
    let distances = known.iter().map(|key| (distance(&name, &plain(key)), *key));
    let (distance, key) = distances.min_by_key(|(distance, _)| *distance)?;
    // A third of the letters wrong is another word.
    (distance <= (key.len() / 3).max(1)).then_some(key)
}

/// Longer names are cut off: none of ours is half as long, and the comparison is quadratic.
const NAME_CHARS_MAX: usize = 64;

/// Counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_suggested() {
        let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        for (written, meant) in [
            ("roomid", Some("roomId")),
            ("room_id", Some("roomId")),
            ("RoomID", Some("roomId")),
            ("romoId", Some("roomId")),
            ("signalingURL", Some("signalingUrl")),
            ("signallingUrl", Some("signalingUrl")),
            ("stun_servers", Some("stunServer")),
            ("mapping", Some("mappings")),
            ("max-connections", Some("maxConnections")),
            ("colour", None),
            ("", None),
            ("<<", None),
        ] {
            let nearest = nearest(written, &names);
            assert_eq!(nearest, meant, "{written}");
        }
        assert!(unknown("colour", &names).contains("the keys are mode, roomId"));
    }
}

//! JSON: the tree, and where its parts stand.
//!
//! Every part is a slice of the file, so its position is its distance from the start: nothing is guessed.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::tree::{Budget, DEPTH_MAX, Node, SyntaxError, TOO_DEEP, TOO_MANY};

/// Parses a text.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    if text.trim().is_empty() {
        return Ok(Node::Map(Vec::new()));
    }
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| syntax_error(&error))?;
    build(raw.get(), 0, &mut Budget::new())
}

/// Returns the line, counted from 1, of the key or list item that `path` leads to.
pub(super) fn line_of(text: &str, path: &[usize]) -> Option<usize> {
    let mut value: &str = serde_json::from_str::<&RawValue>(text).ok()?.get();
    let mut found = None;
    for index in path {
        if value.starts_with('{') {
            let entry = serde_json::from_str::<Entries<'_>>(value)
                .ok()?
                .0
                .into_iter()
                .nth(*index)?;
            // A key with escapes is no slice of the file: then its line stays unknown.
            found = entry.key_slice;
            value = entry.value.get();
        } else {
            value = serde_json::from_str::<Vec<&RawValue>>(value)
                .ok()?
                .get(*index)?
                .get();
            found = Some(value);
        }
    }
    let offset = found?.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    Some(
        1 + text
            .get(..offset)?
            .bytes()
            .filter(|byte| *byte == b'\n')
            .count(),
    )
}

fn build(text: &str, depth: usize, budget: &mut Budget) -> Result<Node, SyntaxError> {
    let refuse = |message: &str| {
        Err(SyntaxError {
            line: None,
            message: message.to_owned(),
        })
    };
    if !budget.take() {
        return refuse(TOO_MANY);
    }
    if depth > DEPTH_MAX {
        return refuse(TOO_DEEP);
    }
    match text.as_bytes().first() {
        Some(b'{') => {
            let mut entries = Vec::new();
            for entry in part::<Entries<'_>>(text)?.0 {
                entries.push((entry.key, build(entry.value.get(), depth + 1, budget)?));
            }
            Ok(Node::Map(entries))
        }
        Some(b'[') => {
            let items = part::<Vec<&RawValue>>(text)?;
            let items = items
                .iter()
                .map(|item| build(item.get(), depth + 1, budget));
            Ok(Node::List(items.collect::<Result<_, _>>()?))
        }
        Some(b'"') => Ok(Node::Text(owned(text)?)),
        Some(b't' | b'f') => Ok(Node::Bool(owned(text)?)),
        Some(b'n') => Ok(Node::Null),
        _ => Ok(Node::Number(text.to_owned())),
    }
}

/// One key and its value.
struct Entry<'a> {
    key: String,
    /// Where the key stands in the file.
    key_slice: Option<&'a str>,
    value: &'a RawValue,
}

/// An object in the order of the file, duplicates included.
struct Entries<'a>(Vec<Entry<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor).map(Self)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Vec<Entry<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Key { text, slice }) = access.next_key()? {
            entries.push(Entry {
                key: text,
                key_slice: slice,
                value: access.next_value()?,
            });
        }
        Ok(entries)
    }
}

struct Key<'a> {
    text: String,
    slice: Option<&'a str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
        Ok(Key {
            text: text.to_owned(),
            slice: Some(text),
        })
    }

    fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
        Ok(Key {
            text: text.to_owned(),
            slice: None,
        })
    }
}

/// Parses a slice that is known to be JSON; what can still fail is an escape such as `\ud800`.
fn part<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, SyntaxError> {
    serde_json::from_str(text).map_err(|error| without_line(&error))
}

fn owned<T: DeserializeOwned>(text: &str) -> Result<T, SyntaxError> {
    serde_json::from_str(text).map_err(|error| without_line(&error))
}

fn syntax_error(error: &serde_json::Error) -> SyntaxError {
    let line = Some(error.line()).filter(|line| *line > 0);
    let text = error.to_string();
    let hint = HINTS.iter().find(|(part, _)| text.contains(part));
    SyntaxError {
        line,
        message: hint.map_or_else(|| text.clone(), |(_, hint)| format!("{text}: {hint}")),
    }
}

/// What a person can do about what serde_json says, by a part of its words.
const HINTS: [(&str, &str); 5] = [
    (
        "key must be a string",
        "write keys in double quotes, no comma after the last entry, and no comments",
    ),
    ("trailing comma", "leave it out"),
    ("expected `,` or", "separate entries by commas"),
    (
        "EOF while parsing",
        "close every quotation mark and bracket",
    ),
    (
        "expected value",
        "put texts in double quotes; a file in YAML must not be named .json",
    ),
];

/// Leaves out the line: it would be counted from the start of the part.
fn without_line(error: &serde_json::Error) -> SyntaxError {
    let text = error.to_string();
    let message = text
        .split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned();
    SyntaxError {
        line: None,
        message,
    }
}

//! What a configuration file contains, before anybody asks what it means.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::json;

/// Largest configuration file in bytes. libyaml is no longer maintained, and nobody writes more by hand.
pub const FILE_BYTES_MAX: usize = 64 * 1024;

/// Most values in one file: YAML aliases can make a small file large.
const NODES_MAX: usize = 16 * 1024;

/// Deepest nesting; a mapping written as an object needs three.
pub(super) const DEPTH_MAX: usize = 16;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// A value without its meaning. Keys keep their order and their duplicates.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    /// In JSON as written, in YAML as understood.
    Number(String),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// Why a file is neither YAML nor JSON.
#[derive(Debug, PartialEq)]
pub(super) struct SyntaxError {
    pub(super) line: Option<usize>,
    pub(super) message: String,
}

impl Node {
    /// Parses a text.
    pub(super) fn parse(format: Format, text: &str) -> Result<Self, SyntaxError> {
        match format {
            Format::Json => json::parse(text),
            Format::Yaml => parse_yaml(text),
        }
    }

    /// Names the kind of value for a message.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "keys and values",
        }
    }
}

/// Counts values while a tree grows.
pub(super) struct Budget(usize);

impl Budget {
    pub(super) const fn new() -> Self {
        Self(NODES_MAX)
    }

    /// Takes one value off; `false` when there were too many.
    pub(super) const fn take(&mut self) -> bool {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

pub(super) const TOO_MANY: &str = "it holds too many values";
pub(super) const TOO_DEEP: &str = "it is nested too deeply";

fn parse_yaml(text: &str) -> Result<Node, SyntaxError> {
    // libyaml calls a file of comments an unexpected end; for people it is a file in which all is missing.
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Node::Map(Vec::new()));
    }
    let mut budget = Budget::new();
    let seed = NodeSeed {
        budget: &mut budget,
        depth: 0,
    };
    seed.deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| SyntaxError {
            line: error.location().map(|location| location.line()),
            message: yaml_message(&error.to_string()),
        })
}

/// What a person can do about what libyaml says, by a part of its words.
const YAML_HINTS: [(&str, &str); 13] = [
    (TOO_MANY, "write fewer, and do not repeat them with `*`"),
    (TOO_DEEP, "no value needs more than three levels"),
    (
        "mapping values are not allowed",
        "put a value that contains `: ` in quotes, and begin the keys of a level in one column",
    ),
    (
        "found character that cannot start any token",
        "indent with spaces, not tabs, and put a value that begins with @, % or ` in quotes",
    ),
    (
        "unexpected end of stream",
        "close every quotation mark and bracket",
    ),
    (
        "did not find expected ',' or",
        "close every bracket, and separate what is in it by commas",
    ),
    (
        "did not find expected key",
        "begin the keys of a level in one column, and write a space after the colon",
    ),
    (
        "did not find expected '-' indicator",
        "begin each entry of a list with `- ` in one column",
    ),
    (
        "could not find expected ':'",
        "write a colon and a space after each key, and close every quotation mark",
    ),
    (
        "unknown anchor",
        "put a value that begins with `*` in quotes",
    ),
    (
        "alphabetic or numeric character",
        "put a value that begins with `*` or `&` in quotes",
    ),
    (
        "unknown escape character",
        "write \\\\ for a backslash in double quotes, or use single quotes",
    ),
    (
        "repetition limit exceeded",
        "write the values out instead of repeating them with `*`",
    ),
];

fn yaml_message(text: &str) -> String {
    // serde_yaml quotes a value only when a tag such as `!!int` does not fit it, and then the value may be a
    // secret.
    if text.contains("invalid value") || text.contains("invalid type") {
        return "a YAML tag cannot be used here: put a value that begins with `!` in quotes"
            .to_owned();
    }
    if text.contains("more than one document") {
        return "it holds more than one document: keep one of them, without lines of `---`"
            .to_owned();
    }
    let hint = YAML_HINTS.iter().find(|(part, _)| text.contains(part));
    hint.map_or_else(|| text.to_owned(), |(_, hint)| format!("{text}: {hint}"))
}

struct NodeSeed<'b> {
    budget: &'b mut Budget,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        if !self.budget.take() {
            return Err(D::Error::custom(TOO_MANY));
        }
        if self.depth > DEPTH_MAX {
            return Err(D::Error::custom(TOO_DEEP));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        let depth = self.depth + 1;
        while let Some(item) = access.next_element_seed(NodeSeed {
            budget: &mut *self.budget,
            depth,
        })? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        let depth = self.depth + 1;
        while let Some(key) = access.next_key_seed(NodeSeed {
            budget: &mut *self.budget,
            depth,
        })? {
            let value = access.next_value_seed(NodeSeed {
                budget: &mut *self.budget,
                depth,
            })?;
            entries.push((key_text(key), value));
        }
        Ok(Node::Map(entries))
    }
}

/// A key that is no text is no key of ours: any text will do that is none either.
fn key_text(key: Node) -> String {
    match key {
        Node::Text(text) | Node::Number(text) => text,
        Node::Bool(value) => value.to_string(),
        Node::Null => "null".to_owned(),
        Node::List(_) => "[…]".to_owned(),
        Node::Map(_) => "{…}".to_owned(),
    }
}

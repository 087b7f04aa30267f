//! A file of options that are texts or lists of texts, for a program with keys of its own.

use std::path::Path;

use super::{ConfigError, reader::Document, tree::Node};

/// One key and its value; keys keep their order and their duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatEntry {
    /// As written.
    pub key: String,
    /// The line of the key, counted from 1, where it is known for certain.
    pub line: Option<usize>,
    /// What it says.
    pub value: FlatValue,
}

/// What a key of a flat file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlatValue {
    /// A text, with numbers and booleans as they were written.
    One(String),
    /// A list of texts, each with its line.
    Several(Vec<(Option<usize>, String)>),
    /// Something else, named for a message: `nothing`, `keys and values`.
    Other(&'static str),
}

/// Reads a flat file; the extension of `file` says whether it is JSON (`.json`) or YAML, and `example` is a
/// line for whoever wrote something else.
///
/// # Errors
/// [`ConfigError`] when the text is neither.
pub fn flat_entries(file: &Path, text: &str, example: &str) -> Result<Vec<FlatEntry>, ConfigError> {
    let document = Document::parse(file, text, example)?;
    let Node::Map(entries) = &document.root else {
        return Ok(Vec::new());
    };
    let entry = |(index, (key, node)): (usize, &(String, Node))| FlatEntry {
        key: key.clone(),
        line: document.line_of(&[index]),
        value: value(&document, index, node),
    };
    Ok(entries.iter().enumerate().map(entry).collect())
}

fn value(document: &Document<'_>, index: usize, node: &Node) -> FlatValue {
    let Node::List(items) = node else {
        let text = scalar(document, &[index], node);
        return text.map_or_else(|| FlatValue::Other(node.kind()), FlatValue::One);
    };
    let mut texts = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let path = [index, place];
        let Some(text) = scalar(document, &path, item) else {
            return FlatValue::Other("a list that holds something else than texts");
        };
        texts.push((document.line_of(&path), text));
    }
    FlatValue::Several(texts)
}

fn scalar(document: &Document<'_>, path: &[usize], node: &Node) -> Option<String> {
    let understood = match node {
        Node::Text(text) => return Some(text.clone()),
        Node::Number(number) => number.clone(),
        Node::Bool(value) => value.to_string(),
        Node::Null | Node::List(_) | Node::Map(_) => return None,
    };
    Some(document.written(path).unwrap_or(understood))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(name: &str, text: &str) -> Vec<FlatEntry> {
        flat_entries(Path::new(name), text, "a: b").unwrap()
    }

    #[test]
    fn values_stay_as_written_and_every_part_has_its_line() {
        let entry = |key: &str, line, value| FlatEntry {
            key: key.to_owned(),
            line: Some(line),
            value,
        };
        let one = |text: &str| FlatValue::One(text.to_owned());
        let yaml = "# first\na: 012\nb:\n  - 1e3\n  - True\na: {}\nc:\n  a: 1\nd: [[]]\ne:\n";
        assert_eq!(
            entries("x.yml", yaml),
            [
                entry("a", 2, one("012")),
                entry(
                    "b",
                    3,
                    FlatValue::Several(vec![
                        (Some(4), "1e3".to_owned()),
                        (Some(5), "True".to_owned())
                    ])
                ),
                entry("a", 6, FlatValue::Other("keys and values")),
                entry("c", 7, FlatValue::Other("keys and values")),
                entry(
                    "d",
                    9,
                    FlatValue::Other("a list that holds something else than texts")
                ),
                entry("e", 10, FlatValue::Other("nothing")),
            ]
        );
        assert_eq!(
            entries("x.json", "{\"a\": 1.50,\n \"a\": true}"),
            [entry("a", 1, one("1.50")), entry("a", 2, one("true"))]
        );
        for nothing in ["", "# nothing", "---\n", "null"] {
            assert_eq!(entries("x.yml", nothing), []);
        }
    }

    #[test]
    fn a_file_without_options_is_told_what_they_look_like() {
        let error = flat_entries(Path::new("x.yml"), "- a", "a: b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.yml: must hold keys and values such as `a: b`, not a list"
        );
    }
}

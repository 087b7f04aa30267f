//! Picks keys and values out of the tree and collects what is wrong with them.

use std::{collections::BTreeSet, path::Path};

use super::{
    ConfigError, FILE_BYTES_MAX, Problem, json,
    keys::{self, KEYS, Key},
    tree::{Format, Node},
    yaml_position,
};
use crate::Side;

/// Problems beyond this are not listed: each costs a pass over the file, and nobody reads so many.
const PROBLEMS_MAX: usize = 100;

/// Keys that cannot be left out.
const REQUIRED: [&str; 2] = ["roomId", "signalingUrl"];

/// A parsed file.
pub(super) struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    format: Format,
    pub(super) root: Node,
}

impl<'a> Document<'a> {
    /// Parses a file whose root must be keys and values.
    pub(super) fn parse(file: &'a Path, text: &'a str, example: &str) -> Result<Self, ConfigError> {
        if text.len() > FILE_BYTES_MAX {
            let message = format!(
                "is {} bytes long, at most {FILE_BYTES_MAX} are read",
                text.len()
            );
            return Err(ConfigError::of_file(file, message));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_json = file
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("json"));
        let (format, name) = if is_json {
            (Format::Json, "JSON")
        } else {
            (Format::Yaml, "YAML")
        };
        let root = Node::parse(format, text).map_err(|error| ConfigError {
            problems: vec![Problem {
                line: error.line,
                ..Problem::of_file(
                    file,
                    format!("is not readable as {name}: {}", error.message),
                )
            }],
        })?;
        // Such as a file that is only `---`.
        let root = if matches!(root, Node::Null) {
            Node::Map(Vec::new())
        } else {
            root
        };
        if !matches!(root, Node::Map(_)) {
            let message = format!(
                "must hold keys and values such as `{example}`, not {}",
                root.kind()
            );
            return Err(ConfigError::of_file(file, message));
        }
        Ok(Self {
            file,
            text,
            format,
            root,
        })
    }

    /// Says how a list is written.
    const fn list_hint(&self) -> &'static str {
        match self.format {
            Format::Yaml => "begin each entry with `- ` on a line of its own",
            Format::Json => "put the entries in [ ]",
        }
    }

    /// Returns the line of the key or list item that `path` leads to, counted from 1.
    pub(super) fn line_of(&self, path: &[usize]) -> Option<usize> {
        match self.format {
            Format::Yaml => yaml_position::line_of(self.text, path),
            Format::Json => json::line_of(self.text, path),
        }
    }

    /// Returns a YAML scalar as it was written.
    pub(super) fn written(&self, path: &[usize]) -> Option<String> {
        match self.format {
            Format::Yaml => yaml_position::written(self.text, path),
            // In JSON the tree has numbers as they were written.
            Format::Json => None,
        }
    }
}

/// A value with its name for messages and its place in the file.
pub(super) struct Field<'a> {
    pub(super) name: String,
    path: Vec<usize>,
    pub(super) node: &'a Node,
    secret: bool,
}

/// Reads one side's keys.
pub(super) struct Reader<'a> {
    document: &'a Document<'a>,
    side: Side,
    problems: Vec<Problem>,
    suppressed: usize,
    pub(super) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Makes a reader and reports every key that has no place in this side's file.
    pub(super) fn new(document: &'a Document<'a>, side: Side) -> Self {
        let mut reader = Self {
            document,
            side,
            problems: Vec::new(),
            suppressed: 0,
            warnings: Vec::new(),
        };
        reader.check_keys();
        reader
    }

    /// Returns the value of a key that is there.
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        let Node::Map(entries) = &self.document.root else {
            return None;
        };
        let (index, (_, node)) = entries
            .iter()
            .enumerate()
            .find(|(_, (key, _))| key == name)?;
        let secret = matches!(name, "roomId" | "accessToken");
        Some(Field {
            name: name.to_owned(),
            path: vec![index],
            node,
            secret,
        })
    }

    /// Returns the value of a key that must be there.
    pub(super) fn required(&mut self, name: &str, what: &str) -> Option<Field<'a>> {
        let field = self.get(name);
        if field.is_none() {
            let key = Some(name.to_owned());
            self.push(Problem {
                key,
                ..Problem::of_file(self.document.file, format!("is missing: {what}"))
            });
        }
        field
    }

    /// Returns the items of a list, or the value itself as the only one.
    pub(super) fn one_or_more(&mut self, field: Field<'a>) -> Vec<Field<'a>> {
        if matches!(field.node, Node::List(_)) {
            self.items(&field)
        } else {
            vec![field]
        }
    }

    /// Returns the items of what must be a list.
    pub(super) fn items(&mut self, field: &Field<'a>) -> Vec<Field<'a>> {
        let Node::List(items) = field.node else {
            if matches!(field.node, Node::Null) {
                self.wrong_kind(field, "a list");
            } else {
                let (kind, hint) = (field.node.kind(), self.document.list_hint());
                self.fault(field, format!("must be a list, not {kind}: {hint}"));
            }
            return Vec::new();
        };
        let item = |(index, node)| Field {
            name: format!("{}[{index}]", field.name),
            path: [&field.path[..], &[index]].concat(),
            node,
            secret: field.secret,
        };
        items.iter().enumerate().map(item).collect()
    }

    /// Returns the entries of an object whose keys are `known`; others are reported.
    pub(super) fn entries(
        &mut self,
        field: &Field<'a>,
        known: &[&'static str],
    ) -> Vec<(&'static str, Field<'a>)> {
        let Node::Map(entries) = field.node else {
            return Vec::new();
        };
        let mut found: Vec<(&'static str, Field<'a>)> = Vec::new();
        for (index, (key, node)) in entries.iter().enumerate() {
            let secret = field.secret || *key == "credential";
            let child = Field {
                name: format!("{}.{key}", field.name),
                path: [&field.path[..], &[index]].concat(),
                node,
                secret,
            };
            match known.iter().find(|name| *name == key) {
                None => self.fault(&child, keys::unknown(key, known)),
                Some(name) if found.iter().any(|(other, _)| other == name) => {
                    self.fault(&child, "is given twice: keep one of them");
                }
                Some(name) => found.push((name, child)),
            }
        }
        found
    }

    /// Returns a scalar as text, numbers as they were written.
    pub(super) fn text(&mut self, field: &Field<'a>) -> Option<String> {
        match field.node {
            Node::Text(text) => Some(text.clone()),
            Node::Number(understood) => Some(
                self.document
                    .written(&field.path)
                    .unwrap_or_else(|| understood.clone()),
            ),
            Node::Bool(value) => Some(
                self.document
                    .written(&field.path)
                    .unwrap_or_else(|| value.to_string()),
            ),
            // A secret may be any text, one that begins with a bracket, too.
            Node::List(_) | Node::Map(_) if field.secret => {
                let kind = field.node.kind();
                self.fault(
                    field,
                    format!("must be a text, not {kind}: put it in quotes"),
                );
                None
            }
            Node::List(_) | Node::Map(_) => {
                self.wrong_kind(field, "a text");
                None
            }
            // An object's keys are all needed.
            Node::Null if REQUIRED.contains(&&*field.name) || field.name.contains('.') => {
                self.fault(
                    field,
                    "has no value: write it after the colon, in quotes if it begins with `#`",
                );
                None
            }
            Node::Null => {
                self.wrong_kind(field, "a text");
                None
            }
        }
    }

    /// Parses a scalar; what `parse` answers is reported with the value in front.
    pub(super) fn parsed<T, E: ToString>(
        &mut self,
        field: &Field<'a>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(field)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.bad_value(field, &text, error.to_string());
                None
            }
        }
    }

    /// Reports a value; a secret one is not shown.
    pub(super) fn bad_value(&mut self, field: &Field<'a>, text: &str, message: String) {
        let value = (!field.secret && !text.is_empty()).then(|| text.to_owned());
        self.report(field, value, message);
    }

    /// Reports a key, without its value.
    pub(super) fn fault(&mut self, field: &Field<'a>, message: impl Into<String>) {
        self.report(field, None, message.into());
    }

    /// Reports a value of another kind than wanted.
    pub(super) fn wrong_kind(&mut self, field: &Field<'a>, wanted: &str) {
        let message = if matches!(field.node, Node::Null) {
            format!("has no value: write {wanted}, or leave it out")
        } else {
            format!("must be {wanted}, not {}", field.node.kind())
        };
        self.fault(field, message);
    }

    /// Ends the reading: the warnings, or everything that was wrong.
    pub(super) fn finish(mut self) -> Result<Vec<String>, ConfigError> {
        if self.problems.is_empty() {
            return Ok(self.warnings);
        }
        // Stable, so problems of one line stay as they were found; what has no line comes last.
        self.problems
            .sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        if self.suppressed > 0 {
            let message = format!("has {} more problems", self.suppressed);
            self.problems
                .push(Problem::of_file(self.document.file, message));
        }
        Err(ConfigError {
            problems: self.problems,
        })
    }

    fn check_keys(&mut self) {
        let Node::Map(entries) = &self.document.root else {
            return;
        };
        // Later keys are not suggested: they would be refused too.
        let usable = |key: &&Key| key.available && key.side.is_none_or(|side| side == self.side);
        let known: Vec<_> = KEYS.iter().filter(usable).map(|key| key.name).collect();
        let mut seen = BTreeSet::new();
        for (index, (name, node)) in entries.iter().enumerate() {
            let field = Field {
                name: name.clone(),
                path: vec![index],
                node,
                secret: false,
            };
            match keys::find(name) {
                None => self.fault(&field, keys::unknown(name, &known)),
                Some(_) if !seen.insert(name) => {
                    self.fault(&field, "is given twice: keep one of them");
                }
                Some(Key {
                    side: Some(owner), ..
                }) if *owner != self.side => {
                    self.foreign_key(&field, *owner);
                }
                Some(Key {
                    available: false, ..
                }) => {
                    self.fault(&field, "is not yet in this version: leave the key out");
                }
                Some(_) => {}
            }
        }
    }

    /// The original's server files may hold `mappings`, so that key alone is no error there.
    fn foreign_key(&mut self, field: &Field<'a>, owner: Side) {
        if field.name == "mappings" {
            self.warnings.push(
                "`mappings` belongs in the client's configuration: it is ignored here".to_owned(),
            );
        } else {
            self.fault(
                field,
                format!("belongs in the {owner}'s configuration: leave it out here"),
            );
        }
    }

    fn report(&mut self, field: &Field<'a>, value: Option<String>, message: String) {
        // The line costs a pass over the file, so it is not looked for in vain.
        let wanted = self.problems.len() < PROBLEMS_MAX;
        let line = if wanted {
            self.document.line_of(&field.path)
        } else {
            None
        };
        let file = self.document.file.to_owned();
        self.push(Problem {
            file,
            line,
            key: Some(field.name.clone()),
            value,
            message,
        });
    }

    fn push(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.suppressed += 1;
        }
    }
}

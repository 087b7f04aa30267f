//! Edits the `mappings` of a JSON text: finds where their value stands, and writes another there.

use std::{fmt::Write as _, ops::Range};

use mapping_core::PortMapping;

/// Returns the text, which must be valid JSON, with other mappings; `None` when it is no object.
pub(super) fn with_mappings(text: &str, mappings: &[PortMapping]) -> Option<String> {
    let entries = Entries::of(text)?;
    let indent = entries.indent(text);
    let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let list = list(mappings, indent, line_end);
    let mut out = text.to_owned();
    if let Some(value) = entries.mappings {
        out.replace_range(value, &list);
    } else {
        let comma = if entries.last_end.is_some() { "," } else { "" };
        let space = indent.map_or_else(|| " ".to_owned(), |indent| format!("{line_end}{indent}"));
        let at = entries.last_end.unwrap_or(entries.start);
        out.insert_str(at, &format!("{comma}{space}\"mappings\": {list}"));
    }
    Some(out)
}

/// Where the entries of the outermost object are.
struct Entries {
    /// Behind the opening brace.
    start: usize,
    /// The name of the first entry.
    first: Option<usize>,
    /// Behind the value of the last entry.
    last_end: Option<usize>,
    /// The value of `mappings`.
    mappings: Option<Range<usize>>,
}

impl Entries {
    fn of(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let start = text.find('{')? + 1;
        let mut found = Self {
            start,
            first: None,
            last_end: None,
            mappings: None,
        };
        let mut at = start;
        loop {
            at = skip(bytes, at, |byte| byte.is_ascii_whitespace() || byte == b',');
            match bytes.get(at)? {
                b'}' => return Some(found),
                b'"' => {}
                _ => return None,
            }
            found.first.get_or_insert(at);
            let name_end = end_of_string(bytes, at)?;
            let name = &text[at + 1..name_end - 1];
            at = skip(bytes, name_end, |byte| {
                byte.is_ascii_whitespace() || byte == b':'
            });
            let end = end_of_value(bytes, at)?;
            if name == "mappings" {
                found.mappings = Some(at..end);
            }
            found.last_end = Some(end);
            at = end;
        }
    }

    /// Returns how far entries are indented; `None` when the first stands in the brace's line.
    fn indent<'t>(&self, text: &'t str) -> Option<&'t str> {
        let before = &text[self.start..self.first?];
        before.rfind('\n').map(|line| &before[line + 1..])
    }
}

fn list(mappings: &[PortMapping], indent: Option<&str>, line_end: &str) -> String {
    // A specification has no character that JSON would escape.
    let quoted: Vec<_> = mappings
        .iter()
        .map(|mapping| format!("\"{mapping}\""))
        .collect();
    let Some(indent) = indent.filter(|_| !mappings.is_empty()) else {
        return format!("[{}]", quoted.join(", "));
    };
    let mut list = String::from("[");
    for (index, spec) in quoted.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(list, "{comma}{line_end}{indent}{indent}{spec}").expect("a String takes it");
    }
    write!(list, "{line_end}{indent}]").expect("a String takes it");
    list
}

fn skip(bytes: &[u8], mut at: usize, unwanted: impl Fn(u8) -> bool) -> usize {
    while bytes.get(at).is_some_and(|byte| unwanted(*byte)) {
        at += 1;
    }
    at
}

/// Returns the place behind the closing quote of the string that begins at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn end_of_value(bytes: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = at;
    loop {
        match bytes.get(at)? {
            b'"' => at = end_of_string(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            // A number or a word.
            _ => {
                at = skip(bytes, at, |byte| {
                    !byte.is_ascii_whitespace() && !b",:{}[]\"".contains(&byte)
                });
            }
        }
        if depth == 0 {
            return Some(at);
        }
        at = skip(bytes, at, |byte| {
            byte.is_ascii_whitespace() || byte == b',' || byte == b':'
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(text: &str, new: &[&str]) -> Option<String> {
        let new: Vec<_> = new.iter().map(|spec| spec.parse().unwrap()).collect();
        with_mappings(text, &new)
    }

    #[test]
    fn the_list_is_found_wherever_it_is_and_the_rest_stays() {
        for (text, expected) in [
            ("{}", "{ \"mappings\": [\"tcp:9:9\"]}"),
            (
                r#"{"a": "\"}", "mappings": ["tcp:1:1", {"protocol": "udp"}], "b": -1.5e3}"#,
                r#"{"a": "\"}", "mappings": ["tcp:9:9"], "b": -1.5e3}"#,
            ),
            (
                "{\n    \"x\": {\"mappings\": 1},\n    \"a\": true\n}\n",
                "{\n    \"x\": {\"mappings\": 1},\n    \"a\": true,\n    \"mappings\": [\n        \"tcp:9:9\"\n    ]\n}\n",
            ),
            (
                "{\r\n  \"a\": 1\r\n}\r\n",
                "{\r\n  \"a\": 1,\r\n  \"mappings\": [\r\n    \"tcp:9:9\"\r\n  ]\r\n}\r\n",
            ),
            (
                "{\n  \"mappings\": null\n}",
                "{\n  \"mappings\": [\n    \"tcp:9:9\"\n  ]\n}",
            ),
        ] {
            assert_eq!(rewrite(text, &["tcp:9:9"]).unwrap(), expected);
        }
        let none = rewrite("{\n \"mappings\": [\"tcp:1:1\"]\n}", &[]);
        assert_eq!(none.unwrap(), "{\n \"mappings\": []\n}");
        for no_object in ["", "[1]", "{\"a\"", "{a: 1}", "{\"a\": [1", "{\"a\": ]}"] {
            assert_eq!(rewrite(no_object, &["tcp:9:9"]), None, "{no_object}");
        }
    }
}

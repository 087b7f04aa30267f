//! Edits the `mappings` of a YAML text.
//!
//! A list with an entry a line is edited line by line, so that remarks stay; one in brackets becomes such a
//! list. Lines are recognised as people write them. What is written otherwise comes out wrong and is
//! noticed by whoever parses the result.

use std::ops::Range;

use mapping_core::PortMapping;

/// How far entries are indented where there are none to go by.
const INDENT: &str = "  ";

/// Returns the text with `new` in place of `old`, which is what it lists now, in its order.
pub(super) fn with_mappings(
    text: &str,
    old: &[PortMapping],
    new: &[PortMapping],
) -> Option<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let Some((key, value)) = find_key(&lines) else {
        return Some(appended(text, new, line_end));
    };
    if value.is_empty() || matches!(value, "null" | "~" | "[]") {
        edited(&lines, key, old, new, line_end)
    } else {
        Some(replaced(&lines, key, new, line_end))
    }
}

/// Returns the line of the key and what stands behind it, without a remark.
fn find_key<'t>(lines: &[&'t str]) -> Option<(usize, &'t str)> {
    lines.iter().enumerate().find_map(|(index, line)| {
        let line = line.trim_start_matches('\u{feff}');
        let keys = ["mappings", "\"mappings\"", "'mappings'"];
        let rest = keys.iter().find_map(|key| line.strip_prefix(key))?;
        let value = rest.trim_start().strip_prefix(':')?;
        Some((index, without_remark(value).trim()))
    })
}

/// A file that has no such key gets one at its end.
fn appended(text: &str, new: &[PortMapping], line_end: &str) -> String {
    let mut out = text.to_owned();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push_str(line_end);
    }
    out.push_str("mappings:");
    out.push_str(line_end);
    for mapping in new {
        out.push_str(&entry(INDENT, mapping, line_end));
    }
    out
}

/// Edits a list with an entry a line: entries that stay keep their lines.
fn edited(
    lines: &[&str],
    key: usize,
    old: &[PortMapping],
    new: &[PortMapping],
    line_end: &str,
) -> Option<String> {
    let block = key + 1..end_of_block(lines, key + 1);
    let entries = entries(lines, block.clone());
    if entries.len() != old.len() {
        return None;
    }
    let indent = entries
        .first()
        .map_or(INDENT, |entry| indent(lines[entry.start]));
    let mut out = lines[..key].concat();
    // `mappings: []` cannot have entries below it.
    let (mut value, remark) = (without_remark(lines[key]).to_owned(), remark(lines[key]));
    for nothing in ["[]", "null", "~"] {
        value = value.replacen(nothing, "", 1);
    }
    out.push_str(&value);
    out.push_str(remark);
    end_line(&mut out, line_end);
    for index in block.clone() {
        let of = entries.iter().position(|entry| entry.contains(&index));
        let is_remark = is_blank_or_remark(lines[index]);
        if is_remark || of.is_none_or(|entry| new.contains(&old[entry])) {
            out.push_str(lines[index]);
            end_line(&mut out, line_end);
        }
    }
    for mapping in new.iter().filter(|mapping| !old.contains(mapping)) {
        out.push_str(&entry(indent, mapping, line_end));
    }
    out.push_str(&lines[block.end..].concat());
    Some(out)
}

/// Writes a list in brackets anew, an entry a line. A remark stays with the entry that it stands behind.
fn replaced(lines: &[&str], key: usize, new: &[PortMapping], line_end: &str) -> String {
    let mut out = lines[..key].concat();
    let line = lines[key];
    let name = line.split_inclusive(':').next().unwrap_or(line);
    out.push_str(name);
    let end = end_of_brackets(lines, key);
    let behind = remark(line).trim();
    if !behind.is_empty() {
        out.push(' ');
        out.push_str(behind);
    }
    out.push_str(line_end);
    let mut rest: Vec<&PortMapping> = new.iter().collect();
    for line in &lines[key + 1..end] {
        let listed: Vec<PortMapping> = listed(line);
        let kept = |mapping: &&PortMapping| listed.contains(mapping);
        let stay: Vec<&PortMapping> = rest.extract_if(.., |mapping| kept(mapping)).collect();
        let behind = remark(line).trim();
        for mapping in &stay {
            out.push_str(&entry(INDENT, mapping, ""));
            out.push_str(line_end);
        }
        if behind.is_empty() {
            continue;
        }
        if stay.is_empty() && listed.is_empty() {
            out.push_str(INDENT);
        } else if stay.is_empty() {
            continue;
        } else {
            out.truncate(out.len() - line_end.len());
            out.push(' ');
        }
        out.push_str(behind);
        out.push_str(line_end);
    }
    for mapping in rest {
        out.push_str(&entry(INDENT, mapping, line_end));
    }
    out.push_str(&lines[end..].concat());
    out
}

/// A specification is plain text in YAML: its colons have no space behind them.
fn entry(indent: &str, mapping: &PortMapping, line_end: &str) -> String {
    format!("{indent}- {mapping}{line_end}")
}

/// Returns the line behind the list: the next key, with the remarks above it.
fn end_of_block(lines: &[&str], start: usize) -> usize {
    let is_next =
        |line: &str| !line.starts_with([' ', '\t']) && !is_blank_or_remark(line) && !is_entry(line);
    let mut end = (start..lines.len())
        .find(|index| is_next(lines[*index]))
        .unwrap_or(lines.len());
    let belongs_to_next = |line: &str| is_blank_or_remark(line) && indent(line).is_empty();
    while end > start && belongs_to_next(lines[end - 1]) {
        end -= 1;
    }
    end
}

/// Returns the lines of each entry, from its dash to the one before the next.
fn entries(lines: &[&str], block: Range<usize>) -> Vec<Range<usize>> {
    let first = block.clone().find(|index| is_entry(lines[*index]));
    let Some(column) = first.map(|index| indent(lines[index])) else {
        return Vec::new();
    };
    let starts: Vec<usize> = block
        .clone()
        .filter(|index| is_entry(lines[*index]) && indent(lines[*index]) == column)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([block.end]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| *start..end)
        .collect()
}

/// Returns the line behind the one that closes the last bracket.
fn end_of_brackets(lines: &[&str], key: usize) -> usize {
    let mut depth = 0_usize;
    for (index, line) in lines.iter().enumerate().skip(key) {
        let mut quote = None;
        for c in without_remark(line).chars() {
            match (quote, c) {
                (Some(open), _) if open == c => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '[' | '{') => depth += 1,
                (None, ']' | '}') => depth = depth.saturating_sub(1),
                (None, _) => {}
            }
        }
        if depth == 0 {
            return index + 1;
        }
    }
    lines.len()
}

/// Returns a line up to its remark.
fn without_remark(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if before.is_whitespace() => return &line[..at],
            (None, _) => {}
        }
        before = c;
    }
    line
}

/// Returns what [`without_remark`] leaves out.
fn remark(line: &str) -> &str {
    &line[without_remark(line).len()..]
}

/// Returns the entries in a line of a list in brackets, as far as they are written as rules.
fn listed(line: &str) -> Vec<PortMapping> {
    let is_around = |c: char| c.is_whitespace() || "[]'\"".contains(c);
    let entries = without_remark(line).split(',');
    entries
        .filter_map(|entry| entry.trim_matches(is_around).parse().ok())
        .collect()
}

fn is_entry(line: &str) -> bool {
    let rest = line.trim_start_matches(' ').strip_prefix('-');
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn is_blank_or_remark(line: &str) -> bool {
    let text = line.trim();
    text.is_empty() || text.starts_with('#')
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches(' ').len()]
}

fn end_line(text: &mut String, line_end: &str) {
    if !text.ends_with('\n') {
        text.push_str(line_end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(text: &str, old: &[&str], new: &[&str]) -> Option<String> {
        let parse = |specs: &[&str]| -> Vec<PortMapping> {
            specs.iter().map(|spec| spec.parse().unwrap()).collect()
        };
        with_mappings(text, &parse(old), &parse(new))
    }

    #[test]
    fn entries_that_stay_keep_their_lines_and_remarks_stay() {
        let text = "\
# mine
mappings: # those
    # the shell
    - tcp:1:1   # one
    - \"tcp:2:2\"

    - protocol: udp
      localPort: 3
      remotePort: 3
    # last
    - tcp:4:4

# other
roomId: x
";
        let old = ["tcp:1:1", "tcp:2:2", "udp:3:3", "tcp:4:4"];
        let new = ["tcp:2:2", "udp:3:3", "tcp:5:5"];
        let expected = "\
# mine
mappings: # those
    # the shell
    - \"tcp:2:2\"

    - protocol: udp
      localPort: 3
      remotePort: 3
    # last
    - tcp:5:5

# other
roomId: x
";
        assert_eq!(rewrite(text, &old, &new).unwrap(), expected);
        let none = rewrite(text, &old, &[]).unwrap();
        assert!(none.starts_with("# mine\nmappings: # those\n    # the shell\n\n    # last\n"));
    }

    #[test]
    fn every_way_to_write_a_list_is_edited() {
        for (text, old, expected) in [
            ("a: 1", &[][..], "a: 1\nmappings:\n  - tcp:9:9\n"),
            ("", &[], "mappings:\n  - tcp:9:9\n"),
            ("mappings:\na: 1\n", &[], "mappings:\n  - tcp:9:9\na: 1\n"),
            (
                "mappings: []  # none\r\na: 1\r\n",
                &[],
                "mappings:   # none\r\n  - tcp:9:9\r\na: 1\r\n",
            ),
            (
                "mappings: # [] is null, ~ too\n",
                &[],
                "mappings: # [] is null, ~ too\n  - tcp:9:9\n",
            ),
            (
                "mappings: null # null [] ~\n",
                &[],
                "mappings:  # null [] ~\n  - tcp:9:9\n",
            ),
            (
                "mappings:\n- tcp:1:1\n- tcp:2:2\na: 1\n",
                &["tcp:1:1", "tcp:2:2"],
                "mappings:\n- tcp:9:9\na: 1\n",
            ),
            (
                "mappings: [tcp:1:1, 'tcp:2:2'] # two\na: 1\n",
                &["tcp:1:1", "tcp:2:2"],
                "mappings: # two\n  - tcp:9:9\na: 1\n",
            ),
            (
                "\"mappings\": [\n  tcp:1:1, # ]\n]\na: 1\n",
                &["tcp:1:1"],
                "\"mappings\":\n  - tcp:9:9\na: 1\n",
            ),
            (
                "a: 1\nmappings:\n  - tcp:1:1",
                &["tcp:1:1"],
                "a: 1\nmappings:\n  - tcp:9:9\n",
            ),
        ] {
            assert_eq!(
                rewrite(text, old, &["tcp:9:9"]).unwrap(),
                expected,
                "{text}"
            );
        }
        assert_eq!(rewrite("mappings:\n  - tcp:1:1\n", &[], &["tcp:9:9"]), None);
    }

    #[test]
    fn remarks_between_brackets_stay_where_they_belong() {
        let text = "\
mappings: [ # mine
    tcp:1:1, # the shell
    # a database
    'tcp:2:2', tcp:4:4,   # and its twin
    {protocol: udp, localPort: 3, remotePort: 3}, # names

    tcp:5:5 ] # the end
a: 1 # one
";
        let old = ["tcp:1:1", "tcp:2:2", "tcp:4:4", "udp:3:3", "tcp:5:5"];
        let new = ["tcp:2:2", "tcp:4:4", "udp:3:3", "tcp:5:5", "tcp:9:9"];
        let expected = "\
mappings: # mine
  # a database
  - tcp:2:2
  - tcp:4:4 # and its twin
  # names
  - tcp:5:5 # the end
  - udp:3:3
  - tcp:9:9
a: 1 # one
";
        assert_eq!(rewrite(text, &old, &new).unwrap(), expected);
    }
}

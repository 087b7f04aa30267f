//! What a line at the prompt means.

use mapping_core::{GrammarError, PortMapping};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing, or a remark.
    Nothing,
    /// Stage a mapping.
    Add(PortMapping),
    /// Stage the removal of a mapping.
    Remove(Which),
    /// Show the table and what is staged.
    List,
    /// Apply what is staged.
    Update,
    /// Write the table to the configuration file.
    Save,
    /// Show how the program is doing.
    Status,
    /// Show the commands.
    Help,
    /// Leave the prompt.
    Quit,
}

/// Which mapping is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one with that number in the last list.
    Index(usize),
    /// The one with that rule.
    Rule(PortMapping),
}

/// Why a line means nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadCommand {
    /// There is no such command.
    #[error("unknown command `{word}`{}", suggestion(.meant))]
    Unknown {
        /// The word.
        word: String,
        /// The command that was probably meant.
        meant: Option<&'static str>,
    },
    /// `add` alone.
    #[error("add what? Write for example `add tcp:8080:22`: port 8080 here leads to port 22 there")]
    AddWhat,
    /// `remove` alone.
    #[error("remove what? Write the number that `list` shows, for example `remove 0`")]
    RemoveWhat,
    /// More words than the command takes.
    #[error("`{command}` takes {takes}, not `{extra}` too")]
    TooMuch {
        /// The command.
        command: &'static str,
        /// What it takes.
        takes: &'static str,
        /// The first word too many.
        extra: String,
    },
    /// The mapping is not one.
    #[error("`{text}`: {source}")]
    Mapping {
        /// As it was written.
        text: String,
        /// What is wrong.
        source: GrammarError,
    },
    /// Neither a number nor a rule.
    #[error("`{text}` is neither a number that `list` shows nor a mapping: {source}")]
    Which {
        /// As it was written.
        text: String,
        /// Why it is no mapping.
        source: GrammarError,
    },
}

/// Every command, the ones of other tools included, with what it stands for.
const WORDS: [(&str, &str); 12] = [
    ("add", "add"),
    ("remove", "remove"),
    ("list", "list"),
    ("update", "update"),
    ("save", "save"),
    ("status", "status"),
    ("help", "help"),
    ("quit", "quit"),
    ("exit", "quit"),
    ("ls", "list"),
    ("rm", "remove"),
    ("?", "help"),
];

/// How many of [`WORDS`] are shown to people.
const SHOWN: usize = 8;

/// What `help` prints.
pub(super) const HELP: &str = "\
add SPEC       stage a mapping: tcp:8080:22 leads from port 8080 here to port 22 there
               longer: udp:[BIND:]PORT:[HOST:]PORT, ranges as tcp:8000-8010:9000-9010
remove NUMBER  stage the removal of the mapping with that number in the list (or: remove SPEC)
list           show the mappings; + is added and - is removed by the next update
update         apply what is staged, all at once; other mappings feel nothing
save           write the mappings to the configuration file
status         show the peer, the path and the traffic
help           show this
quit           leave this prompt; forwarding goes on (Ctrl-C ends the program)
";

/// Returns the commands that begin like a word.
pub(super) fn completions(beginning: &str) -> impl Iterator<Item = &'static str> {
    let words = WORDS[..SHOWN].iter().map(|(word, _)| *word);
    words.filter(move |word| word.starts_with(beginning))
}

impl Command {
    /// Reads a line.
    ///
    /// # Errors
    /// [`BadCommand`].
    pub(super) fn parse(line: &str) -> Result<Self, BadCommand> {
        let mut words = line.split_whitespace();
        let Some(word) = words.next().filter(|word| !word.starts_with('#')) else {
            return Ok(Self::Nothing);
        };
        let rest: Vec<&str> = words.collect();
        let name = word.to_ascii_lowercase();
        let known = WORDS.iter().find(|(word, _)| *word == name);
        let Some((_, command)) = known else {
            let meant = nearest(&name);
            let word = shortened(word);
            return Err(BadCommand::Unknown { word, meant });
        };
        match *command {
            "add" => Self::add(&rest),
            "remove" => Self::remove(&rest),
            "list" => alone("list", &rest, Self::List),
            "update" => alone("update", &rest, Self::Update),
            "save" => alone("save", &rest, Self::Save),
            "status" => alone("status", &rest, Self::Status),
            "help" => Ok(Self::Help),
            _ => alone("quit", &rest, Self::Quit),
        }
    }

    fn add(words: &[&str]) -> Result<Self, BadCommand> {
        let text = only("add", "one mapping", words)?.ok_or(BadCommand::AddWhat)?;
        let mapping = text.parse().map_err(|source| BadCommand::Mapping {
            text: shortened(text),
            source,
        })?;
        Ok(Self::Add(mapping))
    }

    fn remove(words: &[&str]) -> Result<Self, BadCommand> {
        let which = only("remove", "one number or mapping", words)?;
        let text = which.ok_or(BadCommand::RemoveWhat)?;
        if let Ok(index) = text.parse() {
            return Ok(Self::Remove(Which::Index(index)));
        }
        let mapping = text.parse().map_err(|source| BadCommand::Which {
            text: shortened(text),
            source,
        })?;
        Ok(Self::Remove(Which::Rule(mapping)))
    }
}

fn only<'w>(
    command: &'static str,
    takes: &'static str,
    words: &[&'w str],
) -> Result<Option<&'w str>, BadCommand> {
    match words {
        [] => Ok(None),
        [word] => Ok(Some(word)),
        [_, extra, ..] => Err(BadCommand::TooMuch {
            command,
            takes,
            extra: shortened(extra),
        }),
    }
}

fn alone(command: &'static str, words: &[&str], parsed: Command) -> Result<Command, BadCommand> {
    words.first().map_or(Ok(parsed), |extra| {
        Err(BadCommand::TooMuch {
            command,
            takes: "nothing",
            extra: shortened(extra),
        })
    })
}

/// What a message repeats of what was typed: enough to recognise it, nothing that a terminal obeys.
fn shortened(word: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut text: String = word
        .chars()
        .take(CHARS_MAX)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if word.chars().nth(CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

fn suggestion(meant: &Option<&'static str>) -> String {
    match meant {
        Some(meant) => format!(": did you mean `{meant}`?"),
        None => ": `help` shows the commands".to_owned(),
    }
}

/// Returns the command that was most likely meant: one that begins like the word, or is at most two letters
/// away.
fn nearest(word: &str) -> Option<&'static str> {
    if word.len() >= 2
        && let Some(longer) = completions(word).next()
    {
        return Some(longer);
    }
    let near = WORDS
        .iter()
        .map(|(known, command)| (distance(word, known), known.len(), *command))
        .min()?;
    let (distance, length, command) = near;
    (distance <= (length / 2).min(2)).then_some(command)
}

/// Counts the letters to insert, delete or replace (Levenshtein).
fn distance(typed: &str, known: &str) -> usize {
    // Longer words are none of ours, and the comparison is quadratic.
    const CHARS_MAX: usize = 20;
    let known: Vec<char> = known.chars().collect();
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (i, a) in typed.chars().take(CHARS_MAX).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in known.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> PortMapping {
        text.parse().unwrap()
    }

    #[test]
    fn every_command_is_read_in_any_case_and_with_any_spaces() {
        for (line, command) in [
            ("", Command::Nothing),
            ("  \t", Command::Nothing),
            ("# a remark", Command::Nothing),
            ("add tcp:8080:22", Command::Add(mapping("tcp:8080:22"))),
            ("  ADD   UDP:1:2 ", Command::Add(mapping("udp:1:2"))),
            ("remove 3", Command::Remove(Which::Index(3))),
            (
                "rm tcp:[::1]:1:2",
                Command::Remove(Which::Rule(mapping("tcp:[::1]:1:2"))),
            ),
            ("list", Command::List),
            ("update", Command::Update),
            ("save", Command::Save),
            ("status", Command::Status),
            ("help add", Command::Help),
            ("quit", Command::Quit),
            ("exit", Command::Quit),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_with_what_would_be_right() {
        for (line, message) in [
            ("lst", "unknown command `lst`: did you mean `list`?"),
            ("upd", "unknown command `upd`: did you mean `update`?"),
            (
                "delete 1",
                "unknown command `delete`: `help` shows the commands",
            ),
            (
                "add udp:70000:80",
                "`udp:70000:80`: port 70000 is above 65535",
            ),
            ("list all", "`list` takes nothing, not `all` too"),
            (
                "add tcp:1:1 tcp:2:2",
                "`add` takes one mapping, not `tcp:2:2` too",
            ),
        ] {
            let error = Command::parse(line).unwrap_err().to_string();
            assert_eq!(error, message);
        }
        assert_eq!(Command::parse("add"), Err(BadCommand::AddWhat));
        assert_eq!(Command::parse("remove"), Err(BadCommand::RemoveWhat));
        let error = Command::parse("remove -1").unwrap_err().to_string();
        assert!(error.starts_with("`-1` is neither a number"), "{error}");
        let error = Command::parse("\u{1b}[2J").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error:?}");
        let error = Command::parse(&"x".repeat(5000)).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
    }

    #[test]
    fn help_and_completions_name_every_command() {
        for (word, _) in &WORDS[..SHOWN] {
            assert!(HELP.lines().any(|line| line.starts_with(word)), "{word}");
        }
        assert_eq!(completions("s").collect::<Vec<_>>(), ["save", "status"]);
    }
}

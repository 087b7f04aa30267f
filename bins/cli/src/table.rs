//! The mapping table for people, as the prompt and `map list` show it.

use std::fmt;

use stunfwd::status::{MappingState, MappingStatus};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// `+` and `-` for what is staged, else a space.
    pub(crate) mark: char,
    /// The number of the mapping.
    pub(crate) index: usize,
    /// The rule.
    pub(crate) spec: String,
    /// How it is.
    pub(crate) state: &'static str,
    /// Where it listens.
    pub(crate) listen: String,
    /// Over which path, or why not.
    pub(crate) how: String,
}

/// All rows; prints with a line of headings, each row ended by a line break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table(pub(crate) Vec<Row>);

impl Row {
    /// Makes the row of a mapping that is in the table; `peer` says whether a peer is connected.
    pub(crate) fn new(status: &MappingStatus, via: Option<&str>, peer: bool) -> Self {
        let how = match (&status.error, status.state, via) {
            (Some(error), ..) => plain(error),
            (None, MappingState::Active, Some(via)) => plain(via),
            (None, MappingState::Active, None) => "waits for a path".to_owned(),
            (None, MappingState::Pending | MappingState::Error, _) if peer => {
                "waits for the server's word".to_owned()
            }
            (None, MappingState::Pending | MappingState::Error, _) => "waits for a peer".to_owned(),
        };
        Self {
            mark: ' ',
            index: usize::try_from(status.index).unwrap_or(usize::MAX),
            spec: plain(&status.spec),
            state: match status.state {
                MappingState::Active => "active",
                MappingState::Pending => "pending",
                MappingState::Error => "error",
            },
            listen: status.listen.as_deref().map_or_else(|| "-".into(), plain),
            how,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "No mappings.");
        }
        let index = |row: &Row| row.index.to_string().len();
        let width = |heading: &str, of: fn(&Row) -> &str| {
            let rows = self.0.iter().map(|row| of(row).chars().count());
            rows.max().unwrap_or(0).max(heading.len())
        };
        let number = self.0.iter().map(index).max().unwrap_or(1);
        let spec = width("MAPPING", |row| &row.spec);
        let state = width("STATE", |row| row.state);
        let listen = width("LISTENS ON", |row| &row.listen);
        writeln!(
            f,
            "  {:>number$}  {:spec$}  {:state$}  {:listen$}  PATH",
            "#", "MAPPING", "STATE", "LISTENS ON"
        )?;
        for row in &self.0 {
            let Row {
                mark,
                index,
                spec: rule,
                state: is,
                listen: at,
                how,
            } = row;
            let line =
                format!("{mark} {index:>number$}  {rule:spec$}  {is:state$}  {at:listen$}  {how}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Strips what a terminal would obey: part of it was written by the peer.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(index: u64, spec: &str, state: MappingState, error: Option<&str>) -> MappingStatus {
        MappingStatus {
            index,
            spec: spec.to_owned(),
            state,
            error: error.map(str::to_owned),
            listen: Some("127.0.0.1:8080".to_owned()),
            connections: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    #[test]
    fn a_table_says_of_each_mapping_over_which_path_or_why_not() {
        let active = status(0, "tcp:8080:22", MappingState::Active, None);
        let refused = status(1, "udp:5:5", MappingState::Error, Some("not\u{7} allowed"));
        let pending = status(2, "tcp:1:1", MappingState::Pending, None);
        let table = Table(vec![
            Row::new(&active, Some("direct, 192.0.2.1:5"), true),
            Row {
                mark: '-',
                ..Row::new(&refused, None, true)
            },
            Row::new(&pending, None, false),
        ]);
        assert_eq!(
            table.to_string(),
            "  #  MAPPING      STATE    LISTENS ON      PATH\n\
             \x20 0  tcp:8080:22  active   127.0.0.1:8080  direct, 192.0.2.1:5\n\
             - 1  udp:5:5      error    127.0.0.1:8080  not allowed\n\
             \x20 2  tcp:1:1      pending  127.0.0.1:8080  waits for a peer\n"
        );
        assert_eq!(Table::default().to_string(), "No mappings.\n");
    }
}

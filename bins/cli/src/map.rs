//! Shows and changes the mappings of a running program.

use std::{fmt::Write as _, path::Path};

use anyhow::anyhow;
use mapping_core::{PortMapping, Side};
use stunfwd::control::{
    ControlClient,
    protocol::{ChangeOutcome, MapChanged, MapRow, MappingName},
};
use stunfwd::status::MappingState;

use crate::{
    args::{Args, MapCommand},
    command::print,
    control,
    failure::Failure,
    save::{self, Saved},
    table::{Row, Table, plain},
};

/// How the reason begins when the address is taken here, rather than refused by the server.
const LOCAL_REASON: &str = "cannot listen on ";

/// Does one of the `map` commands.
pub(crate) fn map(side: Side, args: &Args, command: &MapCommand) -> Result<(), Failure> {
    let changes = !matches!(command, MapCommand::List { .. });
    if changes && side == Side::Egress {
        return Err(Failure::usage(anyhow!(
            "mappings belong to the client: use `stunfwd-client map` on its machine; what may be reached \
             here is `allow` in the configuration"
        )));
    }
    // What is mistyped is said before a program is looked for.
    match command {
        MapCommand::List { json } => list(&control::client(side, args)?, *json),
        MapCommand::Add { spec, json } => {
            let spec = parsed(spec)?.to_string();
            change(&control::client(side, args)?, &[spec], &[], *json)
        }
        MapCommand::Remove { which, json } => {
            let which = named(which)?;
            change(&control::client(side, args)?, &[], &[which], *json)
        }
        MapCommand::Save { json } => save(&control::client(side, args)?, *json),
    }
}

fn parsed(spec: &str) -> Result<PortMapping, Failure> {
    spec.parse()
        .map_err(|error| Failure::usage(anyhow!("`{}`: {error}", plain(spec))))
}

fn named(which: &str) -> Result<MappingName, Failure> {
    match MappingName::from(which) {
        index @ MappingName::Index(_) => Ok(index),
        MappingName::Rule(rule) => {
            let mapping = parsed(&rule).map_err(|error| {
                Failure::usage(anyhow!(
                    "{} (or write the number that `map list` shows)",
                    error.message()
                ))
            })?;
            Ok(MappingName::Rule(mapping.to_string()))
        }
    }
}

fn list(client: &ControlClient, json: bool) -> Result<(), Failure> {
    let (list, line) = control::ask(client.map_list())?;
    if json {
        return print(format!("{line}\n").as_bytes());
    }
    let mut text = table(&list.mappings, list.peer).to_string();
    match list.committed {
        Some(committed) if committed == list.version => {}
        _ if list.mappings.is_empty() => {}
        _ if list.peer => text.push_str("The server has not agreed to the last change yet.\n"),
        _ => text.push_str("No peer is connected: the mappings are proposed when one comes.\n"),
    }
    print(text.as_bytes())
}

fn change(
    client: &ControlClient,
    add: &[String],
    remove: &[MappingName],
    json: bool,
) -> Result<(), Failure> {
    let (changed, line) = control::ask(client.map_change(add, remove))?;
    if json {
        print(format!("{line}\n").as_bytes())?;
    }
    // A mapping that does not work is told even where a later agreement is waited for.
    for row in &changed.added {
        if let Some(error) = &row.status.error {
            return Err(Failure::other(anyhow!(
                "{}",
                not_active(&row.status.spec, error)
            )));
        }
        let is_agreed = changed.outcome == ChangeOutcome::Committed;
        if is_agreed && row.status.state != MappingState::Active {
            return Err(Failure::other(anyhow!(
                "`{}` is in the table and not active yet: see `map list`",
                plain(&row.status.spec)
            )));
        }
    }
    let text = match changed.outcome {
        ChangeOutcome::Committed => in_force(&changed),
        ChangeOutcome::Staged => staged(&changed),
        ChangeOutcome::Unconfirmed => {
            return Err(Failure::other(anyhow!("{}", unconfirmed(&changed))));
        }
    };
    if json {
        return Ok(());
    }
    print(text.as_bytes())
}

fn not_active(spec: &str, error: &str) -> String {
    let (spec, error) = (plain(spec), plain(error));
    if error.starts_with(LOCAL_REASON) {
        format!(
            "`{spec}` is not active: {error}; it stays in the table and is tried again until the port is free \
             (`map remove {spec}` takes it out)"
        )
    } else {
        format!(
            "`{spec}` is not active: {error}; it stays in the table without listening (`map remove {spec}` \
             takes it out)"
        )
    }
}

fn in_force(changed: &MapChanged) -> String {
    let version = changed.version;
    let mut text = String::new();
    for row in &changed.added {
        let (spec, listen) = (
            &row.status.spec,
            row.status.listen.as_deref().unwrap_or("-"),
        );
        let via = row.via.as_deref();
        let how = via.map_or_else(String::new, |via| format!(", {}", plain(via)));
        writeln!(
            text,
            "{spec} is active on {listen}{how} (version {version})"
        )
        .expect("a String takes it");
    }
    for spec in &changed.removed {
        writeln!(text, "{spec} is removed (version {version})").expect("a String takes it");
    }
    text
}

fn staged(changed: &MapChanged) -> String {
    let mut text = String::new();
    for row in &changed.added {
        let listen = row.status.listen.as_deref().unwrap_or("-");
        writeln!(
            text,
            "{} is staged: it listens on {listen}; no peer is connected, it is proposed when one comes",
            row.status.spec
        )
        .expect("a String takes it");
    }
    for spec in &changed.removed {
        writeln!(
            text,
            "{spec} is removed here: staged for the server, no peer is connected"
        )
        .expect("a String takes it");
    }
    text
}

fn unconfirmed(changed: &MapChanged) -> String {
    let added = changed.added.iter().map(|row| row.status.spec.as_str());
    let specs: Vec<_> = added
        .chain(changed.removed.iter().map(String::as_str))
        .map(|spec| format!("`{}`", plain(spec)))
        .collect();
    format!(
        "{}: the server has not agreed within 10 s; the change is in force here and goes on by itself (see \
         `status`)",
        specs.join(", ")
    )
}

fn table(rows: &[MapRow], peer: bool) -> Table {
    let row = |row: &MapRow| Row::new(&row.status, row.via.as_deref(), peer);
    Table(rows.iter().map(row).collect())
}

fn save(client: &ControlClient, json: bool) -> Result<(), Failure> {
    let (list, _) = control::ask(client.map_list())?;
    let config = list.config.as_deref();
    let file = config.ok_or_else(|| {
        Failure::other(anyhow!(
            "the program was started without a configuration file"
        ))
    })?;
    let mappings: Result<Vec<PortMapping>, _> = list
        .mappings
        .iter()
        .map(|row| row.status.spec.parse())
        .collect();
    let mappings = mappings.map_err(|error| Failure::other(anyhow!("the table: {error}")))?;
    let saved = save::save(file, &mappings).map_err(Failure::other)?;
    let text = if json {
        let written = saved == Saved::Written;
        let answer = serde_json::json!({ "file": file, "written": written });
        format!("{answer}\n")
    } else {
        said(file, saved, mappings.len())
    };
    print(text.as_bytes())
}

fn said(file: &Path, saved: Saved, count: usize) -> String {
    let file = file.display();
    match (saved, count) {
        (Saved::Unchanged, _) => format!("{file} lists these mappings already\n"),
        (Saved::Written, 1) => format!("1 mapping is written to {file}\n"),
        (Saved::Written, _) => format!("{count} mappings are written to {file}\n"),
    }
}

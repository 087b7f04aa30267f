//! Commands from a pipe, and inputs that hold none.

use std::{fs, process::Command};

use stunfwd_tests::{
    artifacts,
    process::Process,
    product::{Peer, Role},
    wait,
};

use crate::bed::{Bed, PATIENCE, Unrelated, answer, free_port, is_refused, status_at};

#[test]
fn a_pipe_adds_lists_removes_and_updates_while_an_unrelated_connection_goes_on() {
    let bed = Bed::new();
    let (_server, mut client) = bed.connected(&[]);
    let stream = Unrelated::start(bed.echo.near);
    let (near, far) = (free_port(), bed.echo.far);
    let spec = format!("tcp:{near}:{far}");

    let said = |client: &mut Peer<'_>, line: &str, answer: &str| {
        let before = client.process().stdout().len();
        client.process().write_line(line);
        wait::until(PATIENCE, &format!("{answer:?} after {line:?}"), || {
            client.process().stdout()[before..].contains(answer)
        });
        client.process().stdout()[before..].to_owned()
    };
    said(&mut client, "help", "quit");
    said(&mut client, "lst", "did you mean `list`?");
    said(&mut client, "add tcp:70000:1", "port 70000 is above 65535");
    said(
        &mut client,
        &format!("add tcp:{}:1", bed.echo.near),
        &format!("is already taken by `{}`", bed.echo.spec),
    );
    said(&mut client, &format!("add {spec}"), "is staged");
    let list = said(&mut client, "list", "1 change staged");
    assert!(
        list.lines()
            .any(|line| line.starts_with("+ 1") && line.contains(&spec)),
        "{list}"
    );
    assert!(is_refused(near), "what is staged does not listen");
    said(
        &mut client,
        "remove 7",
        "the list has no number 7: it has 0 to 1",
    );

    let updated = said(&mut client, "update", &format!("127.0.0.1:{near}  lan, "));
    assert!(
        updated.contains("Version 2 is in force on both ends."),
        "{updated}"
    );
    assert_eq!(answer(&bed.host, near), "hello");
    said(&mut client, "status", "Mappings, version 2:");

    said(
        &mut client,
        "remove 1",
        &format!("- {spec} is staged for removal"),
    );
    let list = said(&mut client, "list", "1 change staged");
    assert!(list.lines().any(|line| line.starts_with("- 1")), "{list}");
    said(&mut client, "update", "Version 3 is in force on both ends.");
    assert!(is_refused(near), "what is removed listens no more");

    said(
        &mut client,
        "quit",
        "The prompt is closed, forwarding goes on.",
    );
    stream.assert_unharmed();
    assert_eq!(client.status().unwrap()["mappingVersion"], 3);
    assert_eq!(client.stop().code(), Some(0));
}

#[test]
fn the_end_of_input_stops_nothing() {
    let bed = Bed::new();
    let config = bed.config();
    let file = bed.folder.path().join("alone.yml");
    let other = Peer::start(Role::Client, &bed.host, &config);
    fs::copy(other.config_file(), &file).unwrap();
    drop(other);
    for (number, input) in ["</dev/null", "<&-", "</dev/zero", "</", "< alone.yml"]
        .into_iter()
        .enumerate()
    {
        let control = bed.folder.path().join(format!("{number}.sock"));
        let script = format!(
            "exec {} --config alone.yml --control {} --state-dir {number} {input}",
            artifacts::program("stunfwd-client").display(),
            control.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(bed.folder.path());
        let mut process = Process::spawn("client", command, bed.folder.path());
        wait::until(PATIENCE, &format!("a status with {input}"), || {
            assert_eq!(process.ended(), None, "{input}");
            status_at(&control).is_some()
        });
        process.terminate();
        assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(0), "{input}");
    }
}

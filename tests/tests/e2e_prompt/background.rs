//! A shell that puts the program into the background and brings it back.

use std::process::Command;

use stunfwd_tests::{
    product::{Peer, Role},
    wait,
};

use crate::{
    bed::{Bed, PATIENCE, answer},
    on_terminal::OnTerminal,
};

#[test]
fn a_program_in_the_background_forwards_and_has_its_prompt_when_it_comes_back() {
    let bed = Bed::new();
    let _server = Peer::start(Role::Server, &bed.host, &bed.config());
    let script = format!(
        "set -m; {} & echo job; read x; fg >/dev/null; echo ended $?",
        bed.client_line()
    );
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", &script]);
    let mut shell = OnTerminal::start(&command);
    shell.await_shown(PATIENCE, 0, "job");
    bed.await_connected();
    assert!(!shell.shown().contains("mapping> "), "{}", shell.shown());
    assert!(shell.is_cooked(), "the shell has the terminal");
    assert_eq!(answer(&bed.host, bed.echo.near), "hello");

    shell.type_keys("\n");
    let shown = shell.await_shown(PATIENCE, 0, "mapping> ");
    shell.type_keys("list\r");
    let shown = shell.await_shown(PATIENCE, shown, &bed.echo.spec);
    shell.type_keys("\x03");
    shell.await_shown(PATIENCE, shown, "ended 0");
    assert!(shell.wait(PATIENCE).is_some());
}

#[test]
fn ctrl_z_and_bg_leave_forwarding_and_the_shell_in_peace() {
    let bed = Bed::new();
    let _server = Peer::start(Role::Server, &bed.host, &bed.config());
    // The shell brings it to the background once it is stopped, and to the foreground when told.
    let script = format!(
        "set -m; {}; echo stopped; bg >/dev/null; read x; fg >/dev/null; echo ended $?",
        bed.client_line()
    );
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", &script]);
    let mut shell = OnTerminal::start(&command);
    shell.await_shown(PATIENCE, 0, "mapping> ");
    bed.await_connected();
    shell.type_keys("lis\x1a");
    let shown = shell.await_shown(PATIENCE, 0, "stopped");
    wait::until(PATIENCE, "it to go on in the background", || {
        bed.status().is_some()
    });
    assert!(shell.is_cooked(), "the shell has the terminal");
    assert_eq!(answer(&bed.host, bed.echo.near), "hello");
    shell.type_keys("\n");
    let shown = shell.await_shown(PATIENCE, shown, "mapping> lis");
    shell.type_keys("t\r");
    let shown = shell.await_shown(PATIENCE, shown, &bed.echo.spec);
    shell.type_keys("\x03");
    shell.await_shown(PATIENCE, shown, "ended 0");
    assert!(shell.wait(PATIENCE).is_some());
}

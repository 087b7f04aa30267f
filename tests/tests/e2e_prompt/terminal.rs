//! The prompt on a terminal, and how the terminal is left.

use stunfwd_tests::{
    product::{Peer, Role},
    wait,
};

use crate::bed::{Bed, PATIENCE, answer, free_port};

#[test]
fn log_lines_do_not_tear_the_prompt_and_quit_leaves_it() {
    let bed = Bed::new();
    let mut client = bed.on_terminal();
    let shown = client.await_shown(PATIENCE, 0, "mapping> ");
    assert!(!client.is_cooked(), "the editor has the terminal");
    // Half a command, then the log has something to say.
    let (near, far) = (free_port(), bed.echo.far);
    let half = format!("add tcp:{near}");
    client.type_keys(&half);
    let shown = client.await_shown(PATIENCE, shown, &format!(":{near}"));
    let _server = Peer::start(Role::Server, &bed.host, &bed.config());
    client.await_shown(PATIENCE, shown, "mapping table 1 is in force");
    client.await_shown(PATIENCE, shown, &format!("mapping> {half}"));
    // Each line of the log begins where the prompt was cleared away.
    const CLEARED: &str = "\r\x1b[K";
    let text = client.shown();
    for line in text[shown..].lines().filter(|line| line.contains("INFO")) {
        let log = line.rsplit(CLEARED).next().unwrap();
        assert!(
            log.contains("INFO") && !log.contains("mapping> "),
            "{line:?}"
        );
    }
    bed.await_connected();

    let shown = client.shown().len();
    client.type_keys(&format!(":{far}\r"));
    client.await_shown(PATIENCE, shown, "is staged: `update` applies.");
    // Typed ahead, as a script does.
    client.type_keys("update\rquit\r");
    let shown = client.await_shown(PATIENCE, shown, "The prompt is closed, forwarding goes on.");
    assert!(
        client
            .shown()
            .contains("Version 2 is in force on both ends.")
    );
    wait::until(PATIENCE, "the terminal to be given back", || {
        client.is_cooked()
    });
    assert_eq!(answer(&bed.host, near), "hello");
    // The terminal makes a signal of Ctrl-C again.
    client.type_keys("\x03");
    client.await_shown(PATIENCE, shown, "stopping on SIGINT");
    assert_eq!(client.wait(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn ctrl_c_ends_the_program_and_ctrl_d_the_prompt() {
    let bed = Bed::new();
    let mut client = bed.on_terminal();
    client.await_shown(PATIENCE, 0, "mapping> ");
    client.type_keys("lis\x03");
    assert_eq!(client.wait(PATIENCE).unwrap().code(), Some(0));
    assert!(client.is_cooked());

    let mut client = bed.on_terminal();
    client.await_shown(PATIENCE, 0, "mapping> ");
    client.type_keys("\x04");
    client.await_shown(PATIENCE, 0, "The prompt is closed");
    wait::until(PATIENCE, "the terminal to be given back", || {
        client.is_cooked()
    });
    assert!(bed.status().is_some(), "it goes on");
    client.signal("TERM");
    assert_eq!(client.wait(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn the_terminal_is_given_back_however_the_program_ends() {
    let bed = Bed::new();
    for signals in [&["TERM"][..], &["INT"], &["INT", "INT"], &["TERM", "INT"]] {
        let mut client = bed.on_terminal();
        client.await_shown(PATIENCE, 0, "mapping> ");
        assert!(!client.is_cooked());
        client.type_keys("add");
        for signal in signals {
            client.signal(signal);
        }
        let code = client.wait(PATIENCE).unwrap().code();
        // The second may come too late.
        assert!(
            code == Some(0) || (signals.len() == 2 && code == Some(1)),
            "{signals:?}: {code:?}"
        );
        assert!(client.is_cooked(), "{signals:?}");
    }
}

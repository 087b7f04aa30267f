//! `map` changes the table at once, and its exit status says how it went.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
};

use serde_json::Value;
use stunfwd_tests::{
    product::{Peer, Role},
    wait,
};

use crate::bed::{Bed, PATIENCE, Unrelated, answer, await_answer, free_port, is_refused};

#[test]
fn map_changes_at_once_and_its_exit_status_says_how_it_went() {
    let bed = Bed::new();
    let (server, mut client) = bed.connected(&[&format!("tcp:{}", bed.echo.far)]);
    let stream = Unrelated::start(bed.echo.near);
    let near = free_port();
    let spec = format!("tcp:{near}:{}", bed.echo.far);

    let (code, text, _) = client.command(&["map", "add", &spec]);
    assert_eq!(code, Some(0));
    assert!(
        text.starts_with(&format!("{spec} is active on 127.0.0.1:{near}, lan, ")),
        "{text}"
    );
    assert_eq!(answer(&bed.host, near), "hello");
    let (code, text, _) = client.command(&["map", "list"]);
    assert!(code == Some(0) && text.contains(&spec), "{text}");
    let (code, json, _) = client.command(&["map", "list", "--json"]);
    let list: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(
        [&list["mappings"][1]["spec"], &list["peer"]],
        [&Value::from(&*spec), &Value::from(true)]
    );
    let (code, text, _) = server.command(&["map", "list"]);
    assert!(code == Some(0) && text.contains(&spec), "{text}");
    for change in [&["add", &*spec][..], &["remove", "0"], &["save"]] {
        let (code, _, message) = server.command(&[&["map"], change].concat());
        assert_eq!(code, Some(2));
        assert!(
            message.contains("mappings belong to the client"),
            "{message}"
        );
    }

    let (code, _, message) = client.command(&["map", "add", &spec]);
    assert_eq!(code, Some(1));
    assert!(
        message.contains(&format!("already taken by `{spec}`")),
        "{message}"
    );
    for bad in ["tcp:70000:1", "http:1:1", "", "tcp"] {
        let (code, _, message) = client.command(&["map", "add", bad]);
        assert_eq!(code, Some(2), "{bad}: {message}");
        assert!(message.starts_with("error: `"), "{message}");
    }
    assert_eq!(client.command(&["map", "remove", "x"]).0, Some(2));
    assert_eq!(client.command(&["map", "remove", "17"]).0, Some(1));
    assert_eq!(client.command(&["map", "remove", "tcp:1:1"]).0, Some(1));

    // Refused by the server, and taken by another program: both stay in the table.
    let refused = format!("tcp:{}:1", free_port());
    let (code, _, message) = client.command(&["map", "add", &refused]);
    assert_eq!(code, Some(1));
    assert!(
        message.contains("the server does not allow") && message.contains("stays in the table"),
        "{message}"
    );
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken_port = other.local_addr().unwrap().port();
    let taken = format!("tcp:{taken_port}:{}", bed.echo.far);
    let (code, _, message) = client.command(&["map", "add", &taken]);
    assert_eq!(code, Some(1));
    assert!(
        message.contains("cannot listen on") && message.contains("is tried again"),
        "{message}"
    );
    drop(other);
    await_answer(&bed.host, taken_port);

    let (code, text, _) = client.command(&["map", "remove", &refused]);
    assert!(code == Some(0) && text.starts_with(&format!("{refused} is removed")));
    let (code, json, _) = client.command(&["map", "remove", "1", "--json"]);
    let removed: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (code, &removed["removed"][0]),
        (Some(0), &Value::from(&*spec))
    );
    assert!(is_refused(near));

    let before = fs::read_to_string(client.config_file()).unwrap();
    let (code, text, message) = client.command(&["map", "save"]);
    assert_eq!(code, Some(0), "{message}");
    assert!(text.starts_with("2 mappings are written to "), "{text}");
    let after = fs::read_to_string(client.config_file()).unwrap();
    assert_eq!(after, format!("{before}  - {taken}\n"));
    let (code, text, _) = client.command(&["map", "save", "--json"]);
    assert!(
        code == Some(0) && text.contains("\"written\":false"),
        "{text}"
    );
    fs::write(client.config_file(), "mappings: 1\n").unwrap();
    let (code, _, message) = client.command(&["map", "save"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("is not valid any more"), "{message}");

    stream.assert_unharmed();
    assert_eq!(client.stop().code(), Some(0));
}

#[test]
fn without_a_peer_a_change_is_staged_and_says_so() {
    let bed = Bed::new();
    let client = Peer::start(Role::Client, &bed.host, &bed.config());
    wait::until(PATIENCE, "the client to answer", || {
        client.status().is_some()
    });
    let near = free_port();
    let spec = format!("tcp:{near}:{}", bed.echo.far);
    let (code, text, _) = client.command(&["map", "add", &spec]);
    assert!(code == Some(0) && text.contains("is staged"), "{text}");
    let (_, list, _) = client.command(&["map", "list"]);
    assert!(list.contains("waits for a peer") && list.contains("No peer is connected"));
    let (code, text, _) = client.command(&["map", "remove", "0"]);
    assert!(
        code == Some(0) && text.contains("staged for the server"),
        "{text}"
    );
    let _server = Peer::start(Role::Server, &bed.host, &bed.config());
    client.await_connected(PATIENCE);
    assert_eq!(answer(&bed.host, near), "hello");
    assert!(is_refused(bed.echo.near));
}

//! Room ids as people write them: what a URL, a shell or YAML would take for its own, and what two keyboards write
//! differently. Client and server meet and forward.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use stunfwd_tests::{
    loopback::{forward, machine, start_signaling},
    product::{Config, Peer, Role},
    tool,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// The text between the double quotes of YAML that means `room`; JSON's escapes are YAML's too.
fn quoted(room: &str) -> String {
    let json = serde_json::to_string(room).unwrap();
    json[1..json.len() - 1].to_owned()
}

/// Starts signaling, a server and a client, each with its spelling of a room, and sends a word through.
fn assert_meet(server_room: &str, client_room: &str) {
    let (_folder, host) = machine();
    let signaling = start_signaling(&host, &[]);
    let echo = forward(&host, "tcp", "tcp-echo");
    let config =
        |room: &str| Config::new(&quoted(room), &signaling.url()).with_mappings(&[&echo.spec]);
    let _server = Peer::start(Role::Server, &host, &config(server_room));
    let client = Peer::start(Role::Client, &host, &config(client_room));
    client.await_connected(PATIENCE);
    let said = tool::run(&host, &["say", &echo.near, "hello"]);
    assert_eq!(said["answer"], "hello", "{said}");
}

#[test]
fn a_room_may_hold_what_urls_and_shells_take_for_their_own() {
    let room = " a room & a+b #1 100% %2f ?x=y;z \"quoted\" it's \\back/slash\\ $HOME `id` <b> ";
    assert_meet(room, room);
}

#[test]
fn a_room_may_hold_the_letters_of_any_script_and_emoji() {
    let room = "Grüße, Ωmega, שלום, 部屋, 🦀👩‍👩‍👧‍👦";
    assert_meet(room, room);
}

#[test]
fn the_same_word_typed_on_two_systems_is_the_same_room() {
    // Composed and decomposed umlauts, and the space of a Mac's option key.
    assert_meet("Müller über alles", "Mu\u{308}ller\u{a0}u\u{308}ber alles");
}

//! Saving the configuration file of a running client.

use std::fs;

use stunfwd_tests::wait;

use crate::bed::{Bed, PATIENCE, Unrelated, answer, await_answer, free_port, is_refused};

#[test]
fn saving_the_file_applies_the_difference_however_it_is_written() {
    let bed = Bed::new();
    let (_server, client) = bed.connected(&[]);
    let stream = Unrelated::start(bed.echo.near);
    let file = client.config_file().to_owned();
    let text = fs::read_to_string(&file).unwrap();
    let far = bed.echo.far;
    let ports = [(); 3].map(|()| free_port());
    let entry = |port: u16| format!("  - \"tcp:{port}:{far}\"\n");

    // Another hand adds one, which saving the file does not take away.
    let elsewhere = free_port();
    let (code, ..) = client.command(&["map", "add", &format!("tcp:{elsewhere}:{far}")]);
    assert_eq!(code, Some(0));

    fs::write(&file, format!("{text}{}", entry(ports[0]))).unwrap();
    await_answer(&bed.host, ports[0]);

    // As editors do: a new file in the old one's place.
    let new = bed.folder.path().join("new");
    fs::write(&new, format!("{text}{}", entry(ports[1]))).unwrap();
    fs::rename(&new, &file).unwrap();
    await_answer(&bed.host, ports[1]);
    wait::until(PATIENCE, "the first to be closed", || is_refused(ports[0]));

    // A broken file changes nothing, and every problem is told.
    fs::write(&file, "roomid: x\nmappings: [tcp:70000:1]\n").unwrap();
    let mut client = client;
    wait::until(PATIENCE, "the problems to be told", || {
        let log = client.process().stderr();
        log.contains("roomid") && log.contains("port 70000 is above 65535")
    });
    assert_eq!(answer(&bed.host, ports[1]), "hello");

    // A link in its place, and then another target; a key that needs a restart is named.
    let targets = ["one.yml", "two.yml"].map(|name| bed.folder.path().join(name));
    fs::write(&targets[0], format!("{text}{}", entry(ports[1]))).unwrap();
    let two = format!("{text}{}resume: 2h\n", entry(ports[2]));
    fs::write(&targets[1], two).unwrap();
    for target in &targets {
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(target, &file).unwrap();
    }
    await_answer(&bed.host, ports[2]);
    assert!(
        client
            .process()
            .stderr()
            .contains("`resume` counts after a restart")
    );
    // The target itself is written.
    fs::write(&targets[1], format!("{text}{}", entry(ports[0]))).unwrap();
    await_answer(&bed.host, ports[0]);
    wait::until(PATIENCE, "the third to be closed", || is_refused(ports[2]));

    assert_eq!(answer(&bed.host, elsewhere), "hello");
    stream.assert_unharmed();
}

#[test]
fn what_was_refused_is_tried_again_when_the_file_is_saved_as_it_is() {
    let bed = Bed::new();
    let (_server, mut client) = bed.connected(&[]);
    let file = client.config_file().to_owned();
    let text = fs::read_to_string(&file).unwrap();
    let (port, far) = (free_port(), bed.echo.far);
    let in_the_way = format!("tcp:{port}:1");
    assert_eq!(client.command(&["map", "add", &in_the_way]).0, Some(0));
    let wanted = format!("{text}  - \"tcp:{port}:{far}\"\n");
    fs::write(&file, &wanted).unwrap();
    wait::until(PATIENCE, "the refusal to be told", || {
        client.process().stderr().contains("is not added")
    });
    assert_eq!(client.command(&["map", "remove", &in_the_way]).0, Some(0));
    fs::write(&file, &wanted).unwrap();
    await_answer(&bed.host, port);
}

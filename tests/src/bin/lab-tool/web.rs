//! A tiny HTTP client, for services that only a machine of the lab can reach.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::json;

use crate::Arguments;

const PATIENCE: Duration = Duration::from_secs(3);

/// `http-get ADDR PATH`: prints the status code and the body.
pub(crate) fn get(arguments: &Arguments) -> anyhow::Result<()> {
    let address: SocketAddr = arguments.position(1)?.parse()?;
    let path = arguments.position(2)?;
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no head")?;
    let code = head
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse::<u16>().ok());
    println!(
        "{}",
        json!({ "status": code.context("the answer has no status")?, "body": body })
    );
    Ok(())
}

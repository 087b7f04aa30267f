//! Mappings changed by people: the prompt on a terminal and from a pipe, the saved file, the `map` command. The real
//! programs on one machine; a connection of an unrelated mapping feels none of it.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod background;
mod bed;
mod file;
mod map;
mod on_terminal;
mod pipe;
mod terminal;

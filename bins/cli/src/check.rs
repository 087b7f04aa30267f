//! Reads the configuration and says what is in it, or everything that is wrong with it.

use std::io::{self, Write};

use mapping_core::{Side, config::ClientConfig};

use crate::{
    args::Args,
    command,
    config_file::{self, Config},
    failure::Failure,
};

/// Says in one line what a good configuration is for; what the user should know goes to standard error.
pub(crate) fn check(side: Side, args: &Args) -> Result<(), Failure> {
    let file = config_file::named(args);
    let config = Config::load(side, file).map_err(Failure::usage)?;
    for warning in &config.common().warnings {
        // With standard error closed there is nobody left to tell.
        let _ = writeln!(io::stderr(), "warning: {}: {warning}", file.display());
    }
    let what = match &config {
        Config::Client(ClientConfig { mappings, .. }) if mappings.len() == 1 => {
            "a client's, 1 mapping".to_owned()
        }
        Config::Client(ClientConfig { mappings, .. }) => {
            format!("a client's, {} mappings", mappings.len())
        }
        Config::Server(_) => "a server's".to_owned(),
    };
    let signaling = config.common().signaling_urls.join(", ");
    let line = format!(
        "{} is good: {what}, signaling at {signaling}\n",
        file.display()
    );
    command::print(line.as_bytes())
}

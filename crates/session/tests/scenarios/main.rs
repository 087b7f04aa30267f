//! Whole sessions in a world in memory, in virtual time.
#![expect(clippy::print_stdout, reason = "what is measured is worth reading")]

#[cfg(test)]
mod health;
#[cfg(test)]
mod loss;
#[cfg(test)]
mod mappings;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod traversal;
#[cfg(test)]
mod world;

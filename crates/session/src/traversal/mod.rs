//! How hard NATs are traversed: what is tried beside the plain checks, when, and at what price.
//!
//! Plain checks always run first and never stop. Where they do not lead to a direct path, because one NAT
//! maps per destination and the other lets in only ports that were written to, the **ladder** of a peer plays
//! **rounds**. In a round one end is the *anchor*: it opens fresh sockets behind the NAT that maps per
//! destination and sends low-TTL openers from each of them to the other's public address. The other end is the
//! *scout*: it probes ports of the anchor's public address. Which ports those are follows from how the anchor's
//! NAT allots them: the next few of a sequence, those of a block, or random ones (the birthday paradox).
//!
//! * `strategy`, `ledger`: the vocabulary that others see.

mod ledger;
mod strategy;

pub(crate) use ledger::Ledger;
pub use ledger::{LedgerEntry, Outcome};
pub use strategy::{ParseStrategyError, Strategy};

/// Names a request for extra sockets; never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketRequestId(pub u64);

//! Pairs by the thousand: who is out there, whom sessions bring together, and at what price.
//!
//! * [`Mix`] and its classes are the tables of facts/nat-population.md, section 6; [`Pair::draw`] draws from
//!   them, [`shares`] sums what they allow without drawing.
//! * [`run()`] plays one pair: two unchanged sessions in a world of their own. [`run_all`] plays many, on as many
//!   threads as there are; each pair has its seed, so the outcome does not depend on them.
//! * [`Tally`] counts, [`print`](report::print) and [`svg`](chart::svg) show.

mod cause;
pub mod chart;
mod classes;
mod draw;
mod model;
pub mod report;
mod run;
mod tally;

pub use cause::{agrees, simulated};
pub use classes::{
    CELLULAR, CLOUD, CORPORATE, Class, FIXED_CGN, HOME, HOST_FIREWALL, MIXES, Mix, PUBLIC,
};
pub use draw::{End, Pair};
pub use model::shares;
pub use run::{Budget, Record, run, run_all};
pub use tally::{Opened, Share, Spent, Tally};

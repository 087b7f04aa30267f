//! Prints the table of all pairs: `cargo run -p natlab --example matrix [LOSS_PERCENT] [SEEDS]`.
//!
//! Each cell is the oracle's letter (P plain, p prediction, B birthday, - none), what became of most runs
//! (`d`irect or `r`elay), and the median time in seconds: to the direct path, or to the first one.
#![expect(clippy::print_stdout, reason = "that is its purpose")]

use std::ops::Range;
use std::time::Duration;

use natlab::NatKind;
use natlab::matrix::{Case, run};
use session::PathKind;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| {
        let argument = arguments.next();
        argument.map_or(default, |it| it.parse().expect("a number"))
    };
    let (loss, seeds) = (number(0), number(3).max(1));
    println!("{loss} % loss, {seeds} seeds; rows: ingress, columns: egress\n");
    print!("{:<15}", "");
    for egress in NatKind::ALL {
        print!("{egress:>15}");
    }
    println!();
    let mut first_seed = 0;
    for ingress in NatKind::ALL {
        print!("{ingress:<15}");
        for egress in NatKind::ALL {
            let cell = cell(
                ingress,
                egress,
                loss,
                first_seed..first_seed + u64::from(seeds),
            );
            first_seed += u64::from(seeds);
            print!("{cell:>15}");
        }
        println!();
    }
}

fn cell(ingress: NatKind, egress: NatKind, loss: u32, seeds: Range<u64>) -> String {
    let cases = seeds.map(|seed| Case::new(ingress, egress, loss, seed));
    let outcomes: Vec<_> = cases.map(run).collect();
    let direct = outcomes
        .iter()
        .filter(|it| it.kind() == Some(PathKind::Direct));
    let is_direct = direct.count() * 2 > outcomes.len();
    let times = outcomes.iter();
    let mut times: Vec<Duration> = times
        .filter_map(|it| if is_direct { it.direct } else { it.first })
        .collect();
    times.sort();
    let median = times
        .get(times.len() / 2)
        .map_or(f64::NAN, Duration::as_secs_f64);
    let letter = Case::new(ingress, egress, loss, 0).possible().letter();
    let kind = if is_direct { 'd' } else { 'r' };
    format!("{letter} {kind} {median:.2}")
}

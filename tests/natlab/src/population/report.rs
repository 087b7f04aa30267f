//! A population's outcome in words and numbers.

use std::fmt::Write;
use std::time::Duration;

use super::classes::Mix;
use super::model;
use super::tally::{Spent, Tally, percentile};
use crate::oracle::Possible;

/// The levels of the model that a way belongs to, with what was published for the like
/// (facts/nat-population.md, section 1). No figure was ever published for prediction and birthday.
const LEVELS: [(Possible, &str, &str); 4] = [
    (
        Possible::Plain,
        "plain punching over IPv4",
        "70 +- 7.1 (libp2p DCUtR 2025), 82 of NATs (Ford 2005)",
    ),
    (Possible::Ipv6, "and IPv6", "-"),
    (
        Possible::PortMapped,
        "and port mapping",
        "> 90 (Tailscale), about 90 (iroh), 70 (TeamViewer)",
    ),
    (
        Possible::OnlyBirthday,
        "and prediction, blocks, birthday",
        "none",
    ),
];

/// Writes the outcome of a mix as text.
#[must_use]
pub fn print(mix: &Mix, seed: u64, tally: &Tally) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write_all(&mut text, mix, seed, tally);
    text
}

fn write_all(out: &mut String, mix: &Mix, seed: u64, tally: &Tally) -> std::fmt::Result {
    let model = model::shares(mix);
    let allowed = 100.0 * (1.0 - model[model::place(Possible::No)]);
    writeln!(
        out,
        "## {}: {} pairs, seed {seed}\n",
        mix.name, tally.direct.all
    )?;
    writeln!(
        out,
        "The oracle allows a direct path: drawn {}, by its tables {allowed:.2} %, promised {:.1} %",
        tally.allowed(),
        mix.promised
    )?;
    writeln!(
        out,
        "Of those became direct:          {}  (goal 99.5 %)",
        tally.of_allowed
    )?;
    writeln!(out, "Of all became direct:            {}", tally.direct)?;
    writeln!(
        out,
        "Of all had a path:               {}\n",
        tally.connected
    )?;
    write_needs(out, &model, tally)?;
    write_levels(out, mix, tally)?;
    write_strategies(out, tally)?;
    write_spent(out, &tally.spent)?;
    let named = tally.named;
    writeln!(
        out,
        "Relayed pairs whose cause both ends name: {} of {}: {named}  (goal 98 %)",
        named.good, named.all
    )?;
    writeln!(out, "Pairs over budget: {}  (goal 0)\n", tally.over_budget)
}

fn write_needs(out: &mut String, model: &[f64; 7], tally: &Tally) -> std::fmt::Result {
    writeln!(
        out,
        "| what it takes | tables % | drawn | became direct, 95 % interval |"
    )?;
    writeln!(out, "|---|---|---|---|")?;
    for ((possible, model), share) in Possible::ALL.iter().zip(model).zip(tally.by_need) {
        let model = 100.0 * model;
        let (good, all) = (share.good, share.all);
        if all == 0 && model == 0.0 {
            continue;
        }
        writeln!(out, "| {possible} | {model:.2} | {all} | {good}: {share} |")?;
    }
    writeln!(out)
}

fn write_levels(out: &mut String, mix: &Mix, tally: &Tally) -> std::fmt::Result {
    writeln!(
        out,
        "| direct with | here, 95 % interval | modelled % | published % |"
    )?;
    writeln!(out, "|---|---|---|---|")?;
    for ((possible, words, published), modelled) in LEVELS.iter().zip(mix.modelled) {
        let share = tally.direct_up_to(*possible);
        writeln!(out, "| {words} | {share} | {modelled:.1} | {published} |")?;
    }
    writeln!(out)
}

fn write_strategies(out: &mut String, tally: &Tally) -> std::fmt::Result {
    writeln!(
        out,
        "| opened by | of all pairs, 95 % interval | median s | p95 s | worst s |"
    )?;
    writeln!(out, "|---|---|---|---|---|")?;
    for opened in &tally.opened {
        write_times(out, opened.strategy.as_str(), &opened.share, &opened.times)?;
    }
    write_times(out, "all", &tally.direct, &tally.times)?;
    writeln!(out)
}

fn write_times(
    out: &mut String,
    name: &str,
    share: &super::Share,
    times: &[Duration],
) -> std::fmt::Result {
    let [median, p95, worst] = [50, 95, 100].map(|at| percentile(times, at).as_secs_f64());
    writeln!(
        out,
        "| {name} | {share} | {median:.2} | {p95:.2} | {worst:.2} |"
    )
}

fn write_spent(out: &mut String, spent: &Spent) -> std::fmt::Result {
    writeln!(out, "| of one end | median | p99 | most |")?;
    writeln!(out, "|---|---|---|---|")?;
    let rows = [
        ("packets", &spent.packets),
        ("extra sockets", &spent.sockets),
        ("bindings", &spent.bindings),
        ("packets in a second", &spent.packets_per_second),
        ("new bindings in a minute", &spent.bindings_per_minute),
    ];
    for (name, values) in rows {
        let [median, p99, most] = [50, 99, 100].map(|at| percentile(values, at));
        writeln!(out, "| {name} | {median} | {p99} | {most} |")?;
    }
    writeln!(out)
}

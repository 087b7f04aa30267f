//! Whole populations, small ones: CI's share of what the example does at length.

use natlab::Possible;
use natlab::population::{
    Budget, MIXES, Pair, Record, Share, Tally, chart, report, run_all, shares,
};

/// Pairs of each mix.
const PAIRS: u64 = 60;
/// Of which this is the first.
const SEED: u64 = 20_261_123;

fn list(records: &[Record], is_bad: impl Fn(&Record) -> bool) -> String {
    let bad = records.iter().filter(|record| is_bad(record));
    let lines: Vec<_> = bad.map(|record| format!("\n* {record}")).collect();
    lines.concat()
}

#[test]
fn small_populations_get_what_the_oracle_allows_within_the_budget_and_know_why_not() {
    let mut all = Vec::new();
    for mix in &MIXES {
        all.extend(run_all(mix, PAIRS, SEED, 2));
    }
    let tally = Tally::of(&all);
    let missed = list(&all, |it| it.possible.is_direct() && it.direct.is_none());
    assert_eq!(tally.of_allowed.good, tally.of_allowed.all, "{missed}");
    let costly = list(&all, |it| !it.is_within(&Budget::PROMISED));
    assert_eq!(tally.over_budget, 0, "{costly}");
    let misjudged = list(&all, |it| it.direct.is_none() && !it.names_its_cause());
    assert_eq!(tally.named.good, tally.named.all, "{misjudged}");
    let lost = list(&all, |it| it.first.is_none());
    assert_eq!(tally.connected.good, tally.connected.all, "{lost}");
    let surprising = list(&all, |it| !it.possible.is_direct() && it.direct.is_some());
    assert_eq!(surprising, "", "the oracle forbids these");
}

#[test]
fn the_same_seed_gives_the_same_outcome_on_any_number_of_threads() {
    let mix = &MIXES[3];
    let outcomes = [1, 2, 3].map(|threads| run_all(mix, 24, SEED, threads));
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[0], outcomes[2]);
    let texts = outcomes.map(|records| {
        let tally = Tally::of(&records);
        report::print(mix, SEED, &tally) + &chart::svg(&[(mix, tally)])
    });
    assert_eq!(texts[0], texts[1]);
    let other = run_all(mix, 24, SEED + 1, 2);
    assert_ne!(report::print(mix, SEED, &Tally::of(&other)), texts[0]);
}

#[test]
fn what_is_drawn_is_what_the_tables_say() {
    for mix in &MIXES {
        let model = shares(mix);
        assert!((model.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{model:?}");
        let drawn: Vec<_> = (0..20_000)
            .map(|seed| Pair::draw(mix, seed).possible())
            .collect();
        for (possible, model) in Possible::ALL.into_iter().zip(model) {
            let good = drawn.iter().filter(|it| **it == possible).count();
            let share = Share {
                good,
                all: drawn.len(),
            };
            // Four deviations and a little: 28 figures are compared.
            let deviation = (model * (1.0 - model) / 20_000.0).sqrt();
            let off = (share.percent() / 100.0 - model).abs();
            assert!(
                off <= 4.0 * deviation + 1e-4,
                "{} {possible}: {share}, {model}",
                mix.name
            );
        }
        let allowed = 100.0 * (1.0 - model[6]);
        assert!(
            (allowed - mix.promised).abs() < 0.4,
            "{}: {allowed}",
            mix.name
        );
    }
}

#[test]
fn intervals_are_wilsons() {
    // As computed by others: 81 of 263, and 0 and 10 of 10.
    let cases = [
        (81, 263, 25.53, 36.62),
        (0, 10, 0.0, 27.75),
        (10, 10, 72.25, 100.0),
    ];
    for (good, all, low, high) in cases {
        let interval = Share { good, all }.interval();
        let off = (interval.0 - low).abs().max((interval.1 - high).abs());
        assert!(off < 0.01, "{good} of {all}: {interval:?}");
    }
}

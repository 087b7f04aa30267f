//! How long a ladder rests after a round that failed.

use std::time::Duration;

use rand::rngs::StdRng;

use super::Strategy;
use super::ledger::Outcome;
use super::plan::jittered;

/// Predictions are cheap (a handful of bindings, 16 probes), and fail by chance when somebody else behind the NAT
/// opens a flow at the wrong moment: the next try is as good as the last.
const PREDICTED: [u64; 8] = [100, 100, 200, 200, 500, 1_000, 2_000, 5_000];
const BLOCK: [u64; 4] = [500, 2_000, 5_000, 15_000];
/// 256 bindings: four rounds fit a minute of the budget, and one of them usually suffices.
const BIRTHDAY: [u64; 3] = [5_000, 15_000, 30_000];
/// When notes get lost or sockets are refused, something else is wrong, and haste does not help.
const TROUBLE: [u64; 4] = [1_000, 3_000, 10_000, 30_000];
/// Attempts never stop, and cost next to nothing then.
const REST_MAX: Duration = Duration::from_secs(600);

/// Returns the rest after the `failures`th failure in a row, counted from one.
pub(crate) fn rest(
    strategy: Strategy,
    outcome: Outcome,
    failures: u32,
    rng: &mut StdRng,
) -> Duration {
    let steps: &[u64] = match (outcome, strategy) {
        (Outcome::Failed | Outcome::Worked | Outcome::Running, Strategy::Birthday) => &BIRTHDAY,
        (Outcome::Failed | Outcome::Worked | Outcome::Running, Strategy::Block) => &BLOCK,
        (
            Outcome::Failed | Outcome::Worked | Outcome::Running,
            Strategy::Plain | Strategy::PortMapped | Strategy::Ipv6 | Strategy::Predicted,
        )
        | (Outcome::NoSamples, _) => &PREDICTED,
        (
            Outcome::PeerSilent | Outcome::PeerDeclined | Outcome::NoSockets | Outcome::NoBudget,
            _,
        ) => &TROUBLE,
    };
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = steps.get(index).copied().unwrap_or_else(|| {
        let beyond = u32::try_from(index + 1 - steps.len()).unwrap_or(u32::MAX);
        let last = steps.last().copied().unwrap_or_default();
        last.saturating_mul(1 << beyond.min(16))
    });
    jittered(Duration::from_millis(wait).min(REST_MAX), rng)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn rests_grow_to_minutes_and_no_further() {
        let mut rng = StdRng::from_seed([1; 32]);
        for strategy in [Strategy::Predicted, Strategy::Block, Strategy::Birthday] {
            let mut last = Duration::ZERO;
            for failures in 1..200 {
                let rest = rest(strategy, Outcome::Failed, failures, &mut rng);
                assert!(rest <= REST_MAX * 5 / 4);
                assert!(rest >= last / 2, "{strategy} {failures}");
                last = rest;
            }
            assert!(last >= REST_MAX * 3 / 4, "{last:?}");
        }
    }

    #[test]
    fn ten_predictions_fit_ten_seconds_and_two_birthday_rounds_do_not() {
        let mut rng = StdRng::from_seed([2; 32]);
        let mut total = |strategy, count| -> Duration {
            (1..=count)
                .map(|failures| rest(strategy, Outcome::Failed, failures, &mut rng))
                .sum()
        };
        assert!(total(Strategy::Predicted, 5) < Duration::from_secs(2));
        assert!(total(Strategy::Birthday, 2) > Duration::from_secs(10));
    }
}

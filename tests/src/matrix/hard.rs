//! The pairs of NATs where ports have to be guessed, run often enough that luck can be counted.

use std::{
    fmt::Write as _,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    time::Duration,
};

use super::{
    Scenario,
    summary::{median, sorted},
    table::{Circumstances, load, millis},
    trial::{RELAY_START, path_age, words},
};
use crate::{
    bed::{ECHO, Pair},
    lab::{
        Lab, Meter,
        meter::{PACKETS_PER_SECOND, Spent},
    },
    product::{Signaling, path_kind},
    tool, wait,
};

/// The pairs, each with what it must show (issue 4). Every second run has the ends exchanged.
pub const PAIRS: [(&str, Goal); 4] = [
    ("symmetric,firewall", BIRTHDAY),
    ("symmetric,port-restricted", BIRTHDAY),
    ("symmetric,port-restricted-random", BIRTHDAY),
    ("symmetric-sequential,symmetric-sequential", COUNTED),
];

const BIRTHDAY: Goal = Goal {
    percent: 98,
    median: Some(Duration::from_secs(3)),
    chance: "256 sockets and at most 2,048 probes of 64,512 ports: 99.97 % a round, half of them within 174 probes",
};

const COUNTED: Goal = Goal {
    percent: 95,
    median: None,
    chance: "a window of 16 behind fresh samples, repeated: certain while nobody else opens bindings",
};

/// What a pair must show.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// Of a hundred runs so many are direct within [`Scenario::bound`].
    pub percent: usize,
    /// And half of them within this.
    pub median: Option<Duration>,
    /// What arithmetic says (facts/nat-population.md, section 4).
    pub chance: &'static str,
}

/// How long a late path is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one run showed. Pairs are home A, then home B.
#[derive(Debug, Clone)]
pub struct Run {
    /// When both ends had a direct path.
    pub direct: Option<Duration>,
    /// When the first byte was back.
    pub first: Option<Duration>,
    /// How the client's path was found.
    pub via: String,
    /// What each home's router had seen by then.
    pub spent: [Spent; 2],
    /// The most sockets that each program had open beyond the fewest.
    pub sockets: [usize; 2],
    /// What went wrong with the run itself.
    pub fault: Option<String>,
    /// Where the logs are, when it was not direct.
    pub kept: Option<PathBuf>,
}

/// One pair and all its runs.
#[derive(Debug)]
pub struct Series {
    /// The pair as it is written.
    pub pair: &'static str,
    /// What it must show.
    pub goal: Goal,
    /// What it showed.
    pub runs: Vec<Run>,
}

impl Series {
    fn bound(&self) -> Duration {
        scenario(self.pair, false).bound().unwrap_or_default()
    }

    /// How many runs were direct in time.
    pub fn direct(&self) -> usize {
        let in_time = |run: &&Run| run.direct.is_some_and(|at| at <= self.bound());
        self.runs.iter().filter(in_time).count()
    }

    /// What it did not show, in one line each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let (direct, count) = (self.direct(), self.runs.len());
        let Goal {
            percent,
            median: half,
            ..
        } = self.goal;
        if direct * 100 < percent * count {
            faults.push(format!(
                "{direct} of {count} direct within {:?}, less than {percent} %",
                self.bound()
            ));
        }
        let middle = median(sorted(self.runs.iter().map(|run| run.direct)));
        if let Some((half, middle)) = half.zip(middle)
            && middle > half
        {
            faults.push(format!("median {middle:?}, above {half:?}"));
        }
        let late = |run: &&Run| run.first.is_none_or(|at| at > RELAY_START);
        let late = self.runs.iter().filter(late).count();
        if late > 0 {
            faults.push(format!(
                "{late} of {count} first bytes later than {RELAY_START:?}"
            ));
        }
        let broken = self.runs.iter().filter_map(|run| run.fault.clone());
        faults.extend(broken);
        faults
    }
}

fn scenario(pair: &str, exchanged: bool) -> Scenario {
    let scenario: Scenario = pair.parse().expect("a constant that a test parses");
    if exchanged {
        Scenario::pair(scenario.server, scenario.client)
    } else {
        scenario
    }
}

/// Does one run; to be called inside [`lab::program`](crate::lab::program).
pub fn run(pair: &str, exchanged: bool) -> Run {
    let mut run = Run {
        direct: None,
        first: None,
        via: String::new(),
        spent: [Spent::default(); 2],
        sockets: [0; 2],
        fault: None,
        kept: None,
    };
    let done = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut lab = scenario(pair, exchanged).build();
        in_lab(&mut run, &lab);
        if run.direct.is_none() {
            run.kept = Some(lab.keep());
        }
    }));
    if let Err(panic) = done {
        run.fault = Some(words(&*panic));
    }
    run
}

fn in_lab(run: &mut Run, lab: &Lab) {
    let meters = [lab.router_a(), lab.router_b()].map(Meter::start);
    let signaling = Signaling::start(lab.public());
    let mut pair = Pair::start(lab, &signaling);
    let secs = PATIENCE.as_secs().to_string();
    let mut first = tool::start(pair.host, &["first-byte", ECHO, "--secs", &secs]);
    let (mut fewest, mut most) = ([usize::MAX; 2], [0; 2]);
    let direct = wait::answer_within(PATIENCE, || {
        if run.first.is_none() && first.ended().is_some() {
            run.first = Some(pair.age()).filter(|_| !tool::reports(&first).is_empty());
        }
        let files = [
            pair.client.process().open_files(),
            pair.server.process().open_files(),
        ];
        for end in 0..2 {
            fewest[end] = fewest[end].min(files[end]);
            most[end] = most[end].max(files[end]);
        }
        // The packets that were spent are those of a path that both ends have.
        let ends = [pair.client.status()?, pair.server.status()?];
        let are_direct = ends.iter().all(|end| path_kind(end) == Some("direct"));
        are_direct.then_some(ends)
    });
    run.spent = meters.each_ref().map(Meter::read);
    run.sockets = [0, 1].map(|end| most[end] - fewest[end].min(most[end]));
    if run.first.is_none() && first.ended().is_some() {
        run.first = Some(pair.age());
    }
    let Some(ends) = direct else { return };
    let age = pair.age();
    let [client, server] = [0, 1].map(|end| path_age(&ends[end], age));
    run.direct = client
        .zip(server)
        .map(|(client, server)| client.max(server));
    let via = ends[0]["peers"][0]["path"]["via"].as_str();
    run.via = via.unwrap_or("none").to_owned();
}

/// One line for whoever watches.
pub fn line(pair: &str, run: &Run) -> String {
    let spent = |what: fn(&Spent) -> u64| run.spent.each_ref().map(what);
    let mut line = format!(
        "{pair}  direct {} {}  first {}  packets {:?}  too fast {:?}  bindings {:?}  sockets {:?}",
        millis(run.direct),
        run.via,
        millis(run.first),
        spent(|it| it.packets),
        spent(|it| it.too_fast),
        spent(|it| it.bindings),
        run.sockets
    );
    for (what, text) in [
        ("FAULT", run.fault.clone()),
        (
            "logs:",
            run.kept.as_ref().map(|it| it.display().to_string()),
        ),
    ] {
        if let Some(text) = text {
            write!(line, "\n    {what} {text}").expect("a String takes it");
        }
    }
    line
}

/// The whole document.
pub fn document(seen: &Circumstances, series: &[Series]) -> String {
    let mut text = String::new();
    write(&mut text, seen, series).expect("a String takes it");
    text
}

fn write(text: &mut String, seen: &Circumstances, series: &[Series]) -> std::fmt::Result {
    writeln!(
        text,
        "# NATs whose ports have to be guessed\n\n\
         Written by `{}`; do not edit.\n\n\
         {}, commit {}, {}, debug build, load average {} before and {} after.\n\n\
         Each run is a new laboratory (see `nat-matrix.md`); every second one has the two ends exchanged. A run ends when both \
         ends report a direct path, or after {} s.\n\n\
         - direct: runs in which both ends had a direct path in time (10 s); then milliseconds from the start of both programs.\n\
         - first byte: milliseconds until it was back at the application, over the relay as a rule.\n\
         - packets: UDP packets that left one home until both were direct, all of the programs' traffic included; above the rate: \
         those beyond {PACKETS_PER_SECOND} a second; bindings: new flows on one router; sockets: the most that one program had \
         open beyond the fewest.\n\n\
         | pair | runs | direct | median | 90 % | worst | via | first byte: median | worst | packets: median | worst | above \
         the rate: worst | bindings: worst | sockets: worst |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        seen.command,
        seen.date,
        seen.commit,
        seen.machine,
        seen.load_before,
        load(),
        PATIENCE.as_secs(),
    )?;
    for series in series {
        let runs = &series.runs;
        let direct = sorted(runs.iter().map(|run| run.direct));
        let first = sorted(runs.iter().map(|run| run.first));
        let at = |times: &[Duration], percent: usize| {
            let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            millis(times.get(index).copied())
        };
        let spent = |what: fn(&Run) -> [u64; 2]| {
            let mut all: Vec<u64> = runs.iter().flat_map(what).collect();
            all.sort_unstable();
            all
        };
        let worst = |what| spent(what).last().copied().unwrap_or_default();
        let packets = spent(|run| run.spent.map(|it| it.packets));
        let mut vias: Vec<&str> = runs.iter().map(|run| run.via.as_str()).collect();
        vias.sort_unstable();
        vias.dedup();
        writeln!(
            text,
            "| {} {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            series.pair,
            scenario(series.pair, false).possible().letter(),
            runs.len(),
            series.direct(),
            at(&direct, 50),
            at(&direct, 90),
            at(&direct, 100),
            vias.join(" "),
            at(&first, 50),
            at(&first, 100),
            packets.get(packets.len() / 2).copied().unwrap_or_default(),
            packets.last().copied().unwrap_or_default(),
            worst(|run| run.spent.map(|it| it.too_fast)),
            worst(|run| run.spent.map(|it| it.bindings)),
            worst(|run| run.sockets.map(|count| count as u64)),
        )?;
    }
    writeln!(text, "\n## What arithmetic says\n")?;
    for series in series {
        writeln!(text, "- `{}`: {}", series.pair, series.goal.chance)?;
    }
    for series in series {
        for fault in series.faults() {
            writeln!(text, "\n**Fault**, `{}`: {fault}", series.pair)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use natlab::Possible;

    use super::*;

    #[test]
    fn every_pair_needs_ports_to_be_guessed_whichever_end_is_which() {
        for (pair, _) in PAIRS {
            for exchanged in [false, true] {
                let possible = scenario(pair, exchanged).possible();
                assert!(
                    matches!(possible, Possible::OnlyBirthday | Possible::OnlyPredicted),
                    "{pair}: {possible}"
                );
            }
        }
    }

    #[test]
    fn what_was_not_shown_is_a_fault() {
        let run = |direct: u64, first: u64| Run {
            direct: Some(Duration::from_millis(direct)),
            first: Some(Duration::from_millis(first)),
            via: "birthday".to_owned(),
            spent: [Spent::default(); 2],
            sockets: [9; 2],
            fault: None,
            kept: None,
        };
        let series = |runs| Series {
            pair: PAIRS[0].0,
            goal: BIRTHDAY,
            runs,
        };
        assert_eq!(series(vec![run(2_000, 300); 50]).faults(), [""; 0]);
        assert_eq!(series(vec![run(11_000, 1_300); 2]).faults().len(), 3);
    }
}

//! One pair in a world of its own; and many, on all threads.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use session::{Cause, PathKind, Side, Strategy};

use super::cause::{agrees, simulated};
use super::classes::Mix;
use super::draw::Pair;
use crate::host::Happening;
use crate::nat::Load;
use crate::oracle::Possible;
use crate::world::World;

/// How long a pair may look for a direct path that the oracle promises. Rounds that failed back off, so that a
/// second and a third one fit.
const PATIENCE: Duration = Duration::from_secs(60);
/// A pair without a promise is watched this long: all that was to be tried was tried once.
const RELAYED_WATCH: Duration = Duration::from_secs(12);
/// A direct path must carry within this, and what goes on once it is there is watched as long.
const AFTERMATH: Duration = Duration::from_secs(1);

/// What a home router is promised, whatever its owner's peers are behind: the numbers of the ladder's budget,
/// and beside them what the rest of a session needs.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Extra sockets of one host at a time.
    pub sockets: usize,
    /// Packets to the outside within any second: 500 of the ladder; checks of all candidate pairs, the NAT's
    /// examination and the relay's messages beside them.
    pub packets_per_second: usize,
    /// New bindings within any minute: 1,200 of the ladder; on a router that maps per destination every
    /// server and every candidate of the peer is one more.
    pub bindings_per_minute: usize,
}

impl Budget {
    /// What is promised.
    pub const PROMISED: Self = Self {
        sockets: 256,
        packets_per_second: 500 + 100,
        bindings_per_minute: 1_200 + 100,
    };

    /// Returns whether one host and its routers stayed within it.
    #[must_use]
    pub const fn holds(&self, sockets: usize, load: &Load) -> bool {
        sockets <= self.sockets
            && load.packets_per_second_max <= self.packets_per_second
            && load.bindings_per_minute_max <= self.bindings_per_minute
    }
}

/// What became of a pair. Times are counted from when the later of the two programs started.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The pair.
    pub pair: Pair,
    /// What the oracle says of it.
    pub possible: Possible,
    /// When the ingress chose its first path.
    pub first: Option<Duration>,
    /// When it chose a direct one over which a packet was answered.
    pub direct: Option<Duration>,
    /// What opened the direct path.
    pub strategy: Option<Strategy>,
    /// What the routers of the ingress and of the egress bore.
    pub loads: [Load; 2],
    /// Why the ingress and the egress say that the path is relayed; nothing where it is direct.
    pub causes: [Option<Cause>; 2],
    /// Extra sockets of both at their most.
    pub sockets: [usize; 2],
    /// See [`World::digest`].
    pub digest: u64,
}

impl Record {
    /// Returns whether both ends name what is simulated.
    #[must_use]
    pub fn names_its_cause(&self) -> bool {
        let simulated = simulated(&self.pair);
        let mut causes = self.causes.iter();
        causes.all(|cause| cause.is_some_and(|named| agrees(named, simulated)))
    }

    /// Returns whether both hosts and their routers stayed within a budget.
    #[must_use]
    pub fn is_within(&self, budget: &Budget) -> bool {
        let mut ends = self.sockets.iter().zip(&self.loads);
        ends.all(|(sockets, load)| budget.holds(*sockets, load))
    }
}

/// On one line: what it takes to find it again, and what is remarkable.
impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Pair {
            seed,
            ingress,
            egress,
            loss,
        } = self.pair;
        write!(
            f,
            "SEED={seed} {}: {} x {}: {}; loss {loss} %, oracle {}, direct {:?} by {:?}, causes {:?}",
            ingress.class,
            ingress.behavior,
            egress.class,
            egress.behavior,
            self.possible,
            self.direct,
            self.strategy,
            self.causes,
        )?;
        for (sockets, load) in self.sockets.iter().zip(&self.loads) {
            write!(
                f,
                "; {} packets ({}/s), {} bindings ({}/min), {sockets} sockets",
                load.packets,
                load.packets_per_second_max,
                load.bindings,
                load.bindings_per_minute_max
            )?;
        }
        Ok(())
    }
}

/// Plays one pair.
#[must_use]
pub fn run(pair: Pair) -> Record {
    let possible = pair.possible();
    let mut world = world_of(&pair);
    let patience = if possible.is_direct() {
        PATIENCE
    } else {
        RELAYED_WATCH
    };
    let is_direct =
        |world: &World| world.both_judge() == Some((PathKind::Direct, PathKind::Direct));
    let mut first = None;
    if world
        .run_unwatched(patience, |world| world.chosen(0).is_some())
        .is_some()
    {
        first = Some(world.elapsed());
    }
    let left = patience.saturating_sub(world.elapsed());
    let direct = world
        .run_unwatched(left, is_direct)
        .map(|_| world.elapsed());
    if direct.is_some() {
        world.run_unwatched(AFTERMATH, |_| false);
    }
    let strategy = direct.and_then(|_| strategy_of(&world));
    let causes = [0, 1].map(|host: usize| world.cause(host).filter(|_| direct.is_none()));
    let sites = [0, 1].map(|host: usize| world.hosts[host].config.site);
    Record {
        pair,
        possible,
        first,
        direct,
        strategy,
        causes,
        loads: sites.map(|site| world.load(site)),
        sockets: [0, 1].map(|host: usize| world.hosts[host].extra_sockets_peak),
        digest: world.digest(),
    }
}

fn world_of(pair: &Pair) -> World {
    let mut world = World::new(pair.seed);
    world.internet.link.loss = pair.loss;
    for (end, side) in [(&pair.ingress, Side::Ingress), (&pair.egress, Side::Egress)] {
        let site = world.site(end.behavior);
        world.set_line(site, end.line);
        world.home(site, side);
    }
    world
}

/// By which way the path was found that both ends use. To the end that was found the other is a
/// peer-reflexive address; the end that found it knows better, and only it may have something to report.
fn strategy_of(world: &World) -> Option<Strategy> {
    let views = world.both_views()?;
    let is_ipv6 = views.iter().any(|view| view.remote.is_ipv6());
    let found = |wanted: &str| views.iter().any(|view| view.via() == wanted);
    let reported = world.hosts.iter().flat_map(|host| &host.log);
    let block = Happening::Opened(Strategy::Block);
    let by_block = reported
        .into_iter()
        .any(|(_, happening)| *happening == block);
    Some(if is_ipv6 {
        Strategy::Ipv6
    } else if found("port-mapped") {
        Strategy::PortMapped
    } else if found("birthday") {
        Strategy::Birthday
    } else if found("predicted") && by_block {
        Strategy::Block
    } else if found("predicted") {
        Strategy::Predicted
    } else {
        Strategy::Plain
    })
}

/// Plays `pairs` pairs of a mix on so many threads. The seeds of the pairs follow from `seed`, so the same seed
/// gives the same records, in the same order, whatever the number of threads.
///
/// # Panics
///
/// When a world does.
#[must_use]
pub fn run_all(mix: &Mix, pairs: u64, seed: u64, threads: usize) -> Vec<Record> {
    let next = AtomicU64::new(0);
    let records = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut own = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= pairs {
                        break;
                    }
                    let pair = Pair::draw(mix, seed_of(seed, number));
                    own.push((number, run(pair)));
                }
                let mut all = records.lock().unwrap_or_else(PoisonError::into_inner);
                all.append(&mut own);
            });
        }
    });
    let mut records = records.into_inner().unwrap_or_else(PoisonError::into_inner);
    records.sort_by_key(|(number, _)| *number);
    records.into_iter().map(|(_, record)| record).collect()
}

/// Neighbouring numbers must not give worlds that resemble each other, nor populations of neighbouring seeds
/// share pairs (SplitMix64's last step).
const fn seed_of(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

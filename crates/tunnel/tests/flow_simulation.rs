//! Two ends of a flow over carriers that are slow, move and die, in virtual time.
//!
//! Every run has a seed; a failure prints it. `SEED=n` runs that one alone, `SEEDS=n` as many.
#![expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
#![expect(
    clippy::unwrap_used,
    reason = "a world that is not as it should be fails its test"
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tunnel::flow::{
    Event, Flow, FlowConfig, FlowId, Generation, OpenRequest, Output, Record, RecordDecoder,
    RefuseCode, ResetCode,
};

const CONFIG: FlowConfig = FlowConfig {
    initial_credit: 8 * 1024,
    max_credit: 64 * 1024,
    growth_time: Duration::from_secs(1),
    ack_bytes: 1024,
    ack_delay: Duration::from_millis(20),
    resume: Duration::from_secs(3600),
};

#[test]
fn whatever_carriers_do_every_byte_arrives_once_and_in_order() {
    run_seeds(400, Story::BothFinish);
}

#[test]
fn a_reset_by_either_end_ends_both_whatever_carriers_do() {
    run_seeds(200, Story::IngressResets);
    run_seeds(200, Story::EgressResets);
}

#[test]
fn a_refusal_is_heard_whatever_carriers_do() {
    run_seeds(200, Story::EgressRefuses);
}

#[test]
fn a_flow_without_a_carrier_is_reset_when_resume_expires_and_forgotten_after_as_long() {
    let start = Instant::now();
    let mut flow = Flow::open(CONFIG, FlowId::new(1).unwrap(), request(), start);
    flow.attach(Generation(1), start);
    assert!(matches!(
        flow.poll_output(Generation(1), 1000, start),
        Output::Record(Record::Open { .. })
    ));
    let later = start + Duration::from_secs(10);
    flow.carrier_lost(Generation(1), later);
    assert!(flow.wants_stream());
    assert_eq!(flow.poll_timeout(), Some(later + CONFIG.resume));
    flow.handle_timeout(later + CONFIG.resume);
    let expired = Event::Reset {
        code: ResetCode::Expired,
        by_peer: false,
    };
    assert_eq!(flow.poll_event(), Some(expired));
    assert!(flow.is_aborted() && !flow.is_finished());
    flow.handle_timeout(later + CONFIG.resume * 2);
    assert!(flow.is_finished());
}

#[test]
fn data_beyond_credit_resets_the_flow_with_the_code_that_says_so() {
    let start = Instant::now();
    let mut flow = Flow::accept(CONFIG, FlowId::new(1).unwrap(), request(), start);
    flow.handle_record(Generation(1), open_record(), start);
    flow.opened(start);
    assert!(matches!(
        flow.poll_output(Generation(1), 1000, start),
        Output::Record(Record::Opened { .. })
    ));
    let data = Record::Data {
        offset: CONFIG.initial_credit,
        bytes: Bytes::from_static(b"x"),
    };
    flow.handle_record(Generation(1), data, start);
    assert_eq!(
        flow.poll_event(),
        Some(Event::Reset {
            code: ResetCode::Credit,
            by_peer: false
        })
    );
    let reset = Record::Reset {
        final_offset: 0,
        code: ResetCode::Credit,
    };
    assert_eq!(
        flow.poll_output(Generation(1), 1000, start),
        Output::Record(reset)
    );
}

#[test]
fn a_peer_that_grants_without_end_does_not_make_a_flow_retain_without_end() {
    let start = Instant::now();
    let mut flow = Flow::open(CONFIG, FlowId::new(1).unwrap(), request(), start);
    flow.attach(Generation(1), start);
    let opened = Record::Opened {
        received: 0,
        credit: 1 << 60,
        reading: Vec::new(),
    };
    flow.handle_record(Generation(1), opened, start);
    assert_eq!(flow.write(vec![0; 1 << 20].into()), 64 * 1024);
    assert_eq!(flow.writable(), 0);
}

#[test]
fn a_request_and_its_answer_need_few_records() {
    let mut world = World::new(1, Story::BothFinish);
    world.totals = [100, 100];
    world.chaos_until = world.now;
    world.run_to_the_end();
    assert!(world.records <= 12, "{} records", world.records);
}

fn run_seeds(count: u64, story: Story) {
    let var = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text: String| text.parse::<u64>().ok())
    };
    let seeds = match var("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..var("SEEDS").unwrap_or(count),
    };
    for seed in seeds {
        let guard = SeedOnPanic(seed, story);
        World::new(seed, story).run_to_the_end();
        std::mem::forget(guard);
    }
}

struct SeedOnPanic(u64, Story);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        eprintln!("SEED={} story {:?}", self.0, self.1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    BothFinish,
    IngressResets,
    EgressResets,
    EgressRefuses,
}

const INGRESS: usize = 0;
const EGRESS: usize = 1;

/// One stream: a pipe per direction, named by its reader.
struct Stream {
    pipes: [Pipe; 2],
    delay: Duration,
    /// The egress has seen the first record.
    admitted: bool,
    dead: bool,
    /// When each end learns that the carrier is dead.
    noticed_at: [Option<Instant>; 2],
}

#[derive(Default)]
struct Pipe {
    chunks: VecDeque<(Instant, Option<Bytes>)>,
    decoder: RecordDecoder,
    /// The writer has no more to do with it.
    closed: bool,
}

struct World {
    seed: u64,
    story: Story,
    rng: StdRng,
    now: Instant,
    start: Instant,
    chaos_until: Instant,
    flows: [Option<Flow>; 2],
    egress_was_there: bool,
    egress_seen: bool,
    dialled_at: Option<Instant>,
    streams: BTreeMap<Generation, Stream>,
    next_generation: u32,
    totals: [u64; 2],
    written: [u64; 2],
    read: [u64; 2],
    ended: [bool; 2],
    aborted: [bool; 2],
    reset_at: Instant,
    records: u64,
}

impl World {
    fn new(seed: u64, story: Story) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let chaos = Duration::from_millis(rng.random_range(0..20_000));
        let totals = [rng.random_range(0..200_000), rng.random_range(0..200_000)];
        let reset_at = now + Duration::from_millis(rng.random_range(0..5000));
        Self {
            seed,
            story,
            now,
            start: now,
            chaos_until: now + chaos,
            flows: [
                Some(Flow::open(CONFIG, FlowId::new(1).unwrap(), request(), now)),
                None,
            ],
            egress_was_there: false,
            egress_seen: false,
            dialled_at: None,
            streams: BTreeMap::new(),
            next_generation: 1,
            totals,
            written: [0; 2],
            read: [0; 2],
            ended: [false; 2],
            aborted: [false; 2],
            reset_at,
            records: 0,
            rng,
        }
    }

    fn run_to_the_end(&mut self) {
        for _ in 0..200_000 {
            if self.is_over() {
                return self.judge();
            }
            self.now += Duration::from_millis(self.rng.random_range(1..10));
            self.carriers_live_and_die();
            self.deliver();
            self.applications();
            self.timeouts();
            self.attach_if_wanted();
            self.pump();
            self.check_bounds();
        }
        panic!(
            "no end after {:?}: written {:?} of {:?}, read {:?}, ended {:?}, aborted {:?}\n{:#?}",
            self.now - self.start,
            self.written,
            self.totals,
            self.read,
            self.ended,
            self.aborted,
            self.flows
        );
    }

    fn is_over(&self) -> bool {
        let through = |end: usize| self.ended[end] || self.aborted[end];
        let gone = self.flows[INGRESS].as_ref().is_none_or(Flow::is_finished);
        // Whether the egress was ever asked depends on when the ingress reset the flow.
        let egress = through(EGRESS) || !self.egress_was_there;
        through(INGRESS)
            && egress
            && gone
            && self
                .streams
                .values()
                .all(|s| s.pipes[EGRESS].chunks.is_empty())
    }

    fn judge(&self) {
        match self.story {
            Story::BothFinish => {
                assert_eq!(self.aborted, [false; 2]);
                assert_eq!(self.read, [self.totals[EGRESS], self.totals[INGRESS]]);
            }
            Story::EgressRefuses => assert!(self.aborted[INGRESS]),
            Story::IngressResets | Story::EgressResets => {
                let whole = self.read == [self.totals[EGRESS], self.totals[INGRESS]];
                assert!(self.aborted != [false; 2] || whole);
            }
        }
    }

    fn carriers_live_and_die(&mut self) {
        let chaos = self.now < self.chaos_until;
        if chaos && self.rng.random_range(0..60) == 0 && !self.streams.is_empty() {
            self.kill_one();
        }
        if chaos && self.rng.random_range(0..60) == 0 {
            self.attach();
        }
        for generation in self.streams.keys().copied().collect::<Vec<_>>() {
            for end in [INGRESS, EGRESS] {
                let stream = self.streams.get_mut(&generation).unwrap();
                if stream.noticed_at[end].is_some_and(|at| at <= self.now) {
                    stream.noticed_at[end] = None;
                    if let Some(flow) = &mut self.flows[end] {
                        flow.carrier_lost(generation, self.now);
                    }
                }
            }
            self.streams
                .retain(|_, s| !s.dead || s.noticed_at != [None, None]);
        }
    }

    fn kill_one(&mut self) {
        let index = self.rng.random_range(0..self.streams.len());
        let notice: [u64; 2] = [self.rng.random_range(0..400), self.rng.random_range(0..400)];
        let stream = self.streams.values_mut().nth(index).unwrap();
        if stream.dead {
            return;
        }
        stream.dead = true;
        for end in [INGRESS, EGRESS] {
            stream.noticed_at[end] = Some(self.now + Duration::from_millis(notice[end]));
            stream.pipes[end].chunks.clear();
        }
    }

    fn attach_if_wanted(&mut self) {
        if self.flows[INGRESS].as_ref().is_some_and(Flow::wants_stream)
            && self.rng.random_range(0..20) == 0
        {
            self.attach();
        }
    }

    fn attach(&mut self) {
        let generation = Generation(self.next_generation);
        self.next_generation += 1;
        let delay = Duration::from_millis(self.rng.random_range(1..80));
        let stream = Stream {
            pipes: Default::default(),
            delay,
            admitted: false,
            dead: false,
            noticed_at: [None; 2],
        };
        self.streams.insert(generation, stream);
        if let Some(flow) = &mut self.flows[INGRESS] {
            flow.attach(generation, self.now);
        }
    }

    fn deliver(&mut self) {
        for generation in self.streams.keys().copied().collect::<Vec<_>>() {
            for reader in [INGRESS, EGRESS] {
                loop {
                    let pipe = &mut self.streams.get_mut(&generation).unwrap().pipes[reader];
                    match pipe.chunks.front() {
                        Some((at, _)) if *at <= self.now => {}
                        _ => break,
                    }
                    match pipe.chunks.pop_front().unwrap().1 {
                        Some(chunk) => self.deliver_chunk(generation, reader, chunk),
                        None => {
                            if let Some(flow) = &mut self.flows[reader] {
                                flow.stream_ended(generation, self.now);
                            }
                        }
                    }
                }
            }
        }
    }

    fn deliver_chunk(&mut self, generation: Generation, reader: usize, mut chunk: Bytes) {
        loop {
            let decoder = &mut self.streams.get_mut(&generation).unwrap().pipes[reader].decoder;
            let Some(record) = decoder.decode(&mut chunk).expect("our own records decode") else {
                return;
            };
            if reader == EGRESS {
                self.admit(generation, &record);
            }
            let Some(flow) = &mut self.flows[reader] else {
                continue;
            };
            flow.handle_record(generation, record, self.now);
            let seed = self.seed;
            while let Some(event) = flow.poll_event() {
                match event {
                    Event::Opened => {}
                    Event::Refused { code, .. } => {
                        assert_eq!(code, RefuseCode::ConnectionRefused);
                        self.aborted[reader] = true;
                    }
                    Event::Reset { code, by_peer } => {
                        let expected = matches!(code, ResetCode::Application | ResetCode::Unknown);
                        assert!(by_peer && expected, "seed {seed}: {code} at {reader}");
                        self.aborted[reader] = true;
                    }
                    _ => unreachable!("no other events"),
                }
            }
        }
    }

    /// What the table of the egress does.
    fn admit(&mut self, generation: Generation, record: &Record) {
        let (Record::Open { .. } | Record::Attach { .. }) = record else {
            return;
        };
        // A finished flow has left the table, though its last bytes may be on their way to the socket.
        if self.flows[EGRESS]
            .as_ref()
            .is_some_and(|flow| !flow.is_finished())
        {
            self.streams.get_mut(&generation).unwrap().admitted = true;
            return;
        }
        let seen = std::mem::replace(&mut self.egress_seen, true);
        if matches!(record, Record::Open { .. }) && !seen {
            self.egress_was_there = true;
            let flow = Flow::accept(CONFIG, FlowId::new(1).unwrap(), request(), self.now);
            self.flows[EGRESS] = Some(flow);
            self.streams.get_mut(&generation).unwrap().admitted = true;
            self.dialled_at = Some(self.now + Duration::from_millis(self.rng.random_range(0..200)));
        } else {
            self.write(generation, EGRESS, &Record::Unknown);
        }
    }

    fn applications(&mut self) {
        if self.dialled_at.is_some_and(|at| at <= self.now) {
            self.dialled_at = None;
            if let Some(flow) = &mut self.flows[EGRESS] {
                if self.story == Story::EgressRefuses {
                    flow.refuse(RefuseCode::ConnectionRefused, "nobody listens", self.now);
                    self.aborted[EGRESS] = true;
                } else {
                    flow.opened(self.now);
                }
            }
        }
        for end in [INGRESS, EGRESS] {
            self.application(end);
        }
    }

    fn application(&mut self, end: usize) {
        let resets = match self.story {
            Story::IngressResets => end == INGRESS,
            Story::EgressResets => end == EGRESS,
            Story::BothFinish | Story::EgressRefuses => false,
        };
        let Some(flow) = &mut self.flows[end] else {
            return;
        };
        if resets && self.now >= self.reset_at && !flow.is_ended() && !self.aborted[end] {
            flow.reset(ResetCode::Application, self.now);
            self.aborted[end] = true;
        }
        if self.rng.random_range(0..3) > 0 && self.written[end] < self.totals[end] {
            let wish = (self.totals[end] - self.written[end]).min(self.rng.random_range(1..5000));
            let bytes: Bytes = (self.written[end]..self.written[end] + wish)
                .map(|at| byte(end, at))
                .collect();
            self.written[end] += flow.write(bytes) as u64;
        }
        if self.written[end] == self.totals[end] && flow.writable() > 0 {
            flow.shutdown();
        }
        if self.rng.random_range(0..3) > 0 {
            let max = self.rng.random_range(1..6000);
            if let Some(bytes) = flow.read(max) {
                for value in &bytes {
                    assert_eq!(
                        *value,
                        byte(1 - end, self.read[end]),
                        "byte {} at {end}",
                        self.read[end]
                    );
                    self.read[end] += 1;
                }
                flow.consumed(bytes.len(), self.now);
            }
        }
        let sent_all = self.written[end] == self.totals[end];
        if flow.is_read_to_end() && sent_all && flow.is_ended() && !flow.is_aborted() {
            self.ended[end] = true;
        }
    }

    fn timeouts(&mut self) {
        for flow in self.flows.iter_mut().flatten() {
            if flow.poll_timeout().is_some_and(|at| at <= self.now) {
                let before = flow.poll_timeout();
                flow.handle_timeout(self.now);
                assert_ne!(
                    flow.poll_timeout(),
                    before,
                    "a deadline moves or disappears"
                );
            }
        }
    }

    fn pump(&mut self) {
        for generation in self.streams.keys().copied().collect::<Vec<_>>() {
            for end in [INGRESS, EGRESS] {
                self.pump_stream(generation, end);
            }
        }
    }

    fn pump_stream(&mut self, generation: Generation, end: usize) {
        let max = self.rng.random_range(1..4000);
        for _ in 0..self.rng.random_range(1..20) {
            let stream = self.streams.get_mut(&generation).unwrap();
            let open = !stream.pipes[1 - end].closed;
            let Some(flow) = self.flows[end].as_mut().filter(|_| open) else {
                return;
            };
            let foretold = flow.has_output(generation);
            let output = flow.poll_output(generation, max, self.now);
            assert_eq!(
                foretold,
                output != Output::Idle,
                "has_output tells what poll_output will do"
            );
            match output {
                Output::Record(record) => self.write(generation, end, &record),
                Output::Finish => {
                    let stream = self.streams.get_mut(&generation).unwrap();
                    stream.pipes[1 - end].closed = true;
                    if !stream.dead {
                        let at = self.now + stream.delay;
                        stream.pipes[1 - end].chunks.push_back((at, None));
                    }
                }
                Output::Gone if end == INGRESS || self.streams[&generation].admitted => {
                    return self.abandon(generation, end);
                }
                Output::Idle | Output::Gone => return,
            }
        }
    }

    /// One end resets a stream, which the other hears of later.
    fn abandon(&mut self, generation: Generation, end: usize) {
        let stream = self.streams.get_mut(&generation).unwrap();
        stream.pipes[1 - end].closed = true;
        if !stream.dead {
            stream.dead = true;
            stream.noticed_at[1 - end] = Some(self.now + stream.delay);
            stream.pipes[end].chunks.clear();
            stream.pipes[1 - end].chunks.clear();
        }
    }

    fn write(&mut self, generation: Generation, end: usize, record: &Record) {
        self.records += 1;
        let mut bytes = BytesMut::new();
        record.encode(&mut bytes);
        let stream = self.streams.get_mut(&generation).unwrap();
        if stream.dead {
            return;
        }
        let mut bytes = bytes.freeze();
        while !bytes.is_empty() {
            let cut = self.rng.random_range(1..=bytes.len());
            let chunk = bytes.split_to(cut);
            stream.pipes[1 - end]
                .chunks
                .push_back((self.now + stream.delay, Some(chunk)));
        }
    }

    fn check_bounds(&self) {
        for flow in self.flows.iter().flatten() {
            let stats = flow.stats();
            assert!(stats.retained <= CONFIG.max_credit, "{stats:?}");
            assert!(stats.buffered <= CONFIG.max_credit, "{stats:?}");
        }
    }
}

fn byte(writer: usize, at: u64) -> u8 {
    (at.wrapping_mul(2_654_435_761 + writer as u64) >> 7) as u8
}

fn request() -> OpenRequest {
    OpenRequest {
        table_version: 1,
        mapping: 1,
        port_offset: 0,
        local_peer: None,
    }
}

fn open_record() -> Record {
    Record::Open {
        flow: FlowId::new(1).unwrap(),
        generation: Generation(1),
        request: request(),
        credit: CONFIG.initial_credit,
        reading: Vec::new(),
    }
}

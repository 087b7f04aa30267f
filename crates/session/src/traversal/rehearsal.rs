//! The ladder alone, against a peer that follows a script.

mod endurance;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::budget::{BINDINGS_PER_MINUTE, Budget, PROBES_PER_ROUND_MAX, SOCKETS_MAX};
use super::ladder::Ladder;
use super::ledger::Outcome;
use super::note::{Anchored, Message, Note, Order, Part, RANGES_MAX, Refusal, Window};
use super::profile::{Filtering, Mapping, Ports, Profile};
use super::{Action, Knowledge, Strategy, VolleyOrder};
use crate::description::Side;
use crate::event::PeerId;

const THEIR_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const OUR_IP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const SECOND: Duration = Duration::from_secs(1);

const STABLE: Profile = Profile {
    mapping: Mapping::Stable,
    filtering: Filtering::ByPort,
    ports: Ports::Random,
    udp: Some(true),
};

const fn per_destination(ports: Ports) -> Profile {
    Profile {
        mapping: Mapping::PerDestination,
        filtering: Filtering::ByPort,
        ports,
        udp: Some(true),
    }
}

const SEQUENTIAL: Profile = per_destination(Ports::Sequential { stride: 1 });
const RANDOM: Profile = per_destination(Ports::Random);

struct Rehearsal {
    ladder: Ladder,
    budget: Budget,
    known: Knowledge,
    start: Instant,
    now: Instant,
    actions: Vec<(Duration, Action)>,
    next_port: u16,
}

impl Rehearsal {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
    fn new(side: Side, ours: Profile, theirs: Profile) -> Self {
        Self::with_memory(side, ours, theirs, None, Instant::now())
    }

    fn with_memory(
        side: Side,
        ours: Profile,
        theirs: Profile,
        remembered: Option<Strategy>,
        start: Instant,
    ) -> Self {
        let mut rehearsal = Self {
            ladder: Ladder::new(PeerId(1), side, remembered, [7; 32]),
            budget: Budget::default(),
            known: Knowledge {
                ours,
                theirs,
                our_ip: Some(OUR_IP),
                base: Some(SocketAddr::from(([0, 0, 0, 0], 5000))),
                targets: vec![SocketAddr::from((THEIR_IP, 6000))],
                ..Knowledge::default()
            },
            start,
            now: start,
            actions: Vec::new(),
            next_port: 30_000,
        };
        rehearsal.ladder.start(start);
        rehearsal.learn();
        rehearsal
    }

    fn learn(&mut self) {
        let known = self.known.clone();
        self.ladder.learn(known, &mut self.budget, self.now);
        self.collect();
    }

    fn collect(&mut self) {
        let elapsed = self.now - self.start;
        let actions = self.ladder.take_actions();
        self.actions
            .extend(actions.into_iter().map(|action| (elapsed, action)));
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut calls = 0;
        while let Some(deadline) = self.ladder.poll_timeout().filter(|it| it.at <= until) {
            self.now = self.now.max(deadline.at);
            self.ladder.handle_timeout(&mut self.budget, self.now);
            self.collect();
            calls += 1;
            assert!(calls < 100_000, "no progress: {}", deadline.reason);
        }
        self.now = until;
    }

    fn hear(&mut self, round: u32, message: Message) {
        let note = Note { round, message };
        let heard = Note::decode(&note.encode()).expect("notes are read back");
        self.ladder.handle_note(heard, &mut self.budget, self.now);
        self.collect();
    }

    fn open(&mut self, count: u16) -> Vec<SocketAddr> {
        let ports = self.next_port..self.next_port + count;
        self.next_port += count;
        let sockets: Vec<_> = ports
            .map(|port| SocketAddr::from(([0, 0, 0, 0], port)))
            .collect();
        self.ladder
            .sockets_opened(sockets.clone(), &mut self.budget, self.now);
        self.collect();
        sockets
    }

    fn sample(&mut self, socket: SocketAddr, port: u16) {
        let mapped = SocketAddr::from((OUR_IP, port));
        self.ladder
            .sampled(socket, mapped, &mut self.budget, self.now);
        self.collect();
    }

    fn volley_ended(&mut self, sent: u32, answered: u32) {
        self.ladder
            .volley_ended(sent, answered, &mut self.budget, self.now);
        self.collect();
    }

    /// The last note, and its round.
    fn said(&self) -> (u32, Message) {
        let notes = self.actions.iter().rev();
        let last = notes.filter_map(|(_, action)| {
            let Action::Send(note) = action else {
                return None;
            };
            Some((note.round, note.message.clone()))
        });
        last.take(1).next().expect("something was said")
    }

    fn has_said_something(&self) -> bool {
        self.actions
            .iter()
            .any(|(_, action)| matches!(action, Action::Send(_)))
    }

    fn volleys(&self) -> Vec<VolleyOrder> {
        let actions = self.actions.iter();
        let orders = actions.filter_map(|(_, action)| {
            let Action::StartVolley(order) = action else {
                return None;
            };
            Some(order.clone())
        });
        orders.collect()
    }

    fn released(&self) -> Vec<SocketAddr> {
        let actions = self.actions.iter();
        let sockets = actions.filter_map(|(_, action)| {
            let Action::Release { sockets } = action else {
                return None;
            };
            Some(sockets.clone())
        });
        sockets.flatten().collect()
    }

    /// As ingress with a stable NAT: up to the peer's word where its sockets are.
    fn scout_until_anchored(&mut self, anchored: Anchored) -> u32 {
        self.run(SECOND);
        let (round, proposal) = self.said();
        let Message::Propose { part, .. } = proposal else {
            panic!("{proposal:?}");
        };
        assert_eq!(part, Part::Anchor, "the part of the peer");
        let profile = self.known.theirs;
        self.hear(round, Message::Accept { profile });
        self.hear(round, Message::Anchored(anchored));
        round
    }
}

fn anchored(ranges: Vec<(u16, u16)>) -> Anchored {
    Anchored {
        strategy: Strategy::Predicted,
        sockets: 4,
        probes_max: 64,
        order: Order::AsListed,
        ip: THEIR_IP,
        ranges,
    }
}

#[test]
fn plain_checks_have_six_hundred_milliseconds_alone() {
    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, SEQUENTIAL);
    ingress.run(Duration::from_millis(599));
    assert!(!ingress.has_said_something());
    ingress.run(Duration::from_millis(1));
    assert!(ingress.has_said_something());
}

#[test]
fn where_plain_checks_must_succeed_they_have_longer() {
    let lenient = Profile {
        filtering: Filtering::Lenient,
        ..STABLE
    };
    let mut ingress = Rehearsal::new(Side::Ingress, lenient, RANDOM);
    ingress.run(Duration::from_millis(2_900));
    assert!(!ingress.has_said_something());
    ingress.run(SECOND);
    assert!(ingress.has_said_something(), "but not for ever");
}

#[test]
fn what_worked_before_is_tried_without_waiting() {
    let start = Rehearsal::new(Side::Ingress, STABLE, RANDOM).start;
    let remembered = Some(Strategy::Birthday);
    let mut ingress = Rehearsal::with_memory(Side::Ingress, STABLE, RANDOM, remembered, start);
    ingress.run(Duration::ZERO);
    assert!(ingress.has_said_something());
}

#[test]
fn a_scout_probes_where_the_anchor_says_and_tells_what_came_of_it() {
    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, SEQUENTIAL);
    let round = ingress.scout_until_anchored(anchored(vec![(40_001, 40_016)]));
    let [volley] = &ingress.volleys()[..] else {
        panic!("{:?}", ingress.actions);
    };
    let ports: Vec<_> = volley.probes.iter().map(|(_, to)| to.port()).collect();
    assert_eq!(ports, (40_001..=40_016).collect::<Vec<_>>());
    assert!(
        volley
            .probes
            .iter()
            .all(|(from, to)| { Some(*from) == ingress.known.base && to.ip() == THEIR_IP })
    );
    ingress.known.is_direct = true;
    ingress.learn();
    assert!(matches!(
        ingress.actions.last(),
        Some((_, Action::StopVolley))
    ));
    ingress.volley_ended(5, 1);
    let scouted = Message::Scouted {
        planned: 16,
        sent: 5,
        answered: 1,
    };
    assert_eq!(ingress.said(), (round, scouted));
    let ended = Message::Ended {
        arrived: 2,
        worked: true,
    };
    ingress.hear(round, ended);
    let [entry] = ingress.ladder.ledger() else {
        panic!("{:?}", ingress.ladder.ledger());
    };
    assert_eq!(entry.outcome, Outcome::Worked);
    assert_eq!((entry.planned, entry.sent), (16, 5));
    assert_eq!((entry.arrived, entry.answered), (Some(2), 1));
    assert_eq!(ingress.ladder.strategy(), Some(Strategy::Predicted));
    let before = ingress.actions.len();
    ingress.run(3600 * SECOND);
    assert_eq!(ingress.actions.len(), before, "a direct path is left alone");
}

#[test]
fn an_anchor_that_is_predicted_opens_between_two_samples_and_names_what_lies_between() {
    let mut egress = Rehearsal::new(Side::Egress, SEQUENTIAL, STABLE);
    egress.hear(
        1,
        Message::Propose {
            part: Part::Anchor,
            profile: STABLE,
        },
    );
    assert!(matches!(egress.said(), (1, Message::Accept { .. })));
    let Some((_, Action::OpenSockets { count })) = egress.actions.last() else {
        panic!("{:?}", egress.actions);
    };
    let sockets = egress.open(*count);
    let samples = |rehearsal: &Rehearsal| {
        let actions = rehearsal.actions.iter();
        let sampled = actions.filter_map(|(_, action)| {
            let Action::Sample { sockets } = action else {
                return None;
            };
            Some(sockets.clone())
        });
        sampled.flatten().collect::<Vec<_>>()
    };
    assert_eq!(samples(&egress), sockets[..1]);
    let [openers] = &egress.volleys()[..] else {
        panic!("{:?}", egress.actions);
    };
    let from: Vec<_> = openers.probes.iter().map(|(from, _)| *from).collect();
    assert!(openers.openers, "low TTL first");
    assert_eq!(from, sockets[2..]);
    egress.run(Duration::from_millis(50));
    assert_eq!(samples(&egress), sockets[..2]);
    egress.sample(sockets[0], 40_000);
    // Somebody else opened twenty flows in between.
    egress.sample(sockets[1], 40_025);
    let (_, Message::Anchored(anchored)) = egress.said() else {
        panic!("{:?}", egress.said());
    };
    assert_eq!(anchored.ip, OUR_IP);
    assert_eq!(anchored.ranges, [(40_001, 40_025)]);
    egress.hear(
        1,
        Message::Scouted {
            planned: 25,
            sent: 50,
            answered: 0,
        },
    );
    let ended = Message::Ended {
        arrived: 0,
        worked: false,
    };
    assert_eq!(egress.said(), (1, ended));
    assert_eq!(egress.released(), sockets);
    assert_eq!(egress.ladder.ledger()[0].arrived, Some(0));
}

#[test]
fn a_birthday_takes_256_sockets_and_2048_ports_without_repetition() {
    let mut egress = Rehearsal::new(Side::Egress, RANDOM, STABLE);
    egress.hear(
        1,
        Message::Propose {
            part: Part::Anchor,
            profile: STABLE,
        },
    );
    let sockets = egress.open(256);
    egress.run(Duration::from_millis(300));
    let (_, Message::Anchored(told)) = egress.said() else {
        panic!("{:?}", egress.said());
    };
    assert_eq!((told.strategy, told.sockets), (Strategy::Birthday, 256));
    assert_eq!(egress.volleys()[0].probes.len(), sockets.len());

    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, RANDOM);
    ingress.scout_until_anchored(Anchored {
        ip: THEIR_IP,
        ..told
    });
    let mut ports: Vec<_> = ingress.volleys()[0]
        .probes
        .iter()
        .map(|(_, to)| to.port())
        .collect();
    assert!(!ports.is_sorted(), "at random");
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), usize::from(PROBES_PER_ROUND_MAX));
    assert!(ports[0] >= 1024);
}

#[test]
fn two_ends_that_are_both_predicted_tell_their_windows_and_probe_in_the_same_order() {
    let mut ingress = Rehearsal::new(Side::Ingress, SEQUENTIAL, SEQUENTIAL);
    ingress.run(SECOND);
    let (round, Message::Propose { part, .. }) = ingress.said() else {
        panic!("{:?}", ingress.actions);
    };
    assert_eq!(part, Part::Both);
    let profile = SEQUENTIAL;
    ingress.hear(round, Message::Accept { profile });
    let sockets = ingress.open(2);
    let theirs = Window {
        ip: THEIR_IP,
        first: 50_002,
        stride: 2,
        count: 16,
    };
    ingress.hear(round, Message::Window(theirs));
    assert_eq!(ingress.volleys(), [], "our own window first");
    ingress.sample(sockets[0], 40_000);
    let (_, Message::Window(ours)) = ingress.said() else {
        panic!("{:?}", ingress.said());
    };
    assert_eq!((ours.first, ours.stride), (40_001, 1));
    let volleys = ingress.volleys();
    let ports: Vec<_> = volleys[0].probes.iter().map(|(_, to)| to.port()).collect();
    let expected: Vec<_> = (0..16).map(|step| 50_002 + 2 * step).collect();
    assert_eq!(ports, expected);
    assert!(
        volleys[0]
            .probes
            .iter()
            .all(|(from, _)| *from == sockets[1])
    );
}

#[test]
fn two_random_nats_and_blocked_udp_are_left_to_the_relay() {
    let blocked = Profile {
        udp: Some(false),
        ..Profile::default()
    };
    let block = per_destination(Ports::Block {
        first: 2048,
        last: 2175,
    });
    for (ours, theirs) in [
        (RANDOM, RANDOM),
        (RANDOM, SEQUENTIAL),
        (SEQUENTIAL, block),
        (STABLE, blocked),
        (blocked, RANDOM),
        (STABLE, STABLE),
    ] {
        let mut ingress = Rehearsal::new(Side::Ingress, ours, theirs);
        ingress.run(600 * SECOND);
        assert_eq!(ingress.actions, [], "{ours:?} {theirs:?}");
    }
}

#[test]
fn a_peer_that_never_answers_is_asked_ever_more_seldom() {
    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, RANDOM);
    ingress.run(3600 * SECOND);
    let asked: Vec<_> = ingress
        .actions
        .iter()
        .filter(|(_, action)| matches!(action, Action::Send(_)))
        .map(|(at, _)| *at)
        .collect();
    assert!((8..40).contains(&asked.len()), "{}", asked.len());
    let gaps: Vec<_> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps[0] < 6 * SECOND && *gaps.last().unwrap() > 120 * SECOND);
    let entry = ingress.ladder.ledger()[0];
    assert_eq!(entry.outcome, Outcome::PeerSilent);
    assert_eq!(entry.sent, 0);
}

#[test]
fn every_wait_of_an_anchor_ends() {
    let propose = Message::Propose {
        part: Part::Anchor,
        profile: STABLE,
    };
    // No sockets at all, none in time, no samples, no word from the scout.
    let mut egress = Rehearsal::new(Side::Egress, SEQUENTIAL, STABLE);
    egress.hear(1, propose.clone());
    egress.open(0);
    assert_eq!(egress.ladder.ledger()[0].outcome, Outcome::NoSockets);

    egress.hear(2, propose.clone());
    egress.run(10 * SECOND);
    let late = egress.open(6);
    assert_eq!(egress.released(), late, "nobody waits for them any more");

    egress.hear(3, propose.clone());
    let sockets = egress.open(6);
    egress.run(10 * SECOND);
    assert_eq!(egress.ladder.ledger()[0].outcome, Outcome::NoSamples);
    assert!(egress.released().ends_with(&sockets));

    egress.hear(4, propose);
    let sockets = egress.open(6);
    egress.sample(sockets[0], 40_000);
    egress.run(30 * SECOND);
    assert_eq!(egress.ladder.ledger()[0].outcome, Outcome::Failed);
    assert_eq!(egress.ladder.ledger()[0].rounds, 4);
    assert_eq!(egress.budget.take_turn(PeerId(2), egress.now), Ok(()));
}

#[test]
fn a_scout_whose_anchor_falls_silent_gives_up() {
    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, RANDOM);
    ingress.run(SECOND);
    let (round, _) = ingress.said();
    ingress.hear(round, Message::Accept { profile: RANDOM });
    ingress.run(8 * SECOND);
    assert_eq!(ingress.ladder.ledger()[0].outcome, Outcome::PeerSilent);
}

#[test]
fn a_hostile_note_makes_us_probe_nobody_else_and_nothing_beyond_the_budget() {
    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, RANDOM);
    let elsewhere = Anchored {
        ip: Ipv4Addr::new(192, 0, 2, 1),
        ..anchored(vec![(1, 65_535)])
    };
    ingress.scout_until_anchored(elsewhere);
    assert_eq!(ingress.volleys(), []);

    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, RANDOM);
    let greedy = Anchored {
        probes_max: u16::MAX,
        order: Order::Random,
        ranges: vec![(1, 65_535); RANGES_MAX],
        ..anchored(Vec::new())
    };
    ingress.scout_until_anchored(greedy);
    let sizes: Vec<_> = ingress.volleys().iter().map(|it| it.probes.len()).collect();
    assert_eq!(sizes, [usize::from(PROBES_PER_ROUND_MAX)]);

    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, RANDOM);
    let greedy = Anchored {
        probes_max: u16::MAX,
        ..anchored(vec![(1, 65_535); RANGES_MAX])
    };
    ingress.scout_until_anchored(greedy);
    let sent = |order: &VolleyOrder| order.probes.len() * usize::from(order.passes);
    let packets: usize = ingress.volleys().iter().map(sent).sum();
    assert!(
        (1..=usize::from(PROBES_PER_ROUND_MAX)).contains(&packets),
        "{packets}"
    );
}

#[test]
fn a_busy_peer_is_asked_again_soon_and_nothing_has_failed() {
    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, RANDOM);
    ingress.run(SECOND);
    let (round, _) = ingress.said();
    let busy = Message::Decline {
        refusal: Refusal::Busy,
        retry_after_ms: 700,
        profile: RANDOM,
    };
    ingress.hear(round, busy);
    assert_eq!(ingress.ladder.ledger(), []);
    ingress.run(SECOND);
    assert_eq!(ingress.said().0, round + 1);
}

#[test]
fn a_peer_that_knows_its_nat_better_declines_and_the_parts_are_judged_anew() {
    // The description said that the peer maps per destination; by now it has moved.
    let mut ingress = Rehearsal::new(Side::Ingress, RANDOM, RANDOM);
    ingress.run(5 * SECOND);
    assert!(!ingress.has_said_something());
    ingress.known.theirs = STABLE;
    ingress.learn();
    ingress.run(SECOND);
    let (round, Message::Propose { part, .. }) = ingress.said() else {
        panic!("{:?}", ingress.said());
    };
    assert_eq!(part, Part::Scout);
    let unable = Message::Decline {
        refusal: Refusal::Unable,
        retry_after_ms: 0,
        profile: RANDOM,
    };
    ingress.hear(round, unable);
    let before = ingress.actions.len();
    ingress.run(60 * SECOND);
    assert_eq!(ingress.actions.len(), before, "two random NATs after all");
}

#[test]
fn an_egress_side_with_a_stable_nat_declines_to_be_the_anchor() {
    let mut egress = Rehearsal::new(Side::Egress, STABLE, RANDOM);
    egress.hear(
        1,
        Message::Propose {
            part: Part::Anchor,
            profile: RANDOM,
        },
    );
    let (
        1,
        Message::Decline {
            refusal, profile, ..
        },
    ) = egress.said()
    else {
        panic!("{:?}", egress.said());
    };
    assert_eq!((refusal, profile), (Refusal::Unable, STABLE));
}

#[test]
fn a_leader_that_starts_anew_in_the_middle_takes_the_follower_with_it() {
    let mut egress = Rehearsal::new(Side::Egress, RANDOM, STABLE);
    let propose = Message::Propose {
        part: Part::Anchor,
        profile: STABLE,
    };
    egress.hear(1, propose.clone());
    let old = egress.open(256);
    egress.hear(2, propose.clone());
    assert_eq!(egress.released(), old);
    assert!(matches!(egress.said(), (2, Message::Accept { .. })));
    let accepted = egress.actions.len();
    egress.hear(1, propose);
    assert_eq!(egress.actions.len(), accepted, "an old proposal is void");
}

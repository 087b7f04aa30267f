//! What goes on for hours, begins anew or never ends keeps neither the turn nor a socket, nor the budget.

use super::*;

#[test]
fn a_peer_that_never_has_its_last_word_does_not_keep_the_turn() {
    let mut egress = Rehearsal::new(Side::Egress, RANDOM, STABLE);
    let propose = Message::Propose {
        part: Part::Anchor,
        profile: STABLE,
    };
    egress.hear(1, propose);
    egress.open(256);
    egress.run(SECOND);
    assert!(egress.budget.is_held());
    for _ in 0..10 {
        let scouted = Message::Scouted {
            planned: 2_048,
            sent: 2_048,
            answered: 1,
        };
        egress.hear(1, scouted);
        egress.run(SECOND);
    }
    assert!(!egress.budget.is_held());

    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, SEQUENTIAL);
    let round = ingress.scout_until_anchored(anchored(vec![(40_001, 40_016)]));
    ingress.volley_ended(16, 0);
    for _ in 0..10 {
        let ended = Message::Ended {
            arrived: 1,
            worked: true,
        };
        ingress.hear(round, ended);
        ingress.run(SECOND);
    }
    let rounds: u32 = ingress.ladder.ledger().iter().map(|it| it.rounds).sum();
    assert!(rounds > 0, "it is over");
}

#[test]
fn sockets_of_a_round_that_was_left_do_not_disturb_the_next() {
    let mut egress = Rehearsal::new(Side::Egress, Profile::default(), RANDOM);
    let propose = |part| Message::Propose {
        part,
        profile: RANDOM,
    };
    egress.hear(1, propose(Part::Anchor));
    egress.hear(2, propose(Part::Scout));
    let late = egress.open(4);
    assert_eq!(egress.released(), late);
    egress.hear(2, Message::Anchored(anchored(vec![(40_001, 40_016)])));
    assert_eq!(egress.volleys().len(), 1, "{:?}", egress.actions);
}

#[test]
fn a_ladder_that_is_made_anew_goes_on_where_the_old_one_was() {
    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, RANDOM);
    ingress.run(60 * SECOND);
    let (last, _) = ingress.said();
    // The peer's slot was gone for a while; the peer was not, and knows the rounds so far.
    ingress.budget.forget(PeerId(1));
    ingress.ladder = Ladder::new(PeerId(2), Side::Ingress, None, [8; 32]);
    ingress.ladder.start(ingress.now);
    ingress.learn();
    ingress.run(SECOND);
    let (round, message) = ingress.said();
    assert!(matches!(message, Message::Propose { .. }), "{message:?}");
    assert!(round > last, "{round} after {last} is void to the peer");
}

#[test]
fn hours_of_failing_rounds_stay_within_the_budget_and_become_rare() {
    let mut egress = Rehearsal::new(Side::Egress, RANDOM, STABLE);
    let mut opened: Vec<(Instant, u32)> = Vec::new();
    for round in 1..2_000 {
        egress.hear(
            round,
            Message::Propose {
                part: Part::Anchor,
                profile: STABLE,
            },
        );
        if let Some((_, Action::OpenSockets { count })) = egress.actions.last() {
            let count = *count;
            assert!(count <= SOCKETS_MAX);
            opened.push((egress.now, u32::from(count)));
            egress.open(count);
        }
        egress.run(Duration::from_millis(900));
        let minute = egress.now.checked_sub(60 * SECOND);
        let lately = opened.iter().filter(|(at, _)| Some(*at) > minute);
        let bindings: u32 = lately.map(|(_, count)| *count).sum();
        assert!(bindings <= BINDINGS_PER_MINUTE, "{bindings}");
    }
    assert!(opened.len() > 20, "and they never stop");
}

#[test]
fn news_wakes_a_resting_ladder_but_not_all_the_time() {
    let mut ingress = Rehearsal::new(Side::Ingress, STABLE, RANDOM);
    ingress.run(600 * SECOND);
    let count = |rehearsal: &Rehearsal| {
        let actions = rehearsal.actions.iter();
        actions
            .filter(|(_, action)| matches!(action, Action::Send(_)))
            .count()
    };
    let before = count(&ingress);
    for step in 0..600_u16 {
        let last = u8::try_from(step % 200).unwrap();
        ingress.known.targets = vec![SocketAddr::from(([203, 0, 114, last], 6000))];
        ingress.learn();
        ingress.run(SECOND / 10);
    }
    let rounds = count(&ingress) - before;
    assert!((2..=13).contains(&rounds), "{rounds} in a minute of news");
}

//! What becomes of a flow whose other end is gone for good.

use std::time::Instant;

use super::config::FlowConfig;
use super::machine::{Flow, Life, Side};
use super::record::{FlowId, OpenRequest};
use super::send::SendHalf;

impl Flow {
    /// The other end is gone for good. Returns true when it never said anything, so that the conversation may
    /// still begin with another: [`Self::reopen`] it, with everything that was or will be written.
    ///
    /// What arrives late on the streams of the other end is ignored from then on. False changes nothing: the flow
    /// is to be reset.
    pub fn take_back(&mut self, now: Instant) -> bool {
        self.begin_again(self.config, self.id, self.request, now)
    }

    /// Opens the flow that was taken back to another end. An ended one stays ended.
    ///
    /// Generations go on from where they were: a late word on an old stream is then never taken for one on a new.
    pub fn reopen(&mut self, config: FlowConfig, id: FlowId, request: OpenRequest, now: Instant) {
        self.begin_again(config, id, request, now);
    }

    fn begin_again(
        &mut self,
        config: FlowConfig,
        id: FlowId,
        request: OpenRequest,
        now: Instant,
    ) -> bool {
        let silent = self.side == Side::Ingress && self.life == Life::Opening && !self.answered;
        if !silent {
            return false;
        }
        let written = std::mem::replace(&mut self.send, SendHalf::new(&config));
        *self = Self {
            send: written.into_unsent(&config),
            ..Self::open(config, id, request, now)
        };
        true
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary epoch")]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::flow::{Generation, Output, Record, RefuseCode, ResetCode};

    const CONFIG: FlowConfig = FlowConfig {
        initial_credit: 64 * 1024,
        max_credit: 128 * 1024,
        growth_time: Duration::from_secs(1),
        ack_bytes: 1024,
        ack_delay: Duration::from_millis(20),
        resume: Duration::from_secs(60),
    };

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize),
        Attach,
        Poll(usize),
        LoseAll,
        TakeBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0usize..9000).prop_map(Step::Write),
            Just(Step::Attach),
            (1usize..9000).prop_map(Step::Poll),
            Just(Step::LoseAll),
            Just(Step::TakeBack),
        ]
    }

    proptest! {
        #[test]
        fn whatever_was_sent_in_vain_the_next_end_gets_every_byte_once_and_the_end(
            steps in proptest::collection::vec(step(), 0..40),
            shut_down_before in any::<bool>(),
            rest in 0usize..5000,
        ) {
            let now = Instant::now();
            let mut flow = Flow::open(CONFIG, id(1), request(1), now);
            let (mut written, mut generation) = (Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Write(length) => write(&mut flow, length, &mut written),
                    Step::Attach => {
                        generation += 1;
                        flow.attach(Generation(generation), now);
                    }
                    Step::Poll(max) => {
                        flow.poll_output(Generation(generation), max, now);
                    }
                    Step::LoseAll => {
                        for lost in 1..=generation {
                            flow.carrier_lost(Generation(lost), now);
                        }
                    }
                    Step::TakeBack => prop_assert!(flow.take_back(now)),
                }
            }
            if shut_down_before {
                flow.shutdown();
            }
            prop_assert!(flow.take_back(now));
            for old in 1..=generation {
                // Late words, and worse.
                flow.handle_record(Generation(old), opened(), now);
                flow.handle_garbage(Generation(old), now);
                flow.stream_ended(Generation(old), now);
                prop_assert_eq!(flow.poll_output(Generation(old), 1000, now), Output::Gone);
            }
            flow.reopen(CONFIG, id(2), request(2), now);
            if !shut_down_before {
                write(&mut flow, rest, &mut written);
                flow.shutdown();
            }
            prop_assert_eq!(arrives_at_another(&mut flow, generation + 1, now), (written, true));
            prop_assert!(!flow.is_aborted() && flow.is_answered());
        }
    }

    #[test]
    fn a_flow_of_which_the_other_end_said_something_is_not_taken_back() {
        let refused = Record::Refused {
            code: RefuseCode::Failed,
            text: String::new(),
        };
        let acknowledged = Record::Ack { received: 0 };
        for said in [opened(), refused, acknowledged, Record::Unknown] {
            let (mut flow, now) = opening();
            flow.handle_record(Generation(1), said.clone(), now);
            assert!(!flow.take_back(now), "{said:?}");
            assert_eq!(flow.id(), id(1));
        }
    }

    #[test]
    fn a_flow_that_was_reset_before_or_after_it_was_taken_back_stays_reset() {
        let (mut flow, now) = opening();
        flow.reset(ResetCode::Application, now);
        assert!(!flow.take_back(now));

        let (mut flow, now) = opening();
        assert!(flow.take_back(now));
        flow.reset(ResetCode::Application, now);
        flow.reopen(CONFIG, id(2), request(2), now);
        assert!(flow.is_aborted() && flow.is_finished());
    }

    #[test]
    fn the_other_end_takes_nothing_back() {
        let now = Instant::now();
        assert!(!Flow::accept(CONFIG, id(1), request(1), now).take_back(now));
    }

    #[test]
    fn a_reopened_flow_has_its_whole_time_to_find_a_carrier() {
        let (mut flow, start) = opening();
        let later = start + Duration::from_secs(25);
        assert!(flow.take_back(later));
        let last = later + Duration::from_secs(5);
        flow.reopen(CONFIG, id(2), request(2), last);
        assert_eq!(flow.poll_timeout(), Some(last + CONFIG.resume));
    }

    /// Gives a new egress what the flow says on a new stream, and returns what its service reads, and whether to
    /// the end.
    fn arrives_at_another(flow: &mut Flow, generation: u32, now: Instant) -> (Vec<u8>, bool) {
        let generation = Generation(generation);
        flow.attach(generation, now);
        let mut egress = Flow::accept(CONFIG, id(2), request(2), now);
        let mut read = Vec::new();
        loop {
            let mut idle = true;
            while let Output::Record(record) = flow.poll_output(generation, 1000, now) {
                if let Record::Open {
                    flow,
                    request: asked,
                    ..
                } = &record
                {
                    assert_eq!((*flow, *asked), (id(2), request(2)));
                }
                egress.handle_record(generation, record, now);
                idle = false;
            }
            egress.opened(now);
            while let Some(piece) = egress.read(1000) {
                egress.consumed(piece.len(), now);
                read.extend_from_slice(&piece);
            }
            while let Output::Record(record) = egress.poll_output(generation, 1000, now) {
                flow.handle_record(generation, record, now);
                idle = false;
            }
            if idle {
                assert!(!egress.is_aborted());
                return (read, egress.is_read_to_end());
            }
        }
    }

    fn opening() -> (Flow, Instant) {
        let now = Instant::now();
        let mut flow = Flow::open(CONFIG, id(1), request(1), now);
        flow.attach(Generation(1), now);
        let said = flow.poll_output(Generation(1), 1000, now);
        assert!(matches!(said, Output::Record(Record::Open { .. })));
        (flow, now)
    }

    fn write(flow: &mut Flow, length: usize, written: &mut Vec<u8>) {
        let piece: Vec<u8> = (written.len()..written.len() + length)
            .map(|at| (at % 251) as u8)
            .collect();
        let taken = flow.write(Bytes::from(piece.clone()));
        written.extend_from_slice(&piece[..taken]);
    }

    fn opened() -> Record {
        Record::Opened {
            received: 0,
            credit: CONFIG.initial_credit,
            reading: Vec::new(),
        }
    }

    fn id(value: u64) -> FlowId {
        FlowId::new(value).unwrap()
    }

    fn request(table_version: u64) -> OpenRequest {
        OpenRequest {
            table_version,
            mapping: 1,
            port_offset: 0,
            local_peer: None,
        }
    }
}

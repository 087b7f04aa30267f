//! What people are told about the signaling servers: which ones answer, and what the others' trouble is.

use tracing::{info, warn};

use crate::rendezvous::PlaceId;

/// What was heard of each signaling server.
pub(super) struct SignalingLog {
    places: Vec<PlaceLog>,
    /// A later run has our place in the room.
    replaced: Option<String>,
}

struct PlaceLog {
    url: String,
    /// Why it does not answer; `None` while it does, and before it was heard at all.
    trouble: Option<String>,
    seen: bool,
    /// Why it does not hold our description although it answers.
    refusal: Option<String>,
}

impl PlaceLog {
    const fn answers(&self) -> bool {
        self.seen && self.trouble.is_none()
    }

    fn text(&self) -> String {
        match &self.trouble {
            Some(trouble) => format!("{}: {trouble}", self.url),
            None => self.url.clone(),
        }
    }
}

impl SignalingLog {
    pub(super) fn new(urls: Vec<String>) -> Self {
        info!("waiting for signaling at {}", urls.join(", "));
        let places = urls.into_iter().map(|url| PlaceLog {
            url,
            trouble: None,
            seen: false,
            refusal: None,
        });
        Self {
            places: places.collect(),
            replaced: None,
        }
    }

    /// Returns what is waited for before anybody can be in the room, or why we are not in it.
    pub(super) fn waiting_reason(&self) -> Option<String> {
        let answering = || self.places.iter().filter(|place| place.answers());
        if answering().next().is_none() {
            return Some(format!("waiting for signaling at {}", join(&self.places)));
        }
        if let Some(text) = &self.replaced {
            return Some(text.clone());
        }
        let refusing = answering().find_map(|place| Some((place, place.refusal.as_ref()?)));
        refusing.map(|(place, refusal)| {
            if self.places.len() == 1 {
                refusal.clone()
            } else {
                format!("{}: {refusal}", place.url)
            }
        })
    }

    /// Returns what is wrong with the servers that do not answer while others do, to be put after what is
    /// waited for.
    pub(super) fn partial_trouble(&self) -> Option<String> {
        let answers = self.places.iter().any(PlaceLog::answers);
        let troubled = self.places.iter().filter(|place| place.trouble.is_some());
        let troubled: Vec<_> = troubled.map(PlaceLog::text).collect();
        (answers && !troubled.is_empty()).then(|| format!("signaling at {}", troubled.join("; ")))
    }

    pub(super) fn reachable(&mut self, place: PlaceId) {
        let Some(it) = self.places.get_mut(place.0) else {
            return;
        };
        if it.trouble.take().is_some() || !it.seen {
            it.seen = true;
            info!("signaling at {} answers; the room is watched", it.url);
        }
    }

    pub(super) fn unreachable(&mut self, place: PlaceId, reason: String) {
        let Some(it) = self.places.get_mut(place.0) else {
            return;
        };
        if it.trouble.as_ref() != Some(&reason) {
            warn!("signaling at {}: {reason}; trying again", it.url);
        }
        it.trouble = Some(reason);
    }

    /// It answers, but does not hold our description.
    pub(super) fn refused(&mut self, place: PlaceId, text: String) {
        let Some(it) = self.places.get_mut(place.0) else {
            return;
        };
        if it.refusal.is_none() {
            warn!("signaling at {}: {text}", it.url);
        }
        it.refusal = Some(text);
    }

    pub(super) fn published(&mut self, place: PlaceId) {
        self.replaced = None;
        let Some(it) = self.places.get_mut(place.0) else {
            return;
        };
        if it.refusal.take().is_some() {
            info!("the room at {} now holds our description", it.url);
        }
    }

    /// A later run with our key has the room.
    pub(super) fn replaced(&mut self, text: String) {
        warn!("{text}");
        self.replaced = Some(text);
    }
}

fn join(places: &[PlaceLog]) -> String {
    places
        .iter()
        .map(PlaceLog::text)
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PlaceId = PlaceId(0);
    const B: PlaceId = PlaceId(1);

    fn two() -> SignalingLog {
        SignalingLog::new(vec!["http://a".to_owned(), "http://b".to_owned()])
    }

    #[test]
    fn every_server_is_named_while_none_answers() {
        let mut log = two();
        assert_eq!(
            log.waiting_reason().unwrap(),
            "waiting for signaling at http://a; http://b"
        );
        log.unreachable(A, "no answer in time".to_owned());
        assert_eq!(
            log.waiting_reason().unwrap(),
            "waiting for signaling at http://a: no answer in time; http://b"
        );
        assert_eq!(log.partial_trouble(), None);
    }

    #[test]
    fn one_that_answers_is_enough_and_the_trouble_of_the_other_is_told() {
        let mut log = two();
        log.unreachable(A, "no answer in time".to_owned());
        log.reachable(B);
        assert_eq!(log.waiting_reason(), None);
        assert_eq!(
            log.partial_trouble().unwrap(),
            "signaling at http://a: no answer in time"
        );
        log.reachable(A);
        assert_eq!(log.partial_trouble(), None);
    }

    #[test]
    fn a_refusal_is_told_until_that_server_takes_the_description() {
        let mut log = two();
        log.reachable(A);
        log.reachable(B);
        log.refused(A, "another server holds this room".to_owned());
        log.published(B);
        assert_eq!(
            log.waiting_reason().unwrap(),
            "http://a: another server holds this room"
        );
        log.published(A);
        assert_eq!(log.waiting_reason(), None);
    }

    #[test]
    fn a_refusal_by_the_only_server_is_told_in_its_own_words() {
        let mut log = SignalingLog::new(vec!["http://a".to_owned()]);
        log.reachable(A);
        log.refused(A, "another server holds this room".to_owned());
        assert_eq!(
            log.waiting_reason().unwrap(),
            "another server holds this room"
        );
    }
}

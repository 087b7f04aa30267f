//! Which answers are believed, and what each of them asks for.

use std::time::Instant;

use stunwire::{
    AddressFamily, Class, ErrorCode, Lifetime, Message, Nonce, Realm, XorMappedAddress,
    XorRelayedAddress,
};

use super::Client;
use super::authentication::Challenge;
use super::event::{Event, FailReason, LostReason, Received};
use super::request::{Question, Request};
use crate::RelayedAddr;

/// A request is challenged once for its first signature and once per nonce that became stale meanwhile; a
/// relay that goes on is not going to be satisfied.
const CHALLENGES_MAX: u8 = 3;

impl Client {
    /// Takes an answer. One that is not to a request of ours is somebody else's.
    pub(super) fn handle_answer<'a>(
        &mut self,
        message: &Message<'a>,
        now: Instant,
    ) -> Received<'a> {
        let id = message.transaction_id();
        let Some(request) = self.requests.get(&id) else {
            return Received::NotMine;
        };
        if request.question.method() != message.method() {
            return Received::NotMine;
        }
        // Believe first, take the transaction then: a forgery must not end it.
        if !is_believable(message, request) {
            self.stats.unauthenticated += 1;
            return Received::Consumed;
        }
        let Some(request) = self.requests.take(&id) else {
            return Received::Consumed;
        };
        self.liveness.on_heard(now);
        match message.class() {
            Class::SuccessResponse => self.handle_success(&request, message, now),
            Class::ErrorResponse | Class::Request | Class::Indication => {
                self.handle_refusal(&request, message, now);
            }
        }
        Received::Consumed
    }

    fn handle_success(&mut self, request: &Request, message: &Message<'_>, now: Instant) {
        match request.question {
            Question::Allocate(_) => self.handle_allocated(message, now),
            Question::Refresh => self.handle_refreshed(message, now),
            Question::Release => self.on_released(now),
            Question::Bind(peer, _) => {
                if let Some(channel) = self.channels.on_bound(peer, now) {
                    self.report(Event::Bound {
                        peer: peer.get(),
                        channel,
                    });
                }
            }
        }
    }

    fn handle_allocated(&mut self, message: &Message<'_>, now: Instant) {
        let answer = (
            message.read::<XorRelayedAddress>(),
            message.read::<XorMappedAddress>(),
            message.read::<Lifetime>(),
        );
        if let (Ok(relayed), Ok(reflexive), Ok(lifetime)) = answer
            && !lifetime.0.is_zero()
        {
            let relayed = RelayedAddr::new(relayed.0);
            self.on_allocated(relayed, reflexive.0, lifetime.0, now);
        } else {
            self.stats.malformed += 1;
            self.refuse(FailReason::Malformed, now);
        }
    }

    fn handle_refreshed(&mut self, message: &Message<'_>, now: Instant) {
        match message.read::<Lifetime>() {
            Ok(lifetime) if !lifetime.0.is_zero() => self.on_refreshed(lifetime.0, now),
            Ok(_) | Err(_) => {
                self.stats.malformed += 1;
                self.refuse(FailReason::Malformed, now);
            }
        }
    }

    fn handle_refusal(&mut self, request: &Request, message: &Message<'_>, now: Instant) {
        let Ok(ErrorCode { code, .. }) = message.read::<ErrorCode<'_>>() else {
            self.stats.malformed += 1;
            self.handle_other_code(request.question, ErrorCode::SERVER_ERROR, now);
            return;
        };
        match code {
            ErrorCode::UNAUTHENTICATED | ErrorCode::STALE_NONCE => {
                self.handle_challenge(request, message, code, now);
            }
            ErrorCode::ALLOCATION_MISMATCH => self.handle_mismatch(request.question, now),
            ErrorCode::WRONG_CREDENTIALS => self.handle_wrong_owner(request, now),
            ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED => self.handle_missing_family(request, now),
            _ => self.handle_other_code(request.question, code, now),
        }
    }

    fn handle_challenge(
        &mut self,
        request: &Request,
        message: &Message<'_>,
        code: u16,
        now: Instant,
    ) {
        let challenge = match (message.read::<Realm<'_>>(), message.read::<Nonce<'_>>()) {
            (Ok(realm), Ok(nonce)) => Challenge::new(realm.0, nonce.0),
            _ => None,
        };
        let Some(challenge) = challenge else {
            self.stats.malformed += 1;
            self.give_up(request.question, FailReason::Malformed, now);
            return;
        };
        let refused_as_signed = code == ErrorCode::UNAUTHENTICATED
            && request
                .signed
                .as_ref()
                .is_some_and(|signed| signed.realm == challenge.realm);
        self.authentication.adopt(challenge);
        if refused_as_signed || request.challenged >= CHALLENGES_MAX {
            self.give_up(request.question, FailReason::Unauthorized, now);
        } else {
            self.ask(request.question, request.challenged + 1, now);
        }
    }

    /// 437: about Allocate it means that there is one, about all else that there is none.
    fn handle_mismatch(&mut self, question: Question, now: Instant) {
        match question {
            Question::Allocate(_) => self.clear_strange_allocation(now),
            Question::Release => self.on_released(now),
            Question::Refresh | Question::Bind(..) => {
                self.on_allocation_gone(LostReason::Forgotten, now);
            }
        }
    }

    /// 441: the allocation belongs to the name it was made with. Asked again when that is another one.
    fn handle_wrong_owner(&mut self, request: &Request, now: Instant) {
        self.authentication.fall_back_to_owner();
        let signed_as = request
            .signed
            .as_ref()
            .map(|signed| signed.username.as_str());
        let current = self
            .authentication
            .current()
            .map(|identity| identity.username.as_str());
        let about_ours = matches!(request.question, Question::Refresh | Question::Bind(..));
        if about_ours && signed_as != current && request.challenged < CHALLENGES_MAX {
            self.ask(request.question, request.challenged + 1, now);
        } else {
            self.handle_other_code(request.question, ErrorCode::WRONG_CREDENTIALS, now);
        }
    }

    /// 440: a relay that only IPv6 reaches has no IPv4 addresses to relay at, and those of IPv6 have to be asked
    /// for (RFC 8656, section 7.1). Without either family there is nothing to ask for at once.
    fn handle_missing_family(&mut self, request: &Request, now: Instant) {
        if let Question::Allocate(refused) = request.question {
            self.family = match refused {
                AddressFamily::Ipv4 => AddressFamily::Ipv6,
                AddressFamily::Ipv6 => AddressFamily::Ipv4,
            };
            if refused == AddressFamily::Ipv4 {
                self.ask(Question::Allocate(self.family), request.challenged, now);
                return;
            }
        }
        let code = ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED;
        self.handle_other_code(request.question, code, now);
    }

    fn handle_other_code(&mut self, question: Question, code: u16, now: Instant) {
        match question {
            Question::Refresh => self.on_allocation_gone(LostReason::Refused(code), now),
            Question::Allocate(_) | Question::Release | Question::Bind(..) => {
                self.give_up(question, FailReason::Rejected(code), now);
            }
        }
    }

    /// This question is not going to be answered with yes for now.
    fn give_up(&mut self, question: Question, reason: FailReason, now: Instant) {
        match question {
            Question::Allocate(_) | Question::Refresh => self.refuse(reason, now),
            Question::Release => self.on_not_released(reason, now),
            Question::Bind(peer, _) => match reason {
                FailReason::Rejected(code) => {
                    self.channels.remove(peer);
                    self.report(Event::BindRefused {
                        peer: peer.get(),
                        code,
                    });
                }
                FailReason::Unauthorized | FailReason::Malformed | FailReason::Unreachable => {
                    self.channels.set_asked(peer, false);
                    self.refuse(reason, now);
                }
            },
        }
    }
}

/// An answer to a signed request must be signed with the same key. The errors that a relay gives before it
/// knows the key (coturn's 441 among them), or must not sign (RFC 8489, section 9.2.4), are taken for what their
/// random 96-bit transaction id says: whoever knows it stands on the path and could as well drop our packets.
fn is_believable(message: &Message<'_>, request: &Request) -> bool {
    let Some(signed) = &request.signed else {
        return true;
    };
    match message.verify_integrity(&signed.key) {
        Ok(()) => true,
        Err(stunwire::IntegrityError::Missing) => {
            message.class() == Class::ErrorResponse
                && message
                    .read::<ErrorCode<'_>>()
                    .is_ok_and(|error| is_given_unsigned(error.code))
        }
        Err(_) => false,
    }
}

const fn is_given_unsigned(code: u16) -> bool {
    matches!(
        code,
        ErrorCode::TRY_ALTERNATE
            | ErrorCode::BAD_REQUEST
            | ErrorCode::UNAUTHENTICATED
            | ErrorCode::UNKNOWN_ATTRIBUTE
            | ErrorCode::STALE_NONCE
            | ErrorCode::WRONG_CREDENTIALS
            | ErrorCode::SERVER_ERROR
    )
}

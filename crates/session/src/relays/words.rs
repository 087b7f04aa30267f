//! What befell an allocation, in words for people.

use relay::{FailReason, LostReason};

pub(super) fn lost_text(reason: LostReason) -> String {
    match reason {
        LostReason::Forgotten => "it has forgotten our allocation".to_owned(),
        LostReason::Expired => "our allocation expired unanswered".to_owned(),
        LostReason::Refused(code) => format!("it refuses to renew our allocation (error {code})"),
        LostReason::Disconnected => "the connection to it ended".to_owned(),
        LostReason::Closed => "given back".to_owned(),
        _ => "our allocation is gone".to_owned(),
    }
}

pub(super) fn failed_text(reason: FailReason) -> String {
    match reason {
        FailReason::Unreachable => "no answer".to_owned(),
        FailReason::Unauthorized => "it refuses the credentials".to_owned(),
        FailReason::Rejected(code) => format!("it refuses an allocation (error {code})"),
        FailReason::Malformed => "it answers what cannot be understood".to_owned(),
        _ => "an allocation could not be had".to_owned(),
    }
}

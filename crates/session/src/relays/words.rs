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
        FailReason::Unauthorized => {
            "it refuses the credentials (error 401): they are wrong, or have ended and newer ones are \
             being asked for"
                .to_owned()
        }
        FailReason::Rejected(code) => refused_text(code),
        FailReason::Malformed => "it answers what cannot be understood".to_owned(),
        _ => "an allocation could not be had".to_owned(),
    }
}

fn refused_text(code: u16) -> String {
    let why = match code {
        403 => "it is forbidden to these credentials",
        420 => "it does not know something that we need",
        437 => "our address has an allocation there that is not ours",
        440 => "it has no relayed addresses of that family",
        441 => "the allocation belongs to other credentials",
        442 => "it does not relay UDP",
        486 => {
            "the allocations of these credentials are used up; other programs hold them, or those of \
                earlier runs end within ten minutes"
        }
        500 => "it has a problem of its own",
        508 => "it has no port or no capacity left",
        _ => return format!("it refuses an allocation (error {code})"),
    };
    format!("it refuses an allocation (error {code}): {why}")
}

//! Attributes of ICE's connectivity checks (RFC 8445, section 16.1).

use super::{flag_attribute, number_attribute};

number_attribute!(
    /// PRIORITY: of the candidate that a peer-reflexive one would become.
    Priority(u32), PRIORITY
);
flag_attribute!(
    /// USE-CANDIDATE: the controlling side nominates this pair.
    UseCandidate, USE_CANDIDATE
);
number_attribute!(
    /// ICE-CONTROLLED: the sender believes to be controlled; its tie breaker.
    IceControlled(u64), ICE_CONTROLLED
);
number_attribute!(
    /// ICE-CONTROLLING: the sender believes to be controlling; its tie breaker.
    IceControlling(u64), ICE_CONTROLLING
);

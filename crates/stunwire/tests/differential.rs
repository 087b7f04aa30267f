//! Against two codecs by other hands: `stun-types` and `stun_codec`. Whoever writes, the others read the same; and of
//! bytes that nobody wrote they say the same, but for the differences in [`KNOWN_DIFFERENCES`].
//!
//! The differences are ours to argue: each names the clause that we follow. A test shows each of them, so that a
//! later version of either codec that changes its mind is noticed.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each codec's side names what it treats specially"
)]

mod codecs;

use codecs::message::{Draft, Protection, drafts, keys};
use codecs::verdict::{self, Verdict};
use codecs::{ours, stun_codec_side, stun_types_side};
use proptest::collection::vec;
use proptest::prelude::*;
use stunwire::{Class, HEADER_LEN, Message, Method};

/// Where we differ on purpose: what is seen, who reads otherwise, and what the RFC says.
const KNOWN_DIFFERENCES: [(&str, &str, &str); 8] = [
    (
        "a message without the magic cookie",
        "both refuse it; we read it as one of RFC 3489, which servers must answer",
        "RFC 8489, section 11; RFC 5389, section 12.2",
    ),
    (
        "a length field that is no multiple of four, or not that of the datagram",
        "stun-types takes both",
        "RFC 8489, section 5: \"the last 2 bits of this field are always zero\"; section 6.3",
    ),
    (
        "attributes behind MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 or FINGERPRINT",
        "stun_codec takes them; stun-types drops all, even FINGERPRINT, behind the first that does not belong there",
        "RFC 8489, sections 14.5 to 14.7: they MUST be ignored",
    ),
    (
        "a FINGERPRINT that does not match, or is malformed",
        "both refuse the whole message; we read it, and verify_fingerprint says so when it is asked",
        "RFC 8489, section 7.3: only a usage that needs it checks it",
    ),
    (
        "a malformed attribute that nobody asks for",
        "stun_codec refuses the whole message; we and stun-types only its value",
        "RFC 8489, section 6.3: the checks are those of the usage, attribute by attribute",
    ),
    (
        "error codes 600 to 699",
        "stun_codec refuses them",
        "RFC 8489, section 14.8: the class is 3 to 6",
    ),
    (
        "the longest texts",
        "stun_codec refuses 128 characters and more; we and stun-types take 763 bytes",
        "RFC 8489, sections 14.9, 14.10 and 14.14: fewer than 128 characters, which can be as long as 763 bytes",
    ),
    (
        "a CHANGE-REQUEST that is read",
        "stun_codec writes bits 0x4 and 0x2 but reads 0x2 and 0x1",
        "RFC 5780, section 7.2: A is 0x4, B is 0x2",
    ),
];

proptest! {
    // What fails is kept beside this file, in differential.proptest-regressions, and is tried first.
    #![proptest_config(ProptestConfig { cases: 512, max_shrink_iters: 4096, ..ProptestConfig::default() })]

    #[test]
    fn what_we_write_stun_types_reads_and_verifies(draft in drafts(), protection in any_protection()) {
        let bytes = ours::encode(&draft, protection);
        prop_assert_eq!(stun_types_side::decode(&bytes, protection), Ok(draft.clone().for_stun_types()));
        prop_assert_eq!(ours::decode(&bytes, protection), Ok(draft));
    }

    #[test]
    fn what_we_write_stun_codec_reads_and_verifies(draft in drafts(), protection in any_protection()) {
        let bytes = ours::encode(&draft, protection);
        prop_assert_eq!(stun_codec_side::decode(&bytes, protection), Ok(draft.for_stun_codec()));
    }

    #[test]
    fn what_stun_types_writes_we_read_and_verify(draft in drafts(), protection in any_protection()) {
        let draft = draft.for_stun_types();
        let bytes = stun_types_side::encode(&draft, protection);
        prop_assert_eq!(ours::decode(&bytes, protection), Ok(draft.clone()));
        prop_assert_eq!(ours::encode(&draft, protection), bytes, "to the byte");
    }

    #[test]
    fn what_stun_codec_writes_we_read_and_verify(draft in drafts(), protection in any_protection()) {
        let (draft, protection) = (draft.for_stun_codec(), protection.for_stun_codec());
        let bytes = stun_codec_side::encode(&draft, protection);
        prop_assert_eq!(ours::decode(&bytes, protection), Ok(draft.clone()));
        prop_assert_eq!(ours::encode(&draft, protection), bytes, "to the byte");
    }

    #[test]
    fn another_key_is_refused_by_all(draft in drafts(), protection in any_protection()) {
        let other = keys::wrong(protection);
        let bytes = ours::encode(&draft, protection);
        if protection.has_integrity() {
            prop_assert!(ours::decode(&bytes, other).is_err());
            prop_assert!(stun_types_side::decode(&bytes, other).is_err());
            if !matches!(protection, Protection::Sha256) {
                prop_assert!(stun_codec_side::decode(&bytes, other).is_err());
            }
        }
    }

    #[test]
    fn of_arbitrary_bytes_all_say_the_same(bytes in any_bytes()) {
        agree(&bytes)?;
    }

    #[test]
    fn of_changed_messages_all_say_the_same(
        draft in drafts(),
        protection in any_protection(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in 0usize..8,
    ) {
        let mut bytes = ours::encode(&draft, protection);
        for (at, with) in changes {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        bytes.truncate(bytes.len() - if cut > 5 { cut } else { 0 });
        agree(&bytes)?;
    }
}

/// Compares the verdicts, except where a difference is known.
fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = verdict::ours(bytes);
    let types = verdict::stun_types(bytes);
    if let Verdict::Read(seen) = &ours {
        if seen.is_known_difference_to_stun_types() {
            return Ok(());
        }
        prop_assert_eq!(&types, &ours, "stun-types");
        let codec = verdict::stun_codec(bytes);
        if !seen.is_known_difference_to_stun_codec() {
            prop_assert_eq!(&codec, &ours, "stun_codec");
        }
    } else if !verdict::is_misframed(bytes) {
        // See "attributes behind MESSAGE-INTEGRITY": broken ones are dropped like others there.
        if !verdict::is_broken_behind_protection(bytes) {
            prop_assert_eq!(types, Verdict::Refused, "stun-types");
        }
        prop_assert_eq!(verdict::stun_codec(bytes), Verdict::Refused, "stun_codec");
    }
    Ok(())
}

fn any_protection() -> impl Strategy<Value = Protection> {
    prop_oneof![
        Just(Protection::None),
        Just(Protection::Fingerprint),
        Just(Protection::ShortTerm),
        Just(Protection::LongTerm),
        Just(Protection::Sha256),
        Just(Protection::Everything),
    ]
}

/// A header that is mostly right, then attributes that mostly fit.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![
        0u16..0x2B,
        0x8000u16..0x8005,
        0x8020u16..0x802F,
        any::<u16>()
    ];
    let attribute = (
        kinds,
        vec(any::<u8>(), 0..40),
        prop_oneof![9 => Just(0i8), 1 => -4i8..5],
    );
    (
        0u16..0x4400,
        prop_oneof![9 => Just(true), 1 => Just(false)],
        vec(attribute, 0..6),
        any::<[u8; 12]>(),
    )
        .prop_map(|(kind, cookie, attributes, id)| {
            let mut bytes = kind.to_be_bytes().to_vec();
            bytes.extend_from_slice(&[0, 0]);
            let cookie = if cookie {
                stunwire::MAGIC_COOKIE
            } else {
                0x2112_A443
            };
            bytes.extend_from_slice(&cookie.to_be_bytes());
            bytes.extend_from_slice(&id);
            for (kind, value, lie) in attributes {
                bytes.extend_from_slice(&kind.to_be_bytes());
                let length = u16::try_from(value.len())
                    .unwrap()
                    .saturating_add_signed(lie.into());
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(&value);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            let length = u16::try_from(bytes.len() - HEADER_LEN).unwrap();
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes
        })
}

/// The smallest message, and its attributes by hand.
fn message(attributes: &[u8]) -> Vec<u8> {
    let draft = Draft {
        class: Class::Request,
        method: Method::BINDING,
        id: [7; 12],
        parts: Vec::new(),
    };
    let mut bytes = ours::encode(&draft, Protection::None);
    bytes.extend_from_slice(attributes);
    let length = u16::try_from(attributes.len()).unwrap();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// Whether each of the three reads the bytes as a message: ours, stun-types, stun_codec.
fn readers(bytes: &[u8]) -> [bool; 3] {
    let read = |verdict: Verdict| matches!(verdict, Verdict::Read(_));
    [
        read(verdict::ours(bytes)),
        read(verdict::stun_types(bytes)),
        read(verdict::stun_codec(bytes)),
    ]
}

#[test]
fn every_known_difference_is_still_one() {
    let mut shown = Vec::new();
    let mut show = |which: usize, differs: bool| {
        assert!(
            differs,
            "no difference any more: {:?}",
            KNOWN_DIFFERENCES[which]
        );
        shown.push(which);
    };
    let mut old = message(&[]);
    old[4] = 0;
    show(0, readers(&old) == [true, false, false]);

    let trailing = [&message(&[])[..], &[0x80, 0x22, 0, 0]].concat();
    show(1, readers(&trailing) == [false, true, false]);

    let draft = Draft {
        class: Class::Request,
        method: Method::BINDING,
        id: [7; 12],
        parts: Vec::new(),
    };
    let mut behind = ours::encode(&draft, Protection::ShortTerm);
    behind.extend_from_slice(&[0x80, 0x22, 0, 1, b'x', 0, 0, 0]);
    let length = u16::try_from(behind.len() - HEADER_LEN).unwrap();
    behind[2..4].copy_from_slice(&length.to_be_bytes());
    let software = |verdict: Verdict| match verdict {
        Verdict::Read(seen) => seen.software.is_some(),
        Verdict::Refused => false,
    };
    show(
        2,
        !software(verdict::ours(&behind)) && software(verdict::stun_codec(&behind)),
    );

    let damaged = message(&[0x80, 0x28, 0, 4, 1, 2, 3, 4]);
    show(3, readers(&damaged) == [true, false, false]);

    let malformed = message(&[0, 0x24, 0, 1, 5, 0, 0, 0]);
    show(4, readers(&malformed) == [true, true, false]);

    let code_600 = message(&[0, 9, 0, 4, 0, 0, 6, 0]);
    show(5, readers(&code_600) == [true, true, false]);

    let realm = [&[0, 0x14, 0, 128][..], &[b'r'; 128]].concat();
    show(6, readers(&message(&realm)) == [true, true, false]);

    let change_ip = message(&[0, 3, 0, 4, 0, 0, 0, 4]);
    let seen = Message::decode(&change_ip)
        .unwrap()
        .read::<stunwire::ChangeRequest>()
        .unwrap();
    show(
        7,
        seen.ip && !stun_codec_side::change_request(&change_ip).unwrap().0,
    );

    assert_eq!(shown.len(), KNOWN_DIFFERENCES.len());
    assert!(
        KNOWN_DIFFERENCES
            .iter()
            .all(|(_, _, clause)| clause.starts_with("RFC "))
    );
}

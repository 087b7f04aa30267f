//! Strings that people type and machines compare (RFC 8265, profile OpaqueString).

use std::borrow::Cow;

/// Why a string cannot be a user name, realm or password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpaqueStringError {
    /// An empty string is no credential.
    #[error("string is empty")]
    Empty,
    /// A character that cannot be seen or has no meaning.
    #[error("character {0:?} is not allowed")]
    Disallowed(char),
}

/// Prepares a user name, realm or password as RFC 8489, section 9, asks: profile OpaqueString of RFC 8265.
///
/// Every space of Unicode becomes the ASCII space; an empty string, control characters, characters that are
/// ignored when shown, private use and non-characters are refused. Normalisation to NFC is left to the
/// caller, since its tables would be the largest part of this crate and keyboards deliver NFC.
///
/// # Errors
/// When the string is empty or has a character that is not allowed.
pub fn opaque_string(text: &str) -> Result<Cow<'_, str>, OpaqueStringError> {
    if text.is_empty() {
        return Err(OpaqueStringError::Empty);
    }
    if let Some(character) = text.chars().find(|character| is_disallowed(*character)) {
        return Err(OpaqueStringError::Disallowed(character));
    }
    if text.chars().any(is_other_space) {
        let mapped = text
            .chars()
            .map(|c| if is_other_space(c) { ' ' } else { c });
        return Ok(Cow::Owned(mapped.collect()));
    }
    Ok(Cow::Borrowed(text))
}

/// Unicode's general category Zs without U+0020.
const fn is_other_space(character: char) -> bool {
    matches!(
        character,
        '\u{A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}'
    )
}

/// Controls, old Hangul Jamo, default-ignorable code points, separators, private use and non-characters (RFC
/// 8264, section 4.3.3; the joiners that it allows in context are refused).
const fn is_disallowed(character: char) -> bool {
    let code = character as u32;
    matches!(code,
        0x00..=0x1F | 0x7F..=0x9F | 0xAD | 0x034F | 0x061C | 0x1100..=0x11FF | 0x17B4..=0x17B5
        | 0x180B..=0x180F | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164
        | 0xA960..=0xA97C | 0xD7B0..=0xD7FB | 0xE000..=0xF8FF | 0xFDD0..=0xFDEF | 0xFE00..=0xFE0F
        | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A
        | 0xE0000..=0xE0FFF | 0xF0000..=0x0010_FFFF)
        || code & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_not_copied() {
        assert!(matches!(
            opaque_string("マトリックス Größe π"),
            Ok(Cow::Borrowed(_))
        ));
    }

    #[test]
    fn every_space_becomes_the_ascii_one() {
        assert_eq!(opaque_string("a\u{3000}b\u{A0}c").unwrap(), "a b c");
    }

    #[test]
    fn what_cannot_be_seen_is_refused() {
        assert_eq!(opaque_string(""), Err(OpaqueStringError::Empty));
        for character in [
            '\0',
            '\n',
            '\u{7F}',
            '\u{AD}',
            '\u{200B}',
            '\u{FEFF}',
            '\u{1FFFE}',
        ] {
            let text = format!("a{character}b");
            assert_eq!(
                opaque_string(&text),
                Err(OpaqueStringError::Disallowed(character))
            );
        }
    }
}

//! The secret that both sides share, and how hard it is to guess.

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::Secret;

/// Longest `roomId` in bytes: far above any passphrase, far below what would cost anything.
pub const ROOM_ID_BYTES_MAX: usize = 1024;

/// Below this a warning is given. An attacker who runs the signaling server pays Argon2id (19 MiB) for
/// each guess; a thousand cores make about 2^40 guesses in a year, and 2^60 are out of reach.
const STRONG_BITS: u32 = 60;

/// The shared secret of a room: any text.
///
/// It is kept as it was written, but for what two people who type the same cannot see: spaces other than the
/// ASCII one become that one, and letters are composed (NFC), as RFC 8265, section 4.2.2, has it for
/// passwords. One system writes `ü` as one character and another as `u` with a mark. Case, leading and
/// trailing spaces and everything else count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomId(Secret);

/// Why a text cannot be a [`RoomId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomIdError {
    /// There is nothing in it but white space.
    #[error("is empty: both sides need the same secret text")]
    Empty,
    /// It is longer than [`ROOM_ID_BYTES_MAX`].
    #[error("is {0} bytes long, at most {ROOM_ID_BYTES_MAX} are allowed")]
    TooLong(usize),
}

impl RoomId {
    /// Takes a text as a room id. Nothing is trimmed: both sides must write the same.
    ///
    /// # Errors
    /// [`RoomIdError`] when it is empty or too long.
    pub fn new(text: impl Into<Secret>) -> Result<Self, RoomIdError> {
        let secret = normalized(&text.into());
        if secret.expose().trim().is_empty() {
            return Err(RoomIdError::Empty);
        }
        if secret.expose().len() > ROOM_ID_BYTES_MAX {
            return Err(RoomIdError::TooLong(secret.expose().len()));
        }
        Ok(Self(secret))
    }

    /// Returns the text, for key derivation only.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Returns a guess at the entropy in bits, rather too low than too high: a character adds what its
    /// alphabet is worth, one that repeats or continues a sequence adds 1, and one inside a word of four
    /// or more letters 2.5, which is what a word list costs.
    #[must_use]
    pub fn strength_bits(&self) -> u32 {
        let characters: Vec<char> = self.expose().chars().collect();
        let alphabet_bits = alphabet_bits(&characters);
        let mut bits = 0.0;
        let mut start = 0;
        while start < characters.len() {
            let is_letter = characters[start].is_alphabetic();
            let run = characters[start..]
                .iter()
                .take_while(|c| c.is_alphabetic() == is_letter);
            let end = start + run.count();
            let each = if is_letter && end - start >= 4 {
                2.5
            } else {
                alphabet_bits
            };
            for at in start..end {
                let follows = at > 0 && follows(characters[at - 1], characters[at]);
                bits += if follows { f64::min(1.0, each) } else { each };
            }
            start = end;
        }
        // The sum is small and never negative: at most 1024 characters of 7 bits.
        bits as u32
    }

    /// Returns what to tell the user when the room id could be guessed.
    #[must_use]
    pub fn weakness(&self) -> Option<String> {
        let bits = self.strength_bits();
        (bits < STRONG_BITS).then(|| {
            format!(
                "roomId is weak (about {bits} bits): whoever runs the signaling server could guess it; \
                 use 20 or more random characters, for example the output of `openssl rand -hex 16`"
            )
        })
    }
}

/// The text as RFC 8265's OpaqueString profile compares it.
fn normalized(text: &Secret) -> Secret {
    let text = text.expose();
    let spaced: String = text.chars().map(plain_space).collect();
    let composed = ComposingNormalizerBorrowed::new_nfc().normalize(&spaced);
    Secret::new(composed.into_owned())
}

/// Every space separator (Unicode category Zs) is the space bar to whoever types it.
const fn plain_space(c: char) -> char {
    match c {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            ' '
        }
        other => other,
    }
}

/// Bits of one character drawn from the smallest usual alphabet that holds them all.
fn alphabet_bits(characters: &[char]) -> f64 {
    let any = |test: fn(char) -> bool| characters.iter().any(|c| test(*c));
    let hexadecimal = characters
        .iter()
        .all(|c| c.is_ascii_hexdigit() || *c == '-');
    let size = if characters.iter().all(char::is_ascii_digit) {
        10
    } else if hexadecimal {
        16
    } else {
        26 * u32::from(any(|c| c.is_ascii_lowercase()))
            + 26 * u32::from(any(|c| c.is_ascii_uppercase()))
            + 10 * u32::from(any(|c| c.is_ascii_digit()))
            + 16 * u32::from(any(|c| !c.is_ascii_alphanumeric()))
    };
    f64::from(size.max(2)).log2()
}

/// Says whether a character repeats the one before or is its neighbour, as in `aaa` and `123`.
fn follows(before: char, after: char) -> bool {
    before == after || u32::from(before).abs_diff(u32::from(after)) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(text: &str) -> RoomId {
        RoomId::new(text.to_owned()).unwrap()
    }

    #[test]
    fn any_text_can_be_a_room_and_stays_as_written() {
        for text in [
            "my room",
            "a&b",
            "a+b",
            "a#b",
            "ünï",
            "🦀 room 100%",
            " padded ",
            "100%",
            "%2f%00",
            "a%20b",
            "it's \"quoted\"",
            "12345",
            "\\back\\slash/",
            "👩‍👩‍👧‍👦",
            "שלום",
        ] {
            assert_eq!(room(text).expose(), text);
        }
        assert_eq!(RoomId::new(" \t".to_owned()), Err(RoomIdError::Empty));
        assert_eq!(
            RoomId::new("x".repeat(1025)),
            Err(RoomIdError::TooLong(1025))
        );
        assert_eq!(format!("{:?}", room("hunter2")), "RoomId(Secret(..))");
    }

    #[test]
    fn the_same_word_typed_on_two_systems_is_one_room() {
        assert_eq!(room("Müller"), room("Mu\u{308}ller"));
        assert_eq!(room("a\u{a0}b\u{3000}c"), room("a b c"));
        for (one, other) in [
            ("Room", "room"),
            ("room", "room "),
            ("room", " room"),
            ("ü", "u"),
            ("a  b", "a b"),
            ("🦀", "🦞"),
            // Composed, but not folded: what looks different stays different.
            ("ﬁ", "fi"),
            ("①", "1"),
        ] {
            assert_ne!(room(one), room(other), "{one} {other}");
        }
    }

    #[test]
    fn guessable_rooms_are_warned_about_and_random_ones_are_not() {
        for weak in [
            "test",
            "my-room",
            "12345",
            "aaaaaaaaaaaaaaaaaaaaaaaa",
            "0123456789012345678901234567",
        ] {
            assert!(room(weak).weakness().is_some(), "{weak}");
        }
        for strong in [
            "4f1c9be0a37d5528e6f0b1749dc2a38f",
            "0d9f4b63-5c1e-4f0a-9d27-6b8e13fa72c4",
            "k7q2m9xw4tz8p3v6n5r1y0bj",
            "correct-horse-battery-staple-garden",
        ] {
            assert_eq!(room(strong).weakness(), None, "{strong}");
        }
    }
}

//! Where in a YAML file something stands, and how it was written there.
//!
//! serde_yaml tells positions only in errors. So the file is read once more, down to the place in question,
//! and there an error is raised: the position is the parser's own, never a guess. It costs one pass for
//! each problem reported.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Returns the line, counted from 1, of the key or list item that `path` leads to.
pub(super) fn line_of(text: &str, path: &[usize]) -> Option<usize> {
    let walk = Walk {
        path,
        end: End::Fail,
    };
    let error = walk
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()?;
    error.location().map(|location| location.line())
}

/// Returns the scalar at `path` as it was written: `012`, not 12.
pub(super) fn written(text: &str, path: &[usize]) -> Option<String> {
    let mut found = None;
    let walk = Walk {
        path,
        end: End::Read(&mut found),
    };
    walk.deserialize(serde_yaml::Deserializer::from_str(text))
        .ok()?;
    found
}

/// What to do at the end of the path.
enum End<'e> {
    /// Raise an error at the key or list item.
    Fail,
    /// Keep the text of the value.
    Read(&'e mut Option<String>),
}

struct Walk<'w> {
    path: &'w [usize],
    end: End<'w>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.end {
            End::Read(found) if self.path.is_empty() => deserializer.deserialize_str(Text(found)),
            End::Read(_) | End::Fail => deserializer.deserialize_any(self),
        }
    }
}

/// Every kind of value that it does not expect is an error at its position, and at the end of the path it
/// expects none.
impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something else")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((index, rest)) = self.path.split_first() else {
            return Err(serde::de::Error::custom("here"));
        };
        for _ in 0..*index {
            access.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if rest.is_empty() && matches!(self.end, End::Fail) {
            access.next_key_seed(Walk {
                path: &[],
                end: End::Fail,
            })?;
        } else {
            access.next_key::<IgnoredAny>()?;
            access.next_value_seed(Walk {
                path: rest,
                end: self.end,
            })?;
        }
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((index, rest)) = self.path.split_first() else {
            return Err(serde::de::Error::custom("here"));
        };
        for _ in 0..*index {
            access.next_element::<IgnoredAny>()?;
        }
        access.next_element_seed(Walk {
            path: rest,
            end: self.end,
        })?;
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

struct Text<'t>(&'t mut Option<String>);

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        *self.0 = Some(text.to_owned());
        Ok(())
    }
}

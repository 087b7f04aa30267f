//! One port, or several in a row.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::GrammarError;

/// Ports `first..=last`; neither is zero and `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawRange", into = "RawRange")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Makes a range.
    ///
    /// # Errors
    /// [`GrammarError::PortZero`] and [`GrammarError::RangeReversed`].
    pub const fn new(first: u16, last: u16) -> Result<Self, GrammarError> {
        if first == 0 || last == 0 {
            return Err(GrammarError::PortZero);
        }
        if first > last {
            return Err(GrammarError::RangeReversed { first, last });
        }
        Ok(Self { first, last })
    }

    /// Makes a range of one port.
    ///
    /// # Errors
    /// [`GrammarError::PortZero`].
    pub const fn single(port: u16) -> Result<Self, GrammarError> {
        Self::new(port, port)
    }

    /// Returns the lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// Returns the highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Returns how many ports there are: at least one, at most 65535.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> u16 {
        self.last - self.first + 1
    }

    /// Says whether `port` is one of them.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Says whether a port is in both.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Returns the ports in ascending order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u16> {
        (0..self.len()).map(move |offset| self.first + offset)
    }

    /// Returns the port `offset` places after the first.
    #[must_use]
    pub const fn at(self, offset: u16) -> Option<u16> {
        if offset < self.len() {
            Some(self.first + offset)
        } else {
            None
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        if text.is_empty() {
            return Err(GrammarError::MissingPort);
        }
        match text.split_once('-') {
            None => Self::single(port(text, text)?),
            Some((first, last)) => Self::new(port(first, text)?, port(last, text)?),
        }
    }
}

/// Says whether a field was meant as a port or range, whatever its numbers are worth.
pub(crate) fn looks_like_ports(field: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match field.split_once('-') {
        None => digits(field),
        Some((first, last)) => digits(first) && digits(last),
    }
}

/// Parses one port; `whole` is what an error quotes.
pub(crate) fn port(text: &str, whole: &str) -> Result<u16, GrammarError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(GrammarError::NotAPort(whole.to_owned()));
    }
    match text.parse::<u16>() {
        Ok(0) => Err(GrammarError::PortZero),
        Ok(port) => Ok(port),
        // Only digits, so the one thing that can be wrong is the size.
        Err(_) => Err(GrammarError::PortTooLarge(text.to_owned())),
    }
}

#[derive(Serialize, Deserialize)]
struct RawRange {
    first: u16,
    last: u16,
}

impl TryFrom<RawRange> for PortRange {
    type Error = GrammarError;

    fn try_from(raw: RawRange) -> Result<Self, GrammarError> {
        Self::new(raw.first, raw.last)
    }
}

impl From<PortRange> for RawRange {
    fn from(range: PortRange) -> Self {
        Self {
            first: range.first,
            last: range.last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_port_space_is_a_range() {
        let all: PortRange = "1-65535".parse().unwrap();
        assert_eq!(all.len(), 65535);
        assert_eq!(all.iter().last(), Some(65535));
        assert_eq!(all.at(65534), Some(65535));
        assert_eq!(all.at(65535), None);
    }

    #[test]
    fn a_range_on_the_wire_keeps_its_rules() {
        let json = serde_json::to_string(&PortRange::new(80, 81).unwrap()).unwrap();
        assert_eq!(json, r#"{"first":80,"last":81}"#);
        assert!(serde_json::from_str::<PortRange>(r#"{"first":81,"last":80}"#).is_err());
        assert!(serde_json::from_str::<PortRange>(r#"{"first":0,"last":80}"#).is_err());
    }

    #[test]
    fn ranges_that_share_one_port_overlap() {
        let range = |text: &str| text.parse::<PortRange>().unwrap();
        assert!(range("1-10").overlaps(range("10-20")));
        assert!(!range("1-9").overlaps(range("10-20")));
        assert!(range("5").overlaps(range("1-10")));
    }
}

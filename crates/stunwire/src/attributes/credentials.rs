//! Attributes that say how a user is named and a password hashed (RFC 8489).

use crate::{Attribute, AttributeType, TransactionId};

/// USERHASH: a user's name that an observer cannot read (RFC 8489, section 14.4).
///
/// [`user_hash`](crate::user_hash) makes the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserHash<'a>(pub &'a [u8; 32]);

impl<'a> Attribute<'a> for UserHash<'a> {
    const TYPE: AttributeType = AttributeType::USERHASH;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        crate::attribute::array(value).map(Self)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        out.copy_from_slice(self.0);
    }
}

/// PASSWORD-ALGORITHM: how a long-term key is made of a password (RFC 8489, section 14.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordAlgorithm<'a> {
    /// Its number in the registry of RFC 8489, section 18.5.
    pub number: u16,
    /// Its parameters; MD5 and SHA-256 have none.
    pub parameters: &'a [u8],
}

impl PasswordAlgorithm<'_> {
    /// MD5: [`IntegrityKey::long_term`](crate::IntegrityKey::long_term).
    pub const MD5: Self = Self {
        number: 1,
        parameters: &[],
    };
    /// SHA-256: [`IntegrityKey::long_term_sha256`](crate::IntegrityKey::long_term_sha256).
    pub const SHA256: Self = Self {
        number: 2,
        parameters: &[],
    };

    fn write(&self, out: &mut [u8]) {
        out[..2].copy_from_slice(&self.number.to_be_bytes());
        // `is_encodable` bounds the length.
        let length = u16::try_from(self.parameters.len()).unwrap_or(u16::MAX);
        out[2..4].copy_from_slice(&length.to_be_bytes());
        out[4..4 + self.parameters.len()].copy_from_slice(self.parameters);
        out[4 + self.parameters.len()..].fill(0);
    }

    const fn padded_len(&self) -> usize {
        4 + self.parameters.len().next_multiple_of(4)
    }
}

impl<'a> Attribute<'a> for PasswordAlgorithm<'a> {
    const TYPE: AttributeType = AttributeType::PASSWORD_ALGORITHM;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        let (first, rest) = split_algorithm(value)?;
        rest.is_empty().then_some(first)
    }

    fn encoded_len(&self) -> usize {
        self.padded_len()
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        self.write(out);
    }

    fn is_encodable(&self) -> bool {
        u16::try_from(self.parameters.len()).is_ok()
    }
}

/// PASSWORD-ALGORITHMS: what a server offers, best first (RFC 8489, section 14.11).
#[derive(Clone, Copy, Debug)]
pub struct PasswordAlgorithms<'a>(List<'a>);

#[derive(Clone, Copy, Debug)]
enum List<'a> {
    Wire(&'a [u8]),
    Values(&'a [PasswordAlgorithm<'a>]),
}

impl<'a> PasswordAlgorithms<'a> {
    /// Makes the list of these algorithms.
    #[must_use]
    pub const fn new(algorithms: &'a [PasswordAlgorithm<'a>]) -> Self {
        Self(List::Values(algorithms))
    }

    /// Returns the algorithms in their order.
    pub fn iter(&self) -> impl Iterator<Item = PasswordAlgorithm<'a>> + use<'a> {
        let (mut wire, values): (&[u8], &[PasswordAlgorithm<'_>]) = match self.0 {
            List::Wire(bytes) => (bytes, &[]),
            List::Values(values) => (&[], values),
        };
        let read = std::iter::from_fn(move || {
            let (first, rest) = split_algorithm(wire)?;
            wire = rest;
            Some(first)
        });
        read.chain(values.iter().copied())
    }
}

impl PartialEq for PasswordAlgorithms<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for PasswordAlgorithms<'_> {}

impl<'a> Attribute<'a> for PasswordAlgorithms<'a> {
    const TYPE: AttributeType = AttributeType::PASSWORD_ALGORITHMS;

    fn decode(value: &'a [u8], _id: TransactionId) -> Option<Self> {
        let mut rest = value;
        while !rest.is_empty() {
            (_, rest) = split_algorithm(rest)?;
        }
        Some(Self(List::Wire(value)))
    }

    fn encoded_len(&self) -> usize {
        self.iter().map(|algorithm| algorithm.padded_len()).sum()
    }

    fn encode(&self, out: &mut [u8], _id: TransactionId) {
        let mut rest = out;
        for algorithm in self.iter() {
            let (first, others) = rest.split_at_mut(algorithm.padded_len());
            algorithm.write(first);
            rest = others;
        }
    }

    fn is_encodable(&self) -> bool {
        self.iter().all(|algorithm| algorithm.is_encodable())
    }
}

/// Parameters are padded to four bytes; the last padding may be missing when it is the attribute's own.
fn split_algorithm(bytes: &[u8]) -> Option<(PasswordAlgorithm<'_>, &[u8])> {
    let (&[n0, n1, l0, l1], rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let parameters = rest.get(..length)?;
    let algorithm = PasswordAlgorithm {
        number: u16::from_be_bytes([n0, n1]),
        parameters,
    };
    Some((
        algorithm,
        rest.get(length.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

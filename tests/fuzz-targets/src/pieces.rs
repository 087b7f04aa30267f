//! Cuts bytes into the pieces that a stream may bring them in.

/// The pieces of `bytes`, whose lengths are taken from `cuts` in turn: 1 to 64 bytes, or all the rest where
/// there are no cuts.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut lengths = cuts.iter().cycle().map(|cut| usize::from(cut % 64) + 1);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = lengths.next().unwrap_or(rest.len()).min(rest.len());
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some(piece)
    })
}

/// Takes the first byte as a count, at most 15, of cuts that follow it; returns the cuts and the rest.
#[must_use]
pub fn split_cuts(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((count, rest)) = data.split_first() else {
        return (&[], &[]);
    };
    rest.split_at(usize::from(count & 0x0F).min(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_in_its_order() {
        let bytes: Vec<u8> = (0..=255).collect();
        for cuts in [&[][..], &[0], &[63, 0, 7]] {
            assert_eq!(pieces(&bytes, cuts).collect::<Vec<_>>().concat(), bytes);
        }
        assert_eq!(pieces(&bytes, &[0]).count(), 256);
    }

    #[test]
    fn cuts_stand_before_the_bytes() {
        assert_eq!(split_cuts(&[2, 7, 8, 9]), (&[7, 8][..], &[9][..]));
        assert_eq!(split_cuts(&[0x1F, 7]), (&[7][..], &[][..]));
    }
}

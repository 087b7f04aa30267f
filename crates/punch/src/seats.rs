//! Who makes room in a full table.

/// Relayed candidates and pairs that are never pushed out by others (but at most a quarter of the bound).
const RELAYED_RESERVED: usize = 8;

/// One place in a bounded table.
pub(crate) struct Seat<K> {
    pub(crate) key: K,
    pub(crate) priority: u64,
    pub(crate) relayed: bool,
    pub(crate) dispensable: bool,
}

/// Returns who makes room for a newcomer; `None` when the newcomer is the one to stay out.
pub(crate) fn victim<K>(
    seats: impl Iterator<Item = Seat<K>>,
    priority: u64,
    relayed: bool,
    max: usize,
) -> Option<K> {
    let seats: Vec<Seat<K>> = seats.collect();
    let reserved = RELAYED_RESERVED.min(max / 4);
    let relayed_count = seats.iter().filter(|seat| seat.relayed).count();
    let newcomer_has_seat = relayed && relayed_count < reserved;
    seats
        .into_iter()
        .filter(|seat| seat.dispensable)
        .filter(|seat| !seat.relayed || relayed || relayed_count > reserved)
        .filter(|seat| {
            if newcomer_has_seat {
                !seat.relayed
            } else {
                seat.priority < priority
            }
        })
        .min_by_key(|seat| seat.priority)
        .map(|seat| seat.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(key: u32, priority: u64, relayed: bool, dispensable: bool) -> Seat<u32> {
        Seat {
            key,
            priority,
            relayed,
            dispensable,
        }
    }

    #[test]
    fn the_lowest_dispensable_seat_below_the_newcomer_goes() {
        let seats = || {
            [
                seat(1, 10, false, false),
                seat(2, 20, false, true),
                seat(3, 30, false, true),
            ]
            .into_iter()
        };
        assert_eq!(victim(seats(), 25, false, 3), Some(2));
        assert_eq!(victim(seats(), 20, false, 3), None);
    }

    #[test]
    fn a_few_relayed_seats_are_taken_from_others_and_never_given_back() {
        let seats = || (0..8).map(|key| seat(key, 100 + u64::from(key), false, true));
        assert_eq!(victim(seats(), 1, true, 8), Some(0));
        let with_relays = || {
            seats()
                .take(6)
                .chain([seat(6, 1, true, true), seat(7, 2, true, true)])
        };
        assert_eq!(victim(with_relays(), 1000, false, 8), Some(0));
        assert_eq!(victim(with_relays(), 3, true, 8), Some(6));
    }
}

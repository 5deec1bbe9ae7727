//! Which numbers the projects of a home may have.

/// How many numbers are set aside for each home, so that those of several homes on one file system lie apart.
const PER_HOME: u32 = 10_000;

/// The number after which those of a home begin, from the inode of its directory: as containers/storage has it, so that the two do not use different ones for the same home.
#[doc(alias = "generateUniqueProjectID")]
pub(super) fn first_for_inode(inode: u64) -> u32 {
    let modulus = u64::from(u32::MAX - PER_HOME);
    let offset = inode.wrapping_mul(u64::from(PER_HOME)) % modulus;
    // Less than the modulus, which is 32 bits.
    PER_HOME + u32::try_from(offset).unwrap_or(0)
}

/// Every number once, in the order in which they are to be tried: those after `last`, the latest to be handed out, then the lower ones. After the ones that are the home's come the others, all but zero, which
/// stands for no project.
///
/// Numbers are not used again as long as there are fresh ones, because other programs may remember them.
pub(super) fn candidates(first: u32, last: u32) -> impl Iterator<Item = u32> {
    let lowest = first.saturating_add(1).min(u32::MAX - 1);
    let end = lowest.saturating_add(PER_HOME);
    let next = if (lowest..end).contains(&last.saturating_add(1)) { last + 1 } else { lowest };
    (next..end).chain(lowest..next).chain(end..u32::MAX).chain(1..lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_an_inode() {
        // As the Go program computes them; the product wraps as it does there.
        for (inode, first) in [
            (0, 10_000),
            (1, 20_000),
            (128, 1_290_000),
            (429_495, 4_294_960_000),
            (429_496, 2_705 + 10_000),
            (u64::MAX, 10_000 + u32::try_from((u64::MAX - 9_999) % 4_294_957_295).unwrap()),
        ] {
            assert_eq!(first_for_inode(inode), first, "{inode}");
        }
    }

    #[test]
    fn fresh_numbers_come_first() {
        let firsts = |first, last| candidates(first, last).take(3).collect::<Vec<_>>();
        assert_eq!(firsts(20_000, 20_000), [20_001, 20_002, 20_003]);
        assert_eq!(firsts(20_000, 20_007), [20_008, 20_009, 20_010]);
        assert_eq!(firsts(20_000, 29_999), [30_000, 20_001, 20_002]);
        assert_eq!(firsts(20_000, 30_000), [20_001, 20_002, 20_003], "after the last of the range");
        assert_eq!(firsts(20_000, 50_000), [20_001, 20_002, 20_003], "after one of another range");
    }

    #[test]
    fn when_the_range_is_used_up_others_follow() {
        let mut others = candidates(20_000, 25_000).skip(10_000);
        assert_eq!(others.next(), Some(30_001));
        assert!(candidates(20_000, 25_000).take(10_000).all(|id| (20_001..=30_000).contains(&id)));
    }

    #[test]
    fn at_the_end_of_all_numbers() {
        for first in [u32::MAX - 1, u32::MAX] {
            let ids: Vec<_> = candidates(first, first).take(3).collect();
            assert_eq!(ids, [u32::MAX - 1, 1, 2], "{first}");
        }
    }
}

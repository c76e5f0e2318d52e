//! Which address-based TLB invalidations cover a range (§4.4.1.1), pure.
//!
//! With IDR3.RIL any range costs one command: the pages are rounded up to (NUM + 1) × 2^SCALE
//! with NUM < 32. That is never less than asked, and the least that one command can say. What is
//! too much is bounded by [`overshoot_max`]: nothing up to 32 pages, 31 pages for 513 (6.04 %),
//! always less than a sixteenth (6.25 %). A second command would make it exact more often, but
//! commands are what an SMMU takes its time for. Without RIL a command covers one entry, and past
//! [`SINGLE_COMMANDS_MAX`] the caller flushes the whole VMID or ASID instead: the work of a call
//! is bounded.

/// Most commands that a range without RIL is cut into.
pub const SINGLE_COMMANDS_MAX: u64 = 64;

/// How many (NUM + 1) a range command can hold.
const NUM_MAX: u64 = 32;
/// Largest SCALE without IDR5.DS (5 bits): 2^36 pages, 256 TiB with the smallest granule.
const SCALE_MAX: u32 = 31;

/// The most pages beyond `pages` that a range command invalidates; what it costs not to need a
/// second command. Met by 16 × 2^n + 1 pages, which become 17 × 2^n.
pub const fn overshoot_max(pages: u64) -> u64 {
    pages.saturating_sub(17) / 16
}

/// A range, in bytes, of changed leaf entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// First address; rounded down to the granule.
    pub start: u64,
    /// Length in bytes; rounded up to the granule.
    pub size: u64,
    /// log2 of the granule: 12, 14 or 16.
    pub granule: u32,
    /// log2 of the size of the leaf entries, where all are the same and no table was removed.
    pub leaf: Option<u32>,
}

/// The operands of one command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Address.
    pub address: u64,
    /// Whether only last-level entries need to go.
    pub leaf: bool,
    /// TG; 0 = any granule, then no range and no level.
    pub tg: u8,
    /// TTL; 0 = any level.
    pub ttl: u8,
    /// NUM.
    pub num: u8,
    /// SCALE.
    pub scale: u8,
}

/// How a range is invalidated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cover {
    /// Nothing to do.
    Nothing,
    /// One range command.
    One(Piece),
    /// One command per entry: first address, step in bytes, count.
    Each {
        /// The first command; the others differ in the address.
        first: Piece,
        /// Distance of their addresses in bytes.
        step: u64,
        /// How many.
        count: u64,
    },
    /// Too many entries, or the whole address range: flush the whole VMID or ASID.
    Whole,
}

/// The commands for `span`; `ril` is IDR3.RIL, `ds` IDR5.DS.
pub fn cover(span: &Span, ril: bool, ds: bool) -> Cover {
    if span.size == 0 {
        return Cover::Nothing;
    }
    let granule = match span.granule {
        12 | 14 | 16 => 1u64 << span.granule,
        _ => return Cover::Whole,
    };
    let start = span.start & !(granule - 1);
    // The last byte, not the end: the range may touch the top of the address space.
    let Some(last) = span.start.checked_add(span.size - 1) else { return Cover::Whole };
    let pages = ((last - start) >> span.granule) + 1;
    let leaf_log2 = span.leaf.filter(|&log2| log2 >= span.granule && log2 < 64);
    let leaf = span.leaf.is_some();

    if !ril {
        // One command removes one entry of any size. Without a known leaf size every granule may
        // have had an entry of its own.
        let step = leaf_log2.map_or(granule, |log2| 1u64 << log2);
        let from = start & !(step - 1);
        let count = (last - from) / step + 1;
        if count > SINGLE_COMMANDS_MAX {
            return Cover::Whole;
        }
        let first = Piece { address: from, leaf, tg: 0, ttl: 0, num: 0, scale: 0 };
        return Cover::Each { first, step, count };
    }

    let tg = ((span.granule - 10) / 2) as u8;
    let ttl = leaf_log2.map_or(0, |log2| ttl(span.granule, log2, start, ds));
    // The smallest with which NUM reaches. There are at most 2^52 pages.
    let scale = pages.next_power_of_two().ilog2().saturating_sub(NUM_MAX.ilog2());
    if scale > SCALE_MAX {
        return Cover::Whole;
    }
    let chunks = ((pages - 1) >> scale) + 1;
    let num = (chunks - 1) as u8;
    if num == 0 && scale == 0 && ttl == 0 {
        // The one combination that is reserved (CERROR_ILL): say it without a granule instead.
        return Cover::One(Piece { address: start, leaf, tg: 0, ttl: 0, num, scale: 0 });
    }
    Cover::One(Piece { address: start, leaf, tg, ttl, num, scale: scale as u8 })
}

/// The level hint for leaves of 2^`leaf` bytes, or 0 where there is none to give.
fn ttl(granule: u32, leaf: u32, start: u64, ds: bool) -> u8 {
    let stride = granule - 3;
    let above = leaf - granule;
    if !above.is_multiple_of(stride) {
        // Not one entry's size: a contiguous group, whose entries are of the level below.
        return 0;
    }
    let level = 3u32.saturating_sub(above / stride);
    // A hint with an address inside the entry makes the range UNPREDICTABLE.
    let aligned = start & ((1 << leaf) - 1) == 0;
    // Level 0 has no encoding; 16K level 1 is reserved without DS.
    let encodable = match level {
        0 => false,
        1 => granule != 14 || ds,
        _ => true,
    };
    if aligned && encodable { level as u8 } else { 0 }
}

/// The ATC invalidation that covers a range (§4.5.1): an aligned power of two of 4 KiB pages,
/// as (address, Size). [7, 10] becomes [0, 15].
pub fn atc_cover(start: u64, size: u64) -> Option<(u64, u8)> {
    if size == 0 {
        return None;
    }
    let Some(last) = start.checked_add(size - 1) else {
        return Some((0, crate::command::ATC_SIZE_ALL));
    };
    let differing = (start >> 12) ^ (last >> 12);
    let log2 = u64::BITS - differing.leading_zeros();
    if log2 >= 52 {
        return Some((0, crate::command::ATC_SIZE_ALL));
    }
    let span = 1u64 << (12 + log2);
    Some((start & !(span - 1), log2 as u8))
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    fn one(span: Span) -> Piece {
        match cover(&span, true, false) {
            Cover::One(piece) => piece,
            other => panic!("{other:?}"),
        }
    }

    fn bytes(piece: &Piece, granule: u32) -> u64 {
        if piece.tg == 0 {
            1 << granule
        } else {
            (u64::from(piece.num) + 1) << piece.scale << granule
        }
    }

    /// Every number of pages that one command can say: (NUM + 1) × 2^SCALE.
    fn sayable() -> BTreeSet<u64> {
        (0..=SCALE_MAX).flat_map(|scale| (1..=NUM_MAX).map(move |num| num << scale)).collect()
    }

    /// What `cover` makes of so many pages: one command, all of them, nothing reserved.
    fn covered(pages: u64, granule: u32) -> u64 {
        let (start, size) = (7 << granule, pages << granule);
        let piece = one(Span { start, size, granule, leaf: None });
        assert_eq!(piece.address, start);
        assert!(
            piece.tg == 0 || piece.num > 0 || piece.scale > 0 || piece.ttl > 0,
            "reserved combination for {pages} pages"
        );
        bytes(&piece, granule) >> granule
    }

    /// One command covers any range with the least that one command can, for every size up to
    /// 2^18 pages and around everything that a command can say above; and never with more than
    /// the bound, which is met.
    #[test]
    fn one_command_covers_with_the_least_that_one_command_can() {
        let sayable = sayable();
        let small = 1..1 << 18;
        let around = sayable.iter().flat_map(|&least| least - 1..=least + 1);
        let mut met = 0;
        for pages in small.chain(around.filter(|&pages| pages >= 1 << 18)) {
            // With each granule that has so many pages in 56 bits.
            let fits = |granule: &u32| pages.ilog2() + granule < 56;
            let Some(&best) = sayable.range(pages..).next() else { continue };
            for granule in [12, 14, 16].into_iter().filter(fits) {
                assert_eq!(covered(pages, granule), best, "{pages} pages of 2^{granule}");
            }
            let over = best - pages;
            assert!(over <= overshoot_max(pages), "{pages} pages overshoot by {over}");
            assert!(over * 16 < pages, "{pages} pages: a sixteenth");
            let worst = pages > 32 && (pages - 1).is_power_of_two();
            if worst {
                assert_eq!(over, overshoot_max(pages), "{pages} pages");
                met += 1;
            }
        }
        // 16 × 2^n + 1, from 33 pages to the largest scale.
        assert_eq!(met, SCALE_MAX);
        assert_eq!((overshoot_max(513), overshoot_max(32)), (31, 0));
        // Past what one command can say: everything.
        let size = (sayable.last().unwrap() + 1) << 12;
        let beyond = Span { start: 0, size, granule: 12, leaf: None };
        assert_eq!(cover(&beyond, true, false), Cover::Whole);
    }

    /// Powers of two and small counts are exact.
    #[test]
    fn small_and_round_ranges_are_exact() {
        for pages in (1..=32).chain((5..30).map(|s| 1u64 << s)) {
            let piece = one(Span { start: 0, size: pages << 12, granule: 12, leaf: Some(12) });
            assert_eq!(bytes(&piece, 12), pages << 12);
            assert_eq!((piece.tg, piece.ttl), (1, 3));
        }
    }

    /// TTL by §4.4.1.1: 4K pages 3, 2M 2, 1G 1; 16K pages 3, 32M 2; 64K pages 3, 512M 2.
    #[test]
    fn level_hints() {
        let hint = |granule, leaf, start| {
            one(Span { start, size: 1u64 << leaf, granule, leaf: Some(leaf) }).ttl
        };
        assert_eq!(hint(12, 12, 0x1000), 3);
        assert_eq!(hint(12, 21, 0), 2);
        assert_eq!(hint(12, 30, 0), 1);
        assert_eq!(hint(12, 39, 0), 0, "512G blocks have no TTL");
        assert_eq!(hint(14, 14, 0), 3);
        assert_eq!(hint(14, 25, 0), 2);
        assert_eq!(hint(14, 36, 0), 0, "16K level 1 is reserved without DS");
        assert_eq!(hint(16, 16, 0), 3);
        assert_eq!(hint(16, 29, 0), 2);
        assert_eq!(hint(12, 16, 0), 0, "contiguous groups mix with single entries");
        assert_eq!(hint(12, 21, 0x1000), 0, "an unaligned address forfeits the hint");
    }

    /// Without RIL: exact up to the threshold, then everything.
    #[test]
    fn without_ril_the_commands_are_bounded() {
        let span =
            |pages: u64| Span { start: 0x8000_0000, size: pages << 12, granule: 12, leaf: None };
        assert_eq!(cover(&span(0), false, false), Cover::Nothing);
        for pages in 1..=SINGLE_COMMANDS_MAX {
            let Cover::Each { first, step, count } = cover(&span(pages), false, false) else {
                panic!("{pages}");
            };
            assert_eq!((first.address, step, count), (0x8000_0000, 4096, pages));
            assert_eq!((first.tg, first.ttl, first.num, first.scale), (0, 0, 0, 0));
        }
        assert_eq!(cover(&span(SINGLE_COMMANDS_MAX + 1), false, false), Cover::Whole);
        let blocks = Span { start: 0, size: 8 << 21, granule: 12, leaf: Some(21) };
        let Cover::Each { count, step, .. } = cover(&blocks, false, false) else { panic!() };
        assert_eq!((count, step), (8, 1 << 21));
    }

    #[test]
    fn the_top_of_the_address_space_and_nonsense_are_the_whole() {
        let top = Span { start: u64::MAX - 0xfff, size: 0x1000, granule: 12, leaf: None };
        assert!(matches!(cover(&top, true, false), Cover::One(_)));
        let beyond = Span { size: 0x2000, ..top };
        assert_eq!(cover(&beyond, true, false), Cover::Whole);
        let odd = Span { start: 0, size: 1, granule: 13, leaf: None };
        assert_eq!(cover(&odd, true, false), Cover::Whole);
        let all = Span { start: 0, size: u64::MAX, granule: 12, leaf: None };
        assert_eq!(cover(&all, false, false), Cover::Whole);
    }

    #[test]
    fn an_unaligned_range_still_covers_its_ends() {
        let piece = one(Span { start: 0x1800, size: 0x1000, granule: 12, leaf: None });
        assert_eq!((piece.address, bytes(&piece, 12)), (0x1000, 0x2000));
    }

    /// §4.5.1: the span is aligned to its size.
    #[test]
    fn device_tlb_ranges_are_aligned_powers_of_two() {
        assert_eq!(atc_cover(7 << 12, 4 << 12), Some((0, 4)), "[7, 10] becomes [0, 15]");
        assert_eq!(atc_cover(8 << 12, 4 << 12), Some((8 << 12, 2)));
        assert_eq!(atc_cover(0x5000, 1), Some((0x5000, 0)));
        assert_eq!(atc_cover(0, 0), None);
        assert_eq!(atc_cover(0, u64::MAX), Some((0, 52)));
        assert_eq!(atc_cover(0x1000, u64::MAX), Some((0, 52)));
        for (first, pages) in [(0u64, 1u64), (3, 9), (1023, 2), (0x7fff_ffff, 2), (12345, 6789)] {
            let (address, log2) = atc_cover(first << 12, pages << 12).unwrap();
            let (base, end) = (address >> 12, (address >> 12) + (1 << log2));
            assert!(base <= first && first + pages <= end && base % (1 << log2) == 0);
            if log2 > 0 {
                let half = 1 << (log2 - 1);
                assert!(first < base + half && first + pages > base + half, "not the smallest");
            }
        }
    }
}

//! Maps of a board: requester IDs, INTx wires, ranges, command line.

use palisade_board::{
    Chosen, IdMap, IdMapEntry, Interrupt, InterruptMapEntry, PcieHost, Range, Trigger,
};

fn id_map(mask: Option<u32>, entries: &[IdMapEntry]) -> IdMap {
    IdMap { mask, entries: entries.iter().copied().collect() }
}

#[test]
fn id_map_takes_the_line_that_holds_the_id() {
    let map = id_map(
        None,
        &[
            IdMapEntry { input: 0, controller: 1, output: 0x100, length: 8 },
            IdMapEntry { input: 0x10, controller: 2, output: 0x40, length: 0xfff0 },
        ],
    );
    assert_eq!(map.lookup(7), Some((1, 0x107)));
    assert_eq!(map.lookup(8), None, "a hole stays a hole");
    assert_eq!(map.lookup(0x12), Some((2, 0x42)));
    assert_eq!(map.lookup(0xffff), Some((2, 0x1_002f)));
}

#[test]
fn id_map_masks_first_and_never_wraps() {
    let line = IdMapEntry { input: 0, controller: 1, output: u32::MAX - 1, length: 0x1_0000 };
    assert_eq!(id_map(Some(0xff00), &[line]).lookup(0x00ab), Some((1, u32::MAX - 1)));
    assert_eq!(id_map(None, &[line]).lookup(2), None);
}

#[test]
fn interrupt_map_masks_slot_and_pin() {
    let wire = |intid| Interrupt { intid, trigger: Trigger::Level };
    let line = |unit, pin, intid| InterruptMapEntry { unit, pin, interrupt: wire(intid) };
    let host = PcieHost {
        ecam: Range::new(0x40_1000_0000, 0x1000_0000).expect("range"),
        segment: 0,
        first_bus: 0,
        last_bus: 0xff,
        windows: [].into_iter().collect(),
        interrupt_mask: (0x1800, 7),
        interrupt_map: [line(0, 1, 35), line(0x800, 1, 36)].into_iter().collect(),
        iommu_map: IdMap::default(),
        msi_map: IdMap::default(),
        coherent: true,
        keep: false,
    };
    assert_eq!(host.interrupt(1, 1), Some(wire(36)));
    assert_eq!(host.interrupt(5, 1), Some(wire(36)), "slot 5 is slot 1 under the mask");
    assert_eq!(host.interrupt(1, 2), None);
}

#[test]
fn ranges_refuse_what_would_wrap() {
    assert_eq!(Range::new(u64::MAX, 2), None);
    assert_eq!(Range::new(4096, 0), None);
    let range = Range::new(0x1000, 0x1000).expect("range");
    assert!(range.contains(0x1fff) && !range.contains(0x2000));
    assert!(!range.overlaps(&Range::new(0x2000, 1).expect("range")));
}

#[test]
fn the_last_argument_wins() {
    let chosen = Chosen { bootargs: "a=1 palisade.mux=0  palisade.mux=1 b", initrd: None };
    assert_eq!(chosen.argument("palisade.mux"), Some("1"));
    assert_eq!(chosen.argument("b"), None);
}

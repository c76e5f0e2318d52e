//! What firmware has allocated to a root bridge.

mod common;

use common::{RSDP, firmware, notes, virt};
use palisade_acpi::{Firmware, Tables, board, windows};
use palisade_board::{Range, Space, Window};

/// A QWord descriptor: type, flags, first address, translation, length.
fn descriptor(kind: u8, flags: u8, start: u64, shift: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0x8a, 0x2b, 0, kind, 0, flags];
    for word in [64, start, start.wrapping_add(length).wrapping_sub(1), shift, length] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

fn list(descriptors: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = descriptors.concat();
    bytes.extend([0x79, 0]);
    bytes
}

fn window(space: Space, prefetchable: bool, start: u64, size: u64) -> Window {
    Window { space, prefetchable, bus: start, cpu: Range::new(start, size).expect("range") }
}

#[test]
fn memory_is_taken_and_nothing_else() {
    let bytes = list(&[
        descriptor(2, 0, 0, 0, 3),
        descriptor(1, 0, 0, 0x3eff_0000, 0x1000),
        descriptor(0, 0, 0x1000_0000, 0, 0x20_0000),
        descriptor(0, 6, 0x80_0000_0000, 0, 0x10_0000),
        descriptor(0, 0, 0x2000_0000, 0x1000, 0x10_0000),
        descriptor(0, 0, 0x2000_0000, 0, 0),
        descriptor(0, 0, u64::MAX, 0, 2),
    ]);
    let expected = [
        window(Space::Memory32, false, 0x1000_0000, 0x20_0000),
        window(Space::Memory64, true, 0x80_0000_0000, 0x10_0000),
    ];
    assert_eq!(windows(&bytes).expect("a list"), expected);
    for length in 0..bytes.len() - 1 {
        assert_eq!(windows(&bytes[..length]), None, "cut to {length}");
    }
    assert_eq!(windows(&list(&[vec![0x47, 0]])), None, "another descriptor");
    assert_eq!(windows(&descriptor(0, 0, 0, 0, 1).repeat(400)), None, "no end");
}

#[test]
fn a_window_over_something_else_is_left_out() {
    let ram = [Range::new(0x4000_0000, 0x8000_0000).expect("range")];
    let good = window(Space::Memory32, false, 0x1000_0000, 0x20_0000);
    let all = [
        good,
        window(Space::Memory64, false, 0x7fff_f000, 0x2000),
        window(Space::Memory32, false, 0x0800_0000, 0x1000),
        window(Space::Memory32, false, 0x0900_0000, 0x10_0000),
    ];
    let given: Vec<_> = all.iter().map(|window| (0, *window)).chain([(9, good)]).collect();
    let memory = firmware(&virt());
    let tables = Tables::new(&memory, RSDP).expect("readable");
    let firmware = Firmware { memory: &ram, windows: &given, ..Firmware::default() };
    let board = board(&tables, &firmware).expect("readable");
    assert_eq!(board.pcie[0].windows.as_slice(), [good]);
    assert_eq!(notes(&board).len(), 3, "{:?}", notes(&board));
}

//! The firmware's device tree with our additions is read back with them, and otherwise unchanged.

use palisade_board::{BoardInfo, Chosen, Range};
use palisade_fdt::Tree;
use palisade_uefi::{Additions, amend};

const TREE: &[u8] = include_bytes!("../../fdt/tests/virt-gic3.dtb");

fn range(start: u64, size: u64) -> Range {
    Range::new(start, size).expect("range")
}

fn read<T>(blob: &[u8], look: impl FnOnce(BoardInfo<'_>) -> T) -> T {
    let tree = Tree::new(blob).expect("valid");
    look(palisade_fdt::board(&tree).expect("readable"))
}

#[test]
fn additions_are_read_back() {
    let kept = [range(0x7000_0000, 0x1000), range(0x5000_0000, 0x2000)];
    let bundle = Some(range(0x6000_0000, 0x1235));
    let once = amend(TREE, &Additions { bootargs: "a=1", bundle, kept: &kept }).expect("a tree");
    // Once more, with other words: the first ones go, what was kept stays.
    let twice = amend(&once, &Additions { bootargs: "b=2 c", ..Additions::default() });
    for (blob, words, initrd) in [(once, "a=1", bundle), (twice.expect("a tree"), "b=2 c", None)] {
        read(&blob, |board| {
            assert_eq!((board.chosen.bootargs, board.chosen.initrd), (words, initrd));
            let reserved: Vec<_> = board.reserved.iter().map(|kept| kept.range).collect();
            assert_eq!(reserved, [range(0x5000_0000, 0x2000), range(0x7000_0000, 0x1000)]);
        });
        assert_eq!(rest(&blob), rest(TREE), "everything else is as it was");
    }
}

/// All but what is added.
fn rest(blob: &[u8]) -> String {
    read(blob, |mut board| {
        board.chosen = Chosen::default();
        board.reserved.clear();
        format!("{board:#?}")
    })
}

#[test]
fn a_tree_without_chosen_gets_one() {
    // The name is another one, of the same length.
    let mut blob = TREE.to_vec();
    let at = blob.windows(7).position(|name| name == b"chosen\0").expect("there");
    blob[at..at + 6].copy_from_slice(b"frozen");
    let words = Additions { bootargs: "x", ..Additions::default() };
    read(&amend(&blob, &words).expect("a tree"), |board| assert_eq!(board.chosen.bootargs, "x"));
}

#[test]
fn damaged_trees_are_refused_or_read_and_nothing_panics() {
    let kept = [range(0x7000_0000, 0x1000)];
    let additions = Additions { bootargs: "a", bundle: None, kept: &kept };
    for length in 0..TREE.len() {
        assert!(amend(&TREE[..length], &additions).is_err(), "cut to {length}");
    }
    let mut refused = 0;
    let mut blob = TREE.to_vec();
    for at in 0..blob.len() {
        for mask in [0xff, 1] {
            blob[at] ^= mask;
            refused += usize::from(amend(&blob, &additions).is_err());
            blob[at] ^= mask;
        }
    }
    assert!(refused > TREE.len() / 4, "{refused}");
}

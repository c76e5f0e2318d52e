//! Tables that cannot be used: which one, where, and what to do.

mod common;

use common::{
    CORE, Memory, RSDP, bad, firmware, gicc, gicd, gicr, iort, madt, pointer, read, table, virt,
    virt_but, words,
};
use palisade_acpi::{EfiMemory, Fault, usable};

/// The error's text for this memory.
fn refused(memory: &Memory) -> String {
    read(memory, |board| board.map(|_| ()).expect_err("refused").to_string())
}

#[test]
fn what_is_missing() {
    for (signature, name) in [(b"APIC", "MADT"), (b"GTDT", "GTDT")] {
        let error = bad(&virt_but(signature, None));
        assert!(error.contains(name) && error.contains("missing"), "{error}");
        assert!(error.contains("update the firmware"), "{error}");
    }
    // What nobody needs may be missing.
    for signature in [b"FACP", b"MCFG", b"IORT"] {
        read(&firmware(&virt_but(signature, None)), |board| {
            board.expect("readable");
        });
    }
    let nothing = Memory(vec![]);
    assert!(
        refused(&nothing).contains("no readable memory at 0xbf000000"),
        "{}",
        refused(&nothing)
    );
}

#[test]
fn a_root_pointer_that_is_none() {
    let mut memory = firmware(&virt());
    let last = memory.0.len() - 1;
    assert_eq!(memory.0[last].0, RSDP);
    let good = memory.0[last].1.clone();
    for (at, value, says) in
        [(0, b'X', "another signature"), (15, 0, "revision 0 is too old"), (9, 0, "checksum")]
    {
        memory.0[last].1 = good.clone();
        memory.0[last].1[at] = value;
        assert!(refused(&memory).contains(says), "{}", refused(&memory));
    }
    memory.0[last].1 = pointer(0);
    assert!(refused(&memory).contains("XSDT: missing"), "{}", refused(&memory));
    memory.0[last].1 = pointer(RSDP);
    assert!(refused(&memory).contains("another signature"), "{}", refused(&memory));
    memory.0[last].1 = pointer(u64::MAX - 3);
    assert!(refused(&memory).contains("no readable memory"), "{}", refused(&memory));
}

#[test]
fn lengths_of_nothing_and_of_everything() {
    for length in [0u32, 1, 35, 0xffff, u32::MAX] {
        let mut tables = virt();
        tables[0][4..8].copy_from_slice(&length.to_le_bytes());
        common::sum(&mut tables[0], 9);
        let error = bad(&tables);
        assert!(error.contains("ACPI MADT, offset 0x"), "{error}");
    }
    let many = vec![table(b"JUNK", &[]); palisade_acpi::MAX_TABLES + 1];
    assert!(bad(&many).contains("more than 256"), "{}", bad(&many));
}

#[test]
fn a_madt_that_cannot_be_divided() {
    let with = |structure: Vec<u8>| bad(&virt_but(b"APIC", Some(madt(&[gicc(CORE), structure]))));
    let error = with(vec![0xb, 0]);
    assert!(error.contains("MADT, offset 0x7c") && error.contains("length of 0"), "{error}");
    let error = with(vec![0xe, 200]);
    assert!(error.contains("MADT, offset 0x7c") && error.contains("length of 200"), "{error}");
    assert!(with(vec![0xff, 2]).contains("GICD: missing"));
    let two = [gicc(CORE), gicd(0x3000_0000, 3), gicd(0x3100_0000, 3)];
    assert!(bad(&virt_but(b"APIC", Some(madt(&two)))).contains("more than 1"));
    let none = [gicd(0x3000_0000, 3), gicr(0x3010_0000, 0x4_0000)];
    assert!(bad(&virt_but(b"APIC", Some(madt(&none)))).contains("GICC: missing"));
    let bare = [gicc(CORE), gicd(0x3000_0000, 3)];
    assert!(bad(&virt_but(b"APIC", Some(madt(&bare)))).contains("GICR: missing"));
    let newer = [gicc(CORE), gicd(0x3000_0000, 9), gicr(0x3010_0000, 0x4_0000)];
    assert!(bad(&virt_but(b"APIC", Some(madt(&newer)))).contains("GIC version"));
}

#[test]
fn an_iort_that_cannot_be_divided() {
    let with = |body: Vec<u8>| bad(&virt_but(b"IORT", Some(table(b"IORT", &body))));
    let error = with(words(&[1, 48, 0]));
    assert!(error.contains("IORT, offset 0x31: node"), "{error}");
    let error = with(words(&[u32::MAX, 48, 0]));
    assert!(error.contains("more than 1024"), "{error}");
    let error = with(words(&[1, u32::MAX, 0]));
    assert!(error.contains("IORT, offset 0xffffffff"), "{error}");
    // A node of length 0 would be read for ever.
    let mut node = words(&[2, 48, 0]);
    node.extend([0; 32]);
    assert!(with(node).contains("length of 0"));
    // Mappings beyond the node's end, and more of them than it can have.
    for (count, at) in [(1u32, 24u32), (1, u32::MAX), (600, 16)] {
        let mut bytes = words(&[1, 48, 0]);
        bytes.extend([2, 40, 0, 3]);
        bytes.extend(words(&[0, count, at, 1, 0, 0, 0, 0, 0]));
        assert!(with(bytes).contains("ID mappings"), "{count} at {at}");
    }
    // A range without an end.
    let empty = bad(&virt_but(b"IORT", Some(iort(&[common::rmr(&[(0x1000, 0)], &[])]))));
    assert!(empty.contains("RMR memory range"), "{empty}");
}

#[test]
fn what_of_the_memory_map_is_free() {
    let descriptor = |kind, attributes| EfiMemory { kind, start: 0x1000, pages: 3, attributes };
    let free: Vec<u32> = (0..16).filter(|kind| usable(&descriptor(*kind, 0xf)).is_some()).collect();
    assert_eq!(free, [1, 2, 3, 4, 7]);
    let range = usable(&descriptor(7, 8)).expect("RAM");
    assert_eq!((range.start(), range.size()), (0x1000, 0x3000));
    assert_eq!(usable(&descriptor(7, 7)), None, "cannot be cached");
    assert_eq!(usable(&descriptor(7, 0x4_000f)), None, "meant for something special");
    assert_eq!(usable(&EfiMemory { pages: u64::MAX, ..descriptor(7, 8) }), None);
}

#[test]
fn every_fault_says_what_to_do() {
    let faults = [
        Fault::Missing,
        Fault::Unreadable(1),
        Fault::Signature,
        Fault::Checksum,
        Fault::Length(1),
        Fault::TooMany(1),
        Fault::Revision(1),
        Fault::Value(1),
    ];
    assert!(faults.iter().all(|fault| !fault.remedy().is_empty()));
}

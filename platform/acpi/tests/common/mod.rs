//! Machines of tables: firmware's memory in which tables lie, and tables built by hand.

#![allow(dead_code, reason = "each test takes what it needs")]

use palisade_acpi::{Error, Firmware, Physical, Tables, board};
use palisade_board::{BoardInfo, Range};

/// Where the root pointer lies.
pub const RSDP: u64 = 0xbf00_0000;

/// Firmware's memory: pieces at addresses.
#[derive(Clone, Default)]
pub struct Memory(pub Vec<(u64, Vec<u8>)>);

impl Physical for Memory {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.0.iter().find_map(|(start, bytes)| {
            let at = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(at..at.checked_add(length)?)
        })
    }
}

/// Makes the bytes add up to 0 by the byte at `at`.
pub fn sum(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[at] = 0u8.wrapping_sub(sum);
}

/// Makes a table's length and checksum right.
pub fn seal(table: &mut [u8]) {
    let length = table.len() as u32;
    table[4..8].copy_from_slice(&length.to_le_bytes());
    sum(table, 9);
}

/// A table of this signature, with what stands behind its head.
pub fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut table = signature.to_vec();
    table.extend([0; 4]);
    table.extend([1, 0]);
    table.extend(b"ACME  BOARD   \x01\0\0\0ACME\x01\0\0\0");
    table.extend(body);
    seal(&mut table);
    table
}

/// Memory with these tables, root pointer and XSDT.
pub fn firmware(tables: &[Vec<u8>]) -> Memory {
    let mut memory = Memory::default();
    let mut entries = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let address = RSDP + 0x1_0000 * (index as u64 + 2);
        entries.extend(address.to_le_bytes());
        memory.0.push((address, table.clone()));
    }
    let xsdt = RSDP + 0x1_0000;
    memory.0.push((xsdt, table(b"XSDT", &entries)));
    memory.0.push((RSDP, pointer(xsdt)));
    memory
}

/// A root pointer.
pub fn pointer(xsdt: u64) -> Vec<u8> {
    let mut pointer = b"RSD PTR \0ACME  \x02".to_vec();
    pointer.extend([0; 4]);
    pointer.extend(36u32.to_le_bytes());
    pointer.extend(xsdt.to_le_bytes());
    pointer.extend([0; 4]);
    sum(&mut pointer[..20], 8);
    sum(&mut pointer, 32);
    pointer
}

/// The tables that QEMU's machine had.
pub fn virt() -> Vec<Vec<u8>> {
    let all: [&[u8]; 7] = [
        include_bytes!("../virt/APIC.dat"),
        include_bytes!("../virt/FACP.dat"),
        include_bytes!("../virt/GTDT.dat"),
        include_bytes!("../virt/MCFG.dat"),
        include_bytes!("../virt/SPCR.dat"),
        include_bytes!("../virt/DBG2.dat"),
        include_bytes!("../virt/IORT.dat"),
    ];
    all.map(<[u8]>::to_vec).to_vec()
}

/// The same with another table instead of the one of this signature; without it where none is
/// given.
pub fn virt_but(signature: &[u8; 4], other: Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut tables = virt();
    tables.retain(|table| table[..4] != signature[..]);
    tables.extend(other);
    tables
}

/// Reads a machine and hands what came of it to `look`.
pub fn read<T>(memory: &Memory, look: impl FnOnce(Result<BoardInfo<'_>, Error>) -> T) -> T {
    let ram = [Range::new(0x4000_0000, 0x8000_0000).expect("range")];
    let firmware = Firmware { memory: &ram, bootargs: "a=b", ..Firmware::default() };
    look(Tables::new(memory, RSDP).and_then(|tables| board(&tables, &firmware)))
}

/// Reads tables that can be read.
pub fn good<T>(tables: &[Vec<u8>], look: impl FnOnce(BoardInfo<'_>) -> T) -> T {
    read(&firmware(tables), |board| look(board.expect("readable")))
}

/// Reads tables that cannot.
pub fn bad(tables: &[Vec<u8>]) -> String {
    read(&firmware(tables), |board| board.map(|_| ()).expect_err("refused").to_string())
}

/// The notes in words.
pub fn notes(board: &BoardInfo<'_>) -> Vec<String> {
    board.notes.iter().map(ToString::to_string).collect()
}

/// Words, little-endian.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A MADT of these structures.
pub fn madt(structures: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0; 8];
    structures.iter().for_each(|structure| body.extend(structure));
    table(b"APIC", &body)
}

/// What a GICC structure says here.
#[derive(Clone, Copy)]
pub struct Gicc {
    pub flags: u32,
    pub mpidr: u64,
    pub cpu: u64,
    pub redistributor: u64,
    pub maintenance: u32,
}

/// A core that is there.
pub const CORE: Gicc = Gicc { flags: 1, mpidr: 0, cpu: 0, redistributor: 0, maintenance: 25 };

/// A GICC structure (5.2.12.14).
pub fn gicc(core: Gicc) -> Vec<u8> {
    let mut bytes = vec![0u8; 80];
    bytes[..2].copy_from_slice(&[0xb, 80]);
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(12, &core.flags.to_le_bytes());
    put(32, &core.cpu.to_le_bytes());
    if core.cpu != 0 {
        put(40, &(core.cpu + 0x3_0000).to_le_bytes());
        put(48, &(core.cpu + 0x2_0000).to_le_bytes());
    }
    put(56, &core.maintenance.to_le_bytes());
    put(60, &core.redistributor.to_le_bytes());
    put(68, &core.mpidr.to_le_bytes());
    bytes
}

/// A GICD structure (5.2.12.15).
pub fn gicd(base: u64, version: u8) -> Vec<u8> {
    let mut bytes = vec![0xc, 24, 0, 0, 0, 0, 0, 0];
    bytes.extend(base.to_le_bytes());
    bytes.extend([0, 0, 0, 0, version, 0, 0, 0]);
    bytes
}

/// A GICR structure (5.2.12.17).
pub fn gicr(base: u64, length: u32) -> Vec<u8> {
    let mut bytes = vec![0xe, 16, 0, 0];
    bytes.extend(base.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes
}

/// An ITS structure (5.2.12.18).
pub fn its(id: u32, base: u64) -> Vec<u8> {
    let mut bytes = vec![0xf, 20, 0, 0];
    bytes.extend(id.to_le_bytes());
    bytes.extend(base.to_le_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// A mapping: input, count, output, the node by its number, flags.
pub type Map = (u32, u32, u32, usize, u32);

/// An IORT of nodes: the type, what stands behind the head, and the mappings.
pub fn iort(nodes: &[(u8, Vec<u8>, Vec<Map>)]) -> Vec<u8> {
    let mut offsets = Vec::new();
    let mut at = 48;
    for (_, body, maps) in nodes {
        offsets.push(at as u32);
        at += 16 + body.len() + 20 * maps.len();
    }
    let mut bytes = words(&[nodes.len() as u32, 48, 0]);
    for (index, (kind, body, maps)) in nodes.iter().enumerate() {
        let length = 16 + body.len() + 20 * maps.len();
        bytes.push(*kind);
        bytes.extend((length as u16).to_le_bytes());
        bytes.push(3);
        bytes.extend(words(&[index as u32, maps.len() as u32, 16 + body.len() as u32]));
        bytes.extend(body);
        for (input, count, output, to, flags) in maps {
            let to = offsets.get(*to).copied().unwrap_or(0xdead);
            bytes.extend(words(&[*input, *count, *output, to, *flags]));
        }
    }
    table(b"IORT", &bytes)
}

/// An ITS group.
pub fn group(ids: &[u32]) -> (u8, Vec<u8>, Vec<Map>) {
    let mut body = words(&[ids.len() as u32]);
    body.extend(words(ids));
    (0, body, Vec::new())
}

/// An SMMUv3 with event and error wires.
pub fn smmu(base: u64, model: u32, maps: &[Map]) -> (u8, Vec<u8>, Vec<Map>) {
    let mut body = base.to_le_bytes().to_vec();
    body.extend(words(&[1, 0, 0, 0, model, 200, 0, 201, 0, 0, 0]));
    (4, body, maps.to_vec())
}

/// A root complex that is coherent.
pub fn root(segment: u32, maps: &[Map]) -> (u8, Vec<u8>, Vec<Map>) {
    (2, words(&[1, 0, 0, segment, 0x40, 0]), maps.to_vec())
}

/// A named component.
pub fn named(name: &str, maps: &[Map]) -> (u8, Vec<u8>, Vec<Map>) {
    let mut body = words(&[0, 1, 0]);
    body.push(64);
    body.extend(name.as_bytes());
    body.resize(body.len() + 4 - body.len() % 4, 0);
    (1, body, maps.to_vec())
}

/// An RMR node: its ranges stand behind its mappings.
pub fn rmr(ranges: &[(u64, u64)], maps: &[Map]) -> (u8, Vec<u8>, Vec<Map>) {
    // Flags, count, and where: behind the head and these three words.
    let mut body = words(&[0, ranges.len() as u32, 28]);
    for (base, length) in ranges {
        body.extend(base.to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend([0; 4]);
    }
    (6, body, maps.to_vec())
}

/// An MCFG of base, segment, first and last bus.
pub fn mcfg(allocations: &[(u64, u16, u8, u8)]) -> Vec<u8> {
    let mut body = vec![0; 8];
    for (base, segment, first, last) in allocations {
        body.extend(base.to_le_bytes());
        body.extend(segment.to_le_bytes());
        body.extend([*first, *last, 0, 0, 0, 0]);
    }
    table(b"MCFG", &body)
}

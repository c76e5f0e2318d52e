//! What a board's firmware does to a device tree before it starts anything: it fills in the memory.

/// Tokens of the structure block (Devicetree Specification v0.4, section 5.4.1).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const END: u32 = 9;
/// Where memory is said to be, and how much of it.
const BASE: u64 = 0x8000_0000;
const SIZE: u64 = 1 << 30;
/// Bytes of the header.
const HEADER: usize = 40;

/// `tree` with one GiB of memory added at the end of the root; `None` where its header or its end
/// is not as it must be.
pub fn with_memory(tree: &[u8], address_cells: u32, size_cells: u32) -> Option<Vec<u8>> {
    let field = |at: usize| {
        let bytes = tree.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?) as usize)
    };
    let block = |offset: usize, size: usize| tree.get(offset..offset.checked_add(size)?);
    let (structure_at, strings_at, reserved_at) = (field(8)?, field(12)?, field(16)?);
    let structure = block(structure_at, field(36)?)?;
    let mut strings = block(strings_at, field(32)?)?.to_vec();
    let mut name = |text: &[u8]| {
        let at = strings.len() as u32;
        strings.extend_from_slice(text);
        at
    };
    let (device_type, reg) = (name(b"device_type\0"), name(b"reg\0"));

    let cells = |number: u64, count: u32| -> Vec<u8> {
        let all = number.to_be_bytes();
        let used = (count as usize * 4).min(8);
        [vec![0; count as usize * 4 - used], all[8 - used..].to_vec()].concat()
    };
    let value = [cells(BASE, address_cells), cells(SIZE, size_cells)].concat();
    let property = |name: u32, value: &[u8]| {
        let mut all = [PROP, value.len() as u32, name].map(u32::to_be_bytes).concat();
        all.extend_from_slice(value);
        all.resize(all.len().next_multiple_of(4), 0);
        all
    };
    // The root ends with the last END_NODE before END; padding may follow.
    let words: Vec<u32> = structure
        .chunks_exact(4)
        .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    let root_end = words.windows(2).rposition(|pair| pair == [END_NODE, END])?;
    let mut body = structure.get(..root_end * 4)?.to_vec();
    body.extend(BEGIN_NODE.to_be_bytes());
    body.extend(b"memory@filled-in\0\0\0\0");
    body.extend(property(device_type, b"memory\0"));
    body.extend(property(reg, &value));
    body.extend([END_NODE, END_NODE, END].map(u32::to_be_bytes).concat());

    let reserved_end =
        [structure_at, strings_at, tree.len()].into_iter().filter(|at| *at > reserved_at).min()?;
    let reserved = tree.get(reserved_at..reserved_end)?;
    let reserved_len = reserved.len().next_multiple_of(8);
    let mut all = tree.get(..HEADER)?.to_vec();
    all.extend_from_slice(reserved);
    all.resize(HEADER + reserved_len, 0);
    let (structure_at, strings_at) = (all.len(), all.len() + body.len());
    all.extend(&body);
    all.extend(&strings);
    let total = all.len();
    let fields = [
        (4, total),
        (8, structure_at),
        (12, strings_at),
        (16, HEADER),
        (32, strings.len()),
        (36, body.len()),
    ];
    for (at, number) in fields {
        all.get_mut(at..at + 4)?.copy_from_slice(&(number as u32).to_be_bytes());
    }
    Some(all)
}

//! An earlier owner of the SMMU, who left it enabled.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use palisade_mem::Arena;

use crate::machine::Machine;

/// Firmware's memory at the end of the arena: stream table, command queue, event queue.
pub const BYTES: u64 = 0x4000;
/// log2 of the streams in its table.
const STREAMS: u64 = 6;
/// Streams of its own that bypass; all others abort.
const BYPASSING: [u32; 3] = [1, 2, 3];

/// Enables the SMMU as firmware does (IHI 0070, 6.3) and answers the streams that bypass.
pub fn leave_enabled(machine: &Machine, arena: &Arena, base: u64) -> BTreeSet<u32> {
    let words = arena.words();
    let first = words.len() - (BYTES / 8) as usize;
    let table = base + 8 * first as u64;
    let (commands, events) = (table + 0x1000, table + 0x2000);
    for word in &words[first..] {
        word.store(0, Ordering::Relaxed);
    }
    for stream in 0..1 << STREAMS {
        let bypass = BYPASSING.contains(&(stream as u32));
        words[first + 8 * stream].store(if bypass { 0b1001 } else { 0b0001 }, Ordering::Relaxed);
    }
    // CMD_CFGI_ALL, CMD_TLBI_NSNH_ALL, CMD_SYNC.
    for (i, word) in [0x04, 31, 0x30, 0, 0x46, 0].into_iter().enumerate() {
        words[first + 0x200 + i].store(word, Ordering::Relaxed);
    }
    machine.publish_all();
    machine.with_model(|model| {
        model.mmio_write(0x80, 8, table);
        model.mmio_write(0x88, 4, STREAMS);
        model.mmio_write(0x90, 8, commands | 3);
        model.mmio_write(0x98, 4, 0);
        model.mmio_write(0x9c, 4, 0);
        model.mmio_write(0xa0, 8, events | 3);
        model.mmio_write(0x1_00a8, 4, 0);
        model.mmio_write(0x1_00ac, 4, 0);
        model.mmio_write(0x20, 4, 0b1000);
        model.run(100);
        model.mmio_write(0x98, 4, 3);
        model.run(200);
        model.mmio_write(0x50, 4, 0b101);
        let check = if model.features().ats { 1 << 4 } else { 0 };
        model.mmio_write(0x20, 4, 0b1101 | check);
        model.run(100);
    });
    BTreeSet::from(BYPASSING)
}

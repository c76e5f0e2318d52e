//! Stage 2: each granule, size, start level and attribute (DDI 0487 D8; IHI 0070 5.2, 7.3).

use crate::place::HOLE;
use crate::scene::{Plan, Scene};
use crate::tables::{
    AF, GRANULES, S2_READ, S2_WRITE, STAGE_2, Stage, TABLE, VALID, granule_name, has_blocks, shift,
};
use crate::words::{self, stage_2};

/// Stage 2 of `bits` bits from level `start` on; nothing is mapped.
pub fn simple(scene: &mut Scene, granule: u32, bits: u32, start: u32) -> Stage {
    let stage = Stage::at(scene, granule, bits, start);
    scene.ste = stage_2(scene, &stage);
    stage
}

/// The start levels that the manual allows for `bits` bits, with how many tables side by side.
fn starts(granule: u32, bits: u32) -> Vec<(u32, u32)> {
    let first = if granule == 12 { 0 } else { 1 };
    (first..=3)
        .filter(|start| granule != 12 || *start < 3)
        .filter_map(|start| {
            let entries = bits.checked_sub(shift(granule, start))?;
            (1..=granule + 1)
                .contains(&entries)
                .then(|| (start, 1 << entries.saturating_sub(granule - 3)))
        })
        .collect()
}

/// The cases.
pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for granule in GRANULES {
        for bits in [25, 32, 36, 39, 40, 42, 44] {
            for (start, tables) in starts(granule, bits) {
                for level in start..=3 {
                    levels(&mut plans, granule, bits, (start, tables), level);
                }
            }
        }
        attributes(&mut plans, granule);
        damage(&mut plans, granule);
    }
    plans
}

/// Leaves of `level`, at the first and the last address that they can have, and what is beside.
fn levels(plans: &mut Vec<Plan>, granule: u32, bits: u32, from: (u32, u32), level: u32) {
    let (start, tables) = from;
    let kind = if level == 3 { "page" } else { "block" };
    let granule_is = granule_name(granule);
    let side = if tables == 1 { String::new() } else { format!(" ({tables} concatenated)") };
    let name =
        format!("stage-2 {granule_is} {bits} bits from {start}{side}, {kind} at level {level}");
    plans.push(Plan::new(name, move |scene| {
        let stage = simple(scene, granule, bits, start);
        let span = stage.span(level);
        let size = 1 << bits;
        let output = scene.target(16);
        let offset = output & (span - 1);
        for base in [0, (size / 2) & !(span - 1), size - span] {
            stage.map(scene, base, level, output, STAGE_2);
            scene.both(base + offset + 0x7f8);
        }
        if span < size / 4 {
            scene.both(span + offset);
        }
        scene.both(size + offset);
        scene.read(1 << 52 | offset);
    }));
}

/// AF, S2AP, MemAttr, and the STE's bits about faults.
fn attributes(plans: &mut Vec<Plan>, granule: u32) {
    let name = granule_name(granule);
    let mut leaf = |what: &str, attributes: u64, ste_bits: u64| {
        plans.push(Plan::new(format!("stage-2 {name} leaf {what}"), move |scene| {
            let start = if granule == 12 { 1 } else { 2 };
            let bits = if granule == 14 { 36 } else { 39 };
            let stage = simple(scene, granule, bits, start);
            scene.ste[2] ^= ste_bits;
            let (address, output) = (0x3_4567_0000, scene.target(16));
            stage.map(scene, address, 3, output, attributes);
            scene.both(address);
            scene.both(address + 0x7f8);
        }));
    };
    leaf("plain", STAGE_2, 0);
    leaf("read-only", STAGE_2 ^ S2_WRITE, 0);
    leaf("write-only", STAGE_2 ^ S2_READ, 0);
    leaf("without rights", STAGE_2 ^ S2_READ ^ S2_WRITE, 0);
    leaf("without AF", STAGE_2 ^ AF, 0);
    leaf("without AF, S2AFFD", STAGE_2 ^ AF, words::S2AFFD);
    leaf("without AF and rights", STAGE_2 ^ AF ^ S2_READ ^ S2_WRITE, 0);
    leaf("device memory", STAGE_2 & !(0xf << 2), 0);
    leaf("device memory, S2PTW", STAGE_2 & !(0xf << 2), words::S2PTW);
    leaf("never executable", STAGE_2 | 2 << 53, 0);
    leaf("dirty bit modifier, no HTTU", STAGE_2 ^ S2_WRITE | 1 << 51, 0);
    leaf("software's bits", STAGE_2 | 0xf << 55, 0);
    leaf("without AF, no record", STAGE_2 ^ AF, words::S2R);
    leaf("read-only, no record", STAGE_2 ^ S2_WRITE, words::S2R);
}

/// Descriptors that are wrong, at each level.
fn damage(plans: &mut Vec<Plan>, granule: u32) {
    let name = granule_name(granule);
    // The highest start level of 40 bits, which S2PS is here.
    let (start, bits) = match granule {
        12 => (0, 40),
        14 => (1, 40),
        _ => (2, 40),
    };
    for level in start..=3 {
        let mut wrong = |what: &str, write: fn(u64) -> u64| {
            let name = format!("stage-2 {name} {what} at level {level}");
            plans.push(Plan::new(name, move |scene| {
                let stage = simple(scene, granule, bits, start);
                scene.ste[2] = scene.ste[2] & !(7 << 48) | 2 << 48;
                let (address, output) = (0x12_4567_0000, scene.target(16));
                stage.map(scene, address, 3, output, STAGE_2);
                let place = stage.slot(scene, address, level);
                let word = write(scene.word(place));
                scene.put(place, word);
                scene.both(address);
                scene.read(address + 0x7f8);
            }));
        };
        wrong("invalid", |_| 0);
        wrong("invalid but the rest", |word| word & !VALID);
        if level == 3 || !has_blocks(granule, level) {
            wrong("reserved", |word| word & !TABLE);
        }
        wrong("output above S2PS", |word| word | 1 << 40);
        wrong("output far above S2PS", |word| word | 1 << 47);
        if level < 3 {
            wrong("table in a hole", |_| HOLE | VALID | TABLE);
        } else {
            wrong("page in a hole", |_| HOLE | STAGE_2 | TABLE);
        }
        if has_blocks(granule, level) {
            wrong("block above S2PS", |_| 1 << 41 | STAGE_2);
            wrong("block without AF above S2PS", |_| 1 << 41 | STAGE_2 ^ AF);
            wrong("read-only block without AF", |_| STAGE_2 ^ AF ^ S2_WRITE);
        }
    }
}

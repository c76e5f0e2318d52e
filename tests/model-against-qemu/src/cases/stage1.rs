//! Stage 1: each granule, size, level and attribute (DDI 0487 D8; IHI 0070 5.4, 7.3).

use crate::place::HOLE;
use crate::scene::{Plan, Scene};
use crate::tables::{
    AF, GRANULES, NOT_GLOBAL, READ_ONLY, STAGE_1, Stage, TABLE, UNPRIVILEGED, VALID, granule_name,
    has_blocks, shift,
};
use crate::words::{self, cd, stage_1, with_upper};

/// Stage 1 of `bits` bits at TTB0; nothing is mapped.
pub fn simple(scene: &mut Scene, granule: u32, bits: u32) -> Stage {
    let stage = Stage::one(scene, granule, bits);
    let words = cd(scene, &stage);
    let context = scene.context();
    scene.put_all(context, &words);
    scene.ste = stage_1(context);
    stage
}

/// Changes word 0 of the CD.
pub fn change_cd(scene: &mut Scene, change: impl FnOnce(u64) -> u64) {
    let context = scene.context();
    let word = change(scene.word(context));
    scene.put(context, word);
}

/// The cases.
pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for granule in GRANULES {
        for bits in [25, 32, 36, 39, 42, 44, 48] {
            for level in 0..=3 {
                levels(&mut plans, granule, bits, level);
            }
        }
        attributes(&mut plans, granule);
        damage(&mut plans, granule);
        upper(&mut plans, granule);
    }
    plans
}

/// Leaves of `level`, at the first and the last address that they can have, and what is beside.
fn levels(plans: &mut Vec<Plan>, granule: u32, bits: u32, level: u32) {
    let start = 4 - (bits - granule).div_ceil(granule - 3);
    if level < start {
        return;
    }
    let kind = if level == 3 { "page" } else { "block" };
    let name = format!("stage-1 {} {bits} bits, {kind} at level {level}", granule_name(granule));
    plans.push(Plan::new(name, move |scene| {
        let stage = simple(scene, granule, bits);
        let span = stage.span(level);
        let size = 1 << bits;
        let output = scene.target(16);
        let offset = output & (span - 1);
        // Where there is no block, the same bits are a reserved descriptor.
        for base in [0, (size / 2) & !(span - 1), size - span] {
            stage.map(scene, base, level, output, STAGE_1);
            scene.both(base + offset + 0x7f8);
        }
        if span < size / 4 {
            scene.both(span + offset);
        }
        if bits < 48 {
            scene.both(size + offset);
        }
        scene.read(u64::MAX << 48 | offset);
    }));
}

/// AF, AP, APTable, XN, nG, contiguous.
fn attributes(plans: &mut Vec<Plan>, granule: u32) {
    let name = granule_name(granule);
    let mut leaf = |what: &str, attributes: u64, cd_bits: u64| {
        plans.push(Plan::new(format!("stage-1 {name} leaf {what}"), move |scene| {
            let stage = simple(scene, granule, 39);
            change_cd(scene, |word| word ^ cd_bits);
            // A global leaf is one for all contexts: no other case uses these addresses.
            let own = u64::from(attributes & NOT_GLOBAL == 0) << 37;
            let (address, output) = (0x12_3400_0000 ^ own, scene.target(16));
            stage.map(scene, address, 3, output, attributes);
            scene.both(address);
            // Once more, out of the TLB.
            scene.both(address + 0x7f8);
        }));
    };
    leaf("plain", STAGE_1, 0);
    leaf("read-only", STAGE_1 | READ_ONLY, 0);
    leaf("privileged", STAGE_1 ^ UNPRIVILEGED, 0);
    leaf("privileged read-only", STAGE_1 ^ UNPRIVILEGED | READ_ONLY, 0);
    leaf("without AF", STAGE_1 ^ AF, 0);
    leaf("without AF, AFFD", STAGE_1 ^ AF, words::AFFD);
    leaf("without AF, read-only", STAGE_1 ^ AF | READ_ONLY, 0);
    leaf("never executable", STAGE_1 | 3 << 53, 0);
    leaf("global", STAGE_1 ^ NOT_GLOBAL, 0);
    leaf("dirty bit modifier, no HTTU", STAGE_1 | READ_ONLY | 1 << 51, 0);
    leaf("software's bits", STAGE_1 | 0xf << 55, 0);
    leaf("without AF, no record", STAGE_1 ^ AF, words::CD_R);
    leaf("read-only, no record", STAGE_1 | READ_ONLY, words::CD_R);
    for (what, bits) in
        [("APTable[0]", 1 << 61), ("APTable[1]", 1 << 62), ("APTable[0] and APTable[1]", 3 << 61)]
    {
        for hierarchy in [true, false] {
            let state = if hierarchy { "" } else { ", HAD0" };
            plans.push(Plan::new(format!("stage-1 {name} {what}{state}"), move |scene| {
                let stage = simple(scene, granule, 39);
                if !hierarchy {
                    let place = scene.context() + 8;
                    let word = scene.word(place) | 1 << 1;
                    scene.put(place, word);
                }
                let (address, output) = (0x12_3400_0000, scene.target(16));
                stage.map(scene, address, 3, output, STAGE_1);
                let above = stage.slot(scene, address, stage.start);
                let word = scene.word(above) | bits;
                scene.put(above, word);
                scene.both(address);
            }));
        }
    }
}

/// Descriptors that are wrong, at each level.
fn damage(plans: &mut Vec<Plan>, granule: u32) {
    let name = granule_name(granule);
    for level in 0..=3 {
        if level < 4 - (48 - granule).div_ceil(granule - 3) {
            continue;
        }
        let mut wrong = |what: &str, write: fn(u64, u32) -> u64| {
            let name = format!("stage-1 {name} {what} at level {level}");
            plans.push(Plan::new(name, move |scene| {
                let stage = simple(scene, granule, 48);
                change_cd(scene, |word| word & !(7 << 32) | 2 << 32);
                let (address, output) = (0x1234_5600_0000, scene.target(16));
                stage.map(scene, address, 3, output, STAGE_1);
                let place = stage.slot(scene, address, level);
                let word = write(scene.word(place), granule);
                scene.put(place, word);
                scene.both(address);
                scene.read(address + 0x7f8);
            }));
        };
        wrong("invalid", |_, _| 0);
        wrong("invalid but the rest", |word, _| word & !VALID);
        if level == 3 || !has_blocks(granule, level) {
            wrong("reserved", |word, _| word & !TABLE);
        }
        // IPS is 40 bits here.
        wrong("output above IPS", |word, _| word | 1 << 40);
        wrong("output far above IPS", |word, _| word | 1 << 47);
        if level < 3 {
            wrong("table in a hole", |_, _| HOLE | VALID | TABLE);
        } else {
            wrong("page in a hole", |_, _| HOLE | STAGE_1 | TABLE);
        }
        if has_blocks(granule, level) {
            wrong("block above IPS", |_, _| 1 << 41 | STAGE_1);
            wrong("block without AF above IPS", |_, _| 1 << 41 | STAGE_1 ^ AF);
            wrong("read-only block without AF", |_, _| STAGE_1 ^ AF | READ_ONLY);
        }
    }
}

/// TTB1, EPDx, top bytes.
fn upper(plans: &mut Vec<Plan>, granule: u32) {
    let name = granule_name(granule);
    for bits in [25, 36, 39, 48] {
        let mut region = |what: &str, cd_bits: u64| {
            let name = format!("stage-1 {name} two regions of {bits} bits{what}");
            plans.push(Plan::new(name, move |scene| {
                let lower = Stage::one(scene, granule, bits);
                let upper = Stage::one(scene, granule, bits);
                let mut words = with_upper(cd(scene, &lower), &upper);
                words[0] ^= cd_bits;
                let context = scene.context();
                scene.put_all(context, &words);
                scene.ste = stage_1(context);
                let size = 1u64 << bits;
                let page = shift(granule, 3);
                let (first, second) = (scene.target(16), scene.target(32));
                lower.map(scene, size - (1 << page), 3, first, STAGE_1);
                lower.map(scene, 0, 3, second, STAGE_1);
                upper.map(scene, 0, 3, first, STAGE_1);
                upper.map(scene, size - (1 << page), 3, second, STAGE_1);
                let top = size.wrapping_neg();
                for address in [0, size - (1 << page), top, (1u64 << page).wrapping_neg()] {
                    scene.both(address);
                    scene.both(address ^ 0xa5 << 56);
                }
                scene.read(top - (1 << page));
                scene.read(1 << 55);
            }));
        };
        region("", 0);
        region(", TBI0", words::TBI0);
        region(", TBI1", words::TBI1);
        region(", TBI0 and TBI1", words::TBI0 | words::TBI1);
        region(", EPD0", words::EPD0);
        region(", EPD1", words::EPD1);
        region(", EPD0 and EPD1", words::EPD0 | words::EPD1);
    }
}

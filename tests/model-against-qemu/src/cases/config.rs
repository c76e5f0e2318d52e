//! STEs and CDs that are absent, wrong or unusual (5.2, 5.4), and stream tables (5.1, 3.3.1).

use crate::cases::{Group, stage1, stage2};
use crate::place::{self, HOLE};
use crate::scene::{Plan, Scene};
use crate::smmu::Settings;
use crate::tables::{STAGE_1, STAGE_2, Stage};
use crate::words::{self, plain};

/// An address that everything maps that maps anything.
const ADDRESS: u64 = 0x3_4567_0000;

fn mapped_by_stage_1(scene: &mut Scene) -> Stage {
    let stage = stage1::simple(scene, 12, 39);
    let output = scene.target(16);
    stage.map(scene, ADDRESS, 3, output, STAGE_1);
    scene.both(ADDRESS);
    stage
}

fn mapped_by_stage_2(scene: &mut Scene) -> Stage {
    let stage = stage2::simple(scene, 12, 39, 1);
    let output = scene.target(16);
    stage.map(scene, ADDRESS, 3, output, STAGE_2);
    scene.both(ADDRESS);
    stage
}

/// The cases under usual settings.
pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for config in 0..8 {
        plans.push(Plan::new(
            format!("STE.Config {config:#05b}, nothing behind it"),
            move |scene| {
                scene.ste = plain(config);
                scene.ste[0] |= HOLE;
                // Without S2AA64 stage 2 would be that of VMSAv8-32.
                scene.ste[2] = 1 << 51;
                let reached = scene.target(16);
                scene.both(reached);
                scene.both(1 << 47);
            },
        ));
    }
    plans.push(Plan::new("STE.V = 0", |scene| {
        mapped_by_stage_2(scene);
        scene.ste[0] &= !1;
    }));
    plans.push(Plan::new("STE of zeroes", |scene| scene.both(ADDRESS)));
    ste_stage_2(&mut plans);
    ste_stage_1(&mut plans);
    contexts(&mut plans);
    plans
}

/// Fields of an STE with stage 2.
fn ste_stage_2(plans: &mut Vec<Plan>) {
    let mut ste = |what: String, clear: u64, set: u64| {
        plans.push(Plan::new(format!("STE {what}"), move |scene| {
            mapped_by_stage_2(scene);
            scene.ste[2] = scene.ste[2] & !clear | set;
        }));
    };
    for size in [0, 15, 16, 19, 20, 24, 25, 26, 39, 40, 63] {
        ste(format!("S2T0SZ {size}"), 0x3f << 32, size << 32);
    }
    for start in 0..4 {
        ste(format!("S2SL0 {start}"), 3 << 38, start << 38);
    }
    for granule in 0..4 {
        ste(format!("S2TG {granule}"), 3 << 46, granule << 46);
    }
    // 6 and 7, 52 bits and reserved, end QEMU.
    for size in 0..6 {
        ste(format!("S2PS {size}"), 7 << 48, size << 48);
    }
    ste("S2ENDI".into(), 0, 1 << 52);
    ste("S2HA".into(), 0, 1 << 56);
    ste("S2HA and S2HD".into(), 0, 3 << 55);
    ste("S2HD".into(), 0, 1 << 55);
    ste("S2S".into(), 0, 1 << 57);
    ste("S2R = 0".into(), words::S2R, 0);
    ste("S2VMID of 16 bits".into(), 0, 0xff00);
    for bit in [32, 40, 44, 47] {
        plans.push(Plan::new(format!("STE S2TTB with bit {bit}"), move |scene| {
            mapped_by_stage_2(scene);
            scene.ste[3] |= 1 << bit;
        }));
    }
    plans.push(Plan::new("STE S2TTB in a hole", |scene| {
        mapped_by_stage_2(scene);
        scene.ste[3] = HOLE;
    }));
}

/// Fields of an STE with stage 1.
fn ste_stage_1(plans: &mut Vec<Plan>) {
    let mut ste = |what: &str, word: usize, clear: u64, set: u64| {
        plans.push(Plan::new(format!("STE {what}"), move |scene| {
            mapped_by_stage_1(scene);
            scene.ste[word] = scene.ste[word] & !clear | set;
        }));
    };
    let pointer = (1 << 56) - (1 << 6);
    ste("S1ContextPtr in a hole", 0, pointer, HOLE);
    ste("S1ContextPtr with bit 47", 0, 0, 1 << 47);
    ste("S1STALLD", 1, 0, 1 << 27);
    ste("S1DSS terminate", 1, 3, 0);
    ste("S1DSS bypass", 1, 3, 1);
    ste("S1DSS substream 0", 1, 3, 2);
    ste("S1Fmt 1", 0, 0, 1 << 4);
    ste("S1CIR, S1COR, S1CSH 0", 1, 0xfc, 0);
    ste("SHCFG incoming", 1, 3 << 44, 1 << 44);
    ste("S2 fields that Config does not use", 2, 0, u64::MAX >> 1);
}

/// Fields of a CD.
fn contexts(plans: &mut Vec<Plan>) {
    let mut cd = |what: String, word: u64, clear: u64, set: u64| {
        plans.push(Plan::new(format!("CD {what}"), move |scene| {
            mapped_by_stage_1(scene);
            let place = scene.context() + word * 8;
            let value = scene.word(place) & !clear | set;
            scene.put(place, value);
        }));
    };
    for size in [0, 15, 16, 24, 25, 26, 39, 40, 63] {
        cd(format!("T0SZ {size}"), 0, 0x3f, size);
        cd(format!("T0SZ {size}, EPD0"), 0, 0x3f, size | words::EPD0);
    }
    for size in [0, 15, 40, 63] {
        cd(format!("T1SZ {size}, EPD1"), 0, 0x3f << 16, size << 16);
    }
    for granule in 0..4 {
        cd(format!("TG0 {granule}"), 0, 3 << 6, granule << 6);
        cd(format!("TG0 {granule}, EPD0"), 0, 3 << 6, granule << 6 | words::EPD0);
        cd(format!("TG1 {granule}, EPD1"), 0, 3 << 22, granule << 22);
        cd(format!("TG1 {granule}"), 0, words::EPD1 | 3 << 22, granule << 22 | 25 << 16);
    }
    // 6 and 7, 52 bits and reserved, end QEMU.
    for size in 0..6 {
        cd(format!("IPS {size}"), 0, 7 << 32, size << 32);
    }
    cd("V = 0".into(), 0, words::CD_V, 0);
    cd("AA64 = 0".into(), 0, words::AA64, 0);
    cd("A = 0".into(), 0, words::CD_A, 0);
    cd("R = 0".into(), 0, words::CD_R, 0);
    cd("S = 1".into(), 0, 0, 1 << 44);
    cd("ENDI".into(), 0, 0, 1 << 15);
    cd("ENDI, both regions off".into(), 0, 0, 1 << 15 | words::EPD0);
    cd("HA".into(), 0, 0, 1 << 43);
    cd("HA and HD".into(), 0, 0, 3 << 42);
    cd("HD".into(), 0, 0, 1 << 42);
    cd("PAN".into(), 0, 0, 1 << 40);
    cd("WXN".into(), 0, 0, 1 << 36);
    cd("ASET".into(), 0, 0, 1 << 47);
    cd("ASID 0".into(), 0, 0xffff << 48, 0);
    cd("TTB0 in a hole".into(), 1, u64::MAX, HOLE);
    for bit in [32, 43, 44, 47] {
        cd(format!("TTB0 with bit {bit}"), 1, 0, 1 << bit);
        cd(format!("TTB1 with bit {bit}, EPD1"), 2, 0, 1 << bit);
    }
}

/// Cases that need other settings.
pub fn groups() -> Vec<Group> {
    let usual = Settings::default();
    let group = |settings, first_slot, stride, plans| Group { settings, first_slot, stride, plans };
    vec![
        // Of 2^6 streams the device in slot 6 has the last, and slots from 7 on have none.
        group(Settings { streams: 6, ..usual }, 6, place::SLOTS, whole("last of a short table")),
        group(Settings { streams: 6, ..usual }, 7, 1, whole("beyond a short table")),
        group(
            Settings { streams: 6, record: false, ..usual },
            7,
            1,
            whole("beyond a short table, RECINVSID = 0"),
        ),
        group(
            Settings { enabled: false, ..usual },
            0,
            1,
            vec![Plan::new("SMMU off, GBPA.ABORT = 1", off)],
        ),
        group(
            Settings { enabled: false, abort: false, ..usual },
            0,
            1,
            vec![Plan::new("SMMU off, GBPA.ABORT = 0", off)],
        ),
        // Eight slots share a level 1 descriptor; the one that is used is not its first. This
        // group is the last: QEMU does not go back from two levels to one.
        group(Settings { split: Some(6), ..usual }, 8, 8, first_levels()),
    ]
}

/// Sound STEs, one of each kind.
fn whole(what: &str) -> Vec<Plan> {
    vec![
        Plan::new(format!("{what}, bypass"), |scene| {
            scene.ste = plain(words::BYPASS);
            let reached = scene.target(16);
            scene.both(reached);
        }),
        Plan::new(format!("{what}, stage 1"), |scene| {
            mapped_by_stage_1(scene);
        }),
        Plan::new(format!("{what}, stage 2"), |scene| {
            mapped_by_stage_2(scene);
        }),
    ]
}

fn off(scene: &mut Scene) {
    let reached = scene.target(16);
    scene.both(reached);
    scene.both(1 << 47);
}

/// What a level 1 descriptor may be (5.1): Span in bits 4:0, L2Ptr above.
fn first_levels() -> Vec<Plan> {
    let level = |what: &str, write: fn(u64) -> u64| {
        Plan::new(format!("level 1 descriptor {what}"), move |scene| {
            mapped_by_stage_2(scene);
            let index = u64::from(scene.stream() >> 6);
            let table = place::STREAMS + (index << 6) * 64;
            scene.put(place::STREAMS_FIRST + index * 8, write(table));
        })
    };
    vec![
        level("whole", |table| table | 7),
        level("of zeroes", |_| 0),
        level("with Span = 0", |table| table),
        level("with a Span that is just short", |table| table | 4),
        level("with a Span that just holds it", |table| table | 5),
        level("with a Span above SPLIT", |table| table | 8),
        level("with a reserved Span", |table| table | 31),
        level("in a hole", |_| HOLE | 7),
    ]
}

//! Both stages: each combination of granules, and each place where the second can refuse the first.

use crate::place::{self, HOLE};
use crate::scene::{Plan, Scene};
use crate::tables::{
    AF, GRANULES, READ_ONLY, S2_READ, S2_WRITE, STAGE_1, STAGE_2, Stage, TABLE, VALID, granule_name,
};
use crate::words::{self, cd, nested};

/// Where an intermediate address lies behind the physical one.
const BEHIND: u64 = 4 << 30;

/// A slice through stage 2, with stage 1 in it.
pub struct Both {
    /// Stage 1.
    pub one: Stage,
    /// Stage 2.
    pub two: Stage,
}

impl Both {
    /// Stage 2 maps the device's slice; stage 1 maps nothing.
    pub fn new(scene: &mut Scene, one: u32, two: u32) -> Self {
        let start = if two == 12 { 1 } else { 2 };
        let bits = if two == 14 { 36 } else { 39 };
        let two = Stage::at(scene, two, bits, start);
        let mut one = Stage::one(scene, one, 39);
        one.offset = BEHIND;
        let slice = place::slice(scene.slot);
        // 4 MiB in blocks where a block is not more than that, else in pages.
        let level = if two.granule == 12 { 2 } else { 3 };
        for pa in (slice..slice + place::SLICE).step_by(two.span(level) as usize) {
            two.map(scene, pa + BEHIND, level, pa, STAGE_2);
        }
        let words = cd(scene, &one);
        let context = scene.context();
        scene.put_all(context, &words);
        scene.ste = nested(scene, context + BEHIND, &two);
        Self { one, two }
    }

    /// Stage 1 maps `address` to the intermediate address of `output`.
    pub fn map(&self, scene: &mut Scene, address: u64, level: u32, output: u64, word: u64) {
        self.one.map(scene, address, level, output + BEHIND, word);
    }

    /// Stage 2 maps the page around `pa` with other attributes.
    pub fn behind(&self, scene: &mut Scene, pa: u64, attributes: u64) {
        self.two.map(scene, pa + BEHIND, 3, pa, attributes);
    }

    /// The intermediate address of `pa`.
    pub fn intermediate(&self, pa: u64) -> u64 {
        pa + BEHIND
    }

    /// Stage 2 leads the intermediate address of `pa` to `output`.
    pub fn lead(&self, scene: &mut Scene, pa: u64, output: u64) {
        self.two.map(scene, pa + BEHIND, 3, output, STAGE_2);
    }

    /// Stage 2's descriptor of the page around `pa` becomes `word`.
    pub fn replace(&self, scene: &mut Scene, pa: u64, word: u64) {
        self.two.set(scene, pa + BEHIND, 3, word);
    }
}

/// An address that both stages know, for tests of one place at a time.
pub const ADDRESS: u64 = 0x12_3400_0000;

/// The cases.
pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for one in GRANULES {
        for two in GRANULES {
            let name = format!("nested {} in {}", granule_name(one), granule_name(two));
            plans.push(Plan::new(format!("{name}, page"), move |scene| {
                let both = Both::new(scene, one, two);
                for (address, page) in [(0, 16), (ADDRESS, 32), ((1 << 39) - (1 << one), 48)] {
                    let output = scene.target(page);
                    both.map(scene, address, 3, output, STAGE_1);
                    scene.both(address + 0x7f8);
                }
                scene.both(1 << 32);
                scene.both(1 << 39);
            }));
            plans.push(Plan::new(format!("{name}, block"), move |scene| {
                let both = Both::new(scene, one, two);
                let output = scene.target(16) + BEHIND;
                both.one.map(scene, ADDRESS & !(both.one.span(2) - 1), 2, output, STAGE_1);
                let inside = output & (both.one.span(2) - 1);
                scene.both((ADDRESS & !(both.one.span(2) - 1)) + inside);
            }));
            refusals(&mut plans, one, two);
        }
    }
    plans
}

/// What stage 2 says about the page of something.
type Answer = (&'static str, u64);

const ANSWERS: [Answer; 6] = [
    ("unmapped", 0),
    ("without AF", STAGE_2 ^ AF),
    ("read-only", STAGE_2 ^ S2_WRITE),
    ("write-only", STAGE_2 ^ S2_READ),
    ("without rights", STAGE_2 ^ S2_READ ^ S2_WRITE),
    ("device memory", STAGE_2 & !(0xf << 2)),
];

/// Stage 2 refuses the CD, a table, or the output; or stage 1 is wrong beneath a sound stage 2.
fn refusals(plans: &mut Vec<Plan>, one: u32, two: u32) {
    let name = format!("nested {} in {}", granule_name(one), granule_name(two));
    for (what, attributes) in ANSWERS {
        for (whose, level) in
            [("CD", None), ("root", Some(0)), ("last table", Some(1)), ("output", Some(2))]
        {
            for protect in [false, true] {
                if protect && attributes != STAGE_2 & !(0xf << 2) {
                    continue;
                }
                let state = if protect { ", S2PTW" } else { "" };
                let name = format!("{name}, {whose} {what}{state}");
                plans.push(Plan::new(name, move |scene| {
                    let both = Both::new(scene, one, two);
                    let output = scene.target(16);
                    both.map(scene, ADDRESS, 3, output, STAGE_1);
                    let pa = match level {
                        None => scene.context(),
                        Some(0) => both.one.root,
                        Some(1) => both.one.slot(scene, ADDRESS, 3),
                        _ => output,
                    };
                    if attributes == 0 {
                        both.replace(scene, pa, 0);
                    } else {
                        both.behind(scene, pa, attributes);
                    }
                    if protect {
                        scene.ste[2] |= words::S2PTW;
                    }
                    scene.both(ADDRESS);
                    scene.both(ADDRESS + 0x7f8);
                }));
            }
        }
    }
    let mut wrong = |what: &str, change: fn(&mut Scene, &Both)| {
        plans.push(Plan::new(format!("{name}, {what}"), move |scene| {
            let both = Both::new(scene, one, two);
            let output = scene.target(16);
            both.map(scene, ADDRESS, 3, output, STAGE_1);
            change(scene, &both);
            scene.both(ADDRESS);
        }));
    };
    wrong("stage 1 read-only", |scene, both| {
        let output = scene.target(16);
        both.map(scene, ADDRESS, 3, output, STAGE_1 | READ_ONLY);
    });
    wrong("stage 1 without AF", |scene, both| {
        let output = scene.target(16);
        both.map(scene, ADDRESS, 3, output, STAGE_1 ^ AF);
    });
    wrong("both read-only", |scene, both| {
        let output = scene.target(16);
        both.map(scene, ADDRESS, 3, output, STAGE_1 | READ_ONLY);
        both.behind(scene, output, STAGE_2 ^ S2_WRITE);
    });
    wrong("stage 1 table outside stage 2's input", |scene, both| {
        both.one.set(scene, ADDRESS, both.one.start, 1 << 42 | VALID | TABLE);
    });
    wrong("stage 1 output outside stage 2's input", |scene, both| {
        both.one.set(scene, ADDRESS, 3, 1 << 42 | STAGE_1 | TABLE);
    });
    wrong("stage 1 output beyond IPS", |scene, both| {
        both.one.set(scene, ADDRESS, 3, 1 << 46 | STAGE_1 | TABLE);
    });
    wrong("table behind stage 2 in a hole", |scene, both| {
        let table = both.one.slot(scene, ADDRESS, 3);
        both.replace(scene, table, HOLE | STAGE_2 | TABLE);
    });
    wrong("CD behind stage 2 in a hole", |scene, both| {
        let context = scene.context();
        both.replace(scene, context, HOLE | STAGE_2 | TABLE);
    });
    wrong("stage 2 table in a hole", |scene, both| {
        let root = both.one.root + BEHIND;
        both.two.set(scene, root, both.two.start, HOLE | VALID | TABLE);
    });
}

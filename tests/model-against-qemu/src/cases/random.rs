//! Cases from a seed: sound tables and structures with a few things changed, some of them wrong.

use palisade_smmu_model::Rng;

use crate::cases::nested::{ADDRESS, Both};
use crate::cases::{stage1, stage2};
use crate::scene::{Plan, Scene};
use crate::tables::{GRANULES, STAGE_1, STAGE_2, Stage, VALID, granule_name};

/// `count` cases.
#[must_use]
pub fn plans(seed: u64, count: u64) -> Vec<Plan> {
    (0..count)
        .map(|nth| {
            let seed = seed.wrapping_add(nth);
            Plan::new(format!("random {seed:#x}"), move |scene| write(scene, &mut Rng::new(seed)))
        })
        .collect()
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.index(from.len())]
}

fn write(scene: &mut Scene, rng: &mut Rng) {
    let (one, two) = (pick(rng, &GRANULES), pick(rng, &GRANULES));
    let kind = rng.below(3);
    let pages: Vec<u64> = (0..4).map(|_| rng.below(64)).collect();
    let mut addresses: Vec<u64> = Vec::new();
    match kind {
        0 => {
            let bits = pick(rng, &[25, 30, 32, 36, 39, 42, 44, 47, 48]);
            let stage = stage1::simple(scene, one, bits);
            fill(scene, rng, &stage, STAGE_1, &pages, &mut addresses);
            stage1::change_cd(scene, |word| word ^ some(rng, &CD_BITS));
        }
        1 => {
            let (start, bits) = match two {
                // Without tables side by side, which QEMU does not know.
                12 => pick(rng, &[(1, 32), (1, 36), (1, 39), (0, 42), (0, 44), (2, 28)]),
                14 => pick(rng, &[(2, 32), (2, 36), (1, 42), (1, 44), (3, 25)]),
                _ => pick(rng, &[(2, 36), (2, 39), (2, 42), (1, 44), (3, 29)]),
            };
            let stage = stage2::simple(scene, two, bits, start);
            fill(scene, rng, &stage, STAGE_2, &pages, &mut addresses);
        }
        _ => {
            let both = Both::new(scene, one, two);
            scene.name += &format!(", {} in {}", granule_name(one), granule_name(two));
            let beneath: Vec<u64> = pages.iter().map(|&page| scene.target(page)).collect();
            for &pa in &beneath {
                let address =
                    (rng.next_u64() & ((1 << 39) - 1)) & !((1 << one) - 1) | pa & ((1 << one) - 1);
                both.map(scene, address, 3, pa, STAGE_1 ^ some(rng, &LEAF_1));
                addresses.push(address);
                if rng.percent(30) {
                    both.behind(scene, pa, STAGE_2 ^ some(rng, &LEAF_2));
                }
            }
            if rng.percent(20) {
                let whose = pick(rng, &[both.one.root, scene.context()]);
                both.behind(scene, whose, STAGE_2 ^ some(rng, &LEAF_2));
            }
            addresses.push(ADDRESS);
        }
    }
    if kind != 0 {
        scene.ste[2] ^= some(rng, &STE_BITS);
    }
    damage(scene, rng);
    for address in addresses {
        // A write first: from the TLB, QEMU would refuse it without a record.
        scene.write(address);
        scene.read(address + 0x7f8);
    }
}

/// One of some harmless or harmful bits, rarely.
fn some(rng: &mut Rng, bits: &[u64]) -> u64 {
    if rng.percent(25) { pick(rng, bits) } else { 0 }
}

/// AFFD, TBI0, R, WXN, PAN, ASET.
const CD_BITS: [u64; 6] = [1 << 35, 1 << 38, 1 << 45, 1 << 36, 1 << 40, 1 << 47];
/// S2AFFD, S2PTW, S2R.
const STE_BITS: [u64; 3] = [1 << 53, 1 << 54, 1 << 58];
/// AF, AP\[2\], XN, DBM.
const LEAF_1: [u64; 4] = [1 << 10, 1 << 7, 1 << 54, 1 << 51];
/// AF, S2AP, XN, DBM.
const LEAF_2: [u64; 5] = [1 << 10, 1 << 7, 1 << 6, 3 << 6, 1 << 54];

/// Pages and blocks here and there.
fn fill(
    scene: &mut Scene,
    rng: &mut Rng,
    stage: &Stage,
    attributes: u64,
    pages: &[u64],
    addresses: &mut Vec<u64>,
) {
    let leaf: &[u64] = if attributes == STAGE_1 { &LEAF_1 } else { &LEAF_2 };
    for &page in pages {
        let output = scene.target(page);
        let level = if stage.start <= 2 && rng.percent(30) { 2 } else { 3 };
        let span = stage.span(level);
        let base = (rng.next_u64() & ((1 << stage.bits) - 1)) & !(span - 1);
        stage.map(scene, base, level, output, attributes ^ some(rng, leaf));
        addresses.push(base + (output & (span - 1)));
        if rng.percent(20) {
            addresses.push(base.wrapping_add(span) & !0xfff);
        }
    }
}

/// A descriptor somewhere loses V, or points above all output sizes.
fn damage(scene: &mut Scene, rng: &mut Rng) {
    if !rng.percent(25) {
        return;
    }
    let tables = crate::place::slice(scene.slot) + crate::place::TABLES;
    let places: Vec<u64> = scene.image.range(tables..).map(|(pa, _)| *pa).collect();
    if places.is_empty() {
        return;
    }
    let place = pick(rng, &places);
    let word = scene.word(place) ^ pick(rng, &[VALID, 1 << 45, 1 << 47]);
    scene.put(place, word);
}

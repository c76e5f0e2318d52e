//! STEs (5.2) and CDs (5.4), valid ones; a case changes bits of them.

use crate::scene::Scene;
use crate::tables::Stage;

/// STE.Config: abort, bypass, and which stages translate.
pub const ABORT: u64 = 0;
/// Bypass.
pub const BYPASS: u64 = 4;
/// Stage 1.
pub const STAGE_1_ONLY: u64 = 5;
/// Stage 2.
pub const STAGE_2_ONLY: u64 = 6;
/// Both.
pub const NESTED: u64 = 7;

/// CD word 0: EPD0, EPD1, V, AFFD, TBI0, AA64, R, A.
pub const EPD0: u64 = 1 << 14;
/// No walks through TTB1.
pub const EPD1: u64 = 1 << 30;
/// CD.V.
pub const CD_V: u64 = 1 << 31;
/// CD.AFFD.
pub const AFFD: u64 = 1 << 35;
/// CD.TBI0.
pub const TBI0: u64 = 1 << 38;
/// CD.TBI1.
pub const TBI1: u64 = 1 << 39;
/// CD.AA64.
pub const AA64: u64 = 1 << 41;
/// CD.R.
pub const CD_R: u64 = 1 << 45;
/// CD.A.
pub const CD_A: u64 = 1 << 46;
/// CD.IPS and STE.S2PS of 44 bits.
pub const BITS_44: u64 = 4;

/// STE word 2: S2AFFD, S2PTW, S2R.
pub const S2AFFD: u64 = 1 << 53;
/// STE.S2PTW.
pub const S2PTW: u64 = 1 << 54;
/// STE.S2R.
pub const S2R: u64 = 1 << 58;

/// An STE of this Config and nothing else.
#[must_use]
pub const fn plain(config: u64) -> [u64; 8] {
    [1 | config << 1, 0, 0, 0, 0, 0, 0, 0]
}

/// TG0 and S2TG.
#[must_use]
pub const fn granule_field(granule: u32) -> u64 {
    match granule {
        12 => 0,
        16 => 1,
        _ => 2,
    }
}

/// TG1.
#[must_use]
pub const fn upper_granule_field(granule: u32) -> u64 {
    match granule {
        14 => 1,
        12 => 2,
        _ => 3,
    }
}

/// A CD with `stage` at TTB0, its ASID the slot's number + 1.
#[must_use]
pub fn cd(scene: &Scene, stage: &Stage) -> [u64; 8] {
    let word = u64::from(64 - stage.bits)
        | granule_field(stage.granule) << 6
        | 1 << 8
        | 1 << 10
        | 3 << 12
        | EPD1
        | CD_V
        | BITS_44 << 32
        | AA64
        | CD_R
        | CD_A
        | (scene.slot as u64 + 1) << 48;
    [word, stage.root + stage.offset, 0, 0xff, 0, 0, 0, 0]
}

/// `cd` with `stage` at TTB1 as well.
#[must_use]
pub fn with_upper(mut cd: [u64; 8], stage: &Stage) -> [u64; 8] {
    cd[0] &= !EPD1;
    cd[0] |= u64::from(64 - stage.bits) << 16
        | upper_granule_field(stage.granule) << 22
        | 1 << 24
        | 1 << 26
        | 3 << 28;
    cd[2] = stage.root + stage.offset;
    cd
}

/// An STE that finds its one CD at `context`, cached and inner shareable.
#[must_use]
pub const fn stage_1(context: u64) -> [u64; 8] {
    let mut words = plain(STAGE_1_ONLY);
    words[0] |= context;
    words[1] = 1 << 2 | 1 << 4 | 3 << 6;
    words
}

/// An STE with stage 2 by `stage`, its VMID the slot's number + 1.
#[must_use]
pub fn stage_2(scene: &Scene, stage: &Stage) -> [u64; 8] {
    let mut words = plain(STAGE_2_ONLY);
    let start = if stage.granule == 12 { 2 - stage.start } else { 3 - stage.start };
    words[2] = (scene.slot as u64 + 1)
        | u64::from(64 - stage.bits) << 32
        | u64::from(start) << 38
        | 1 << 40
        | 1 << 42
        | 3 << 44
        | granule_field(stage.granule) << 46
        | BITS_44 << 48
        | 1 << 51
        | S2R;
    words[3] = stage.root;
    words
}

/// Both stages: `two` beneath a CD at the intermediate address `context`.
#[must_use]
pub fn nested(scene: &Scene, context: u64, two: &Stage) -> [u64; 8] {
    let (one, two) = (stage_1(context), stage_2(scene, two));
    let mut words = [one[0], one[1], two[2], two[3], 0, 0, 0, 0];
    words[0] |= NESTED << 1;
    words
}

//! Which bits of an entry hardware reads, given what the entry says.
//!
//! The basis of every hitless update: a bit that is not read may change at any time.

use crate::spec::{Cd, Config, Eats, Field, S1Dss, Ste, Words};

/// The bits of all of `fields`.
const fn bits(fields: &[Field]) -> Words {
    let mut bits = [0; 8];
    let mut at = 0;
    while at < fields.len() {
        bits[fields[at].word()] |= fields[at].mask();
        at += 1;
    }
    bits
}

fn add(used: &mut Words, bits: &Words) {
    for (used, bits) in used.iter_mut().zip(bits) {
        *used |= bits;
    }
}

const STAGE1: &Words = &bits(&[
    Ste::S1FMT,
    Ste::S1_CONTEXT_PTR,
    Ste::S1_CD_MAX,
    Ste::S1DSS,
    Ste::S1CIR,
    Ste::S1COR,
    Ste::S1CSH,
    Ste::S1STALLD,
    Ste::STRW,
]);
const STAGE2: &Words = &bits(&[
    Ste::S2FWB,
    Ste::S2VTCR,
    Ste::S2AA64,
    Ste::S2ENDI,
    Ste::S2AFFD,
    Ste::S2PTW,
    Ste::S2HD,
    Ste::S2HA,
    Ste::S2S,
    Ste::S2R,
    Ste::S2SL0_2,
    Ste::S2DS,
    Ste::S2TTB,
]);
const EITHER: &Words = &bits(&[Ste::MEV, Ste::EATS, Ste::S2VMID]);
/// What a CD without walks of TTB0 leaves unread.
const QUIET: &Words = &bits(&[Cd::T0SZ, Cd::TG0, Cd::IR0, Cd::OR0, Cd::SH0, Cd::TTB0]);

/// The bits of `ste` that the SMMU reads (§5.2: which fields are IGNORED when).
pub fn ste_used(ste: &Words) -> Words {
    if Ste::V.get(ste) == 0 {
        return const { bits(&[Ste::V]) };
    }
    let mut used = const { bits(&[Ste::V, Ste::CONFIG]) };
    let config = Ste::CONFIG.get(ste);
    if config & Config::Bypass as u64 == 0 {
        return used;
    }
    let stage1 = config & 0b001 != 0;
    let stage2 = config & 0b010 != 0;
    if stage1 {
        add(&mut used, STAGE1);
    }
    if stage1 || stage2 {
        add(&mut used, EITHER);
    }
    if stage2 {
        add(&mut used, STAGE2);
    }
    // The incoming attributes survive wherever stage 1 can be bypassed.
    if !stage1 || stage2 || Ste::S1DSS.get(ste) == S1Dss::Bypass as u64 {
        used[Ste::SHCFG.word()] |= Ste::SHCFG.mask();
    }
    used
}

/// The bits of an STE that may change at any time although both entries use them.
///
/// MEV only allows merging. EATS may, because the caller turns a device's ATS off before it
/// changes that device's EATS; but not into or out of split-stage ATS, nor where S2S = 1 makes
/// the pair ILLEGAL.
pub fn ste_safe(current: &Words, target: &Words) -> Words {
    let split = Eats::SplitStage as u64;
    let bound = [current, target].into_iter().any(|entry| {
        let used = ste_used(entry);
        Ste::EATS.get(entry) & Ste::EATS.get(&used) & split != 0
            || Ste::S2S.get(entry) & Ste::S2S.get(&used) != 0
    });
    if bound { const { bits(&[Ste::MEV]) } } else { const { bits(&[Ste::MEV, Ste::EATS]) } }
}

/// The bits of `cd` that the SMMU reads (§5.4).
pub fn cd_used(cd: &Words) -> Words {
    if Cd::V.get(cd) == 0 {
        return const { bits(&[Cd::V]) };
    }
    // Everything, the reserved bits too: none of them is worth a clever proof.
    if Cd::EPD0.get(cd) == 1 { QUIET.map(|unread| !unread) } else { [u64::MAX; 8] }
}

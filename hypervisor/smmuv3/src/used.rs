//! Which bits of an entry hardware reads, given what the entry says.
//!
//! The basis of every hitless update: a bit that is not read may change at any time.

use crate::spec::{Cd, Config, Eats, Field, S1Dss, Ste, Words};

fn add(used: &mut Words, fields: &[Field]) {
    for field in fields {
        if let Some(word) = used.get_mut(field.word()) {
            *word |= field.mask();
        }
    }
}

/// The bits of `ste` that the SMMU reads (§5.2: which fields are IGNORED when).
pub fn ste_used(ste: &Words) -> Words {
    let mut used = [0; 8];
    add(&mut used, &[Ste::V]);
    if Ste::V.get(ste) == 0 {
        return used;
    }
    add(&mut used, &[Ste::CONFIG]);
    let config = Ste::CONFIG.get(ste);
    if config & Config::Bypass as u64 == 0 {
        return used;
    }
    let stage1 = config & 0b001 != 0;
    let stage2 = config & 0b010 != 0;
    if stage1 {
        add(
            &mut used,
            &[
                Ste::S1FMT,
                Ste::S1_CONTEXT_PTR,
                Ste::S1_CD_MAX,
                Ste::S1DSS,
                Ste::S1CIR,
                Ste::S1COR,
                Ste::S1CSH,
                Ste::S1STALLD,
                Ste::STRW,
            ],
        );
    }
    if stage1 || stage2 {
        add(&mut used, &[Ste::MEV, Ste::EATS, Ste::S2VMID]);
    }
    if stage2 {
        add(
            &mut used,
            &[
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
            ],
        );
    }
    // The incoming attributes survive wherever stage 1 can be bypassed.
    if !stage1 || stage2 || Ste::S1DSS.get(ste) == S1Dss::Bypass as u64 {
        add(&mut used, &[Ste::SHCFG]);
    }
    used
}

/// The bits of an STE that may change at any time although both entries use them.
///
/// MEV only allows merging. EATS may, because the caller turns a device's ATS off before it
/// changes that device's EATS; but not into or out of split-stage ATS, nor where S2S = 1 makes
/// the pair ILLEGAL.
pub fn ste_safe(current: &Words, target: &Words) -> Words {
    let mut safe = [0; 8];
    add(&mut safe, &[Ste::MEV]);
    let split = Eats::SplitStage as u64;
    let bound = [current, target].into_iter().any(|entry| {
        let used = ste_used(entry);
        Ste::EATS.get(entry) & Ste::EATS.get(&used) & split != 0
            || Ste::S2S.get(entry) & Ste::S2S.get(&used) != 0
    });
    if !bound {
        add(&mut safe, &[Ste::EATS]);
    }
    safe
}

/// The bits of `cd` that the SMMU reads (§5.4).
pub fn cd_used(cd: &Words) -> Words {
    let mut used = [0; 8];
    add(&mut used, &[Cd::V]);
    if Cd::V.get(cd) == 0 {
        return used;
    }
    // Everything, the reserved bits too: none of them is worth a clever proof.
    used = [u64::MAX; 8];
    if Cd::EPD0.get(cd) == 1 {
        for field in [Cd::T0SZ, Cd::TG0, Cd::IR0, Cd::OR0, Cd::SH0, Cd::TTB0] {
            if let Some(word) = used.get_mut(field.word()) {
                *word &= !field.mask();
            }
        }
    }
    used
}

//! What is known to be wrong with SMMUs of the field, by SMMU_IIDR (§6.3.7).
//!
//! One row per erratum, with where it is told. An SMMU that cannot be driven is refused by name,
//! one that can be is restricted and says so once. Errata of what this driver never uses (SEV,
//! broadcast TLB maintenance, prefetch) need no row: CR2.PTM is always set, no command asks for an
//! event, none prefetches.

use crate::features::{Features, Unsupported};

/// SMMU_IIDR, taken apart (§6.3.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// ProductID, bits \[31:20\].
    pub product: u16,
    /// Variant, bits \[19:16\]: the n of rnpm.
    pub variant: u8,
    /// Revision, bits \[15:12\]: the m of rnpm.
    pub revision: u8,
    /// Implementer, bits \[11:0\]: a JEP106 code.
    pub implementer: u16,
}

impl Identity {
    /// Takes the register's value apart.
    pub const fn new(iidr: u32) -> Self {
        Self {
            product: (iidr >> 20) as u16,
            variant: (iidr >> 16 & 0xf) as u8,
            revision: (iidr >> 12 & 0xf) as u8,
            implementer: (iidr & 0xfff) as u16,
        }
    }
}

/// Arm (§6.3.7 names it).
const ARM: u16 = 0x43b;
/// Cavium: bank 4, code 0x4c of JEP106.
const CAVIUM: u16 = 0x34c;

/// What an erratum makes of an SMMU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Invalidations go wrong while both stages translate: one stage at a time only.
    NoNesting,
    /// Commands of different kinds need a CMD_SYNC between them.
    SyncBetweenKinds,
    /// It cannot be driven.
    Refused(Unsupported),
}

impl core::fmt::Display for Effect {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoNesting => f.write_str("no nested translation"),
            Self::SyncBetweenKinds => f.write_str("a sync between commands of different kinds"),
            Self::Refused(why) => write!(f, "refused, {why}"),
        }
    }
}

/// One erratum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Erratum {
    /// The part's name.
    pub part: &'static str,
    /// Its maker's number for it.
    pub number: &'static str,
    /// What follows from it.
    pub effect: Effect,
    /// Where it is told.
    pub source: &'static str,
    implementer: u16,
    /// `None`: every product of the implementer.
    product: Option<u16>,
    /// The first variant and revision without it; `None`: there is none.
    fixed: Option<(u8, u8)>,
}

impl Erratum {
    fn concerns(&self, id: &Identity) -> bool {
        self.implementer == id.implementer
            && self.product.is_none_or(|product| product == id.product)
            && self.fixed.is_none_or(|fixed| (id.variant, id.revision) < fixed)
    }
}

const MMU_600: Erratum = Erratum {
    part: "MMU-600",
    number: "1209401",
    effect: Effect::NoNesting,
    source: "Arm SDEN of MMU-600; Linux 0bfbfc526c70",
    implementer: ARM,
    product: Some(0x483),
    fixed: Some((2, 0)),
};
const MMU_700: Erratum = Erratum {
    part: "MMU-700",
    number: "2268618",
    source: "Arm SDEN of MMU-700; Linux 0bfbfc526c70; r1p1 is sound by Android's pKVM driver",
    product: Some(0x487),
    fixed: Some((1, 1)),
    ..MMU_600
};

/// All that is known.
pub const ERRATA: &[Erratum] = &[
    MMU_600,
    MMU_700,
    Erratum { number: "2812531", ..MMU_700 },
    // Not said to be fixed anywhere; the sync costs little.
    Erratum {
        number: "2812531",
        effect: Effect::SyncBetweenKinds,
        source: "Arm SDEN of MMU-700; Linux 309a15cb16bb",
        fixed: None,
        ..MMU_700
    },
    Erratum {
        part: "ThunderX2 SMMU",
        number: "74",
        effect: Effect::Refused(Unsupported::PageOne),
        source: "Cavium erratum 74; Linux Documentation/arch/arm64/silicon-errata.rst",
        implementer: CAVIUM,
        product: None,
        fixed: None,
    },
];

/// The errata of an SMMU.
pub fn errata(id: Identity) -> impl Iterator<Item = &'static Erratum> {
    ERRATA.iter().filter(move |erratum| erratum.concerns(&id))
}

impl Features {
    /// Takes away what `erratum` makes unusable.
    ///
    /// # Errors
    /// That of an SMMU that cannot be driven at all.
    pub fn restrict(&mut self, erratum: &Erratum) -> Result<(), Unsupported> {
        match erratum.effect {
            Effect::NoNesting => self.nested = false,
            Effect::SyncBetweenKinds => self.sync_between_kinds = true,
            Effect::Refused(why) => return Err(why),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn numbers(product: u32, variant: u32, revision: u32, implementer: u32) -> Vec<&'static str> {
        let iidr = product << 20 | variant << 16 | revision << 12 | implementer;
        errata(Identity::new(iidr)).map(|erratum| erratum.number).collect()
    }

    /// Each row concerns its revisions and no others.
    #[test]
    fn by_part_and_revision() {
        for (variant, revision) in [(0, 0), (0, 2), (1, 0), (1, 9)] {
            assert_eq!(numbers(0x483, variant, revision, 0x43b), ["1209401"]);
        }
        assert!(numbers(0x483, 2, 0, 0x43b).is_empty());
        for (variant, revision) in [(0, 0), (0, 1), (1, 0)] {
            let found = numbers(0x487, variant, revision, 0x43b);
            assert_eq!(found, ["2268618", "2812531", "2812531"]);
        }
        assert_eq!(numbers(0x487, 1, 1, 0x43b), ["2812531"]);
        assert_eq!(numbers(0, 0, 0, 0x34c), ["74"]);
        // QEMU's, and a part of another maker with the same product number.
        assert!(numbers(0, 0, 0, 0).is_empty());
        assert!(numbers(0x483, 0, 0, 0x123).is_empty());
    }
}

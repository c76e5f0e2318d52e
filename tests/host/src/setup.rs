//! What a world is made from.

use palisade_smmu_model::{Features, Rng};

use crate::sabotage::Sabotage;

/// What a world is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The SMMU.
    pub features: Features,
    /// Of everything.
    pub seed: u64,
    /// What is planted.
    pub sabotage: Option<Sabotage>,
    /// Faults of the SMMU itself are injected.
    pub injections: bool,
    /// Completion by message, where the SMMU offers it.
    pub messages: bool,
    /// The contiguous hint is used.
    pub contiguous: bool,
}

impl Setup {
    /// A coherent or plain SMMU, chosen by the seed like everything else.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let base = if rng.percent(25) {
            Features::minimal()
        } else {
            let mut features = Features::default();
            features.coherent = rng.percent(60);
            features.ril = rng.percent(70);
            features.msi = rng.percent(50);
            features.ats = rng.percent(60);
            features.pri = features.ats && rng.percent(50);
            features.two_level_streams = rng.percent(60);
            features.sid_bits = if features.two_level_streams { 16 } else { 7 };
            features.hyp = rng.percent(70);
            features.cmdq_log2 = 3 + rng.below(5) as u32;
            features.evtq_log2 = 3 + rng.below(4) as u32;
            features.bbml = 1 + rng.below(2) as u8;
            features.gbpa_abort = rng.percent(50);
            features
        };
        Setup {
            features: base,
            seed,
            sabotage: None,
            injections: false,
            messages: rng.percent(50),
            contiguous: rng.percent(50),
        }
    }
}

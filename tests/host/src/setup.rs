//! What a world is made from.

use palisade_smmu_model::{Features, Rng};

use crate::sabotage::Sabotage;

/// Which faults of the SMMU are injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injections {
    /// None.
    None,
    /// Those that a driver survives without failing: late answers, aborted command fetches.
    Survivable,
    /// All; operations may fail, nothing may open.
    All,
}

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
    pub injections: Injections,
    /// Completion by message, where the SMMU offers it.
    pub messages: bool,
    /// Mostly blocks and runs are mapped and split, and the caches forget soon.
    pub splits: bool,
    /// Nothing is cached, every page has tables of its own, and devices try often: what is seen
    /// between two stores matters most.
    pub instants: bool,
    /// Firmware has left the SMMU enabled, some streams bypassing.
    pub firmware: bool,
    /// The contiguous hint is used.
    pub contiguous: bool,
}

impl Setup {
    /// A coherent or plain SMMU, chosen by the seed like everything else.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let mut base = if rng.percent(25) {
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
        let firmware = base.coherent && rng.percent(50);
        // Firmware's streams that abort shall have something to lose.
        base.gbpa_abort &= !firmware;
        Setup {
            firmware,
            features: base,
            seed,
            sabotage: None,
            instants: rng.percent(15),
            splits: rng.percent(15),
            injections: Injections::None,
            messages: rng.percent(50),
            contiguous: rng.percent(50),
        }
    }
}

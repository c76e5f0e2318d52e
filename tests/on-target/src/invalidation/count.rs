//! One call, counted.

use core::hint::black_box;

use palisade_hal::{Env, pmu};
use palisade_iommu::{DriverError, IommuDriver};
use palisade_smmuv3::Smmu;

/// What a call did.
#[derive(Clone, Copy, Default)]
pub struct Count {
    /// Commands, CMD_SYNCs included.
    pub commands: u64,
    /// Writes of CMDQ_PROD.
    pub batches: u64,
    /// Turns of waiting loops, where they can be counted.
    pub turns: u64,
    /// Instructions.
    pub instructions: u64,
}

/// Counts what `call` makes of the driver, which it sees by the trait as the core does; `turns`
/// answers how many turns were waited since it was asked last.
pub fn count<E: Env + Send + Sync>(
    smmu: &Smmu<E>,
    turns: impl Fn() -> u64,
    call: impl FnOnce(&dyn IommuDriver) -> Result<(), DriverError>,
) -> (Count, Result<(), DriverError>) {
    let before = smmu.queue_counts();
    turns();
    let driver: &dyn IommuDriver = black_box(smmu);
    let (result, instructions) = pmu::retired(|| call(driver));
    let after = smmu.queue_counts();
    let count = Count {
        commands: after.commands - before.commands,
        batches: after.prod_writes - before.prod_writes,
        turns: turns(),
        // Where nothing counts, everything is too much.
        instructions: instructions.unwrap_or(u32::MAX).into(),
    };
    (count, result)
}

//! Calls whose commands the SMMU on paper refuses.

use palisade_hal::Ipa;
use palisade_iommu::{DriverError, Invalidation, IommuDriver};
use palisade_on_target::say;
use palisade_smmuv3::{Smmu, bound};

use crate::count::count;
use crate::paper::Paper;
use crate::paths::VMID;
use crate::smmus::Sum;
use crate::verdict::Verdict;

/// What is called, and how many of its commands are refused.
const CASES: [(&str, u32); 4] = [("none", 0), ("one", 1), ("eight", 8), ("all", 64)];

/// Every case on an SMMU without range invalidation; whether each ended as it must.
pub fn all(paper: &Paper, smmu: &Smmu<&'static Paper>, sum: &mut Sum) -> bool {
    let (start, granule) = (Ipa::new(0), 1 << 12);
    let call = [Invalidation::StageTwo { vmid: VMID, start, size: 64 << 12, granule, leaf: None }];
    CASES.into_iter().all(|(name, refused)| {
        paper.refuse(refused);
        let (count, result) = count(smmu, || paper.turns(), |driver| driver.invalidate(&call));
        let bound = smmu.bound(&call);
        let verdict = Verdict {
            count,
            commands: bound.commands,
            batches: bound.batches,
            instructions: bound.instructions
                + bound::TURN * count.turns
                + bound::REFUSAL * u64::from(refused),
        };
        say!("on-target: refused: {name}: {verdict}");
        sum.add(1, &verdict);
        // What was refused may not have been done: the caller is not told that all went well.
        let answer = if refused == 0 { Ok(()) } else { Err(DriverError::InvalidationTimeout) };
        let right = result == answer && smmu.is_alive() && count.turns == u64::from(refused) + 1;
        if !right {
            say!("on-target: refused: {name}: WRONG: {result:?}, {} turns", count.turns);
        }
        right
    })
}

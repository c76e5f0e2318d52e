//! Mistakes that the verdict must find.

use palisade_hal::Env;
use palisade_iommu::Invalidation;
use palisade_on_target::say;
use palisade_smmuv3::Smmu;

use crate::count::count;
use crate::paths::VMID;
use crate::verdict::Verdict;

/// Plants each on an SMMU that answers at once; whether all were found.
pub fn all<E: Env + Send + Sync>(smmu: &Smmu<E>) -> bool {
    let call = [Invalidation::Vmid(VMID)];
    let bound = smmu.bound(&call);
    let judge = |count| {
        let (commands, batches) = (2 * bound.commands, 2 * bound.batches);
        Verdict { count, commands, batches, instructions: bound.instructions }
    };
    let once = judge(count(smmu, || 0, |driver| driver.invalidate(&call)).0);
    let twice = count(
        smmu,
        || 0,
        |driver| driver.invalidate(&call).and_then(|()| driver.invalidate(&call)),
    );
    let counted = once.count.instructions;
    let mut found_all = once.holds() && once.means();
    let mut planted = |what: &str, found: bool| {
        let word = if found { "found" } else { "MISSED" };
        say!("on-target: planted: {what}: {word}");
        found_all &= found;
    };
    planted("a bound of one instruction less than the call takes", {
        let exact = Verdict { instructions: counted, ..once };
        exact.holds() && !Verdict { instructions: counted - 1, ..once }.holds()
    });
    planted("a bound of a third more than the call takes", {
        !Verdict { instructions: counted + counted / 3, ..once }.means()
    });
    planted("a bound of a command less than the call sends", {
        !Verdict { commands: once.count.commands - 1, ..once }.holds()
    });
    planted("the call made twice", !judge(twice.0).holds());
    found_all
}

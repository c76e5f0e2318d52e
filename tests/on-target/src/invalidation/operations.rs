//! What the bench calls operations, by its names: the instructions of each, when the SMMU is done
//! at the driver's first look.

use alloc::vec;
use alloc::vec::Vec;

use palisade_hal::{Env, Ipa, PhysAddr, StreamId};
use palisade_iommu::{Invalidation, IommuDriver, StageTwo, StreamPolicy};
use palisade_on_target::memory::POOL;
use palisade_on_target::say;
use palisade_smmuv3::Smmu;

use crate::count::{Count, count};
use crate::paper::Paper;
use crate::paths::{ASID, VMID};

fn stage_two(size: u64) -> Invalidation {
    let start = Ipa::new(0x4000_0000);
    Invalidation::StageTwo { vmid: VMID, start, size, granule: 1 << 12, leaf: None }
}

fn unmaps() -> [(&'static str, Vec<Invalidation>); 3] {
    [
        ("smmu_unmap_4k", vec![stage_two(1 << 12)]),
        ("smmu_unmap_256k", vec![stage_two(1 << 18)]),
        ("smmu_unmap_1g", vec![stage_two(1 << 30)]),
    ]
}

fn show(name: &str, suffix: &str, count: Count) {
    say!("on-target: operation {name}{suffix}: {} instructions", count.instructions);
}

/// On QEMU's SMMU.
pub fn at_once<E: Env + Send + Sync>(smmu: &Smmu<E>) {
    let others = [
        ("smmu_unmap_nested", vec![stage_two(1 << 21), Invalidation::StageOneOf(VMID)]),
        ("smmu_flush_vmid", vec![Invalidation::Vmid(VMID)]),
        ("smmu_flush_asid", vec![Invalidation::Asid { vmid: VMID, asid: ASID }]),
    ];
    for (name, call) in unmaps().into_iter().chain(others) {
        show(name, "", count(smmu, || 0, |driver| driver.invalidate(&call)).0);
    }
    let stream = StreamId::new(1000);
    let stage_two = StageTwo { vmid: VMID, table: PhysAddr::new(POOL.end), control: 0x4_3558 };
    smmu.prepare(stream).expect("a second level");
    let policy = StreamPolicy::default();
    let attach = |driver: &dyn IommuDriver| driver.attach(stream, &stage_two, policy);
    show("smmu_attach", "", count(smmu, || 0, attach).0);
    show("smmu_detach", "", count(smmu, || 0, |driver| driver.detach(stream)).0);
}

/// On one without range invalidation.
pub fn single(paper: &Paper, smmu: &Smmu<&'static Paper>) {
    for (name, call) in unmaps() {
        // Once to see how many commands it sends, and once more with the answer before the question.
        let invalidate = |driver: &dyn IommuDriver| driver.invalidate(&call);
        let (late, _) = count(smmu, || paper.turns(), invalidate);
        paper.answer_ahead(late.commands);
        let (at_once, _) = count(smmu, || paper.turns(), invalidate);
        assert!(at_once.turns == 0 && at_once.commands == late.commands, "it was done at once");
        show(name, "_without_range_invalidation", at_once);
    }
}

//! SMMUv3 nodes.

use arrayvec::ArrayVec;
use palisade_board::{MAX_SMMUS, Smmu};

use crate::error::{Error, Problem};
use crate::tree::{Tree, Visit};

/// Every enabled SMMUv3.
pub(crate) fn read<'a>(
    tree: &Tree<'a>,
    gic: u32,
    smmus: &mut ArrayVec<Smmu, MAX_SMMUS>,
) -> Result<(), Error<'a>> {
    tree.visit(&mut |node| {
        if !node.enabled() {
            return Ok(Visit::Skip);
        }
        if !node.compatible(&["arm,smmu-v3"]) {
            return Ok(Visit::Children);
        }
        let phandle = node.phandle();
        // Without one no iommu-map can name it; twice the same names neither.
        if phandle == 0 || smmus.iter().any(|smmu| smmu.phandle == phandle) {
            return Err(node.problem("phandle", Problem::Value));
        }
        let smmu = Smmu {
            phandle,
            registers: node.first_register()?,
            eventq: node.named_interrupt(tree, gic, "eventq")?,
            priq: node.named_interrupt(tree, gic, "priq")?,
            cmdq_sync: node.named_interrupt(tree, gic, "cmdq-sync")?,
            gerror: node.named_interrupt(tree, gic, "gerror")?,
            combined: node.named_interrupt(tree, gic, "combined")?,
            coherent: node.property("dma-coherent").is_some(),
        };
        smmus.try_push(smmu).map_err(|_| node.too_many("SMMUs"))?;
        Ok(Visit::Skip)
    })
}

//! SMMUv3 nodes.

use alloc::vec::Vec;

use palisade_board::{MAX_SMMUS, Part, Reason, Smmu};

use crate::controllers::Controllers;
use crate::error::Error;
use crate::notes::Notes;
use crate::tree::{Tree, Visit};

/// Every enabled SMMUv3.
///
/// # Errors
/// There are more than [`MAX_SMMUS`]: the rest could not be made to abort.
pub(crate) fn read<'t, 'a>(
    tree: &'t Tree<'a>,
    controllers: &Controllers<'t, 'a>,
    notes: &mut Notes<'a>,
) -> Result<Vec<Smmu>, Error<'a>> {
    let mut smmus: Vec<Smmu> = Vec::new();
    let mut doubled: Vec<u32> = Vec::new();
    tree.visit(&mut |node| {
        if !node.enabled() {
            return Ok(Visit::Skip);
        }
        if !node.compatible(&["arm,smmu-v3"]) {
            return Ok(Visit::Children);
        }
        let registers = node.first_register();
        let Some(registers) = notes.keep(node, Part::SmmuRegisters, registers) else {
            return Ok(Visit::Skip);
        };
        if smmus.len() >= MAX_SMMUS {
            return Err(node.too_many("SMMUs", MAX_SMMUS));
        }
        let mut wire = |name| {
            let interrupt = controllers.named(node, name);
            notes.keep(node, Part::SmmuInterrupt, interrupt).flatten()
        };
        let [eventq, priq, cmdq_sync, gerror, combined] =
            ["eventq", "priq", "cmdq-sync", "gerror", "combined"].map(&mut wire);
        let phandle = node.phandle();
        if phandle == 0 {
            notes.add(node, Part::Smmu, Reason::NoPhandle);
        } else if smmus.iter().any(|smmu| smmu.phandle == phandle) {
            notes.add(node, Part::Smmu, Reason::Ambiguous);
            doubled.push(phandle);
        }
        let coherent = node.coherent();
        smmus.push(Smmu {
            phandle,
            registers,
            eventq,
            priq,
            cmdq_sync,
            gerror,
            combined,
            coherent,
        });
        Ok(Visit::Skip)
    })?;
    // Which of several an `iommu-map` means cannot be known: it means none of them.
    for smmu in smmus.iter_mut().filter(|smmu| doubled.contains(&smmu.phandle)) {
        smmu.phandle = 0;
    }
    Ok(smmus)
}

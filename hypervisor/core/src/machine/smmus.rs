//! The SMMUs: set to abort first, brought up later, registered with the IOMMU core.

use alloc::sync::Arc;

use palisade_board::{BoardInfo, Smmu as Node};
use palisade_hal::cpu::Counter;
use palisade_hal::machine::{Machine, MapKind};
use palisade_hal::mmio::Mmio;
use palisade_iommu::{IommuDriver, Iommus, Registration};
use palisade_mem::Frames;
use palisade_smmuv3::{Options, Smmu, abort_by_default};

use crate::wire::report::Record;

/// Deadline of one register acknowledgement, in microseconds.
const ACKNOWLEDGE: u64 = 100_000;

/// Maps an SMMU's registers.
fn registers(machine: &dyn Machine, node: &Node) -> Option<Mmio> {
    let range = node.registers.start()..node.registers.end();
    if let Err(error) = machine.map(range, MapKind::Device) {
        log::error!("SMMU at {:#x}: {error}", node.registers.start());
        return None;
    }
    // SAFETY: mapped as Device memory just now, for good; only this file makes
    // pointers to SMMUs, and gives each to one driver.
    Some(unsafe { Mmio::new(node.registers.base(), node.registers.size()) })
}

/// Makes every stream of every SMMU abort. The first thing that is done to them,
/// and done before anything else that is not needed for it.
pub(crate) fn abort_all(board: &BoardInfo<'_>, machine: &dyn Machine) {
    for node in &board.smmus {
        let Some(mmio) = registers(machine, node) else { continue };
        if let Err(error) = abort_by_default(&mmio, &Counter, ACKNOWLEDGE) {
            log::error!("SMMU at {:#x}: {error}", node.registers.start());
        }
    }
}

/// Brings every SMMU up, every stream aborting, and registers it. One that fails
/// is named and left out: what is behind it cannot be assigned.
pub(crate) fn bring_up(
    board: &BoardInfo<'_>,
    machine: &dyn Machine,
    frames: &Arc<Frames>,
    iommus: &Iommus,
) {
    for node in &board.smmus {
        let base = node.registers.start();
        let problem = match one(node, machine, frames, iommus) {
            Ok(()) => None,
            Err(problem) => {
                log::error!("SMMU at {base:#x}: {problem}");
                Some(problem)
            }
        };
        Record::new("smmu")
            .address("base", base)
            .number("phandle", node.phandle.into())
            .maybe_text("error", problem.as_deref())
            .send();
    }
}

fn one(
    node: &Node,
    machine: &dyn Machine,
    frames: &Arc<Frames>,
    iommus: &Iommus,
) -> Result<(), alloc::string::String> {
    let text = |error: &dyn core::fmt::Display| alloc::format!("{error}");
    let mmio = registers(machine, node).ok_or("registers not mapped")?;
    // What no map can name is brought up for its streams to abort, and for nothing else.
    let phandle = node.phandle;
    let named = phandle != 0;
    let options =
        Options { phandle, coherent: node.coherent, interrupts: named, ..Options::default() };
    let smmu = Smmu::bring_up(mmio, frames, Counter, options).map_err(|e| text(&e))?;
    let can = smmu.capabilities();
    log::info!(
        "SMMU at {:#x}: {}{}{} bits of StreamID, {} of VMID, {} of address",
        node.registers.start(),
        if can.stage1 { "stage 1, " } else { "" },
        if can.stage2 { "stage 2, " } else { "NO STAGE 2, " },
        can.stream_bits,
        can.vmid_bits,
        can.output_bits,
    );
    if !named {
        // It runs as long as the machine does.
        core::mem::forget(smmu);
        return Err("no device can be known to be behind it: every stream aborts".into());
    }
    let agent = frames.register_agent("smmu").map_err(|e| text(&e))?;
    let registration = Registration { phandle: node.phandle, driver: Arc::new(smmu), agent };
    iommus.register(registration).map(|_| ()).map_err(|rejected| text(&rejected.error))
}

//! What is in use now: frames, heap, identifiers.

use crate::machine::heap;
use crate::machine::instances::Machine;
use crate::wire::report::Record;

/// Reports it.
pub(crate) fn report(machine: &Machine) {
    let used = machine.frames.footprint();
    let ids = machine.iommus.footprint();
    let (heap, heap_total) = heap::usage();
    let lpis = machine.messages();
    let (lpis, routes) = lpis.map_or((0, 0), |m| (m.lpis().in_use(), m.routes()));
    log::info!("heap {heap} of {heap_total} bytes, {} frames free", used.free);
    Record::new("footprint")
        .number("free", used.free)
        .number("private", used.private)
        .number("table", used.table)
        .number("guest", used.guest)
        .number("dma", used.dma)
        .number("detached", used.detached)
        .number("quarantined", used.quarantined)
        .number("leaked", used.leaked)
        .number("heap", heap as u64)
        .number("vmids", ids.vmids.into())
        .number("vmids_lost", ids.vmids_lost.into())
        .number("groups", ids.groups as u64)
        .number("claimed", ids.claimed as u64)
        .number("fault_routes", ids.routes as u64)
        .number("lpis", lpis.into())
        .number("lpi_routes", routes as u64)
        .send();
}

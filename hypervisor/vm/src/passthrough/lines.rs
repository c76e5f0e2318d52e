//! Who owns which interrupt line: one book for the hypervisor's own, the PCIe hosts' wires and
//! those of devices by path. A level that two owners share cannot be told apart, and either could
//! keep it up.

use alloc::vec::Vec;
use core::fmt;

use palisade_gic::FIRST_SPI;
use palisade_hal::lock::{Mutex, Rank};

/// What a line belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// The hypervisor's own, for what it names.
    Hypervisor(&'static str),
    /// A wire of a PCIe host, which only its devices may be given.
    PcieHost,
    /// The VM with this index.
    Vm(u16),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hypervisor(what) => write!(f, "is the hypervisor's own ({what})"),
            Self::PcieHost => f.write_str("is a wire of a PCIe host"),
            Self::Vm(vm) => write!(f, "is VM {vm}'s already"),
        }
    }
}

/// Why a line does not belong to a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its INTID.
    pub intid: u32,
    /// What it belongs to.
    pub holder: Holder,
}

/// A line that is not free.
struct Line {
    intid: u32,
    /// The hypervisor's, or a PCIe host's; without either a device's by path.
    fixed: Option<Holder>,
    /// Index of the VM that receives it.
    vm: Option<u16>,
}

fn holder(lines: &[Line], intid: u32) -> Option<Holder> {
    // SGIs and PPIs (IHI 0069, 2.2.1): every core has its own, and the hypervisor uses them.
    if intid < FIRST_SPI {
        return Some(Holder::Hypervisor("private to each core"));
    }
    let line = lines.iter().find(|line| line.intid == intid)?;
    line.vm.map(Holder::Vm).or(line.fixed)
}

/// The owners of all interrupt lines. Lock order: a leaf.
pub struct LineBook {
    lines: Mutex<Vec<Line>>,
}

impl Default for LineBook {
    fn default() -> Self {
        Self::new()
    }
}

impl LineBook {
    /// A book in which every line is free.
    pub const fn new() -> Self {
        Self { lines: Mutex::new(Rank::Lines, Vec::new()) }
    }

    /// Keeps a line for the hypervisor itself. Before any VM is given a line.
    pub fn reserve(&self, intid: u32, what: &'static str) {
        self.fix(intid, Holder::Hypervisor(what));
    }

    /// Keeps a line for the devices of a PCIe host, unless it is the hypervisor's own. Before any
    /// VM is given a line.
    pub fn reserve_wire(&self, intid: u32) {
        if !matches!(self.holder(intid), Some(Holder::Hypervisor(_))) {
            self.fix(intid, Holder::PcieHost);
        }
    }

    fn fix(&self, intid: u32, holder: Holder) {
        let mut lines = self.lines.lock();
        match lines.iter_mut().find(|line| line.intid == intid) {
            Some(line) => line.fixed = Some(holder),
            None => lines.push(Line { intid, fixed: Some(holder), vm: None }),
        }
    }

    /// What a line belongs to; none if it is free.
    pub fn holder(&self, intid: u32) -> Option<Holder> {
        holder(&self.lines.lock(), intid)
    }

    /// Gives VM `vm` the lines of its devices by path, all of them or none. One may be named
    /// more than once: devices of one VM may share it.
    ///
    /// # Errors
    /// The first line that is not free.
    pub fn give(&self, vm: u16, intids: &[u32]) -> Result<(), Held> {
        let mut lines = self.lines.lock();
        for &intid in intids {
            if let Some(holder) = holder(&lines, intid) {
                return Err(Held { intid, holder });
            }
        }
        for &intid in intids {
            if !lines.iter().any(|line| line.intid == intid) {
                lines.push(Line { intid, fixed: None, vm: Some(vm) });
            }
        }
        Ok(())
    }

    /// Gives VM `vm` a wire of a PCIe host; false if it is not free.
    pub fn give_wire(&self, vm: u16, intid: u32) -> bool {
        let mut lines = self.lines.lock();
        let free = |line: &&mut Line| {
            line.intid == intid && line.fixed == Some(Holder::PcieHost) && line.vm.is_none()
        };
        let line = lines.iter_mut().find(free);
        line.map(|line| line.vm = Some(vm)).is_some()
    }

    /// A PCIe host's wire is no VM's any more.
    pub fn return_wire(&self, intid: u32) {
        let mut lines = self.lines.lock();
        lines.iter_mut().filter(|line| line.intid == intid).for_each(|line| line.vm = None);
        lines.retain(|line| line.vm.is_some() || line.fixed.is_some());
    }

    /// The lines of VM `vm`'s devices by path are free again.
    pub fn return_all(&self, vm: u16) {
        self.lines.lock().retain(|line| line.vm != Some(vm) || line.fixed.is_some());
    }
}

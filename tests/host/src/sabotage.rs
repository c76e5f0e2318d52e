//! Faults planted at the seams: what the fake CPU drops, and what a filter does to commands and
//! register stores on their way to the model.

use core::panic::Location;

use palisade_hal::fake::{Barrier, Op};
use palisade_smmu_model::Filtered;

/// A place in the source that asks the CPU for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The file, from the workspace's root.
    pub file: &'static str,
    /// The line.
    pub line: u32,
    /// What is asked for.
    pub what: &'static str,
}

impl Site {
    /// The place and kind of `op`.
    pub fn of(op: &Op, location: &'static Location<'static>) -> Self {
        let what = match op {
            Op::Barrier(Barrier::Isb) => "isb",
            Op::Barrier(Barrier::DsbIsh) => "dsb-ish",
            Op::Barrier(Barrier::DsbIshst) => "dsb-ishst",
            Op::Barrier(Barrier::DsbSy) => "dsb-sy",
            Op::Barrier(Barrier::DsbSt) => "dsb-st",
            Op::Barrier(Barrier::DmbOshst) => "dmb-oshst",
            Op::Barrier(Barrier::DmbOshld) => "dmb-oshld",
            Op::Barrier(Barrier::DmbIsh) => "dmb-ish",
            Op::Barrier(Barrier::Publish) => "stlr",
            Op::Clean { invalidate: false, .. } => "clean",
            Op::Clean { invalidate: true, .. } => "clean-invalidate",
            Op::Tlbi(_) => "tlbi",
        };
        let file = location.file();
        let file = file.find("hypervisor/").map_or(file, |start| &file[start..]);
        Site { file, line: location.line(), what }
    }
}

/// What happens to a command on its way into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFault {
    /// It is consumed without effect.
    Drop,
    /// Its VMID is another one.
    OtherVmid,
    /// Its StreamID is another one.
    OtherStream,
    /// It names a page further on.
    OtherPage,
    /// Its range is one granule shorter.
    ShorterRange,
    /// Its Leaf bit is set.
    LeafOnly,
    /// It comes after the one behind it.
    Late,
    /// Bits 4 to 0 of its second word are 0: a range of streams shrinks to two.
    Narrow,
}

/// What happens to a register store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// It does not arrive.
    Drop,
    /// These bits are cleared on the way.
    Clear(u64),
    /// These bits are set on the way.
    Set(u64),
}

/// One planted fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The CPU does nothing for this site.
    Skip(Site),
    /// A command of this opcode, while the world does `during` ("" for always).
    Command {
        /// The opcode.
        opcode: u8,
        /// The operation under way.
        during: &'static str,
        /// What happens to it.
        fault: CommandFault,
    },
    /// A store to the register at this offset.
    Store {
        /// The offset.
        offset: u64,
        /// What happens to it.
        fault: StoreFault,
    },
    /// Completion is believed without having come: CMDQ_CONS reads as CMDQ_PROD.
    ConsFollowsProd,
    /// CR0ACK reads as CR0, GBPA.Update as 0.
    AcknowledgedAtOnce,
}

impl CommandFault {
    /// What becomes of `command`.
    pub fn apply(self, command: [u64; 2], held: &mut Option<[u64; 2]>) -> Filtered {
        let [low, high] = command;
        match self {
            CommandFault::Drop => Filtered::Drop,
            CommandFault::OtherVmid => Filtered::Replace([low ^ 1 << 34, high]),
            CommandFault::OtherStream => Filtered::Replace([low ^ 1 << 33, high]),
            CommandFault::OtherPage => Filtered::Replace([low, high ^ 1 << 17]),
            CommandFault::ShorterRange => {
                let num = low >> 12 & 0x1f;
                if num == 0 {
                    return Filtered::Replace([low, high ^ 1 << 17]);
                }
                Filtered::Replace([low & !(0x1f << 12) | (num - 1) << 12, high])
            }
            CommandFault::LeafOnly => Filtered::Replace([low, high | 1]),
            CommandFault::Late => {
                *held = Some(command);
                Filtered::Drop
            }
            CommandFault::Narrow => Filtered::Replace([low, high & !0x1f]),
        }
    }
}

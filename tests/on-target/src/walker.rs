//! The CPU's walker: a table put in force, and a question asked.

use palisade_hal::guest::{self, El1, Stage2, hcr};
use palisade_hal::{Vmid, barrier, tlb};
use palisade_pgtable::Registers;

use crate::par::Answer;

/// SCTLR_EL1 (DDI 0487, D24.2.175): the RES1 bits of v8.0.
const SCTLR: u64 = 0x30d0_0800;
/// M and C.
const SCTLR_ON: u64 = 1 | 1 << 2;
/// PS of VTCR_EL2 (D24.2.224).
const VTCR_PS: u64 = 0b111 << 16;
/// The bit of VTCR_EL2 that is RES1; an IOMMU's values do not have it.
const VTCR_RES1: u64 = 1 << 31;
/// IPS of TCR_EL1 (D24.2.194).
const TCR_IPS: u64 = 0b111 << 32;

/// The output size that the registers hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// As the crate says.
    Whole,
    /// 32 bits: what is mapped above is an address-size fault.
    Bits32,
}

/// The walker with one table in force.
#[derive(Clone, Copy)]
pub struct Walker {
    both: bool,
}

impl Walker {
    /// Puts a table in force: stage 2 alone, with stage 1 disabled, or stage 1 alone.
    pub fn install(registers: &Registers, output: Output) -> Self {
        let walker = match registers {
            Registers::Stage2(regs) => {
                let ps = if output == Output::Bits32 { VTCR_PS } else { 0 };
                guest::write_el1(El1::Sctlr, SCTLR);
                guest::write_el1(El1::Tcr, 0);
                guest::set_stage2(Stage2 {
                    vttbr: tlb::vttbr(Vmid::new(1), regs.vttbr_baddr),
                    vtcr: regs.vtcr & !ps | VTCR_RES1,
                });
                guest::set_hcr(hcr::VM);
                Self { both: true }
            }
            Registers::Stage1(regs) => {
                let ips = if output == Output::Bits32 { TCR_IPS } else { 0 };
                guest::set_hcr(0);
                let root = if regs.ttbr1 { El1::Ttbr1 } else { El1::Ttbr0 };
                guest::write_el1(root, regs.ttbr.get());
                guest::write_el1(El1::Mair, regs.mair);
                guest::write_el1(El1::Tcr, regs.tcr() & !ips);
                guest::write_el1(El1::Sctlr, SCTLR | SCTLR_ON);
                Self { both: false }
            }
            _ => panic!("not a table of this CPU's"),
        };
        walker.forget();
        walker
    }

    /// Nothing in force any more.
    pub fn remove(self) {
        guest::set_hcr(0);
        guest::write_el1(El1::Sctlr, SCTLR);
        self.forget();
    }

    /// Makes the walker read the tables anew.
    pub fn forget(self) {
        tlb::flush_all_guests();
        barrier::isb();
    }

    /// Translates `address` for a read or a write of EL1.
    pub fn ask(self, address: u64, write: bool) -> Answer {
        Answer::new(if self.both {
            guest::translate_both(address, write)
        } else {
            guest::translate_stage1(address, write)
        })
    }
}

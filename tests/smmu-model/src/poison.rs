//! What reset leaves in the caches: the worst that an earlier life could have.

use crate::config_cache::ConfigCache;
use crate::features::Features;
use crate::queue::Queue;
use crate::regs::Registers;
use crate::rng::Rng;
use crate::tlb::{Entry, Kind, Rights, Tag, Tlb, World};

/// An STE with V = 1 and Config = bypass.
const BYPASS: u64 = 0b1001;

/// Fills the caches with bypassing STEs for low streams and with writable identity mappings
/// for low VMIDs.
pub(crate) fn fill(features: &Features, configs: &mut ConfigCache, tlb: &mut Tlb, rng: &mut Rng) {
    let streams = 1u64 << features.sid_bits.min(6);
    for stream in 0..streams as u32 {
        if rng.percent(50) {
            configs.stes.insert(stream, [BYPASS, 0, 0, 0, 0, 0, 0, 0]);
        }
    }
    let everything = Rights {
        read: true,
        write: true,
        execute: true,
        privileged_read: true,
        privileged_write: true,
        privileged_execute: true,
        write_when_dirty: false,
    };
    for (vmid, gigabyte) in (0..24u16).map(|i| (i / 4, u64::from(i % 4))) {
        let base = gigabyte << 30;
        let kind = if features.stage2 { Kind::Stage2Leaf } else { Kind::Stage1Leaf };
        let vmid = features.stage2.then_some(vmid);
        tlb.insert(
            Entry {
                kind,
                tag: Tag { world: World::El1, vmid, asid: None },
                base,
                span: 1 << 30,
                granule: 12,
                level: 1,
                output: base,
                middle: base,
                rights: everything,
                stage2_rights: None,
                device: false,
            },
            rng,
        );
    }
}

/// Registers after reset: zero where the manual says so, anything where it does not (6.3).
pub(crate) fn registers(gbpa: u32, rng: &mut Rng) -> Registers {
    let mut queue = || Queue {
        base: rng.next_u64() & 0x0000_00ff_ffff_ffe0 | 4,
        prod: rng.below(32) as u32,
        cons: rng.below(32) as u32,
    };
    let (cmdq, evtq, priq) = (queue(), queue(), queue());
    Registers {
        gbpa,
        gbpa_effective: gbpa,
        cmdq,
        evtq,
        priq,
        strtab_base: rng.next_u64() & 0x0000_00ff_ffff_ffc0,
        strtab_cfg: rng.below(6) as u32,
        ..Registers::default()
    }
}

//! What the SMMU is, from its ID registers, validated once.

use palisade_hal::mmio::Mmio;
use palisade_iommu::{Capabilities, StallModel};
use thiserror::Error;
use tock_registers::LocalRegisterCopy;

use crate::entry::encode::ImageFeatures;
use crate::queue::ring::MAX_LOG2;
use crate::regs::{self, IDR0, IDR1, IDR3, IDR5};
use crate::table::memory::Reach;

/// Why this driver cannot drive an SMMU; the text names the register field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unsupported {
    /// Table addresses are fixed by the implementation.
    #[error("IDR1.TABLES_PRESET: table addresses are fixed")]
    TablesPreset,
    /// Queue addresses are fixed by the implementation.
    #[error("IDR1.QUEUES_PRESET: queue addresses are fixed")]
    QueuesPreset,
    /// Fixed addresses are relative to the registers.
    #[error("IDR1.REL: base addresses are relative")]
    Relative,
    /// Table walks are big-endian only.
    #[error("IDR0.TTENDIAN: no little-endian tables")]
    BigEndian,
    /// No VMSAv8-64 tables.
    #[error("IDR0.TTF: no AArch64 table format")]
    TableFormat,
    /// Neither stage is implemented.
    #[error("IDR0.S1P, IDR0.S2P: no translation stage")]
    NoStage,
    /// STALL_MODEL is reserved.
    #[error("IDR0.STALL_MODEL: reserved value")]
    StallModel,
    /// ST_LEVEL is reserved.
    #[error("IDR0.ST_LEVEL: reserved value")]
    StreamTableLevel,
    /// A command queue of fewer than eight entries, which the first batch needs.
    #[error("IDR1.CMDQS: command queue too small")]
    CommandQueue,
    /// SIDSIZE is beyond 32.
    #[error("IDR1.SIDSIZE: reserved value")]
    StreamIdSize,
    /// SSIDSIZE is beyond 20.
    #[error("IDR1.SSIDSIZE: reserved value")]
    SubstreamIdSize,
    /// OAS is reserved or beyond 52 bits.
    #[error("IDR5.OAS: reserved value")]
    OutputSize,
    /// No 4 KiB granule.
    #[error("IDR5.GRAN4K: no 4 KiB granule")]
    Granule,
    /// Page 1 of the registers, where the event queue's indexes are, does not work.
    #[error("register page 1 does not work")]
    PageOne,
}

/// The raw values the driver looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdRegisters {
    /// SMMU_IDR0.
    pub idr0: u32,
    /// SMMU_IDR1.
    pub idr1: u32,
    /// SMMU_IDR3.
    pub idr3: u32,
    /// SMMU_IDR5.
    pub idr5: u32,
}

impl IdRegisters {
    /// Reads them.
    pub fn read(mmio: &Mmio) -> Self {
        Self {
            idr0: mmio.get(regs::IDR0),
            idr1: mmio.get(regs::IDR1),
            idr3: mmio.get(regs::IDR3),
            idr5: mmio.get(regs::IDR5),
        }
    }
}

/// What the SMMU is and can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// Two-level stream tables.
    pub two_level_streams: bool,
    /// Two-level CD tables.
    pub two_level_contexts: bool,
    /// RAZ/WI termination does not exist.
    pub term_abort_only: bool,
    /// The stall model.
    pub stall: StallModel,
    /// VMID width.
    pub vmid_bits: u8,
    /// ASID width.
    pub asid_bits: u8,
    /// PCIe page requests.
    pub pri: bool,
    /// PCIe ATS.
    pub ats: bool,
    /// Completion and interrupts by message.
    pub msi: bool,
    /// EL2 translation regimes, and their commands.
    pub hyp: bool,
    /// Hardware updates: 0 none, 1 access flag, 2 dirty state too.
    pub httu: u8,
    /// Accesses see the CPU's caches.
    pub coherent: bool,
    /// Stage 1.
    pub stage1: bool,
    /// Stage 2.
    pub stage2: bool,
    /// Both stages for one stream.
    pub nested: bool,
    /// Commands of different kinds need a CMD_SYNC between them.
    pub sync_between_kinds: bool,
    /// SHCFG and the other overrides are read.
    pub attr_types_ovr: bool,
    /// log2 of the largest command queue.
    pub cmdq_log2: u32,
    /// log2 of the largest event queue.
    pub evtq_log2: u32,
    /// log2 of the largest PRI queue.
    pub priq_log2: u32,
    /// SubstreamID width, at most 20.
    pub substream_bits: u8,
    /// StreamID width, at most 32.
    pub stream_bits: u8,
    /// Range invalidation and level hints.
    pub ril: bool,
    /// 52-bit addresses with small granules.
    pub ds: bool,
    /// Supported granules as a bitmap of sizes.
    pub granules: u64,
    /// Output address width: OAS.
    pub output_bits: u8,
    /// Width of the addresses that stage 2 takes: IAS (§3.4).
    pub input_bits: u8,
}

/// Substreams the architecture has (§3.3.2: 2^20).
const SUBSTREAM_BITS_MAX: u32 = 20;

impl Features {
    /// Validates the ID registers.
    ///
    /// # Errors
    /// The first field that this driver cannot work with.
    pub fn new(id: &IdRegisters) -> Result<Self, Unsupported> {
        let idr0 = LocalRegisterCopy::<u32, IDR0::Register>::new(id.idr0);
        let idr1 = LocalRegisterCopy::<u32, IDR1::Register>::new(id.idr1);
        let idr3 = LocalRegisterCopy::<u32, IDR3::Register>::new(id.idr3);
        let idr5 = LocalRegisterCopy::<u32, IDR5::Register>::new(id.idr5);

        let refuse = |condition: bool, why: Unsupported| if condition { Err(why) } else { Ok(()) };
        refuse(idr1.is_set(IDR1::TABLES_PRESET), Unsupported::TablesPreset)?;
        refuse(idr1.is_set(IDR1::QUEUES_PRESET), Unsupported::QueuesPreset)?;
        refuse(idr1.is_set(IDR1::REL), Unsupported::Relative)?;
        refuse(idr0.read(IDR0::TTENDIAN) == 3, Unsupported::BigEndian)?;
        refuse(idr0.read(IDR0::TTF) & 0b10 == 0, Unsupported::TableFormat)?;
        let (stage1, stage2) = (idr0.is_set(IDR0::S1P), idr0.is_set(IDR0::S2P));
        refuse(!stage1 && !stage2, Unsupported::NoStage)?;
        refuse(idr0.read(IDR0::ST_LEVEL) > 1, Unsupported::StreamTableLevel)?;
        refuse(idr1.read(IDR1::CMDQS) < 3, Unsupported::CommandQueue)?;
        refuse(idr1.read(IDR1::SIDSIZE) > 32, Unsupported::StreamIdSize)?;
        refuse(idr1.read(IDR1::SSIDSIZE) > SUBSTREAM_BITS_MAX, Unsupported::SubstreamIdSize)?;
        refuse(!idr5.is_set(IDR5::GRAN4K), Unsupported::Granule)?;
        let stall = match idr0.read(IDR0::STALL_MODEL) {
            0 => StallModel::Selectable,
            1 => StallModel::Never,
            2 => StallModel::Forced,
            _ => return Err(Unsupported::StallModel),
        };
        // §6.3.6: OAS codes as in ID_AA64MMFR0_EL1.PARange.
        let output_bits = match idr5.read(IDR5::OAS) {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            5 => 48,
            6 => 52,
            _ => return Err(Unsupported::OutputSize),
        };
        let granule = |set: bool, size: u64| if set { size } else { 0 };
        let wide = |set: bool| if set { 16 } else { 8 };
        Ok(Self {
            two_level_streams: idr0.read(IDR0::ST_LEVEL) == 1,
            two_level_contexts: idr0.is_set(IDR0::CD2L),
            term_abort_only: idr0.is_set(IDR0::TERM_MODEL),
            stall,
            vmid_bits: wide(idr0.is_set(IDR0::VMID16)),
            asid_bits: wide(idr0.is_set(IDR0::ASID16)),
            pri: idr0.is_set(IDR0::PRI),
            ats: idr0.is_set(IDR0::ATS),
            msi: idr0.is_set(IDR0::MSI),
            hyp: idr0.is_set(IDR0::HYP),
            httu: idr0.read(IDR0::HTTU) as u8,
            coherent: idr0.is_set(IDR0::COHACC),
            stage1,
            stage2,
            nested: stage1 && stage2,
            sync_between_kinds: false,
            attr_types_ovr: idr1.is_set(IDR1::ATTR_TYPES_OVR),
            cmdq_log2: idr1.read(IDR1::CMDQS).min(MAX_LOG2),
            evtq_log2: idr1.read(IDR1::EVENTQS).min(MAX_LOG2),
            priq_log2: idr1.read(IDR1::PRIQS).min(MAX_LOG2),
            substream_bits: if stage1 { idr1.read(IDR1::SSIDSIZE) as u8 } else { 0 },
            stream_bits: idr1.read(IDR1::SIDSIZE) as u8,
            ril: idr3.is_set(IDR3::RIL),
            ds: idr5.is_set(IDR5::DS),
            granules: granule(true, 1 << 12)
                | granule(idr5.is_set(IDR5::GRAN16K), 1 << 14)
                | granule(idr5.is_set(IDR5::GRAN64K), 1 << 16),
            output_bits,
            // §3.4: AArch32 tables have 40 bits of IPA, whatever the output size.
            input_bits: if idr0.read(IDR0::TTF) & 0b01 != 0 {
                output_bits.max(40)
            } else {
                output_bits
            },
        })
    }

    /// What changes STE and CD images.
    pub fn image(&self) -> ImageFeatures {
        ImageFeatures {
            attr_types_ovr: self.attr_types_ovr,
            e2h: false,
            stalls_configurable: self.stall == StallModel::Selectable,
        }
    }

    /// How the SMMU reaches its tables and queues.
    pub(crate) fn reach(&self) -> Reach {
        Reach { coherent: self.coherent, output_bits: self.output_bits }
    }

    /// Substreams that one table can have: without two-level tables at most 2^10, since a linear
    /// table is contiguous memory.
    pub fn context_bits(&self) -> u8 {
        if self.two_level_contexts { self.substream_bits } else { self.substream_bits.min(10) }
    }

    /// The same in the core's words, for a stream table of 2^`stream_bits` entries.
    pub fn capabilities(&self, stream_bits: u8) -> Capabilities {
        Capabilities {
            stage1: self.stage1,
            stage2: self.stage2,
            nested: self.nested,
            coherent: self.coherent,
            range_invalidation: self.ril,
            ats: self.ats,
            stall: self.stall,
            stream_bits,
            substream_bits: self.context_bits(),
            asid_bits: self.asid_bits,
            vmid_bits: self.vmid_bits,
            output_bits: self.output_bits,
            granules: self.granules,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ID registers of QEMU 10's `virt` machine.
    const QEMU: IdRegisters = IdRegisters {
        idr0: 0x0d44_101b,
        idr1: 0x0273_0010,
        idr3: 0x0000_1404 | 1 << 10,
        idr5: 0x0000_0074,
    };

    #[test]
    fn qemu() {
        let features = Features::new(&QEMU).unwrap();
        assert!(features.stage1 && features.stage2 && features.coherent && features.ril);
        assert!(features.two_level_streams && !features.msi && !features.ats && !features.pri);
        assert_eq!(features.stall, StallModel::Never);
        assert_eq!((features.vmid_bits, features.asid_bits), (16, 16));
        assert_eq!((features.stream_bits, features.substream_bits), (16, 0));
        assert_eq!((features.cmdq_log2, features.evtq_log2), (19, 19));
        assert_eq!(features.output_bits, 44);
        assert_eq!(features.granules, 0x1_5000);
    }

    /// Each unsupported combination is refused by its own name.
    #[test]
    fn refusals() {
        let with = |change: &dyn Fn(&mut IdRegisters)| {
            let mut id = QEMU;
            change(&mut id);
            Features::new(&id).unwrap_err()
        };
        assert_eq!(with(&|id| id.idr1 |= 1 << 30), Unsupported::TablesPreset);
        assert_eq!(with(&|id| id.idr1 |= 1 << 29), Unsupported::QueuesPreset);
        assert_eq!(with(&|id| id.idr1 |= 1 << 28), Unsupported::Relative);
        assert_eq!(with(&|id| id.idr0 |= 3 << 21), Unsupported::BigEndian);
        assert_eq!(with(&|id| id.idr0 &= !(1 << 3)), Unsupported::TableFormat);
        assert_eq!(with(&|id| id.idr0 &= !0b11), Unsupported::NoStage);
        assert_eq!(with(&|id| id.idr0 |= 3 << 24), Unsupported::StallModel);
        assert_eq!(with(&|id| id.idr0 |= 3 << 27), Unsupported::StreamTableLevel);
        assert_eq!(with(&|id| id.idr1 &= !(0x1f << 21)), Unsupported::CommandQueue);
        assert_eq!(with(&|id| id.idr1 |= 0x3f), Unsupported::StreamIdSize);
        assert_eq!(with(&|id| id.idr1 |= 0x1f << 6), Unsupported::SubstreamIdSize);
        assert_eq!(with(&|id| id.idr5 |= 7), Unsupported::OutputSize);
        assert_eq!(with(&|id| id.idr5 &= !(1 << 4)), Unsupported::Granule);
    }
}

//! What an implementation offers, and the ID registers that say so (6.3.1 to 6.3.6).

/// IDR0.STALL_MODEL (6.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallModel {
    /// 0b00: stall and terminate.
    Both,
    /// 0b01: terminate only.
    TerminateOnly,
    /// 0b10: stall only.
    StallOnly,
}

/// The features of one SMMU.
#[derive(Clone, Debug)]
pub struct Features {
    /// IDR0.S1P: stage 1.
    pub stage1: bool,
    /// IDR0.S2P: stage 2.
    pub stage2: bool,
    /// IDR0.COHACC: table walks and queue accesses are coherent with the CPUs.
    pub coherent: bool,
    /// IDR0.HTTU: 0 none, 1 access flag, 2 access flag and dirty state.
    pub httu: u8,
    /// IDR0.HYP: EL2 translation regimes.
    pub hyp: bool,
    /// IDR0.ATS.
    pub ats: bool,
    /// IDR0.NS1ATS inverted: split-stage ATS exists.
    pub split_ats: bool,
    /// IDR0.ASID16.
    pub asid16: bool,
    /// IDR0.MSI.
    pub msi: bool,
    /// IDR0.SEV.
    pub sev: bool,
    /// IDR0.PRI.
    pub pri: bool,
    /// IDR0.VMID16.
    pub vmid16: bool,
    /// IDR0.CD2L: two-level CD tables.
    pub two_level_contexts: bool,
    /// IDR0.STALL_MODEL.
    pub stall: StallModel,
    /// IDR0.TERM_MODEL: terminated transactions always abort (no RAZ/WI).
    pub terminate_aborts: bool,
    /// IDR0.ST_LEVEL: two-level stream tables.
    pub two_level_streams: bool,
    /// IDR1.ATTR_TYPES_OVR.
    pub attribute_override: bool,
    /// IDR1.CMDQS: log2 of the most commands a queue can have.
    pub cmdq_log2: u32,
    /// IDR1.EVENTQS: log2 of the most events.
    pub evtq_log2: u32,
    /// IDR1.PRIQS: log2 of the most page requests.
    pub priq_log2: u32,
    /// IDR1.SSIDSIZE: bits of SubstreamID, 0 without substreams.
    pub ssid_bits: u32,
    /// IDR1.SIDSIZE: bits of StreamID.
    pub sid_bits: u32,
    /// IDR3.BBML: 0, 1 or 2.
    pub bbml: u8,
    /// IDR3.RIL: range invalidation and level hints.
    pub ril: bool,
    /// IDR3.FWB.
    pub fwb: bool,
    /// IDR3.PPS: PASIDs are always kept in automatic PRG responses.
    pub pps: bool,
    /// IDR5.GRAN4K.
    pub granule_4k: bool,
    /// IDR5.GRAN16K.
    pub granule_16k: bool,
    /// IDR5.GRAN64K.
    pub granule_64k: bool,
    /// Bits of output address: 32, 36, 40, 42, 44 or 48.
    pub oas: u32,
    /// IDR5.STALL_MAX: transactions that can be stalled at once.
    pub stall_max: u32,
    /// What GBPA.ABORT resets to (IMPLEMENTATION DEFINED).
    pub gbpa_abort: bool,
    /// AIDR: 0x00 to 0x04, for SMMUv3.0 to SMMUv3.4.
    pub version: u32,
    /// IIDR (6.3.7): whose part it is, and which revision.
    pub iidr: u32,
}

impl Default for Features {
    /// Everything the model has.
    fn default() -> Self {
        Features {
            stage1: true,
            stage2: true,
            coherent: true,
            httu: 0,
            hyp: true,
            ats: true,
            split_ats: true,
            asid16: true,
            msi: true,
            sev: true,
            pri: true,
            vmid16: true,
            two_level_contexts: true,
            stall: StallModel::Both,
            terminate_aborts: false,
            two_level_streams: true,
            attribute_override: true,
            cmdq_log2: 8,
            evtq_log2: 7,
            priq_log2: 7,
            ssid_bits: 16,
            sid_bits: 16,
            bbml: 1,
            ril: true,
            fwb: true,
            pps: false,
            granule_4k: true,
            granule_16k: true,
            granule_64k: true,
            oas: 44,
            stall_max: 16,
            gbpa_abort: false,
            version: 2,
            iidr: 0x43b,
        }
    }
}

impl Features {
    /// An early implementation: linear tables, no ranges, no MSIs, no ATS, not coherent.
    pub fn minimal() -> Self {
        Features {
            coherent: false,
            hyp: false,
            ats: false,
            split_ats: false,
            msi: false,
            sev: false,
            pri: false,
            vmid16: false,
            asid16: false,
            two_level_contexts: false,
            stall: StallModel::TerminateOnly,
            terminate_aborts: true,
            two_level_streams: false,
            attribute_override: false,
            cmdq_log2: 4,
            evtq_log2: 4,
            priq_log2: 0,
            ssid_bits: 0,
            sid_bits: 6,
            ril: false,
            fwb: false,
            granule_16k: false,
            granule_64k: false,
            oas: 40,
            stall_max: 0,
            version: 0,
            ..Features::default()
        }
    }

    /// SMMU_IDR0 (6.3.1).
    pub fn idr0(&self) -> u32 {
        let stall = match self.stall {
            StallModel::Both => 0,
            StallModel::TerminateOnly => 1,
            StallModel::StallOnly => 2,
        };
        u32::from(self.stage2)
            | u32::from(self.stage1) << 1
            | 0b10 << 2 // TTF: VMSAv8-64
            | u32::from(self.coherent) << 4
            | u32::from(self.httu & 3) << 6
            | u32::from(self.hyp) << 9
            | u32::from(self.ats) << 10
            | u32::from(!self.split_ats) << 11
            | u32::from(self.asid16) << 12
            | u32::from(self.msi) << 13
            | u32::from(self.sev) << 14
            | u32::from(self.pri) << 16
            | u32::from(self.vmid16) << 18
            | u32::from(self.two_level_contexts) << 19
            | 0b10 << 21 // TTENDIAN: little-endian
            | stall << 24
            | u32::from(self.terminate_aborts) << 26
            | u32::from(self.two_level_streams) << 27
    }

    /// SMMU_IDR1 (6.3.2).
    pub fn idr1(&self) -> u32 {
        (self.sid_bits & 0x3f)
            | (self.ssid_bits & 0x1f) << 6
            | (self.priq_log2 & 0x1f) << 11
            | (self.evtq_log2 & 0x1f) << 16
            | (self.cmdq_log2 & 0x1f) << 21
            | u32::from(self.attribute_override) << 27
    }

    /// SMMU_IDR3 (6.3.4).
    pub fn idr3(&self) -> u32 {
        u32::from(self.fwb) << 8
            | u32::from(self.ril) << 10
            | u32::from(self.bbml & 3) << 11
            | u32::from(self.pps) << 5
    }

    /// SMMU_IDR5 (6.3.6).
    pub fn idr5(&self) -> u32 {
        let oas = match self.oas {
            32 => 0,
            36 => 1,
            40 => 2,
            42 => 3,
            44 => 4,
            _ => 5,
        };
        oas | u32::from(self.granule_4k) << 4
            | u32::from(self.granule_16k) << 5
            | u32::from(self.granule_64k) << 6
            | (self.stall_max & 0xffff) << 16
    }

    /// Whether stalling can be configured or is forced.
    pub fn can_stall(&self) -> bool {
        self.stall != StallModel::TerminateOnly
    }

    /// Whether tables of this granule (log2 of bytes) are supported.
    pub fn has_granule(&self, log2: u32) -> bool {
        match log2 {
            12 => self.granule_4k,
            14 => self.granule_16k,
            16 => self.granule_64k,
            _ => false,
        }
    }
}

/// The address size that a PS/IPS/OAS encoding means, in bits (5.2, S2PS).
pub(crate) fn address_bits(encoding: u64) -> u32 {
    match encoding {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

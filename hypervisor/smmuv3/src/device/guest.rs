//! What a guest may say: its STE (§5.2) and its commands (§4), taken field by field.
//!
//! Nothing is copied whole. A bit that is not named here is a bit a guest cannot set.

use palisade_hal::{Asid, Env, StreamId, SubstreamId, Vmid};
use palisade_iommu::{DriverError, Feature, Refusal, StallModel, StreamPolicy};

use crate::command;
use crate::device::batch::{Batch, Phase};
use crate::device::smmu::{DeviceTlb, Smmu};
use crate::entry::encode::{SteStage1, SteStage2, ste_abort, ste_nested, ste_stage2};
use crate::error::QueueError;
use crate::features::Features;
use crate::spec::{Cmd, Config, Field, Opcode, S1Dss, S1Fmt, Ste, Words};

/// log2 of the CDs in a 4 KiB leaf and in a 64 KiB leaf.
const LEAF_4K_BITS: u8 = 6;
const LEAF_64K_BITS: u8 = 10;
/// log2 of a CD's and of an L1CD's size.
const CD_LOG2: u8 = 6;
const L1CD_LOG2: u8 = 3;

const fn refused(word: usize, reason: Refusal) -> DriverError {
    DriverError::Refused { word: word as u8, reason }
}

/// Alignment of the CD table, log2: to its size, a first level to at least 64 bytes (§5.2, S1Fmt).
const fn table_align(format: S1Fmt, bits: u8) -> u8 {
    let (entries, entry) = match format {
        S1Fmt::Linear => (bits, CD_LOG2),
        S1Fmt::Leaf4K => (bits.saturating_sub(LEAF_4K_BITS), L1CD_LOG2),
        S1Fmt::Leaf64K => (bits.saturating_sub(LEAF_64K_BITS), L1CD_LOG2),
    };
    let size = entries + entry;
    if size < 6 { 6 } else { size }
}

/// The physical STE for a guest's own `words` under `stage2`.
///
/// # Errors
/// [`DriverError::Refused`] with the word to blame.
pub fn guest_ste(
    features: &Features,
    words: &Words,
    stage2: &SteStage2,
    policy: StreamPolicy,
) -> Result<Ste, DriverError> {
    let image = features.image();
    if Ste::V.get(words) == 0 {
        return Ok(ste_abort());
    }
    match Ste::CONFIG.get(words) {
        config if config == Config::Abort as u64 => return Ok(ste_abort()),
        config if config == Config::Bypass as u64 => return Ok(ste_stage2(image, stage2)),
        config if config == Config::Stage1 as u64 => {}
        _ => return Err(refused(0, Refusal::Configuration)),
    }
    if !features.nested {
        return Err(DriverError::Unsupported(Feature::Nested));
    }
    let bits = Ste::S1_CD_MAX.get(words) as u8;
    if bits > features.substream_bits || bits > 31 {
        return Err(refused(0, Refusal::Field));
    }
    // With one CD the format is IGNORED, and so is whatever the guest left there.
    let s1_fmt = match Ste::S1FMT.get(words) {
        _ if bits == 0 => S1Fmt::Linear,
        0 => S1Fmt::Linear,
        1 if features.two_level_contexts => S1Fmt::Leaf4K,
        2 if features.two_level_contexts => S1Fmt::Leaf64K,
        _ => return Err(refused(0, Refusal::Field)),
    };
    let pointer = Ste::S1_CONTEXT_PTR.get_address(words);
    let aligned = pointer.trailing_zeros() >= u32::from(table_align(s1_fmt, bits));
    // Under stage 2 the pointer is an IPA: it must lie inside the input size of stage 2.
    let input_bits = 64 - u64::from(stage2.vtcr) % 64;
    if (pointer != 0 && !aligned) || pointer.checked_shr(input_bits as u32).unwrap_or(0) != 0 {
        return Err(refused(0, Refusal::Field));
    }
    let s1_dss = match Ste::S1DSS.get(words) {
        0 => S1Dss::Terminate,
        1 => S1Dss::Bypass,
        2 => S1Dss::Substream0,
        _ if bits == 0 => S1Dss::Terminate,
        _ => return Err(refused(1, Refusal::Field)),
    };
    // S1STALLD is the guest's where the manifest lets the device stall, else set for it.
    let stall = policy.stalls && Ste::S1STALLD.get(words) == 0;
    let stage1 = SteStage1 {
        s1_fmt,
        s1_context_ptr: pointer,
        s1_cd_max: bits,
        s1_dss,
        stall: stall || features.stall != StallModel::Selectable,
        ats: false,
    };
    let mut ste = ste_nested(image, &stage1, stage2);
    // How CDs are fetched only concerns the guest's own memory.
    for field in [Ste::S1CIR, Ste::S1COR, Ste::S1CSH] {
        field.set(&mut ste.0, field.get(words));
    }
    Ok(ste)
}

/// A guest's command, rebuilt. What names a stream lacks the physical one still.
pub(crate) struct GuestCommand {
    phase: Phase,
    command: Cmd,
    /// The virtual StreamID that it names.
    stream: Option<u32>,
}

/// Why a guest's commands are not carried on.
pub(crate) enum Stop {
    /// The command is to blame.
    Refused(DriverError),
    /// The SMMU, or a device.
    Driver(QueueError),
}

impl From<DriverError> for Stop {
    fn from(error: DriverError) -> Self {
        Self::Refused(error)
    }
}

impl<E: Env> Smmu<E> {
    /// Decodes one of a guest's commands (§4), field by field.
    ///
    /// # Errors
    /// [`Stop::Refused`] with the word to blame.
    pub(crate) fn guest_command(&self, vmid: Vmid, words: &[u64; 2]) -> Result<GuestCommand, Stop> {
        let get = |field: Field| field.get(words);
        let opcode = get(Cmd::OPCODE);
        let is = |wanted: Opcode| opcode == wanted as u64;
        let of_vmid = |command| GuestCommand { phase: Phase::Stage1, command, stream: None };
        if !self.features.nested {
            return Err(DriverError::Unsupported(Feature::Nested).into());
        }
        if is(Opcode::TlbiNsnhAll) || is(Opcode::TlbiNhAll) {
            // "Everything" of a guest is everything of its VMID.
            return Ok(of_vmid(command::tlbi_nh_all(vmid)));
        }
        if is(Opcode::TlbiNhAsid) {
            return Ok(of_vmid(command::tlbi_nh_asid(vmid, self.guest_asid(words)?)));
        }
        if is(Opcode::TlbiNhVa) || is(Opcode::TlbiNhVaa) {
            let leaf = get(Cmd::LEAF) == 1;
            let address = Cmd::ADDRESS.get_address(words);
            let command = if is(Opcode::TlbiNhVa) {
                command::tlbi_nh_va(vmid, self.guest_asid(words)?, address, leaf)
            } else {
                command::tlbi_nh_vaa(vmid, address, leaf)
            };
            return Ok(of_vmid(self.guest_range(command, words, address)?));
        }
        let nobody = StreamId::new(0);
        let (phase, command) = if is(Opcode::CfgiCd) {
            let substream = self.guest_substream(get(Cmd::SUBSTREAM_ID))?;
            let leaf = get(Cmd::LEAF) == 1;
            (Phase::Configuration, command::cfgi_cd(nobody, substream, leaf))
        } else if is(Opcode::CfgiCdAll) {
            (Phase::Configuration, command::cfgi_cd_all(nobody))
        } else if is(Opcode::AtcInv) {
            let substream = if get(Cmd::SSV) == 1 {
                Some(self.guest_substream(get(Cmd::SUBSTREAM_ID))?)
            } else {
                None
            };
            let size = get(Cmd::SIZE);
            if size > u64::from(command::ATC_SIZE_ALL) {
                return Err(refused(1, Refusal::Field).into());
            }
            let address = Cmd::ADDRESS.get_address(words);
            (Phase::Device, command::atc_inv(nobody, substream, address, size as u8))
        } else {
            return Err(refused(0, Refusal::Opcode).into());
        };
        // SSec must be 0, else the command would be ILLEGAL (§4.1.6).
        if get(Cmd::SSEC) != 0 {
            return Err(refused(0, Refusal::Field).into());
        }
        Ok(GuestCommand { phase, command, stream: Some(get(Cmd::STREAM_ID) as u32) })
    }

    /// Sends a guest's command, once for each physical stream that it is about: `streams` returns
    /// the n-th one behind a virtual StreamID.
    ///
    /// # Errors
    /// [`Stop`].
    pub(crate) fn fan_out(
        &self,
        batch: &mut Batch<'_, E>,
        of: &GuestCommand,
        streams: &dyn Fn(u32, usize) -> Option<StreamId>,
    ) -> Result<(), Stop> {
        let Some(number) = of.stream else {
            return batch.push(of.phase, of.command).map_err(Stop::Driver);
        };
        let mut granted = of.phase != Phase::Device;
        let mut count = 0;
        while let Some(stream) = streams(number, count) {
            count += 1;
            if of.phase == Phase::Device {
                let tlb = self.device_tlb(stream);
                granted |= tlb.is_some();
                if tlb != Some(DeviceTlb::On) {
                    continue;
                }
            }
            let mut command = of.command;
            Cmd::STREAM_ID.set(&mut command.0, u64::from(stream.get()));
            batch.push(of.phase, command).map_err(Stop::Driver)?;
        }
        if count == 0 {
            return Err(refused(0, Refusal::Stream).into());
        }
        if !granted {
            return Err(refused(0, Refusal::Opcode).into());
        }
        Ok(())
    }

    fn guest_asid(&self, words: &[u64; 2]) -> Result<Asid, DriverError> {
        let asid = Cmd::ASID.get(words);
        if asid >> self.features.asid_bits != 0 {
            return Err(refused(0, Refusal::Field));
        }
        Ok(Asid::new(asid as u16))
    }

    fn guest_substream(&self, number: u64) -> Result<SubstreamId, DriverError> {
        if number >> self.features.substream_bits != 0 {
            return Err(refused(0, Refusal::Field));
        }
        Ok(SubstreamId::new(number as u32))
    }

    /// Adds the guest's range and level hint where they are well formed (§4.4.1.1).
    fn guest_range(
        &self,
        mut command: Cmd,
        words: &[u64; 2],
        address: u64,
    ) -> Result<Cmd, DriverError> {
        let tg = Cmd::TG.get(words);
        let ttl = Cmd::TTL.get(words);
        let (num, scale) = (Cmd::NUM.get(words), Cmd::SCALE.get(words));
        if tg == 0 || !self.features.ril {
            if ttl | num | scale | tg != 0 {
                return Err(refused(1, Refusal::Field));
            }
            return Ok(command);
        }
        let granule = 10 + 2 * tg as u32;
        let reserved = ttl | num | scale == 0 || (tg == 2 && ttl == 1 && !self.features.ds);
        // Bits below the hinted level's entry make the range UNPREDICTABLE.
        let level = if ttl == 0 { 3 } else { ttl as u32 };
        let entry = granule + (3 - level) * (granule - 3);
        if reserved || address & ((1 << entry) - 1) != 0 {
            return Err(refused(1, Refusal::Field));
        }
        Cmd::TG.set(&mut command.0, tg);
        Cmd::TTL.set(&mut command.0, ttl);
        Cmd::NUM.set(&mut command.0, num);
        Cmd::SCALE.set(&mut command.0, scale);
        Ok(command)
    }
}

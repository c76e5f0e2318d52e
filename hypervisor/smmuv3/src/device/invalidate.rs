//! The core's invalidations in commands (§4.3 to §4.5).
//!
//! What a call costs at most, [`Smmu::bound`] says: a range without range invalidation is cut into
//! at most [`SINGLE_COMMANDS_MAX`](crate::command::range::SINGLE_COMMANDS_MAX) commands, with it it is one;
//! a batch is one write of CMDQ_PROD and one CMD_SYNC at its end, and is waited for in at most
//! `Options::sync_turns` turns, each of which reads at most three registers. A time-out adds one
//! lone CMD_SYNC under the same limit.

use palisade_hal::{Env, StreamId, Vmid};
use palisade_iommu::{DriverError, Invalidation};

use crate::command::range::{Span, atc_cover, cover};
use crate::command::{self, ATC_SIZE_ALL};
use crate::device::batch::{Batch, Phase};
use crate::device::smmu::{DeviceTlb, Smmu};
use crate::error::QueueError;

/// log2 of a size that should be a power of two; 0 for one that is not.
const fn log2(size: u64) -> u32 {
    if size.is_power_of_two() { size.trailing_zeros() } else { 0 }
}

fn span(start: u64, size: u64, granule: u64, leaf: Option<u64>) -> Span {
    Span { start, size, granule: log2(granule), leaf: leaf.map(log2).filter(|&leaf| leaf > 0) }
}

impl<E: Env> Smmu<E> {
    /// Carries out `batch` in order; see [`palisade_iommu::IommuDriver::invalidate`].
    pub(crate) fn invalidate_all(&self, batch: &[Invalidation]) -> Result<(), DriverError> {
        // Device TLBs need to know which streams have one, so they need the configuration lock;
        // everything else does not.
        match self.send(batch) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.blame(error)),
        }
    }

    /// What a failed batch means, where no lock is held: a device whose TLB is to blame aborts for
    /// good, and no other.
    pub(crate) fn blame(&self, error: QueueError) -> DriverError {
        match error {
            QueueError::DeviceTlb(stream) => {
                self.fail_stream(&mut self.streams.lock(), stream, error)
            }
            error => self.judge(error),
        }
    }

    fn send(&self, batch: &[Invalidation]) -> Result<(), QueueError> {
        let mut commands = Batch::new(self);
        for invalidation in batch {
            self.encode(&mut commands, invalidation)?;
        }
        commands.finish()
    }

    fn encode(
        &self,
        commands: &mut Batch<'_, E>,
        invalidation: &Invalidation,
    ) -> Result<(), QueueError> {
        let Self { features, .. } = self;
        // Without stage 2 there are no VMIDs, and the field must be 0 (§4.4.2).
        let tag = |vmid: Vmid| if features.stage2 { vmid } else { Vmid::default() };
        match *invalidation {
            Invalidation::All => {
                if features.hyp {
                    commands.push(Phase::Stage2, command::tlbi_el2_all())?;
                }
                commands.push(Phase::Stage2, command::tlbi_nsnh_all())
            }
            // Each stage has its commands only where it is implemented (§4.4.2, §4.4.3).
            Invalidation::Vmid(vmid) if features.stage2 => {
                commands.push(Phase::Stage2, command::tlbi_s12_vmall(vmid))
            }
            Invalidation::Vmid(vmid) | Invalidation::StageOneOf(vmid) if features.stage1 => {
                commands.push(Phase::Stage1, command::tlbi_nh_all(tag(vmid)))
            }
            Invalidation::Vmid(_) | Invalidation::StageOneOf(_) => Ok(()),
            Invalidation::StageTwo { vmid, start, size, granule, leaf } => {
                if !features.stage2 {
                    return Ok(());
                }
                let span = span(start.get(), size, granule, leaf);
                commands.push_cover(
                    Phase::Stage2,
                    cover(&span, features.ril, features.ds),
                    |ipa, leaf| command::tlbi_s2_ipa(vmid, ipa, leaf),
                    command::tlbi_s12_vmall(vmid),
                )
            }
            Invalidation::Asid { vmid, asid } if features.stage1 => {
                commands.push(Phase::Stage1, command::tlbi_nh_asid(tag(vmid), asid))
            }
            Invalidation::StageOne { vmid, asid, start, size, granule, leaf }
                if features.stage1 =>
            {
                let span = span(start.get(), size, granule, leaf);
                commands.push_cover(
                    Phase::Stage1,
                    cover(&span, features.ril, features.ds),
                    |va, leaf| command::tlbi_nh_va(tag(vmid), asid, va, leaf),
                    command::tlbi_nh_asid(tag(vmid), asid),
                )
            }
            Invalidation::Context { stream, substream } if features.stage1 => {
                commands.push(Phase::Configuration, command::cfgi_cd(stream, substream, true))
            }
            Invalidation::Contexts(stream) if features.stage1 => {
                commands.push(Phase::Configuration, command::cfgi_cd_all(stream))
            }
            Invalidation::Asid { .. }
            | Invalidation::StageOne { .. }
            | Invalidation::Context { .. }
            | Invalidation::Contexts(_) => Ok(()),
            Invalidation::Device { stream, substream, start, size } => {
                if !self.has_device_tlb(stream) {
                    return Ok(());
                }
                // Without SubstreamIDs SSV must be 0, which covers tagged entries too (§4.5.1).
                let substream = substream.filter(|_| features.substream_bits > 0);
                let all = Some((0, ATC_SIZE_ALL));
                let span = if size == u64::MAX { all } else { atc_cover(start.get(), size) };
                match span {
                    Some((address, size)) => commands
                        .push(Phase::Device, command::atc_inv(stream, substream, address, size)),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whether the device behind `stream` has a TLB that is on: only such a one may be sent a
    /// CMD_ATC_INV, and needs it.
    fn has_device_tlb(&self, stream: StreamId) -> bool {
        let streams = self.streams.lock();
        self.features.ats && matches!(streams.device_tlbs.get(stream.get()), Some(DeviceTlb::On))
    }

    /// The TLB of the device behind `stream`, if its entry grants ATS.
    pub(crate) fn device_tlb(&self, stream: StreamId) -> Option<DeviceTlb> {
        self.streams.lock().device_tlbs.get(stream.get()).copied()
    }
}

//! Changing what a stream does, and what happens when the SMMU does not confirm it.

use palisade_hal::{Env, StreamId, barrier};
use palisade_iommu::{
    Argument, DriverError, Feature, StageTwo, StallModel, StreamPolicy, StreamState,
};

use crate::command;
use crate::device::live::{Kind, LiveEntry};
use crate::device::smmu::{DeviceTlb, Smmu, Streams};
use crate::entry::encode::{SteStage2, ste_abort};
use crate::entry::used::{ste_safe, ste_used};
use crate::entry::writer::{breaks, write_entry};
use crate::error::QueueError;
use crate::spec::{Config, Ste};
use crate::table::stream::Prepared;

const STE: &Kind = &Kind { used: ste_used, safe: ste_safe };

/// S2T0SZ without 52-bit addresses and without small translation tables (§5.2).
const T0SZ_MIN: u64 = 16;
const T0SZ_MAX: u64 = 39;

/// Address bits of an OAS, PS or IPS code (§6.3.6).
pub(crate) const fn size_bits(code: u64) -> Option<u8> {
    match code {
        0 => Some(32),
        1 => Some(36),
        2 => Some(40),
        3 => Some(42),
        4 => Some(44),
        5 => Some(48),
        6 => Some(52),
        _ => None,
    }
}

impl<E: Env> Smmu<E> {
    /// Makes sure that `stream` has an entry in memory that the SMMU does not believe invalid.
    pub(crate) fn prepare_entry(
        &self,
        streams: &mut Streams,
        stream: StreamId,
    ) -> Result<(), DriverError> {
        // So that noting what fails later needs no memory.
        streams.dead.reserve()?;
        match streams.table.prepare(stream)? {
            Prepared::Present => Ok(()),
            // Leaf = 0: the L1STD that said "none" may be cached (§5.1.1).
            Prepared::New => self.run_all(&[command::cfgi_ste(stream, false)]),
        }
    }

    /// Checks stage 2 and turns it into the STE's terms.
    pub(crate) fn stage_two(
        &self,
        two: &StageTwo,
        policy: StreamPolicy,
    ) -> Result<SteStage2, DriverError> {
        let features = &self.features;
        if !features.stage2 {
            return Err(DriverError::Unsupported(Feature::StageTwo));
        }
        let vmid = two.vmid.get();
        if vmid == 0 || u32::from(vmid) >> features.vmid_bits != 0 {
            return Err(DriverError::Argument(Argument::Vmid));
        }
        let mut words = [0; 8];
        Ste::S2VTCR.set(&mut words, u64::from(two.control));
        if u64::from(two.control) > Ste::S2VTCR.max() {
            return Err(DriverError::Argument(Argument::Vtcr));
        }
        // §5.2, S2T0SZ: stage 2 takes no more than the intermediate address size.
        let shortest = T0SZ_MIN.max(64 - u64::from(features.input_bits));
        if !(shortest..=T0SZ_MAX).contains(&Ste::S2T0SZ.get(&words)) {
            return Err(DriverError::Argument(Argument::T0sz));
        }
        let granule = match Ste::S2TG.get(&words) {
            0 => 1 << 12,
            1 => 1 << 16,
            2 => 1 << 14,
            _ => 0,
        };
        if features.granules & granule == 0 {
            return Err(DriverError::Argument(Argument::Granule));
        }
        let output = size_bits(Ste::S2PS.get(&words)).ok_or(DriverError::Argument(Argument::Ps))?;
        if output > features.output_bits || two.table.get() >> output != 0 {
            return Err(DriverError::Argument(Argument::OutputSize));
        }
        if !two.table.is_aligned(1 << 4) {
            return Err(DriverError::Argument(Argument::RootAlignment));
        }
        let forced = features.stall == StallModel::Forced;
        if forced && policy.ats {
            return Err(DriverError::Unsupported(Feature::StalledAts));
        }
        Ok(SteStage2 {
            vmid,
            vtcr: two.control,
            s2ttb: two.table.get(),
            stall: forced,
            fwb: false,
            ats: policy.ats && features.ats,
        })
    }

    /// Brings `stream` to `target`, by way of abort where there is no hitless way.
    ///
    /// # Errors
    /// [`DriverError::Timeout`] when the SMMU did not confirm: the stream then aborts, for good.
    pub(crate) fn set_entry(
        &self,
        streams: &mut Streams,
        stream: StreamId,
        target: &Ste,
    ) -> Result<(), DriverError> {
        if streams.dead.contains(stream.get()) {
            return Err(DriverError::Timeout(stream));
        }
        self.prepare_entry(streams, stream)?;
        let current = streams.table.read(stream).ok_or(DriverError::State(stream))?;
        let (table, first) = streams.table.entry(stream)?;
        let forget = command::cfgi_ste(stream, true);
        let mut writer = LiveEntry { smmu: self, kind: STE, table, first, forget };
        // What the entry will point at is visible before the entry is.
        barrier::dsb_st();
        let abort = ste_abort().0;
        let outcome = if breaks(&writer, &current, &target.0) {
            // An invalid instant would be reported as C_BAD_STE; aborting is silent.
            write_entry(&mut writer, &current, &abort)
                .and_then(|_| write_entry(&mut writer, &abort, &target.0))
        } else {
            write_entry(&mut writer, &current, &target.0)
        };
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => Err(self.fail_stream(streams, stream, error)),
        }
    }

    /// Sets `stream` to abort and ends what it has under way in the SMMU.
    pub(crate) fn abort_stream(
        &self,
        streams: &mut Streams,
        stream: StreamId,
    ) -> Result<(), DriverError> {
        let ats = streams.device_tlbs.take(stream.get()) == Some(DeviceTlb::On);
        if streams.dead.contains(stream.get()) {
            return Ok(());
        }
        let Some(current) = streams.table.read(stream) else {
            // No entry: out of range or never prepared, aborting since bring-up.
            return match streams.table.entry(stream) {
                Err(error @ DriverError::UnknownStream(_)) => Err(error),
                _ => Ok(()),
            };
        };
        if current != ste_abort().0 {
            self.set_entry(streams, stream, &ste_abort())?;
        }
        // Neither a stalled transaction nor a device TLB forgets with the entry (§4.3.8, §3.9.2).
        if self.can_stall() {
            self.run(&[command::stall_term(stream)])
                .map_err(|error| self.fail_stream(streams, stream, error))?;
        }
        if ats {
            self.forget_device(streams, stream)?;
        }
        Ok(())
    }

    /// The fail-safe: something that concerned `stream` was not confirmed in time. Its entry
    /// becomes abort in one store, and the SMMU gets one more chance to take note; if that is not
    /// confirmed either, the whole instance aborts.
    ///
    /// While the SMMU waits for a device's TLB it takes no command: the one that makes it forget
    /// the entry is left in the queue then, where it is taken as soon as the wait ends. Until that
    /// the device can do what it could before, to memory that nothing counts as out of its reach.
    pub(crate) fn fail_stream(
        &self,
        streams: &mut Streams,
        stream: StreamId,
        error: QueueError,
    ) -> DriverError {
        streams.device_tlbs.take(stream.get());
        streams.dead.put(stream.get(), ());
        if let Ok((table, first)) = streams.table.entry(stream) {
            table.store(first, ste_abort().0[0]);
            table.publish(first, 1);
        }
        let name = self.name();
        log::error!("{name}: stream {stream}: {error}; it aborts, its device counts as dead");
        let forget = [command::cfgi_ste(stream, true)];
        if self.queue.held_by_device() && self.queue.post(&self.mmio, &forget) == Ok(true) {
            return DriverError::Timeout(stream);
        }
        match self.run(&forget) {
            Ok(()) => DriverError::Timeout(stream),
            Err(_) => {
                self.die();
                DriverError::Dead
            }
        }
    }

    /// What the entry of `stream` in memory says.
    pub(crate) fn read_state(&self, streams: &Streams, stream: StreamId) -> StreamState {
        let Some(words) = streams.table.read(stream) else { return StreamState::Abort };
        if Ste::V.get(&words) == 0 {
            return StreamState::Abort;
        }
        match Ste::CONFIG.get(&words) {
            config if config == Config::Bypass as u64 => StreamState::Bypass,
            config if config == Config::Stage1 as u64 => StreamState::Stage1,
            config if config == Config::Stage2 as u64 => StreamState::Stage2,
            config if config == Config::Nested as u64 => StreamState::Nested,
            _ => StreamState::Abort,
        }
    }
}

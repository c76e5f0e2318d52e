//! Context descriptors of streams whose table the hypervisor owns.

use palisade_hal::{Env, StreamId, SubstreamId, barrier};
use palisade_iommu::{Argument, Context, DriverError, Feature, StallModel};

use crate::command;
use crate::device::live::{Kind, LiveEntry};
use crate::device::smmu::{Smmu, Streams};
use crate::device::stream::size_bits;
use crate::entry::encode::{CdStage1, cd_quiesced, cd_stage1};
use crate::entry::used::cd_used;
use crate::entry::writer::{breaks, write_entry};
use crate::error::QueueError;
use crate::spec::{Cd, Words};
use crate::table::context::ContextTable;

const CD: &Kind = &Kind { used: cd_used, safe: |_, _| [0; 8] };

/// A field of TCR_EL1 (DDI 0487).
const fn tcr_field(tcr: u64, high: u32, low: u32) -> u8 {
    ((tcr >> low) & ((1 << (high - low + 1)) - 1)) as u8
}

impl<E: Env> Smmu<E> {
    /// Checks a context and turns it into a CD.
    pub(crate) fn descriptor(&self, context: &Context) -> Result<Cd, DriverError> {
        let features = &self.features;
        let tcr = context.tcr;
        let asid = context.asid.get();
        if u32::from(asid) >> features.asid_bits != 0 {
            return Err(DriverError::Argument(Argument::Asid));
        }
        let t0sz = tcr_field(tcr, 5, 0);
        let tg0 = tcr_field(tcr, 15, 14);
        if !context.quiet {
            if !(16..=39).contains(&t0sz) {
                return Err(DriverError::Argument(Argument::T0sz));
            }
            let granule = match tg0 {
                0 => 1 << 12,
                1 => 1 << 16,
                2 => 1 << 14,
                _ => 0,
            };
            if features.granules & granule == 0 {
                return Err(DriverError::Argument(Argument::Granule));
            }
        }
        // The output size is the smaller of what is asked and what there is (§5.4, IPS); an address
        // of the root beyond it is ILLEGAL (§5.4, TTB0).
        let ips = tcr_field(tcr, 34, 32);
        let asked = size_bits(u64::from(ips)).ok_or(DriverError::Argument(Argument::Ips))?;
        let reach = asked.min(features.input_bits);
        if !context.quiet && (context.table & 0xf != 0 || context.table >> reach != 0) {
            return Err(DriverError::Argument(Argument::Root));
        }
        let ha = tcr_field(tcr, 39, 39) == 1;
        let hd = tcr_field(tcr, 40, 40) == 1;
        if (ha && features.httu < 1) || (hd && (features.httu < 2 || !ha)) {
            return Err(DriverError::Unsupported(Feature::HardwareUpdate));
        }
        let stall = match features.stall {
            StallModel::Selectable => context.stalls,
            StallModel::Never if context.stalls => {
                return Err(DriverError::Unsupported(Feature::Stall));
            }
            StallModel::Never => false,
            StallModel::Forced => true,
        };
        let mut cd = cd_stage1(&CdStage1 {
            t0sz,
            tg0,
            walk: (tcr_field(tcr, 9, 8), tcr_field(tcr, 11, 10), tcr_field(tcr, 13, 12)),
            ips,
            ha,
            hd,
            stall,
            asid,
            aset: context.private,
            ttb0: context.table,
            mair: context.mair,
        });
        // A stalled fault that is not recorded could never be answered.
        Cd::R.set(&mut cd.0, u64::from(context.record || stall));
        if context.quiet {
            cd = cd_quiesced(&cd, features.stall == StallModel::Forced);
        }
        Ok(cd)
    }

    fn table_of(streams: &Streams, stream: StreamId) -> Result<&ContextTable, DriverError> {
        streams.contexts.get(stream.get()).ok_or(DriverError::State(stream))
    }

    /// Brings the descriptor of `substream` to `target`, by way of a quiesced one where there is
    /// no hitless way from one live address space to another.
    pub(crate) fn set_context(
        &self,
        streams: &mut Streams,
        stream: StreamId,
        substream: SubstreamId,
        target: &Words,
    ) -> Result<(), DriverError> {
        let contexts = Self::table_of(streams, stream)?;
        let current = contexts.read(stream, substream)?;
        let (table, first) = contexts.entry(stream, substream)?;
        let forget = command::cfgi_cd(stream, substream, true);
        let mut writer = LiveEntry { smmu: self, kind: CD, table, first, forget };
        barrier::dsb_st();
        let live = |words: &Words| Cd::V.get(words) == 1;
        let mut target = *target;
        if Cd::EPD0.get(&target) == 1 && live(&current) {
            // Without walks the memory attributes mean nothing; keeping them spares a break.
            Cd::MAIR.set(&mut target, Cd::MAIR.get(&current));
        }
        let outcome = if live(&current) && live(&target) && breaks(&writer, &current, &target) {
            self.by_way_of_quiet(&mut writer, &current, &target)
        } else {
            write_entry(&mut writer, &current, &target).map(|_| ())
        };
        outcome.map_err(|error| self.fail_stream(streams, stream, error))
    }

    /// From one live address space to another: translation off, then one word after the other,
    /// then on. Each step is hitless, and in between transactions terminate.
    fn by_way_of_quiet(
        &self,
        writer: &mut LiveEntry<'_, E>,
        current: &Words,
        target: &Words,
    ) -> Result<(), QueueError> {
        let mut from = *current;
        let mut to = cd_quiesced(&Cd(from), self.features.stall == StallModel::Forced).0;
        write_entry(writer, &from, &to)?;
        for (word, &value) in target.iter().enumerate().skip(1) {
            (from, to[word]) = (to, value);
            write_entry(writer, &from, &to)?;
        }
        write_entry(writer, &to, target).map(|_| ())
    }
}

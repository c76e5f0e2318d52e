//! The command queue (3.5, 4, 7.1): consumption in order, completion at CMD_SYNC.

use crate::command::{self, Command, Refusal, Signal};
use crate::driver_fault::DriverFault;
use crate::model::{Interrupt, Model};
use crate::queue::Queue;
use crate::regs::{CMDQ_ERR, CMDQEN, MSI_CMDQ_ABT_ERR, SMMUEN};
use crate::tlb::Scope;

/// What a command filter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtered {
    /// Take it as it is.
    Pass,
    /// Consume it without effect.
    Drop,
    /// Take this instead.
    Replace([u64; 2]),
    /// Take it, and this one after it.
    Then([u64; 2]),
}

/// A look at every command before it is consumed.
pub type CommandFilter = dyn FnMut([u64; 2]) -> Filtered + Send;

/// A CMD_SYNC at the head of the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncWait {
    pub delay: u32,
    pub held: bool,
    pub signal: Signal,
}

/// CMDQ_CONS.ERR (7.1).
const CERROR_ILL: u32 = 1;
const CERROR_ABT: u32 = 2;
const CERROR_ATC_INV_SYNC: u32 = 3;

impl Model {
    /// Consumes at most one command.
    pub(crate) fn consume_command(&mut self) {
        let log2 = self.regs.cmdq.log2(self.features.cmdq_log2);
        let idle = self.regs.cr0ack & CMDQEN == 0
            || self.regs.active_errors() & CMDQ_ERR != 0
            || self.injected.service_failure
            || self.injected.frozen_commands
            || matches!(self.regs.cmdq.used(log2), None | Some(0));
        if idle {
            return;
        }
        if let Some(sync) = self.sync {
            return self.continue_sync(sync);
        }
        let Some(raw) = self.fetch_command(log2) else { return };
        let raw = match self.filter.as_mut().map_or(Filtered::Pass, |filter| filter(raw)) {
            Filtered::Pass => raw,
            Filtered::Drop => return self.advance_command(),
            Filtered::Replace(other) => other,
            Filtered::Then(after) => {
                self.after = Some(after);
                raw
            }
        };
        if std::mem::take(&mut self.injected.refuse_command) {
            return self.command_error(CERROR_ILL);
        }
        match command::decode(raw, &self.features) {
            Err(Refusal::Illegal(why)) => {
                self.blame(DriverFault::IllegalCommand { command: raw, why });
                self.command_error(CERROR_ILL);
            }
            Err(Refusal::Unpredictable) => {
                self.blame(DriverFault::UnpredictableRange { command: raw });
                self.counters.commands += 1;
                self.advance_command();
            }
            Ok(Command::Sync { signal }) => {
                let delay =
                    self.rng.below(4) as u32 + std::mem::take(&mut self.injected.delay_sync);
                // A lost signal: polled for, the queue hangs; by MSI, only the write is lost.
                let msi = matches!(signal, Signal::Msi { .. });
                let held = self.injected.lose_sync && !msi;
                if held {
                    self.injected.lose_sync = false;
                }
                self.sync = Some(SyncWait { delay, held, signal });
            }
            Ok(command) => {
                self.counters.commands += 1;
                if let Some(what) = self.out_of_range(&command) {
                    self.blame(DriverFault::OutOfRangeParameter { command: raw, what });
                } else {
                    self.accept(command);
                }
                self.advance_command();
            }
        }
    }

    fn fetch_command(&mut self, log2: u32) -> Option<[u64; 2]> {
        let address = self.regs.cmdq.entry(self.regs.cmdq.cons, log2, 4);
        if !std::mem::take(&mut self.injected.abort_command) && !self.injected.aborts(address) {
            let low = self.memory.read64(address);
            let high = self.memory.read64(address + 8);
            if let (Ok(low), Ok(high)) = (low, high) {
                return Some([low, high]);
            }
        }
        self.command_error(CERROR_ABT);
        None
    }

    fn command_error(&mut self, code: u32) {
        self.sync = None;
        self.regs.cmdq_error = code;
        self.raise_global_error(CMDQ_ERR);
    }

    fn advance_command(&mut self) {
        let log2 = self.regs.cmdq.log2(self.features.cmdq_log2);
        self.regs.cmdq.cons = Queue::next(self.regs.cmdq.cons, log2);
        let after = self.after.take().and_then(|raw| command::decode(raw, &self.features).ok());
        if let Some(command) = after {
            self.accept(command);
        }
    }

    fn out_of_range(&self, command: &Command) -> Option<&'static str> {
        let streams = 1u64 << self.features.sid_bits;
        let substreams = 1u64 << self.features.ssid_bits;
        let stream_of = match *command {
            Command::CfgiSte { stream, .. }
            | Command::CfgiCd { stream, .. }
            | Command::CfgiCdAll { stream }
            | Command::AtcInv { stream, .. }
            | Command::PriResp { stream, .. }
            | Command::Resume { stream, .. }
            | Command::StallTerm { stream } => Some(stream),
            _ => None,
        };
        if stream_of.is_some_and(|stream| u64::from(stream) >= streams) {
            return Some("StreamID");
        }
        let (vmid, asid) = match *command {
            Command::TlbiNhAll { vmid }
            | Command::TlbiS12Vmall { vmid }
            | Command::TlbiS2Ipa { vmid, .. } => (vmid, 0),
            Command::TlbiNhAsid { vmid, asid } => (vmid, asid),
            Command::TlbiNhVa { vmid, asid, .. } => (vmid, asid.unwrap_or(0)),
            Command::TlbiEl2Asid { asid } => (0, asid),
            _ => (0, 0),
        };
        if vmid > 0xff && !self.features.vmid16 || vmid != 0 && !self.features.stage2 {
            return Some("VMID");
        }
        if asid > 0xff && !self.features.asid16 {
            return Some("ASID");
        }
        match *command {
            Command::CfgiCd { substream, .. } if u64::from(substream) >= substreams => {
                Some("SubstreamID")
            }
            Command::AtcInv { substream: Some(substream), .. }
                if u64::from(substream) >= substreams =>
            {
                Some("SubstreamID")
            }
            _ => None,
        }
    }

    /// Invalidations take effect at some time before the next CMD_SYNC completes (4.8).
    fn accept(&mut self, command: Command) {
        match command {
            Command::Resume { stream, tag, retry, abort } => self.resume(stream, tag, retry, abort),
            Command::StallTerm { stream } => self.terminate_stalls(stream),
            Command::PriResp { stream, substream, group, response } => {
                if self.regs.cr0ack & SMMUEN != 0 {
                    self.respond(stream, substream, group, response);
                }
            }
            Command::PrefetchConfig { stream, .. } => self.prefetch_config(stream),
            Command::PrefetchAddress { stream, substream, address } => {
                self.prefetch_address(stream, substream, address);
            }
            Command::AtcInv { .. } => {
                self.counters.atc_invalidations += 1;
                if self.regs.cr0ack & SMMUEN != 0 {
                    self.pending.push(command);
                }
            }
            Command::CfgiSte { .. }
            | Command::CfgiSteRange { .. }
            | Command::CfgiCd { .. }
            | Command::CfgiCdAll { .. } => {
                self.counters.config_invalidations += 1;
                self.pending.push(command);
            }
            _ => {
                self.counters.tlb_invalidations += 1;
                self.pending.push(command);
            }
        }
    }

    /// One consumed invalidation, by chance any of them, takes effect: they are not ordered
    /// among themselves (4.7.3).
    pub(crate) fn apply_one_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let index = self.rng.index(self.pending.len());
        if let Command::AtcInv { stream, .. } = self.pending[index]
            && (self.injected.atc_timeouts.contains(&stream)
                || self.injected.slow_atc.is_some_and(|(slow, _)| slow == stream))
        {
            return;
        }
        let command = self.pending.swap_remove(index);
        self.apply(command);
    }

    fn apply(&mut self, command: Command) {
        let match_vmid = self.features.stage2;
        let (_, split, two_level) = self.stream_table_shape();
        let split = if two_level { split } else { 31 };
        let scope = match command {
            Command::CfgiSte { stream, leaf } => {
                return self.configs.invalidate_ste(stream, leaf, split);
            }
            Command::CfgiSteRange { stream, log2 } => {
                let span = (1u64 << log2) - 1;
                let first = u64::from(stream) & !span;
                let last = (first | span).min(u64::from(u32::MAX));
                return self.configs.invalidate_streams(first as u32, last as u32, split);
            }
            Command::CfgiCd { stream, substream, leaf } => {
                let leaf_log2 = self.context_leaf_log2(stream);
                return self.configs.invalidate_cd(stream, substream, leaf, leaf_log2);
            }
            Command::CfgiCdAll { stream } => return self.configs.invalidate_cds(stream),
            Command::AtcInv { stream, substream, global, start, end } => {
                return self.atc.invalidate(stream, substream, global, start, end);
            }
            Command::TlbiNsnhAll => Scope::El1All,
            Command::TlbiNhAll { vmid } => Scope::Stage1 { vmid, asid: None, range: None },
            Command::TlbiNhAsid { vmid, asid } => {
                Scope::Stage1 { vmid, asid: Some(asid), range: None }
            }
            Command::TlbiNhVa { vmid, asid, range } => {
                Scope::Stage1 { vmid, asid, range: Some(range) }
            }
            Command::TlbiS12Vmall { vmid } => Scope::Vmid { vmid },
            Command::TlbiS2Ipa { vmid, range } => Scope::Stage2 { vmid, range },
            Command::TlbiEl2All => Scope::El2 { asid: None, range: None },
            Command::TlbiEl2Asid { asid } => Scope::El2 { asid: Some(asid), range: None },
            Command::TlbiEl2Va { asid, range } => Scope::El2 { asid, range: Some(range) },
            Command::PrefetchConfig { .. }
            | Command::PrefetchAddress { .. }
            | Command::PriResp { .. }
            | Command::Resume { .. }
            | Command::StallTerm { .. }
            | Command::Sync { .. } => return,
        };
        self.tlb.invalidate(&scope, match_vmid);
    }

    /// Whether a device has not completed its invalidation yet; lets one step pass.
    fn device_is_slow(&mut self) -> bool {
        let Some((slow, steps)) = self.injected.slow_atc else { return false };
        let asked = |command: &Command| matches!(command, Command::AtcInv { stream, .. } if *stream == slow);
        if !self.pending.iter().any(asked) {
            return false;
        }
        self.injected.slow_atc = steps.checked_sub(1).map(|left| (slow, left));
        self.injected.slow_atc.is_some()
    }

    fn continue_sync(&mut self, sync: SyncWait) {
        if sync.held {
            return;
        }
        if sync.delay > 0 {
            self.sync = Some(SyncWait { delay: sync.delay - 1, ..sync });
            return;
        }
        if self.device_is_slow() {
            return;
        }
        self.sync = None;
        let timeouts = std::mem::take(&mut self.injected.atc_timeouts);
        let mut timed_out = false;
        let mut pending = std::mem::take(&mut self.pending);
        self.rng.shuffle(&mut pending);
        for command in pending {
            match command {
                Command::AtcInv { stream, .. } if timeouts.contains(&stream) => timed_out = true,
                other => self.apply(other),
            }
        }
        if timed_out {
            return self.command_error(CERROR_ATC_INV_SYNC);
        }
        self.injected.atc_timeouts = timeouts;
        // Everything that used what was invalidated is visible before the CMD_SYNC completes.
        self.finish_all_posted();
        self.flush_events();
        self.counters.syncs += 1;
        self.advance_command();
        match sync.signal {
            Signal::None => {}
            Signal::Wire => self.interrupts.push(Interrupt::Sync),
            Signal::Event => {
                if self.features.sev {
                    self.interrupts.push(Interrupt::SyncEvent);
                }
            }
            Signal::Msi { address, data } => {
                if std::mem::take(&mut self.injected.lose_sync) {
                    return;
                }
                let aborted = std::mem::take(&mut self.injected.abort_msi);
                if aborted || self.memory.write32(address, data).is_err() {
                    self.raise_global_error(MSI_CMDQ_ABT_ERR);
                }
            }
        }
    }
}

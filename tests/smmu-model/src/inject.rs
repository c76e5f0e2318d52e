//! Faults a test can plant.

use crate::model::Model;
use crate::regs::SFM_ERR;

/// Something that goes wrong in the SMMU or around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// The next CMD_SYNC is never answered: its MSI is lost, or, where it is polled for, it
    /// stays at the head of the queue until [`Injection::ReleaseSync`].
    LoseSync,
    /// The next CMD_SYNC takes this many steps more.
    DelaySync(u32),
    /// A held CMD_SYNC goes on.
    ReleaseSync,
    /// The next command raises CERROR_ILL, whatever it is.
    RefuseCommand,
    /// The next command fetch raises CERROR_ABT.
    AbortCommandFetch,
    /// ATC invalidations for this stream time out: CERROR_ATC_INV_SYNC at their CMD_SYNC.
    AtcTimeout(u32),
    /// The next ATC invalidation of this stream takes so many steps: a CMD_SYNC waits for it, and
    /// every command behind it waits too (3.9.1.4, 4.7.3).
    SlowAtc(u32, u32),
    /// Writing the next event record aborts.
    AbortEventWrite,
    /// Writing the next page request aborts.
    AbortPriWrite,
    /// The next MSI write aborts.
    AbortMsi,
    /// Structure and table fetches from this 4 KiB page abort.
    AbortPage(u64),
    /// The SMMU enters service failure mode (12.3).
    ServiceFailure,
    /// Register updates are never acknowledged again, or are again.
    FreezeRegisters(bool),
    /// No command is consumed any more, or is again.
    FreezeCommands(bool),
}

/// What has been planted and not yet gone off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Injected {
    pub lose_sync: bool,
    pub delay_sync: u32,
    pub refuse_command: bool,
    pub abort_command: bool,
    pub atc_timeouts: Vec<u32>,
    pub slow_atc: Option<(u32, u32)>,
    pub abort_event: bool,
    pub abort_pri: bool,
    pub abort_msi: bool,
    pub abort_pages: Vec<u64>,
    pub service_failure: bool,
    pub frozen_registers: bool,
    pub frozen_commands: bool,
}

impl Injected {
    pub fn aborts(&self, address: u64) -> bool {
        self.abort_pages.contains(&(address >> 12))
    }
}

impl Model {
    /// Plants a fault.
    pub fn inject(&mut self, injection: Injection) {
        let injected = &mut self.injected;
        match injection {
            Injection::LoseSync => injected.lose_sync = true,
            Injection::DelaySync(steps) => injected.delay_sync = steps,
            Injection::ReleaseSync => {
                injected.lose_sync = false;
                if let Some(sync) = &mut self.sync {
                    sync.held = false;
                }
            }
            Injection::RefuseCommand => injected.refuse_command = true,
            Injection::AbortCommandFetch => injected.abort_command = true,
            Injection::AtcTimeout(stream) => injected.atc_timeouts.push(stream),
            Injection::SlowAtc(stream, steps) => injected.slow_atc = Some((stream, steps)),
            Injection::AbortEventWrite => injected.abort_event = true,
            Injection::AbortPriWrite => injected.abort_pri = true,
            Injection::AbortMsi => injected.abort_msi = true,
            Injection::AbortPage(address) => injected.abort_pages.push(address >> 12),
            Injection::ServiceFailure => {
                injected.service_failure = true;
                self.raise_global_error(SFM_ERR);
            }
            Injection::FreezeRegisters(on) => injected.frozen_registers = on,
            Injection::FreezeCommands(on) => injected.frozen_commands = on,
        }
    }

    /// Takes back every planted fault that has not gone off, service failure excepted.
    pub fn clear_injections(&mut self) {
        let service_failure = self.injected.service_failure;
        self.injected = Injected { service_failure, ..Injected::default() };
        if let Some(sync) = &mut self.sync {
            sync.held = false;
        }
    }
}

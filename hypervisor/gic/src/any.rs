//! The controller that the board turned out to have.
use crate::{
    Ack, Gic, GicError, ListRegister, LrState, MaintenanceControl, Trigger, Version, v2::GicV2,
    v3::GicV3,
};

/// Either generation, chosen once at boot.
pub enum AnyGic {
    /// GICv2.
    V2(GicV2),
    /// GICv3.
    V3(GicV3),
    /// None of a board's: what stands in for one where the hypervisor is tested on a host.
    #[cfg(not(target_os = "none"))]
    Fake(crate::FakeGic),
}

macro_rules! either {
    ($self:ident, $gic:ident => $call:expr) => {
        match $self {
            AnyGic::V2($gic) => $call,
            AnyGic::V3($gic) => $call,
            #[cfg(not(target_os = "none"))]
            AnyGic::Fake($gic) => $call,
        }
    };
}

impl Gic for AnyGic {
    fn version(&self) -> Version {
        either!(self, gic => gic.version())
    }
    fn init_cpu(&self, core: usize, mpidr: u64) -> Result<(), GicError> {
        either!(self, gic => gic.init_cpu(core, mpidr))
    }
    #[inline]
    fn acknowledge(&self) -> Option<Ack> {
        either!(self, gic => gic.acknowledge())
    }
    #[inline]
    fn priority_drop(&self, ack: Ack) {
        either!(self, gic => gic.priority_drop(ack))
    }
    fn deactivate(&self, ack: Ack) {
        either!(self, gic => gic.deactivate(ack))
    }
    fn send_sgi(&self, core: usize, sgi: u32) {
        either!(self, gic => gic.send_sgi(core, sgi))
    }
    fn set_enabled(&self, intid: u32, enabled: bool) -> Result<(), GicError> {
        either!(self, gic => gic.set_enabled(intid, enabled))
    }
    fn configure(&self, intid: u32, trigger: Trigger, priority: u8) -> Result<(), GicError> {
        either!(self, gic => gic.configure(intid, trigger, priority))
    }
    fn clear(&self, intid: u32) -> Result<(), GicError> {
        either!(self, gic => gic.clear(intid))
    }
    fn route(&self, spi: u32, core: usize) -> Result<(), GicError> {
        either!(self, gic => gic.route(spi, core))
    }
    fn list_registers(&self) -> usize {
        either!(self, gic => gic.list_registers())
    }
    fn read_lr(&self, index: usize) -> ListRegister {
        either!(self, gic => gic.read_lr(index))
    }
    #[inline]
    fn read_lr_state(&self, index: usize) -> LrState {
        either!(self, gic => gic.read_lr_state(index))
    }
    #[inline]
    fn write_lr(&self, index: usize, lr: ListRegister) {
        either!(self, gic => gic.write_lr(index, lr))
    }
    fn set_maintenance(&self, control: MaintenanceControl) {
        either!(self, gic => gic.set_maintenance(control))
    }
    fn unmatched_ends(&self) -> u32 {
        either!(self, gic => gic.unmatched_ends())
    }
    fn reset_virtual(&self) {
        either!(self, gic => gic.reset_virtual())
    }
}

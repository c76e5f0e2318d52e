//! The seam: what the hypervisor asks of an interrupt controller.
use crate::{Ack, GicError, ListRegister, LrState, MaintenanceControl, Trigger, Version};

/// A physical interrupt controller with virtualisation support.
///
/// Calls that name no core act on the core that makes them. Cores are numbered as the caller
/// pleases, densely from 0; [`Gic::init_cpu`] ties the number to the hardware.
pub trait Gic: Sync {
    /// The generation.
    fn version(&self) -> Version;

    /// Takes the calling core into service: its private interrupts off and at a common priority,
    /// EOImode 1, the priority mask open, the virtual interface off and empty.
    ///
    /// # Errors
    /// When the hardware has no place for this core, or does not answer in time.
    fn init_cpu(&self, core: usize, mpidr: u64) -> Result<(), GicError>;

    /// Acknowledges the highest pending interrupt, None when there is none.
    fn acknowledge(&self) -> Option<Ack>;

    /// Lets further interrupts of the same priority in; the interrupt stays active.
    fn priority_drop(&self, ack: Ack);

    /// Ends an interrupt after its priority was dropped.
    fn deactivate(&self, ack: Ack);

    /// Sends the software-generated interrupt `sgi` (0..16) to a core. Stores made before are
    /// visible to that core when it takes the interrupt.
    fn send_sgi(&self, core: usize, sgi: u32);

    /// Switches an interrupt on or off; a private one (below 32) on the calling core.
    ///
    /// # Errors
    /// When there is no such interrupt, or the controller does not settle in time.
    fn set_enabled(&self, intid: u32, enabled: bool) -> Result<(), GicError>;

    /// Sets how an interrupt is signalled, and its priority. To be called while it is disabled.
    ///
    /// # Errors
    /// When there is no such interrupt.
    fn configure(&self, intid: u32, trigger: Trigger, priority: u8) -> Result<(), GicError>;

    /// Makes an interrupt neither active nor pending; one whose line is high becomes pending again.
    /// A private one (below 32) on the calling core.
    ///
    /// # Errors
    /// When there is no such interrupt.
    fn clear(&self, intid: u32) -> Result<(), GicError>;

    /// Sends a shared interrupt to a core.
    ///
    /// # Errors
    /// When there is no such interrupt or core.
    fn route(&self, spi: u32, core: usize) -> Result<(), GicError>;

    /// How many list registers the calling core has.
    fn list_registers(&self) -> usize;

    /// Reads a list register.
    fn read_lr(&self, index: usize) -> ListRegister;

    /// What the hardware changes of a list register while its guest runs.
    fn read_lr_state(&self, index: usize) -> LrState {
        self.read_lr(index).state
    }

    /// Writes a list register.
    fn write_lr(&self, index: usize, lr: ListRegister);

    /// Sets the virtual interface's control register and zeroes its count of unmatched ends.
    fn set_maintenance(&self, control: MaintenanceControl);

    /// How many interrupts the guest ended that no list register held, since the last
    /// [`Gic::set_maintenance`].
    fn unmatched_ends(&self) -> u32;

    /// Empties the calling core's virtual interface: list registers, active priorities, the
    /// guest's mask and group enables; and leaves it off.
    fn reset_virtual(&self);
}

//! The world behind the virtual ITS, as a seam.

use super::devices::Route;

/// The physical ITS, the vCPUs' interfaces, guest memory.
pub trait Backend {
    /// How many vCPUs the VM has.
    fn vcpus(&self) -> usize;
    /// Whether this exit has room for another piece of work.
    fn may_go_on(&mut self) -> bool;
    /// Reads guest memory; false where there is none.
    fn read(&mut self, ipa: u64, to: &mut [u8]) -> bool;
    /// Gives a device a table for 2^`event_bits` events, or takes it away. False: refused.
    fn map_device(&mut self, device: u32, event_bits: Option<u8>) -> bool;
    /// Routes a device's event to an LPI of a vCPU, with the configuration byte that the guest's
    /// table holds. False: refused.
    fn map_event(&mut self, device: u32, route: Route, vcpu: usize) -> bool;
    /// Routes events of a device, at most [`PIECE`](super::PIECE), to another vCPU; pending LPIs
    /// move along.
    fn move_events(&mut self, device: u32, routes: &[Route], to: usize);
    /// Unroutes events of a device, at most [`PIECE`](super::PIECE); their LPIs are not pending
    /// afterwards.
    fn unmap_events(&mut self, device: u32, routes: &[Route]);
    /// Takes over what the guest's table says of events of a device, at most
    /// [`PIECE`](super::PIECE). It holds for the physical LPIs after [`Backend::refresh`] or
    /// [`Backend::refresh_all`].
    fn configure(&mut self, device: u32, routes: &[Route]);
    /// Makes the hardware look at one event's configuration again.
    fn refresh(&mut self, device: u32, route: Route);
    /// Makes the hardware look at the configuration of everything that goes to a vCPU again.
    fn refresh_all(&mut self, vcpu: usize);
    /// Makes an LPI pending, or not pending.
    fn set_pending(&mut self, intid: u32, pending: bool);
    /// What is pending at one vCPU is pending at another instead.
    fn move_pending(&mut self, from: usize, to: usize);
}

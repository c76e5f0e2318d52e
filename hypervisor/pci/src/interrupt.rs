//! INTx: from a function's pin through the bridges to a wire (2.2.8.1).

use palisade_board::{Interrupt, PcieHost};

use crate::topology::Topology;

impl Topology {
    /// The wire of function `index`, through every bridge's swizzle.
    pub fn interrupt(&self, index: usize, host: &PcieHost) -> Option<Interrupt> {
        let function = self.functions.get(index)?;
        let mut pin = function.pin.checked_sub(1)?;
        let mut device = function.address.device();
        for (_, bridge) in self.bridges(index) {
            pin = pin.wrapping_add(device) % 4;
            device = bridge.address.device();
        }
        host.interrupt(device, pin.saturating_add(1))
    }
}

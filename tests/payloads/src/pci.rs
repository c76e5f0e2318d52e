//! Our PCI devices: found, given BARs where nobody gave them any, switched on.

use virtio_drivers::transport::pci::bus::{
    BarInfo, Cam, Command, DeviceFunction, DeviceFunctionInfo, MemoryBarType, MmioCam, PciRoot,
};

use crate::platform::Platform;

/// The bus and the part of its window that is still free.
pub struct Bus {
    /// Configuration space.
    pub root: PciRoot<MmioCam<'static>>,
    next: u64,
    end: u64,
}

impl Bus {
    /// The machine's PCI host.
    pub fn open(platform: &Platform<'_>) -> Option<Self> {
        let ecam = platform.ecam?;
        let (base, size) = platform.window?;
        // SAFETY: the device tree says that configuration space is there; nobody else uses it.
        let cam = unsafe { MmioCam::new(ecam as *mut u8, Cam::Ecam) };
        // Devices that came with BARs have them from the window's start.
        let next = base + size / 2;
        Some(Self { root: PciRoot::new(cam), next, end: base + size })
    }

    /// The first device with one of these identities, on bus 0 as guests see it.
    pub fn find(
        &self,
        wanted: impl Fn(&DeviceFunctionInfo) -> bool,
    ) -> Option<(DeviceFunction, DeviceFunctionInfo)> {
        self.root.enumerate_bus(0).find(|(_, info)| wanted(info))
    }

    /// Gives a device's memory BARs addresses where they have none, and switches it on without
    /// its interrupt line. Gives the address of BAR 0.
    pub fn enable(&mut self, device: DeviceFunction) -> Option<u64> {
        let mut index = 0;
        while index < 6 {
            let info = self.root.bar_info(device, index).ok().flatten();
            let wide = info.as_ref().is_some_and(BarInfo::takes_two_entries);
            if let Some(BarInfo::Memory { address_type, address: 0, size, .. }) = info
                && size > 0
            {
                let at = self.next.next_multiple_of(size);
                if at + size > self.end {
                    return None;
                }
                self.next = at + size;
                match address_type {
                    MemoryBarType::Width64 => self.root.set_bar_64(device, index, at),
                    _ => self.root.set_bar_32(device, index, u32::try_from(at).ok()?),
                }
            }
            index += if wide { 2 } else { 1 };
        }
        let on = Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
        self.root.set_command(device, on);
        let first = self.root.bar_info(device, 0).ok().flatten();
        Some(first.and_then(|info| info.memory_address_size()).map_or(0, |(address, _)| address))
    }
}

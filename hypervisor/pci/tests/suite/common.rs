//! A host like QEMU's `virt`, and hierarchies on it.

use std::sync::Arc;

use palisade_board::{
    IdMap, IdMapEntry, Interrupt, InterruptMapEntry, PcieHost, Range, Space, Trigger, Window,
};
use palisade_hal::fake::SteppedClock;
use palisade_pci::fake::{FakeBus, FakeFunction};
use palisade_pci::{Address, Topology};

pub const SMMU: u32 = 7;

/// 32-bit window at 0x1000_0000, 64-bit window at 0x80_0000_0000.
pub fn host() -> PcieHost {
    let range = |base, size| Range::new(base, size).expect("range");
    let window =
        |space, bus, size| Window { space, prefetchable: false, bus, cpu: range(bus, size) };
    let map = (0..16u32).map(|n| {
        let (slot, pin) = (n / 4, n % 4);
        InterruptMapEntry {
            unit: slot << 11,
            pin: pin + 1,
            interrupt: Interrupt { intid: 35 + (slot + pin) % 4, trigger: Trigger::Level },
        }
    });
    PcieHost {
        ecam: range(0x40_1000_0000, 0x1000_0000),
        segment: 0,
        first_bus: 0,
        last_bus: 255,
        windows: [
            window(Space::Memory32, 0x1000_0000, 0x2eff_0000),
            window(Space::Memory64, 0x80_0000_0000, 0x80_0000_0000),
        ]
        .into_iter()
        .collect(),
        interrupt_mask: (0x1800, 7),
        interrupt_map: map.collect(),
        iommu_map: IdMap {
            mask: None,
            entries: [IdMapEntry { input: 0, controller: SMMU, output: 0, length: 0x10000 }]
                .into_iter()
                .collect(),
        },
        msi_map: IdMap::default(),
        coherent: true,
        keep: false,
    }
}

pub struct Machine {
    pub clock: Arc<SteppedClock>,
    pub bus: Arc<FakeBus>,
    pub topology: Topology,
    pub host: PcieHost,
}

/// Enumerates a hierarchy.
pub fn machine(root: Vec<FakeFunction>) -> Machine {
    machine_on(host(), root)
}

pub fn machine_on(host: PcieHost, root: Vec<FakeFunction>) -> Machine {
    let clock = Arc::new(SteppedClock::new());
    let bus = FakeBus::new(clock.clone(), root);
    let topology = Topology::enumerate(bus.ecam(&host), &host);
    Machine { clock, bus, topology, host }
}

impl Machine {
    pub fn index(&self, bdf: u16) -> usize {
        self.topology.find(Address::new(0, bdf)).expect("enumerated")
    }
}

/// An NVMe-like endpoint behind a link.
pub fn nvme(device: u8) -> FakeFunction {
    FakeFunction::endpoint(device, 0, 0x0010_1b36)
        .bar64(0, 0x4000, false)
        .pin(1)
        .express(0, true)
        .msix(65, 0, 0x2000, 0x3000)
}

/// A conventional endpoint without any reset of its own, like edu.
pub fn edu(device: u8) -> FakeFunction {
    FakeFunction::endpoint(device, 0, 0x11e8_1234).bar32(0, 0x10_0000).pin(1)
}

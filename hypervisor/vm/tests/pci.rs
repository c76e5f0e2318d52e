//! The virtual PCI host over a fake hierarchy: what a guest sees, what it can change, and where
//! its BARs go.

#[path = "pci/ports.rs"]
mod ports;
#[path = "pci/tree.rs"]
mod tree;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use palisade_board::{IdMap, PcieHost, Range, Space, Window};
use palisade_hal::fake::SteppedClock;
use palisade_hal::{Env, Ipa, PhysAddr};
use palisade_pci::fake::{FakeBus, FakeFunction};
use palisade_pci::regs::{acs, capability, express, extended, header, msi, power};
use palisade_pci::{Address, Topology};
use palisade_vm::load::TreeWriter;
use palisade_vm::mmio::{Access, MmioDevice, Width};
use palisade_vm::pci::{
    BarMap, DeviceTlbs, Guest, Interrupts, PciError, PciHost, WINDOW64, describe, wire, wire_of,
};

/// Where the guest sees the device, and where it is.
const GUEST: u16 = 0x0010;
const DEVICE: u16 = 0x0100;
const LOW: u64 = 0x1800_0000;
/// Where the CPU sees the machine's port 0.
const PORTS: u64 = 0x7f00_0000;

/// A CPU view that refuses overlaps and knows what is mapped.
#[derive(Default)]
struct View(Mutex<Vec<(u64, u64, u64)>>);

impl View {
    fn now(&self) -> Vec<(u64, u64, u64)> {
        self.0.lock().expect("view").clone()
    }
}

/// What the IOMMU core was told of the device's ATS, and how often the device was reset by then.
struct Told {
    bus: Arc<FakeBus>,
    calls: Mutex<Vec<(bool, usize)>>,
    refuses: AtomicBool,
}

impl DeviceTlbs for Told {
    fn set(&self, device: Address, on: bool) -> Result<bool, palisade_iommu::Error> {
        assert_eq!(device.requester(), DEVICE);
        self.calls.lock().expect("calls").push((on, self.bus.resets(DEVICE)));
        match self.refuses.load(Ordering::Relaxed) {
            true => Err(palisade_iommu::Error::NoMemory),
            false => Ok(on),
        }
    }
}

impl BarMap for View {
    fn map(&self, ipa: Ipa, pa: PhysAddr, bytes: u64) -> bool {
        let mut mapped = self.0.lock().expect("view");
        let clash =
            |(at, _, size): &(u64, u64, u64)| *at < ipa.get() + bytes && ipa.get() < at + size;
        assert!(ipa.is_aligned(4096) && pa.is_aligned(4096) && bytes.is_multiple_of(4096));
        if mapped.iter().any(clash) {
            return false;
        }
        mapped.push((ipa.get(), pa.get(), bytes));
        true
    }

    fn unmap(&self, ipa: Ipa, bytes: u64) {
        let mut mapped = self.0.lock().expect("view");
        let before = mapped.len();
        mapped.retain(|(at, _, size)| (*at, *size) != (ipa.get(), bytes));
        assert_eq!(mapped.len() + 1, before, "unmapped what was not mapped");
    }
}

struct Rig {
    clock: Arc<SteppedClock>,
    bus: Arc<FakeBus>,
    topology: Arc<Topology>,
    view: Arc<View>,
    told: Arc<Told>,
    host: PciHost,
}

/// A host with the device 01:00.0 behind a root port, at 00:02.0 for the guest.
fn rig(device: FakeFunction) -> Rig {
    rig_of(vec![device])
}

/// The same with these functions at 01:00.
fn rig_of(functions: Vec<FakeFunction>) -> Rig {
    rig_behind(FakeFunction::root_port(1, functions))
}

/// The same behind this port.
fn rig_behind(port: FakeFunction) -> Rig {
    let range = |base, size| Range::new(base, size).expect("range");
    let window =
        |space, bus, size| Window { space, prefetchable: false, bus, cpu: range(bus, size) };
    let board = PcieHost {
        ecam: range(0x40_1000_0000, 0x1000_0000),
        segment: 0,
        first_bus: 0,
        last_bus: 255,
        windows: [
            window(Space::Memory32, 0x1000_0000, 0x2eff_0000),
            window(Space::Memory64, 0x80_0000_0000, 0x80_0000_0000),
            Window { cpu: range(PORTS, 0x1_0000), ..window(Space::Io, 0, 0x1_0000) },
        ]
        .into_iter()
        .collect(),
        interrupt_mask: (0, 0),
        interrupt_map: [].into_iter().collect(),
        iommu_map: IdMap::default(),
        msi_map: IdMap::default(),
        coherent: true,
        keep: false,
    };
    let clock = Arc::new(SteppedClock::new());
    let bus = FakeBus::new(clock.clone(), vec![port]);
    let topology = Arc::new(Topology::enumerate(bus.ecam(&board), &board));
    let view = Arc::new(View::default());
    let (calls, refuses) = (Mutex::default(), AtomicBool::new(false));
    let told = Arc::new(Told { bus: bus.clone(), calls, refuses });
    let host = PciHost::new(view.clone(), told.clone());
    let index = topology.find(Address::new(0, DEVICE)).expect("enumerated");
    host.add(
        &topology,
        Guest { index, bdf: GUEST, wired: true, messages: true, translates: false },
    )
    .expect("added");
    Rig { clock, bus, topology, view, told, host }
}

fn nvme() -> FakeFunction {
    FakeFunction::endpoint(0, 0, 0x0010_1b36)
        .bar64(0, 0x4000, false)
        .bar32(4, 0x100)
        .pin(2)
        .power(false)
        .express(0, true)
        .msix(65, 0, 0x2000, 0x3000)
        .extended_capability(extended::ATS, 8)
        .extended_capability(extended::PASID, 8)
}

impl Rig {
    fn access(bdf: u16, register: u16, width: Width) -> Access {
        Access { vcpu: 0, offset: (u64::from(bdf) << 12) | u64::from(register), width }
    }
    fn read32(&self, register: u16) -> u32 {
        self.host.read(Self::access(GUEST, register, Width::Bits32)) as u32
    }
    fn read16(&self, register: u16) -> u16 {
        self.host.read(Self::access(GUEST, register, Width::Bits16)) as u16
    }
    fn read8(&self, register: u16) -> u8 {
        self.host.read(Self::access(GUEST, register, Width::Bits8)) as u8
    }
    fn write32(&self, register: u16, value: u32) {
        self.host.write(Self::access(GUEST, register, Width::Bits32), value.into());
    }
    fn write16(&self, register: u16, value: u16) {
        self.host.write(Self::access(GUEST, register, Width::Bits16), value.into());
    }
    fn command(&self, value: u16) {
        self.write16(header::COMMAND, value);
    }
    /// Where the device's BAR really is.
    fn bar(&self, index: usize) -> u64 {
        let function = self.topology.find(Address::new(0, DEVICE)).expect("there");
        self.topology.functions()[function].bars[index].and_then(|bar| bar.cpu).expect("placed")
    }
    /// The capabilities as the guest walks them.
    fn capabilities(&self) -> Vec<(u8, u16)> {
        let mut list = Vec::new();
        let mut at = u16::from(self.read8(header::CAPABILITIES));
        while at != 0 && list.len() < 64 {
            list.push((self.read8(at), at));
            at = u16::from(self.read8(at + 1));
        }
        list
    }
    fn find(&self, id: u8) -> u16 {
        self.capabilities().iter().find(|(found, _)| *found == id).expect("listed").1
    }
}

#[test]
fn only_the_vms_devices_are_there() {
    let rig = rig(nvme());
    assert_eq!(rig.read32(header::ID), 0x0010_1b36);
    for bdf in [0x0000, 0x0008, DEVICE, 0xffff] {
        assert_eq!(rig.host.read(Rig::access(bdf, 0, Width::Bits32)) as u32, u32::MAX);
        rig.host.write(Rig::access(bdf, header::COMMAND, Width::Bits16), 6);
    }
    assert_eq!(rig.host.read(Rig::access(GUEST, 0, Width::Bits64)), u64::MAX);
    assert_eq!(rig.bus.peek32(DEVICE, header::COMMAND) & 7, 0, "nothing went through");
}

#[test]
fn bars_are_sized_without_touching_the_device() {
    let rig = rig(nvme());
    let before = rig.bus.peek32(DEVICE, header::BAR0);
    rig.write32(header::BAR0, u32::MAX);
    rig.write32(header::BAR0 + 4, u32::MAX);
    assert_eq!(rig.read32(header::BAR0), 0xffff_c004);
    assert_eq!(rig.read32(header::BAR0 + 4), u32::MAX);
    rig.write32(header::BAR0 + 16, u32::MAX);
    assert_eq!(rig.read32(header::BAR0 + 16), 0xffff_f000, "no smaller than a page");
    rig.write32(header::BAR0 + 8, u32::MAX);
    assert_eq!(rig.read32(header::BAR0 + 8), 0, "there is none");
    rig.write32(header::ROM0, u32::MAX);
    assert_eq!(rig.read32(header::ROM0), 0, "ROMs are hidden");
    assert_eq!(rig.bus.peek32(DEVICE, header::BAR0), before);
}

#[test]
fn a_bar_is_mapped_where_the_guest_puts_it_while_it_decodes() {
    let rig = rig(nvme());
    rig.write32(header::BAR0, LOW as u32);
    rig.write32(header::BAR0 + 4, 0);
    assert_eq!(rig.view.now(), [], "not before the guest says so");
    rig.command(header::COMMAND_MEMORY);
    assert_eq!(rig.view.now(), [(LOW, rig.bar(0), 0x4000)]);
    // Moved while it decodes, into the 64-bit window.
    rig.write32(header::BAR0 + 4, (WINDOW64.0 >> 32) as u32);
    assert_eq!(rig.view.now(), [((WINDOW64.0 & !0xffff_ffff) | LOW, rig.bar(0), 0x4000)]);
    // Over another BAR: refused; then moved away.
    rig.write32(header::BAR0 + 4, 0);
    rig.write32(header::BAR0 + 16, LOW as u32 + 0x1000);
    assert_eq!(rig.view.now(), [(LOW, rig.bar(0), 0x4000)]);
    rig.write32(header::BAR0 + 16, LOW as u32 + 0x4000);
    assert_eq!(rig.view.now().len(), 2);
    rig.command(0);
    assert_eq!(rig.view.now(), []);
    assert_eq!(rig.bus.peek32(DEVICE, header::COMMAND) as u16 & header::COMMAND_MEMORY, 0);
}

#[test]
fn outside_the_windows_a_bar_is_nowhere() {
    let rig = rig(nvme());
    rig.command(header::COMMAND_MEMORY);
    // RAM, the GIC, the end of the window, far beyond, and the end of the number space.
    for (low, high) in
        [(0x4000_0000, 0), (0x0800_0000, 0), (0x3eff_0000, 0), (0, 0x80), (0xffff_c000, u32::MAX)]
    {
        rig.write32(header::BAR0, low);
        rig.write32(header::BAR0 + 4, high);
        assert_eq!(rig.view.now(), [], "{high:#x}{low:08x}");
    }
}

#[test]
fn command_passes_what_a_guest_may_have() {
    let rig = rig(nvme());
    rig.command(0xffff);
    let allowed = header::COMMAND_MEMORY | header::COMMAND_MASTER | header::COMMAND_INTX_OFF;
    assert_eq!(rig.read16(header::COMMAND), allowed);
    assert_eq!(rig.bus.peek32(DEVICE, header::COMMAND) as u16, allowed);
    assert_eq!(rig.read8(header::INTERRUPT_PIN), 2);
    assert_eq!(rig.read8(header::HEADER_TYPE), 0);
}

#[test]
fn capabilities_are_listed_or_hidden() {
    let rig = rig(nvme().advanced());
    let ids: Vec<u8> = rig.capabilities().iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [capability::POWER, capability::EXPRESS, capability::MSIX]);
    for register in (0x100..0x1000).step_by(4) {
        assert_eq!(rig.read32(register), 0, "extended space is hidden");
    }
    let advanced = rig.bus.peek32(DEVICE, 0x90);
    assert_eq!(advanced as u8, capability::ADVANCED, "the device has it");
    assert_eq!(rig.read32(0x90), 0);
    rig.write32(0x94, 1);
    assert_eq!(rig.bus.resets(DEVICE), 0, "and a hidden one cannot be written");
}

#[test]
fn device_control_passes_in_part() {
    let rig = rig(nvme());
    let control = rig.find(capability::EXPRESS) + express::DEVICE_CONTROL;
    rig.write16(control, 0x7fff);
    let device = rig.bus.peek32(DEVICE, control) as u16;
    assert_eq!(device & express::PHANTOM_ENABLE, 0);
    assert_eq!(device, 0x7910);
    assert_eq!(rig.read16(control), 0x7910);
}

#[test]
fn msix_is_the_guests_to_enable() {
    let rig = rig(nvme());
    let control = rig.find(capability::MSIX) + 2;
    rig.write16(control, 0xffff);
    assert_eq!(rig.read16(control), 0xc000 | 64);
    assert_eq!(rig.bus.peek32(DEVICE, control) as u16, 0xc000 | 64);
}

#[test]
fn asleep_a_device_is_out_of_sight_but_awake() {
    let rig = rig(nvme());
    rig.write32(header::BAR0, LOW as u32);
    rig.command(header::COMMAND_MEMORY);
    let control = rig.find(capability::POWER) + power::CONTROL;
    rig.write16(control, power::D3HOT);
    assert_eq!(rig.view.now(), []);
    assert_eq!(rig.read16(control) & power::STATE, power::D3HOT, "as the guest wrote it");
    assert_eq!(rig.bus.peek32(DEVICE, control) as u16 & power::STATE, 0, "the device stays awake");
    rig.write16(control, 0);
    assert_eq!(rig.view.now().len(), 1);
    assert_eq!(rig.bus.resets(DEVICE), 0);
}

#[test]
fn a_guest_resets_its_device_and_gets_it_back() {
    let rig = rig(nvme());
    rig.write32(header::BAR0, LOW as u32);
    rig.command(header::COMMAND_MEMORY | header::COMMAND_MASTER);
    let control = rig.find(capability::EXPRESS) + express::DEVICE_CONTROL;
    let place = rig.bus.peek32(DEVICE, header::BAR0);
    // By a byte, as good as by the whole register.
    rig.host.write(Rig::access(GUEST, control + 1, Width::Bits8), 0x80);
    assert_eq!(rig.bus.resets(DEVICE), 1);
    assert_eq!(rig.view.now(), []);
    assert_eq!(rig.bus.peek32(DEVICE, header::BAR0) & !0xf, 0, "the device forgot its address");
    rig.clock.advance(100_000);
    assert_eq!(rig.read16(header::COMMAND), 0);
    rig.write32(header::BAR0, LOW as u32);
    rig.command(header::COMMAND_MEMORY);
    assert_eq!(rig.bus.peek32(DEVICE, header::BAR0), place);
    assert_eq!(rig.view.now(), [(LOW, rig.bar(0), 0x4000)]);
}

#[test]
fn during_its_reset_a_device_is_not_mapped() {
    let rig = rig(nvme().reset_takes(100_000));
    rig.write32(header::BAR0, LOW as u32);
    let control = rig.find(capability::EXPRESS) + express::DEVICE_CONTROL;
    rig.write16(control, express::INITIATE_FLR);
    rig.write32(header::BAR0, LOW as u32);
    rig.command(header::COMMAND_MEMORY);
    assert_eq!(rig.view.now(), [], "its BARs do not hold their addresses yet");
    rig.clock.advance(100_000);
    rig.command(header::COMMAND_MEMORY);
    assert_eq!(rig.view.now().len(), 1);
}

#[test]
fn taken_away_nothing_is_left_mapped() {
    let rig = rig(nvme());
    rig.write32(header::BAR0, LOW as u32);
    rig.command(header::COMMAND_MEMORY);
    rig.host.reset();
    assert_eq!(rig.view.now(), []);
    assert_eq!(rig.read32(header::BAR0), 4, "as at first");
    assert_eq!(rig.read16(header::COMMAND), 0);
    rig.write32(header::BAR0, LOW as u32);
    rig.command(header::COMMAND_MEMORY);
    assert_eq!(rig.view.now().len(), 1);
    rig.host.remove(GUEST);
    assert_eq!(rig.view.now(), []);
    assert_eq!(rig.read32(header::ID), u32::MAX);
    let index = rig.topology.find(Address::new(0, DEVICE)).expect("there");
    let guest = Guest { index, bdf: GUEST, wired: false, messages: true, translates: false };
    rig.host.add(&rig.topology, guest).expect("again");
    assert_eq!(rig.host.add(&rig.topology, guest), Err(PciError::Taken(GUEST)));
    assert_eq!(rig.read8(header::INTERRUPT_PIN), 0, "no wire, no pin");
}

#[test]
fn every_shape_of_msi_ends_where_its_control_says() {
    for (control, bytes) in
        [(0, 10), (msi::WIDE, 14), (msi::MASKS, 20), (msi::WIDE | msi::MASKS, 24)]
    {
        let rig = rig(FakeFunction::endpoint(0, 0, 0x1111_2222).msi(control).power(false));
        let at = rig.find(capability::MSI);
        rig.write16(at + msi::CONTROL, msi::ENABLE | msi::MULTIPLE_ENABLE);
        assert_eq!(rig.read16(at + msi::CONTROL), control | 0x71);
        for register in (at + 4..at + 24).step_by(4) {
            rig.write32(register, u32::MAX);
        }
        // The device's own power state is never the guest's (the next capability begins there).
        let power = rig.find(capability::POWER) + power::CONTROL;
        assert_eq!(rig.bus.peek32(DEVICE, power) as u16, 0, "{control:#x}: PMCSR was written");
        let wide = control & msi::WIDE != 0;
        assert_eq!(rig.read32(at + 4), 0xffff_fffc, "address");
        assert_eq!(rig.read16(at + if wide { 12 } else { 8 }), 0xffff, "data");
        let masks = at + if wide { 16 } else { 12 };
        if control & msi::MASKS != 0 {
            assert_eq!(rig.read32(masks), u32::MAX, "mask bits");
        }
        assert!(power - power::CONTROL >= at + bytes);
    }
}

#[test]
fn no_capability_opens_what_another_masks() {
    // The list: power management at 0x60, then a vendor's at 0x40 that claims 255 bytes, then
    // MSI-X and an Express capability that run into the one at 0x60 and over the end.
    let device = FakeFunction::endpoint(0, 0, 0x1111_2222)
        .list(&[(capability::POWER, 0x60), (capability::VENDOR, 0x40), (capability::MSIX, 0x58)])
        .byte(0x42, 0xff)
        .writable(0x40, 0xc0);
    let rig = rig(device);
    let listed: Vec<u8> = rig.capabilities().iter().map(|(id, _)| *id).collect();
    assert_eq!(listed, [capability::POWER, capability::VENDOR], "MSI-X has 8 bytes of 12");
    for register in (0x44..0x100).step_by(4) {
        rig.write32(register, u32::MAX);
    }
    assert_eq!(rig.bus.peek32(DEVICE, 0x60 + power::CONTROL), 0, "PMCSR was written");
    assert_eq!(rig.bus.peek32(DEVICE, 0x58), 0x11, "a hidden one was written");
    assert_eq!(rig.bus.peek32(DEVICE, 0x54), u32::MAX, "the vendor's own passes");
    assert_eq!(rig.bus.peek32(DEVICE, 0x80), 0, "and no more");
}

#[test]
fn a_list_that_loops_ends_for_the_guest() {
    let device = FakeFunction::endpoint(0, 0, 0x1111_2222)
        .list(&[(capability::POWER, 0x60), (capability::VENDOR, 0x40)])
        .byte(0x41, 0x60);
    let rig = rig(device);
    assert_eq!(rig.capabilities(), [(capability::POWER, 0x60), (capability::VENDOR, 0x40)]);
}

#[test]
fn messages_that_cannot_be_told_apart_are_hidden() {
    let rig = rig(nvme().msi(0));
    let guest = rig.host.guests()[0];
    rig.host.remove(GUEST);
    rig.host.add(&rig.topology, Guest { messages: false, ..guest }).expect("added");
    let ids: Vec<u8> = rig.capabilities().iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [capability::POWER, capability::EXPRESS]);
}

#[test]
fn without_its_wire_a_device_never_drives_it() {
    // Another VM may have the wire: a level there would be a storm that it cannot end.
    let rig = rig(nvme());
    let guest = rig.host.guests()[0];
    rig.host.remove(GUEST);
    rig.host.add(&rig.topology, Guest { wired: false, ..guest }).expect("added");
    let off = || rig.bus.peek32(DEVICE, header::COMMAND) as u16 & header::COMMAND_INTX_OFF != 0;
    for command in [header::COMMAND_MASTER, header::COMMAND_MEMORY, 0] {
        rig.command(command);
        assert!(off(), "Interrupt Disable is clear with {command:#x}");
        assert_eq!(rig.read16(header::COMMAND), command, "as the guest wrote it");
    }
    // Nor after a reset of its own, whatever it writes next.
    let control = rig.find(capability::EXPRESS) + express::DEVICE_CONTROL;
    let messages = rig.find(capability::MSIX) + 2;
    rig.write16(control, express::INITIATE_FLR);
    rig.clock.advance(100_000);
    rig.write16(messages, 0x4000);
    assert!(off(), "after its own reset");
    rig.command(header::COMMAND_MASTER);
    assert!(off());
}

#[test]
fn its_stream_follows_the_ats_of_a_device_that_the_guest_resets() {
    let rig = rig(FakeFunction::endpoint(0, 0, 0x0010_1b36).express(0, true).ats());
    let guest = rig.host.guests()[0];
    let control = rig.find(capability::EXPRESS) + express::DEVICE_CONTROL;
    let ats = || rig.bus.peek32(DEVICE, extended::START + 4) >> 31 != 0;
    let calls = || std::mem::take(&mut *rig.told.calls.lock().expect("calls"));
    rig.write16(control, express::INITIATE_FLR);
    rig.clock.advance(100_000);
    rig.command(header::COMMAND_MASTER);
    assert_eq!((rig.bus.resets(DEVICE), calls()), (1, vec![]), "without ATS nobody is told");
    rig.host.remove(GUEST);
    rig.host.add(&rig.topology, Guest { translates: true, ..guest }).expect("added");
    rig.command(header::COMMAND_MASTER);
    assert_eq!((ats(), calls()), (true, vec![(true, 1)]));
    // Off before the reset takes it; on again when the device is back, and not before.
    rig.write16(control, express::INITIATE_FLR);
    rig.command(header::COMMAND_MASTER);
    assert_eq!((ats(), calls()), (false, vec![(false, 1)]));
    rig.clock.advance(100_000);
    rig.command(header::COMMAND_MASTER);
    assert_eq!((ats(), calls()), (true, vec![(true, 2)]));
    // Where the IOMMU does not follow nothing changes in the device.
    rig.told.refuses.store(true, Ordering::Relaxed);
    rig.write16(control, express::INITIATE_FLR);
    assert_eq!((ats(), rig.bus.resets(DEVICE), calls()), (true, 2, vec![(false, 2)]));
}

#[test]
fn after_its_own_reset_a_device_is_kept_apart_before_it_masters_the_bus() {
    let other = FakeFunction::endpoint(0, 1, 0x1111_2222).express(0, true);
    let first = nvme().multi_function().acs(acs::ISOLATING_FUNCTION);
    let rig = rig_of(vec![first, other.acs(acs::ISOLATING_FUNCTION)]);
    let acs_on = || {
        let index = rig.topology.find(Address::new(0, DEVICE)).expect("there");
        let config = rig.topology.ecam().config(rig.topology.functions()[index].address);
        let at = config.extended_capability(extended::ACS).expect("ACS") + acs::CONTROL;
        config.read16(at) == acs::ISOLATING_FUNCTION
    };
    assert!(acs_on());
    let control = rig.find(capability::EXPRESS) + express::DEVICE_CONTROL;
    rig.write16(control, express::INITIATE_FLR);
    rig.clock.advance(100_000);
    assert!(!acs_on(), "a reset takes it");
    rig.command(header::COMMAND_MASTER);
    assert_eq!(rig.bus.peek32(DEVICE, header::COMMAND) as u16, header::COMMAND_MASTER);
    assert!(acs_on(), "bus mastering is on without ACS");
}

#[test]
fn root_ports_lead_to_other_buses() {
    let rig = rig(nvme());
    let guest = rig.host.guests()[0];
    rig.host.remove(GUEST);
    rig.host.add(&rig.topology, Guest { bdf: 0x0200, ..guest }).expect("on bus 2");
    let ports = [16u16 << 3, 17 << 3];
    let read = |bdf, register| rig.host.read(Rig::access(bdf, register, Width::Bits32)) as u32;
    let number = |port, buses: u32| {
        rig.host.write(Rig::access(port, 0x18, Width::Bits32), buses.into());
    };
    // Without a word from the guest, everything is where the manifest says.
    assert_eq!(read(0x0200, header::ID), 0x0010_1b36);
    for (port, buses) in ports.into_iter().zip([0x0001_0100, 0x0002_0200]) {
        assert_eq!(read(port, header::CLASS) >> 8, 0x06_0400);
        assert_eq!((read(port, 0x0c) >> 16) & 0xff, 1, "a bridge");
        assert_eq!(read(port, 0x18) & 0xff_ffff, buses);
        let express = (read(port, header::CAPABILITIES) & 0xff) as u16;
        assert_eq!((read(port, express) >> 20) & 0xf, 4, "a root port");
    }
    // Its windows are the guest's to write.
    rig.host.write(Rig::access(ports[1], 0x20, Width::Bits32), 0x1010_1000);
    assert_eq!(read(ports[1], 0x20), 0x1010_1000);
    // A guest that numbers the buses itself.
    number(ports[0], 0);
    number(ports[1], 0x0009_0900);
    assert_eq!(read(0x0200, header::ID), u32::MAX);
    assert_eq!(read(0x0900, header::ID), 0x0010_1b36);
    rig.host.reset();
    assert_eq!(read(0x0200, header::ID), 0x0010_1b36);
    // Device 0 pin B behind device 17: as device 17 pin B itself.
    assert_eq!(wire_of(0x0200, 2), wire(17, 2));
    assert_eq!(wire_of(0x0208, 2), wire(17, 3));
    // A port's place is nobody else's, and free again without it.
    let taken = rig.host.add(&rig.topology, Guest { bdf: ports[0], ..guest });
    assert_eq!(taken, Err(PciError::Taken(ports[0])));
    rig.host.remove(0x0200);
    assert_eq!(read(ports[0], header::ID), u32::MAX);
    rig.host.add(&rig.topology, Guest { bdf: ports[0], ..guest }).expect("free");
    let behind = rig.host.add(&rig.topology, Guest { bdf: 0x0200, ..guest });
    assert_eq!(behind, Err(PciError::Taken(ports[0])), "no room for the port");
}

#[test]
fn random_accesses_leave_device_and_view_in_bounds() {
    let rig = rig(nvme());
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20
    };
    for _ in 0..20_000 {
        let width =
            [Width::Bits8, Width::Bits16, Width::Bits32, Width::Bits64][random() as usize % 4];
        let register = (random() as u16 % 0x120) & !(width.bytes() as u16 - 1);
        let value = random() & width.mask();
        if random() % 3 == 0 {
            rig.host.read(Rig::access(GUEST, register, width));
        } else {
            rig.host.write(Rig::access(GUEST, register, width), value);
        }
        rig.clock.relax();
        let command = rig.bus.peek32(DEVICE, header::COMMAND) as u16;
        assert_eq!(command & header::COMMAND_IO, 0);
        for (ipa, pa, bytes) in rig.view.now() {
            assert!(ipa >= 0x1000_0000 && (ipa + bytes <= 0x3eff_0000 || ipa >= WINDOW64.0));
            assert!(pa == rig.bar(0) || pa == rig.bar(4));
        }
    }
}

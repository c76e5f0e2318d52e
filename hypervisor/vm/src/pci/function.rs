//! One of the VM's functions.

use alloc::boxed::Box;
use alloc::sync::Arc;

use palisade_hal::{Ipa, PhysAddr};
use palisade_iommu::{DeviceId, Iommus};
use palisade_pci::regs::{express, header, power};
use palisade_pci::{Address, BarKind, Config, Error, Function, Topology, set_ats};

use super::shadow::Shadow;
use super::{capabilities, layout};

/// Smallest unit of stage 2. A smaller BAR shows itself as large as this.
const PAGE: u64 = 4096;
/// What a guest changes of Command.
const COMMAND: u16 = DECODE | header::COMMAND_MASTER | header::COMMAND_INTX_OFF;
/// Of that, what makes it decode its BARs.
const DECODE: u16 = header::COMMAND_IO | header::COMMAND_MEMORY;

/// Where BARs go: the CPU's view of a VM.
///
/// Called with the host's lock held, so the VM's map is locked after it.
pub trait BarMap: Send + Sync {
    /// Maps `bytes` bytes of device registers at `pa` to `ipa`, both multiples of 4 KiB.
    /// Answers whether it could; it must refuse to overlap anything that is mapped.
    fn map(&self, ipa: Ipa, pa: PhysAddr, bytes: u64) -> bool;
    /// Takes away what [`map`](Self::map) mapped. When this returns no CPU reaches it any more.
    fn unmap(&self, ipa: Ipa, bytes: u64);
}

/// Whether the IOMMU takes what devices translate themselves.
///
/// Called with the host's lock held, so the IOMMU core's locks come after it.
pub trait DeviceTlbs: Send + Sync {
    /// Says that the ATS of a device is about to be off, or on again, as
    /// [`Iommus::set_device_tlb`]. Returns whether the device may have it on.
    ///
    /// # Errors
    /// The IOMMU does not follow: the device's ATS must stay as it is, or off.
    fn set(&self, device: Address, on: bool) -> Result<bool, palisade_iommu::Error>;
}

impl DeviceTlbs for Iommus {
    fn set(&self, device: Address, on: bool) -> Result<bool, palisade_iommu::Error> {
        self.set_device_tlb(DeviceId::new(device.number()), on)
    }
}

/// A function as it is given to a guest.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// Index of the function in the topology.
    pub index: usize,
    /// Where the guest sees it: bus << 8 | device << 3 | function.
    pub bdf: u16,
    /// Its INTx line reaches the guest.
    pub wired: bool,
    /// Its messages can be told from those of other functions.
    pub messages: bool,
    /// It holds translations itself (ATS). A function-level reset switches that off in the
    /// device (10.5.1.3), so that its stream is told before, and again when it is back.
    pub translates: bool,
}

/// A BAR as the guest places it.
#[derive(Clone, Copy)]
struct Window {
    register: u16,
    kind: BarKind,
    bytes: u64,
    pa: PhysAddr,
    mapped: Option<u64>,
}

impl Window {
    /// The bit of Command that makes the device decode it.
    fn decode(&self) -> u16 {
        if self.kind == BarKind::Io { header::COMMAND_IO } else { header::COMMAND_MEMORY }
    }
}

/// One of the VM's functions.
pub(super) struct VirtualFunction {
    pub(super) guest: Guest,
    topology: Arc<Topology>,
    tlbs: Arc<dyn DeviceTlbs>,
    shadow: Box<Shadow>,
    windows: [Option<Window>; palisade_pci::MAX_BARS],
    /// PMCSR, if the function has power management.
    power: Option<u16>,
    /// Device Control, if a write there can start a function-level reset.
    flr: Option<u16>,
    /// What the device decodes now, as bits of Command.
    decoding: u16,
    /// The device has what its last reset took from it again.
    restored: bool,
}

impl VirtualFunction {
    pub(super) fn new(
        topology: Arc<Topology>,
        tlbs: Arc<dyn DeviceTlbs>,
        guest: Guest,
    ) -> Result<Self, Error> {
        let absent = Error::Absent(palisade_pci::Address::new(0, guest.bdf));
        let function = topology.function(guest.index).ok_or(absent)?;
        function.placed()?;
        let config = topology.ecam().config(function.address);
        let mut shadow = Shadow::new();
        let mut windows = [None; palisade_pci::MAX_BARS];
        for (slot, bar) in windows.iter_mut().zip(&function.bars) {
            let Some(bar) = bar else { continue };
            let Some(cpu) = bar.cpu else {
                // Its memory is placed, or it would not be here.
                log::info!(
                    "device {}: its I/O ports, BAR {}, are hidden: they have no pages of their own",
                    function.address,
                    bar.index
                );
                continue;
            };
            let register = header::BAR0.saturating_add(u16::from(bar.index).saturating_mul(4));
            let bytes = bar.size.max(PAGE);
            let flags = match bar.kind {
                BarKind::Io => 1,
                BarKind::Memory32 => 0,
                BarKind::Memory64 => 4,
            } | if bar.prefetchable { 8 } else { 0 };
            let address = !(bytes.saturating_sub(1));
            shadow.own32(register, flags, (address & 0xffff_fff0) as u32);
            if bar.kind == BarKind::Memory64 {
                shadow.own32(register.saturating_add(4), 0, (address >> 32) as u32);
            }
            let (kind, pa) = (bar.kind, PhysAddr::new(cpu));
            *slot = Some(Window { register, kind, bytes, pa, mapped: None });
        }
        let ports = windows.iter().flatten().any(|window| window.kind == BarKind::Io);
        head(&mut shadow, config, function, guest, ports);
        let power = capabilities::link(&mut shadow, config, guest.messages);
        let flr = function.express.filter(|express| express.flr);
        let flr = flr.map(|express| express.offset.saturating_add(express::DEVICE_CONTROL));
        let (decoding, restored) = (0, false);
        Ok(Self { guest, topology, tlbs, shadow, windows, power, flr, decoding, restored })
    }

    /// Where it really is.
    pub(super) fn address(&self) -> Option<Address> {
        self.function().map(|function| function.address)
    }

    fn function(&self) -> Option<&Function> {
        self.topology.function(self.guest.index)
    }

    fn config(&self) -> Option<Config<'_>> {
        self.function().map(|function| self.topology.ecam().config(function.address))
    }

    /// A read of 1, 2 or 4 aligned bytes.
    pub(super) fn read(&self, at: u16, bytes: u16) -> u32 {
        let device = match self.config() {
            Some(config) if self.shadow.reads_device(at, bytes) => load(config, at, bytes),
            _ => 0,
        };
        self.shadow.read(at, bytes, device)
    }

    /// A write of 1, 2 or 4 aligned bytes.
    pub(super) fn write(&mut self, at: u16, bytes: u16, value: u32, map: &dyn BarMap) {
        if self.starts_reset(at, bytes, value) {
            self.reset(map);
            return;
        }
        let passed = self.shadow.write(at, bytes, value);
        let late = !self.restored;
        // Before it is as it was, nothing of the guest's reaches the device.
        if passed != 0
            && self.restore()
            && let Some(config) = self.config()
        {
            store(config, at, bytes, value, passed);
        }
        let touches = |from: u16, to: u16| at < to && from < at.saturating_add(bytes);
        if late && self.restored
            || touches(header::COMMAND, header::COMMAND.saturating_add(2))
            || touches(header::BAR0, header::ROM0)
            || self.power.is_some_and(|power| touches(power, power.saturating_add(2)))
        {
            self.update(map);
        }
    }

    /// Whether the write sets Initiate Function Level Reset.
    fn starts_reset(&self, at: u16, bytes: u16, value: u32) -> bool {
        let Some(control) = self.flr else { return false };
        // The bit lies in the register's upper byte.
        let byte = control.saturating_add(1);
        let Some(offset) = byte.checked_sub(at).filter(|offset| *offset < bytes) else {
            return false;
        };
        (value >> (8 * u32::from(offset))) & u32::from(express::INITIATE_FLR >> 8) != 0
    }

    /// Gives the device back what a reset took, unless it has it; false while it does not respond.
    fn restore(&mut self) -> bool {
        let Some((function, config)) = self.function().zip(self.config()) else { return false };
        let restored = self.restored || function.restore(config).is_ok();
        if restored && !self.restored && self.guest.translates {
            // Its stream takes translations before the device makes any (IHI 0070 3.9.2).
            match self.tlbs.set(function.address, true) {
                Ok(on) => set_ats(config, on),
                Err(error) => log::error!("device {}: goes without ATS: {error}", function.address),
            }
        }
        self.restored = restored;
        restored
    }

    /// A function-level reset that the guest asked for. The guest waits for its end itself; the
    /// addresses go back into the device when the guest lets it decode again.
    fn reset(&mut self, map: &dyn BarMap) {
        self.power_on(map);
        let (Some(config), Some(control)) = (self.config(), self.flr) else { return };
        // The reset takes ATS and what the device has translated: from here on its stream takes
        // none of that, and nobody waits for the device to forget it.
        if self.guest.translates
            && let Err(error) = self.tlbs.set(config.address(), false)
        {
            log::error!("device {}: is not reset: {error}", config.address());
            return;
        }
        config.update16(control, express::INITIATE_FLR, express::INITIATE_FLR);
    }

    /// Every virtual register as at first; the device decodes and masters nothing.
    pub(super) fn power_on(&mut self, map: &dyn BarMap) {
        self.shadow.reset();
        self.update(map);
        self.restored = false;
    }

    /// Takes every BAR out of the guest's view.
    pub(super) fn close(&mut self, map: &dyn BarMap) {
        self.close_but(0, map);
    }

    /// Takes every BAR out of the guest's view but those of the kinds that `decoding` names.
    fn close_but(&mut self, decoding: u16, map: &dyn BarMap) {
        for window in self.windows.iter_mut().flatten().filter(|w| decoding & w.decode() == 0) {
            if let Some(ipa) = window.mapped.take() {
                map.unmap(Ipa::new(ipa), window.bytes);
            }
        }
    }

    /// Where the guest's BARs are mapped, with their lengths.
    pub(super) fn mapped(&self) -> impl Iterator<Item = (u64, u64)> {
        self.windows.iter().flatten().filter_map(|w| Some((w.mapped?, w.bytes)))
    }

    /// Brings device and mappings in line with the virtual registers. A BAR is mapped only while
    /// the device decodes it: an access that nobody answers may be an error of the whole machine.
    fn update(&mut self, map: &dyn BarMap) {
        let command = self.shadow.get16(header::COMMAND) & COMMAND;
        let awake = self.power.is_none_or(|at| self.shadow.get16(at) & power::STATE == 0);
        let decode = if awake { command & DECODE } else { 0 };
        self.close_but(decode, map);
        // The device may have reset itself, too: nothing is decoded whose addresses do not stay.
        self.restored &= self.decoding != 0 || decode == 0;
        self.decoding = if self.restore() { decode } else { 0 };
        self.close_but(self.decoding, map);
        let Some(config) = self.config() else { return };
        config.write16(header::COMMAND, self.allowed(command));
        self.place(map);
    }

    /// What the device's Command becomes where the guest's is `command`. A wire that the guest
    /// does not have may be another VM's: the device then never drives it (7.5.1.1.3).
    fn allowed(&self, command: u16) -> u16 {
        let mut off = DECODE & !self.decoding;
        if !self.restored {
            off |= header::COMMAND_MASTER;
        }
        let silent = !self.guest.wired || !self.restored;
        command & !off | if silent { header::COMMAND_INTX_OFF } else { 0 }
    }

    /// Maps each BAR that is decoded where the guest put it; one outside the windows is nowhere.
    fn place(&mut self, map: &dyn BarMap) {
        let (shadow, decoding) = (&self.shadow, self.decoding);
        for window in self.windows.iter_mut().flatten().filter(|w| decoding & w.decode() != 0) {
            let low = u64::from(shadow.get32(window.register) & !0xf);
            let wide = window.kind == BarKind::Memory64;
            let high = if wide { shadow.get32(window.register.saturating_add(4)) } else { 0 };
            let start = low | (u64::from(high) << 32);
            let wanted = match window.kind {
                BarKind::Io => layout::ports_at(start, window.bytes),
                _ => Some(start).filter(|start| layout::in_window(*start, window.bytes)),
            };
            if window.mapped == wanted {
                continue;
            }
            if let Some(old) = window.mapped.take() {
                map.unmap(Ipa::new(old), window.bytes);
            }
            window.mapped = wanted.filter(|ipa| map.map(Ipa::new(*ipa), window.pa, window.bytes));
        }
    }
}

/// The registers of the header. `ports`: it has I/O ports that the guest sees.
fn head(shadow: &mut Shadow, config: Config<'_>, function: &Function, guest: Guest, ports: bool) {
    shadow.expose(header::ID, 4);
    let command = if ports { COMMAND } else { COMMAND & !header::COMMAND_IO };
    shadow.own16(header::COMMAND, 0, command);
    shadow.expose(header::STATUS, 2);
    // Revision, class, cache line, latency, header type: one function unless the host says more.
    shadow.expose(header::CLASS, 7);
    shadow.own8(header::HEADER_TYPE, 0, 0);
    shadow.expose(header::SUBSYSTEM, 4);
    shadow.own8(header::INTERRUPT_LINE, config.read8(header::INTERRUPT_LINE), 0xff);
    shadow.own8(header::INTERRUPT_PIN, if guest.wired { function.pin } else { 0 }, 0);
}

fn load(config: Config<'_>, at: u16, bytes: u16) -> u32 {
    match bytes {
        1 => config.read8(at).into(),
        2 => config.read16(at).into(),
        _ => config.read32(at),
    }
}

/// Writes the bits of `mask`. Where not every bit of a half word passes, the others are written
/// as they are; half words of which none passes are left alone, for they may be registers that
/// a write of 1 clears.
fn store(config: Config<'_>, at: u16, bytes: u16, value: u32, mask: u32) {
    match bytes {
        1 if mask & 0xff == 0xff => config.write8(at, value as u8),
        1 => {
            let old = config.read8(at);
            config.write8(at, (old & !(mask as u8)) | (value & mask) as u8);
        }
        2 if mask & 0xffff == 0xffff => config.write16(at, value as u16),
        2 => config.update16(at, mask as u16, value as u16),
        _ if mask == u32::MAX => config.write32(at, value),
        _ => {
            for (at, shift) in [(at, 0), (at.saturating_add(2), 16)] {
                let (value, mask) = (value >> shift, (mask >> shift) & 0xffff);
                if mask != 0 {
                    store(config, at, 2, value, mask);
                }
            }
        }
    }
}

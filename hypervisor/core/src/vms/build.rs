//! Building a VM: memory, devices, images.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_board::Version as Controller;
use palisade_bundle::Vm as Manifest;
use palisade_gic::Gic;
use palisade_hal::cpu::Counter;
use palisade_hal::{Ipa, PhysAddr, guest};
use palisade_iommu::Owner;
use palisade_mem::FRAME_BYTES;
use palisade_vm::load::Boot;
use palisade_vm::memory::{GuestMemory, Shape};
use palisade_vm::passthrough::{PlainSet, Request};
use palisade_vm::pci::{ECAM_BASE, ECAM_BYTES, PciHost, open_windows};
use palisade_vm::pl011::Console;
use palisade_vm::{Vm, VmConfig, Wires, layout};

use crate::machine::formats;
use crate::machine::instances::Machine;
use crate::vms::built::BuiltVm;
use crate::vms::fittings::VmFittings;
use crate::vms::refusal::BuildError;
use crate::vms::release::{take_devices, take_memory};
use crate::vms::{images, interface, plain, senders};
use crate::wire::console;

/// Maintenance interrupt where the device tree names none (BSA: PPI 9).
const MAINTENANCE: u32 = 25;

/// Guests' bytes go out as they come.
struct Line;

impl Console for Line {
    fn put(&self, vm: usize, byte: u8) {
        console::guest(vm, &[byte]);
    }
}

/// What the walkers of this machine can do.
fn shape(machine: &Machine) -> Shape {
    // PARange, ID_AA64MMFR0_EL1 (D24.2.74).
    let range = guest::id_register(7, 0) & 0xf;
    let pa_bits = *[32, 36, 40, 42, 44, 48].get(range as usize).unwrap_or(&48);
    let instances = machine.iommus.instances();
    let able = || instances.iter().map(|instance| instance.capabilities());
    Shape {
        pa_bits,
        // The IOMMU core was told the same.
        vmid16: false,
        dma_bits: able().map(|can| can.output_bits).min().unwrap_or(pa_bits),
        dma_coherent: able().all(|can| can.coherent),
    }
}

/// Builds VM `index` on the given cores: memory, devices, images. When it fails, what it had is
/// given back as from any VM.
///
/// # Errors
/// [`BuildError`].
pub(crate) fn build(
    machine: &'static Machine,
    manifest: &'static Manifest<'static>,
    index: usize,
    cores: Vec<usize>,
) -> Result<BuiltVm, BuildError> {
    let free = machine.frames.available().saturating_mul(FRAME_BYTES);
    if manifest.memory > free {
        return Err(BuildError::TooLarge { wanted: manifest.memory >> 20, free: free >> 20 });
    }
    let owner = machine.iommus.owners().open(index as u16)?;
    let memory = GuestMemory::new(
        machine.frames.clone(),
        machine.cpus.clone(),
        machine.iommus.clone(),
        owner,
        shape(machine),
        formats::registry(),
    );
    let memory = match memory {
        Ok(memory) => memory,
        Err(error) => {
            let _ = machine.iommus.owners().close(owner);
            return Err(error.into());
        }
    };
    let built = fill(machine, manifest, index, cores, owner, &memory);
    if built.is_err() {
        take_memory(machine, index as u16, owner, &memory);
    }
    built
}

/// The VM with its memory, devices and images. When it fails, its devices are no longer its own.
fn fill(
    machine: &'static Machine,
    manifest: &'static Manifest<'static>,
    index: usize,
    cores: Vec<usize>,
    owner: Owner,
    memory: &Arc<GuestMemory>,
) -> Result<BuiltVm, BuildError> {
    let readonly: Vec<(Ipa, u64)> =
        manifest.readonly.iter().map(|range| (Ipa::new(range.ipa), range.size)).collect();
    memory.add_ram(Ipa::new(layout::RAM), manifest.memory, &readonly)?;
    if manifest.firmware {
        // Flash that cannot be written, and what the bank of variables keeps.
        let code = (manifest.kernel.data.len() as u64).next_multiple_of(FRAME_BYTES);
        let flash = Ipa::new(layout::FLASH);
        memory.add_ram(flash, code.min(layout::FLASH_BYTES), &[(flash, code)])?;
        memory.add_ram(Ipa::new(layout::VARIABLES_STORE), layout::VARIABLES_KEPT, &[])?;
    }
    let mut vm = bare(machine, manifest, index, cores, memory)?;
    if manifest.firmware {
        vm.add_flash()?;
    }
    let pci = Arc::new(PciHost::new(memory.clone(), machine.iommus.clone()));
    vm.add_device(Ipa::new(ECAM_BASE), ECAM_BYTES, pci.clone())?;
    open_windows(&mut vm)?;
    match attach_devices_and_load(machine, manifest, &mut vm, &pci, owner) {
        Ok((plain, boot)) => Ok(BuiltVm::new(vm, manifest, plain, boot, owner, pci)),
        Err(error) => {
            let fittings = VmFittings { machine, vm: &vm, pci: &pci };
            let _ = take_devices(machine, &fittings, &Counter);
            Err(error)
        }
    }
}

/// A VM without devices of the machine's.
fn bare(
    machine: &Machine,
    manifest: &Manifest<'_>,
    index: usize,
    cores: Vec<usize>,
    memory: &Arc<GuestMemory>,
) -> Result<Vm, BuildError> {
    let board = machine.board;
    let virtual_cpu_interface = match &board.gic.version {
        Controller::V2 { virtual_cpu, .. } => virtual_cpu.map(|range| range.base()),
        Controller::V3 { .. } => None::<PhysAddr>,
    };
    Ok(Vm::new(VmConfig {
        name: String::from(manifest.name),
        index,
        cores,
        memory: memory.clone(),
        gic: machine.gic.version(),
        virtual_cpu_interface,
        wires: Wires {
            virtual_timer: board.timer.virtual_.intid,
            physical_timer: board.timer.physical.intid,
            maintenance: board.gic.maintenance.map_or(MAINTENANCE, |line| line.intid),
        },
        console: Arc::new(Line),
    })?)
}

fn attach_devices_and_load(
    machine: &'static Machine,
    manifest: &'static Manifest<'static>,
    vm: &mut Vm,
    pci: &PciHost,
    owner: Owner,
) -> Result<(PlainSet<'static>, Boot), BuildError> {
    let request = Request {
        vm: vm.index() as u16,
        devices: &manifest.devices,
        present: &[],
        no_isolation: manifest.no_dma_isolation,
    };
    let memory = vm.memory().clone();
    let fittings = VmFittings { machine, vm, pci };
    let (iommus, domain) = (&machine.iommus, memory.domain());
    let assigned = machine.devices.plug(&fittings, &request, domain, iommus, &Counter)?;
    let plain = plain::assign(machine, manifest, vm)?;
    // The guest interface and the messages are there for those devices that can use them.
    if let Some((messages, senders)) = senders::of(machine, None, &assigned) {
        vm.add_its(&messages, senders)?;
    }
    let smmus = match manifest.virtual_smmu {
        true => interface::smmus(machine, owner, vm, &assigned)?,
        false => Vec::new(),
    };
    if let Some(service) = interface::service(machine, owner, &memory, &assigned, smmus)? {
        vm.set_service(service);
    }
    let boot = images::load(manifest, vm, &plain)?;
    Ok((plain, boot))
}

//! The order in which the hypervisor comes up, does its job and goes off.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_board::{BoardInfo, Chosen};
use palisade_bundle::Bundle;
use palisade_fdt::Tree;
use palisade_gic::Gic;
use palisade_hal::cpu;
use palisade_hal::machine::{BootInfo, MapKind};
use palisade_hal::mmio::Mmio;
use palisade_iommu::Iommus;
use palisade_mem::Frames;
use palisade_vm::passthrough::PlainBook;
use spin::Once;

use crate::machine::error::Error;
use crate::machine::formats::Families;
use crate::machine::instances::Machine;
use crate::machine::{devicetree, formats, heap, interrupts, memory, messages, pcie, smmus};
use crate::operator::{dispatch, faults, footprint, posture};
use crate::panic::context::{self, Context, Power};
use crate::panic::provoke::provoke;
use crate::start::secondaries;
use crate::vms::build::build;
use crate::vms::placement::Placement;
use crate::vms::system::{self, System};
use crate::vms::{bundle, core_loop, host};
use crate::wire::report::Record;
use crate::wire::serial::Serial;
use crate::wire::{console, logger};

/// Exit status when the hypervisor could not come up.
const FAILED: u32 = 1;

/// Where the first core enters.
pub fn start(boot: BootInfo) -> ! {
    start_with(boot, formats::SHIPPED)
}

/// The same in an image with all page-table formats.
pub fn start_with_all_formats(boot: BootInfo) -> ! {
    start_with(boot, formats::ALL)
}

fn start_with(boot: BootInfo, families: Families) -> ! {
    let BootInfo { tree, entry_ticks, image, machine } = boot;
    let context = context::set(Context { machine, image, entry_ticks });
    heap::init();
    match run(context, tree, families) {
        Ok(()) => {
            Record::new("end").send();
            log::info!("done, power off");
            context::off(0)
        }
        Err(error) => {
            console::last_resort(context.machine);
            log::error!("cannot go on: {error}{}", context::way_off());
            Record::new("error").text("message", &error).send();
            context::off(FAILED)
        }
    }
}

fn run(context: &Context, tree: Option<&'static [u8]>, families: Families) -> Result<(), Error> {
    let bytes = tree.ok_or(Error::NoTree)?;
    let tree = devicetree::read(bytes)?;
    // Before anything can be refused: how the machine is turned off, and where words go.
    power_and_console(context, tree)?;
    // It lives as long as the machine does.
    let board: &'static BoardInfo<'static> = Box::leak(Box::new(palisade_fdt::board(tree)?));
    take_power_manager(context, board)?;
    greet(context, board);
    if let Some(how) = board.chosen.argument("palisade.die") {
        provoke(how, context);
    }
    smmus::abort_all(board, context.machine);
    let frames = take_memory(context, board, bytes)?;
    let gic = interrupts::bring_up(board, context.machine)?;
    gic.init_cpu(cpu::index(), cpu::affinity())?;
    let cpus = Arc::new(frames.register_agent("CPUs")?);
    // 8 bits of VMID: what every core has.
    let iommus = Arc::new(Iommus::new(palisade_bundle::MAX_VMS as u16, 8));
    formats::register(families, &frames, &cpus)?;
    smmus::bring_up(board, context.machine, &frames, &iommus);
    let devices = pcie::enumerate(board, context.machine);
    pcie::announce(&devices, &iommus);
    interrupts::reserve_all(board, devices.lines());
    let platform = PlainBook::new(devices.lines().clone());
    let machine = Machine {
        tree,
        board,
        frames,
        gic,
        cpus,
        iommus,
        devices,
        platform,
        messages: Once::new(),
    };
    let system = system::publish(System::new(machine));
    let machine = &system.machine;
    interrupts::claim_all(machine);
    let cores = secondaries::start(board, context.machine);
    log::info!("{} cores up", cores.len());
    machine.messages.call_once(|| messages::bring_up(machine, context.machine, &cores));
    match bundle::open(board, context.machine, &context.image, cores.len())? {
        Some(bundle) => run_bundle(system, bundle, &cores),
        None => log::info!("no bundle: there is nothing to run"),
    }
    faults::drain(system);
    posture::report(system);
    host::report_timing();
    footprint::report(&system.machine);
    Ok(())
}

/// Builds every VM that can be, runs them, and comes back when all have ended.
fn run_bundle(system: &'static System, bundle: &'static Bundle<'static>, cores: &[usize]) {
    system.set_names(bundle.entries().iter().map(|entry| entry.name).collect());
    bundle.entries().iter().for_each(|entry| console::add_vm(entry.name));
    let mut left = cores.iter().copied();
    let seed = system.machine.board.chosen.argument("palisade.seed");
    let mut placement = Placement::new(system.machine.frames.clone(), seed);
    let mut vms = Vec::new();
    for (index, entry) in bundle.entries().iter().enumerate() {
        let built = match &entry.vm {
            Ok(vm) => {
                placement.skip();
                let own = left.by_ref().take(vm.vcpus).collect();
                build(&system.machine, vm, index, own)
            }
            Err(error) => {
                bundle::refused(entry.name, index, error);
                continue;
            }
        };
        match built {
            Ok(built) => vms.push(built),
            Err(error) => bundle::refused(entry.name, index, &error),
        }
    }
    drop(placement);
    for built in &vms {
        built.report("built", None);
        built.report_ram();
    }
    posture::report(system);
    system.set_vms(vms);
    system.vms().iter().for_each(|built| built.boot(&system.machine));
    core_loop::serve(system, 0, dispatch::interrupt);
}

fn power_and_console(context: &Context, tree: &Tree<'_>) -> Result<(), Error> {
    let words = Chosen { bootargs: palisade_fdt::bootargs(tree), initrd: None };
    let flag = |key| words.argument(key) == Some("1");
    context::set_power(Power {
        conduit: palisade_fdt::conduit(tree).map(secondaries::conduit),
        semihosting: flag("palisade.semihosting"),
    });
    if let Some(uart) = palisade_fdt::console(tree) {
        let registers = uart.registers.start()..uart.registers.end();
        context.machine.map(registers, MapKind::Device)?;
        // SAFETY: mapped just now, and nothing else in the hypervisor uses it.
        console::init(unsafe { Serial::open(&uart) }, flag("palisade.mux"));
    }
    logger::init(context.entry_ticks, words.argument("palisade.log"));
    Ok(())
}

fn take_power_manager(context: &Context, board: &BoardInfo<'_>) -> Result<(), Error> {
    if let Some(manager) = &board.power {
        let registers = manager.registers;
        context.machine.map(registers.start()..registers.end(), MapKind::Device)?;
        // SAFETY: mapped just now; nothing else in the hypervisor uses it.
        context::set_manager(unsafe { Mmio::new(registers.base(), registers.size()) });
    }
    Ok(())
}

fn greet(context: &Context, board: &BoardInfo<'_>) {
    let image = &context.image;
    log::info!("Palisade {} on {}", env!("CARGO_PKG_VERSION"), board.model);
    log::debug!("image {:#x}..{:#x}", image.start, image.end);
    for note in &board.notes {
        log::warn!("device tree: {note}");
    }
    if board.more_notes > 0 {
        log::warn!("device tree: {} parts more are left out", board.more_notes);
    }
    Record::new("boot")
        .text("version", env!("CARGO_PKG_VERSION"))
        .text("board", board.compatible)
        .number("cpus", board.cpus.len() as u64)
        .send();
    Record::new("image").address("start", image.start).address("end", image.end).send();
}

fn take_memory(
    context: &Context,
    board: &BoardInfo<'_>,
    tree: &[u8],
) -> Result<Arc<Frames>, Error> {
    let start = tree.as_ptr() as u64;
    let tree = start..start.saturating_add(tree.len() as u64);
    let bundle = board.chosen.initrd.map_or(0..0, |initrd| initrd.start()..initrd.end());
    let frames = memory::init(board, context.machine, &[context.image.clone(), tree, bundle])?;
    log::info!("{} MiB of RAM free", frames.footprint().free >> 8);
    Ok(frames)
}

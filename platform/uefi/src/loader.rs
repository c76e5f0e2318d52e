//! The steps, one line each.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use palisade_acpi::{Firmware, Iort, NodeKind, Physical, Tables, board, tree, usable};
use palisade_board::{BoardInfo, PcieHost, Range};
use palisade_uefi::{Additions, Image, Refusal, amend};
use uefi::boot::{AllocateType, MemoryType};
use uefi::mem::memory_map::MemoryMap;
use uefi::table::cfg::ConfigTableEntry;
use uefi::{Guid, Status, entry, guid, println};

use crate::files::{self, Files};
use crate::handover::{Plan, memory};
use crate::physical::Mapped;
use crate::{bridges, cpu};

#[entry]
fn main() -> Status {
    println!("palisade: loader {}", env!("CARGO_PKG_VERSION"));
    match prepare() {
        Ok(plan) => {
            println!("palisade: leaving the firmware");
            plan.run()
        }
        Err(refusal) => {
            println!("palisade: cannot start: {refusal}");
            Status::LOAD_ERROR
        }
    }
}

/// Everything that can be refused.
fn prepare() -> Result<Plan, Refusal> {
    match cpu::level() {
        2 => {}
        level => return Err(Refusal::Level(level)),
    }
    // Five minutes are not enough for a large bundle on a slow disk.
    let _ = uefi::boot::set_watchdog_timer(0, 0x1_0000, None);
    let files = files::read()?;
    println!(
        "palisade: hypervisor {} bytes, bundle {} bytes, both as packed",
        files.hypervisor.len(),
        files.bundle.len()
    );
    let ram = ram()?;
    let image = place(&files.hypervisor, &ram)?;
    println!("palisade: hypervisor at {:#x}, {:#x} bytes", image.start(), image.size());
    let bundle = keep("the bundle", &files.bundle)?;
    let Files { command_line, .. } = files;
    let machine = match (table(ConfigTableEntry::ACPI2_GUID), table(DEVICE_TREE)) {
        (Some(pointer), _) => by_acpi(pointer, &command_line, bundle)?,
        (None, Some(tree)) => by_tree(tree, &command_line, bundle)?,
        (None, None) => return Err(Refusal::NoDescription),
    };
    let Described { blob, hosts, smmus, ram } = machine;
    let place = keep("the device tree", &blob)?.ok_or(Refusal::Tree("it is empty".into()))?;
    println!("palisade: device tree at {:#x}, {:#x} bytes", place.start(), place.size());
    let plan = Plan {
        hosts,
        smmus,
        ram,
        clean: [Some(image), Some(place), bundle].into_iter().flatten().collect(),
        entry: image.start(),
        tree: place.start(),
    };
    plan.check()?;
    Ok(plan)
}

/// A machine as the hypervisor is to see it.
struct Described {
    blob: Vec<u8>,
    /// Configuration space of each host from its first bus on, and how many buses.
    hosts: Vec<(u64, u64)>,
    /// Register page 0 of each SMMU.
    smmus: Vec<u64>,
    /// RAM that the hypervisor may take for its own.
    ram: Vec<Range>,
}

fn hosts(board: &BoardInfo<'_>) -> Vec<(u64, u64)> {
    let buses = |host: &PcieHost| u64::from(host.last_bus.saturating_sub(host.first_bus));
    let host = |host: &PcieHost| (host.ecam.start(), buses(host).saturating_add(1));
    board.pcie.iter().map(host).collect()
}

/// Reads the tables from the root pointer on.
fn by_acpi(pointer: u64, bootargs: &str, bundle: Option<Range>) -> Result<Described, Refusal> {
    let memory = Mapped;
    let tables = Tables::new(&memory, pointer).map_err(said)?;
    let windows = bridges::windows();
    let (free, _) = memory_as_it_is()?;
    let windows = windows.as_slice();
    let firmware = Firmware { memory: &free, bootargs, bundle, windows, ..Firmware::default() };
    let board = board(&tables, &firmware).map_err(said)?;
    describe("ACPI", &board);
    let blob = tree(&board).map_err(|error| Refusal::Tree(error.to_string()))?;
    let ram = board.memory.to_vec();
    Ok(Described { blob, hosts: hosts(&board), smmus: smmus(&tables)?, ram })
}

/// Takes the firmware's device tree, with what is ours added.
fn by_tree(address: u64, bootargs: &str, bundle: Option<Range>) -> Result<Described, Refusal> {
    const MOST: u32 = 2 << 20;
    let bad = |why: &str| Refusal::Tree(format!("the firmware's device tree: {why}"));
    let head = Mapped.bytes(address, 8).and_then(|head| head.last_chunk::<4>().copied());
    let size = head.map(u32::from_be_bytes).filter(|size| *size <= MOST);
    let size = size.ok_or(bad("it has no size"))?;
    let bytes = Mapped.bytes(address, size as usize).ok_or(bad("it is not mapped"))?;
    let (ram, kept) = memory_as_it_is()?;
    let blob = amend(bytes, &Additions { bootargs, bundle, kept: &kept })?;
    let tree = palisade_fdt::Tree::new(&blob).map_err(|fault| bad(&fault.to_string()))?;
    let board = palisade_fdt::board(&tree).map_err(|error| bad(&error.to_string()))?;
    describe("a device tree", &board);
    let smmus = board.smmus.iter().map(|smmu| smmu.registers.start()).collect();
    let hosts = hosts(&board);
    drop(board);
    Ok(Described { blob, hosts, smmus, ram })
}

fn said(error: palisade_acpi::Error) -> Refusal {
    Refusal::Tables(error.to_string())
}

/// The lowest address of RAM, whoever uses it.
fn ram() -> Result<u64, Refusal> {
    let map = memory_map()?;
    // Conventional memory and what stands in for it; registers and holes have other types.
    let ram = map.entries().filter(|descriptor| {
        matches!(descriptor.ty.0, 1..=7 | 9 | 10) && memory(descriptor).attributes & 8 != 0
    });
    // Flash that holds the firmware's variables is memory to it too: of runtime services.
    let ram = ram.filter(|descriptor| !matches!(descriptor.ty.0, 5 | 6));
    let lowest = ram.map(|descriptor| descriptor.phys_start).min();
    lowest.ok_or(Refusal::Memory { what: "anything", why: "its map is empty".into() })
}

fn memory_map() -> Result<uefi::mem::memory_map::MemoryMapOwned, Refusal> {
    uefi::boot::memory_map(MemoryType::LOADER_DATA).map_err(|error| Refusal::Memory {
        what: "its memory map",
        why: format!("{:?}", error.status()),
    })
}

/// What of the memory is free, and what is the firmware's.
fn memory_as_it_is() -> Result<(Vec<Range>, Vec<Range>), Refusal> {
    let map = memory_map()?;
    let (mut free, mut kept): (Vec<Range>, Vec<Range>) = (Vec::new(), Vec::new());
    for descriptor in map.entries() {
        let descriptor = memory(descriptor);
        let size = descriptor.pages.saturating_mul(4096);
        match (usable(&descriptor), Range::new(descriptor.start, size)) {
            (Some(range), _) => free.push(range),
            (None, Some(range)) => match kept.last_mut().filter(|last| last.end() == range.start())
            {
                Some(last) => {
                    let size = last.size().saturating_add(range.size());
                    *last = Range::new(last.start(), size).unwrap_or(*last);
                }
                None => kept.push(range),
            },
            (None, None) => {}
        }
    }
    Ok((free, kept))
}

/// Puts the hypervisor where it is linked.
fn place(bytes: &[u8], ram: &u64) -> Result<Range, Refusal> {
    let image = Image::read(bytes)?;
    let base = image.base(*ram)?;
    let room = |why| Refusal::Room { base, size: image.size, why };
    let pages = image.size.div_ceil(4096);
    let range = Range::new(base, pages.saturating_mul(4096));
    let range = range.ok_or(room("there is no such address".to_string()))?;
    let (kind, size) = (AllocateType::Address(base), range.size() as usize);
    let pages = uefi::boot::allocate_pages(kind, MemoryType::LOADER_DATA, pages as usize)
        .map_err(|error| room(format!("{:?}", error.status())))?;
    write(pages, bytes, size);
    Ok(range)
}

/// A copy that nobody frees, in pages of its own; none of nothing.
fn keep(what: &'static str, bytes: &[u8]) -> Result<Option<Range>, Refusal> {
    let count = bytes.len().div_ceil(4096);
    if count == 0 {
        return Ok(None);
    }
    let pages = uefi::boot::allocate_pages(AllocateType::AnyPages, MemoryType::LOADER_DATA, count)
        .map_err(|error| Refusal::Memory { what, why: format!("{:?}", error.status()) })?;
    write(pages, bytes, count.saturating_mul(4096));
    Ok(Range::new(pages.as_ptr() as u64, bytes.len() as u64))
}

/// Fills pages that were allocated just now: `bytes`, then zeros.
fn write(pages: core::ptr::NonNull<u8>, bytes: &[u8], size: usize) {
    // SAFETY: `size` bytes were allocated there, nobody else has them.
    let pages = unsafe {
        pages.as_ptr().write_bytes(0, size);
        core::slice::from_raw_parts_mut(pages.as_ptr(), size)
    };
    for (to, from) in pages.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// Where a device tree is (UEFI 2.10, 4.6.1).
const DEVICE_TREE: Guid = guid!("b1b621d5-f19c-41a5-830b-d9152c69aae0");

/// The address of a configuration table.
fn table(guid: Guid) -> Option<u64> {
    uefi::system::with_config_table(|entries| {
        let found = entries.iter().find(|entry| entry.guid == guid);
        found.map(|entry| entry.address as u64).filter(|address| *address != 0)
    })
}

/// Says what there is, and what of it is left out.
fn describe(by: &str, board: &BoardInfo<'_>) {
    let bytes: u64 = board.memory.iter().map(Range::size).sum();
    println!(
        "palisade: by {by}: {} cores, {} MiB of RAM, {} SMMUs, {} PCIe hosts",
        board.cpus.len(),
        bytes >> 20,
        board.smmus.len(),
        board.pcie.len()
    );
    board.notes.iter().for_each(|note| println!("palisade: {note}"));
    if board.more_notes != 0 {
        println!("palisade: {} parts more are left out", board.more_notes);
    }
}

/// Every SMMUv3 of the tables, driven or not: each is made to abort.
fn smmus(tables: &Tables<'_>) -> Result<Vec<u64>, Refusal> {
    let nodes = Iort::read(tables).map_err(said)?.map(|iort| iort.nodes).unwrap_or_default();
    let bases = nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Smmu(smmu) => Some(smmu.base),
        _ => None,
    });
    Ok(bases.filter(|base| *base != 0).collect())
}

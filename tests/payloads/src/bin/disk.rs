//! Owns a virtio-blk disk, writes it, reads it back, and goes on reading.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::cell::UnsafeCell;

use palisade_payloads::command::{Words, serve};
use palisade_payloads::memory::Page;
use palisade_payloads::pattern::{EMPTY, mix, word};
use palisade_payloads::pci::Bus;
use palisade_payloads::platform::Platform;
use palisade_payloads::virtio::{Memory, Translated};
use palisade_payloads::{payload, println};
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};

payload!(main);

type Disk = VirtIOBlk<Memory, Translated>;

const SECTORS_AT_ONCE: u64 = 128;
const CHUNK: usize = SECTORS_AT_ONCE as usize * SECTOR_SIZE;

/// What the host watches; nothing else ever writes it.
static CANARY: Page = Page::new();
const CANARY_PATTERN: u32 = 0x600d_da7a;

#[repr(C, align(4096))]
struct Buffer(UnsafeCell<[u8; CHUNK]>);

// SAFETY: a payload has one core, and main takes the only reference.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; CHUNK]));

fn main(platform: &Platform<'_>) {
    CANARY.fill(CANARY_PATTERN);
    // SAFETY: the only reference ever made.
    let buffer = unsafe { &mut *BUFFER.0.get() };
    let mut disk = open(platform);
    match &disk {
        Some(disk) => println!("# {} sectors", disk.capacity()),
        None => println!("# no disk"),
    }
    serve("disk", |_, verb, words| {
        match verb {
            // The device is about to go, or has come: both while we run.
            "close" => {
                disk = None;
                println!("ok");
            }
            "open" => {
                disk = open(platform);
                println!("ok sectors={}", disk.as_ref().map_or(0, Disk::capacity));
            }
            _ => obey(disk.as_mut(), buffer, verb, words)?,
        }
        Some(())
    });
}

fn open(platform: &Platform<'_>) -> Option<Disk> {
    let mut bus = Bus::open(platform)?;
    let (device, _) = bus.find(|info| virtio_device_type(info) == Some(DeviceType::Block))?;
    bus.enable(device)?;
    match PciTransport::new::<Memory, _>(&mut bus.root, device) {
        Ok(transport) => match Disk::new(Translated::new(transport)) {
            Ok(disk) => return Some(disk),
            Err(error) => println!("# disk: {error}"),
        },
        Err(error) => println!("# transport: {error}"),
    }
    None
}

fn obey(
    disk: Option<&mut Disk>,
    buffer: &mut [u8; CHUNK],
    verb: &str,
    words: &mut Words<'_>,
) -> Option<()> {
    match verb {
        "canary" => println!("ok ipa={:#x} pattern={CANARY_PATTERN:#x}", CANARY.address()),
        "write" => {
            let (seed, bytes) = (words.number()?, words.number()?);
            let sectors = bytes / SECTOR_SIZE as u64;
            let disk = disk?;
            write(disk, buffer, seed, sectors)?;
            disk.flush().ok()?;
            let sum = read(disk, buffer, 0, sectors)?;
            println!("ok bytes={bytes} sum={sum:#018x}");
        }
        "read" => {
            let (sector, sectors) = (words.number()?, words.number()?);
            let sum = read(disk?, buffer, sector, sectors)?;
            println!("ok sum={sum:#018x}");
        }
        _ => return None,
    }
    Some(())
}

/// Pieces of a range of sectors: first sector and bytes.
fn pieces(first: u64, sectors: u64) -> impl Iterator<Item = (usize, usize)> {
    (0..sectors).step_by(SECTORS_AT_ONCE as usize).map(move |at| {
        let count = SECTORS_AT_ONCE.min(sectors - at);
        ((first + at) as usize, count as usize * SECTOR_SIZE)
    })
}

fn write(disk: &mut Disk, buffer: &mut [u8; CHUNK], seed: u64, sectors: u64) -> Option<()> {
    let mut n = 0;
    for (sector, bytes) in pieces(0, sectors) {
        let piece = buffer.get_mut(..bytes)?;
        for slot in piece.chunks_exact_mut(8) {
            slot.copy_from_slice(&word(seed, n).to_le_bytes());
            n += 1;
        }
        disk.write_blocks(sector, piece).ok()?;
    }
    Some(())
}

fn read(disk: &mut Disk, buffer: &mut [u8; CHUNK], first: u64, sectors: u64) -> Option<u64> {
    let mut sum = EMPTY;
    for (sector, bytes) in pieces(first, sectors) {
        let piece = buffer.get_mut(..bytes)?;
        piece.fill(0);
        disk.read_blocks(sector, piece).ok()?;
        for slot in piece.chunks_exact(8) {
            sum = mix(sum, u64::from_le_bytes(slot.try_into().ok()?));
        }
    }
    Some(sum)
}

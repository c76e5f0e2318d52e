//! A guest with devices outside PCI: the BCM2835's mini UART, or its DMA engine.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use fdt::Fdt;
use palisade_payloads::command::{Words, serve};
use palisade_payloads::gic::Gic;
use palisade_payloads::memory::{Page, barrier, clean, read32, write32};
use palisade_payloads::platform::Platform;
use palisade_payloads::time;
use palisade_payloads::{payload, println};

payload!(main);

/// What the host watches.
static CANARY: Page = Page::new();
const CANARY_PATTERN: u32 = 0x5afe_5afe;
/// What the DMA engine reads: its control block, and what it copies.
static BLOCK: Page = Page::new();
static SOURCE: Page = Page::new();

/// The mini UART's interrupt enables: bit 1, room for what is to be sent, which there always is.
const MU_IER: usize = 0x4;
const TRANSMIT: u32 = 1 << 1;
/// AUX_ENABLES of the block that the mini UART is part of.
const AUX_ENABLES: usize = 0x4;
const MINI_UART: u32 = 1 << 0;
/// DMA channel 0: control and status, address of the control block.
const DMA_CS: usize = 0x0;
const DMA_CONBLK: usize = 0x4;
const ACTIVE: u32 = 1 << 0;
const END: u32 = 1 << 1;
const RESET: u32 = 1 << 31;
/// Transfer information: source and destination addresses grow.
const TI: u32 = 1 << 8 | 1 << 4;
/// The engine's view of RAM, past its caches.
const BUS: u32 = 0xc000_0000;

/// A device's registers and first interrupt.
#[derive(Clone, Copy)]
struct Device {
    base: usize,
    intid: Option<u32>,
}

fn main(platform: &Platform<'_>) {
    CANARY.fill(CANARY_PATTERN);
    serve("honest", |_, verb, words| obey(platform, verb, words));
}

fn obey(platform: &Platform<'_>, verb: &str, words: &mut Words<'_>) -> Option<()> {
    match verb {
        "canary" => println!("ok ipa={:#x} pattern={CANARY_PATTERN:#x}", CANARY.address()),
        "words" => println!("ok isolation={}", isolation(&platform.fdt)),
        "interrupt" => interrupt(&platform.fdt)?,
        "pages" => {
            println!("ok block={:#x} source={:#x}", BLOCK.address(), SOURCE.address());
        }
        "copy" => copy(&platform.fdt, words)?,
        _ => return None,
    }
    Some(())
}

/// What the tree says of the isolation of this VM's devices.
fn isolation<'a>(fdt: &Fdt<'a>) -> &'a str {
    let chosen = fdt.find_node("/chosen");
    let word = chosen.and_then(|node| node.property("palisade,dma-isolation")?.as_str());
    word.unwrap_or("smmu")
}

fn device(fdt: &Fdt<'_>, compatible: &str) -> Option<Device> {
    let node = fdt.find_compatible(&[compatible])?;
    let base = node.reg()?.next()?.starting_address as usize;
    let cells = node.property("interrupts").map(|property| property.value);
    let number = cells.and_then(|cells| cells.get(4..8)?.try_into().ok()).map(u32::from_be_bytes);
    Some(Device { base, intid: number.map(|number| number + 32) })
}

/// Waits for an interrupt; 0 when none comes.
fn wait(gic: Gic, millis: u64) -> u32 {
    let begin = time::now();
    while !time::passed(begin, millis) {
        if let Some(intid) = gic.acknowledge() {
            return intid;
        }
    }
    0
}

/// Has the mini UART interrupt once; before and after it must be silent.
fn interrupt(fdt: &Fdt<'_>) -> Option<()> {
    let gic = Gic::open(fdt)?;
    let uart = device(fdt, "brcm,bcm2835-aux-uart")?;
    let aux = device(fdt, "brcm,bcm2835-aux")?;
    let intid = uart.intid?;
    // SAFETY: registers of devices that this VM owns.
    unsafe {
        write32(aux.base + AUX_ENABLES, MINI_UART);
        write32(uart.base + MU_IER, 0);
    }
    gic.enable(intid);
    let before = wait(gic, 50);
    // SAFETY: as above.
    unsafe { write32(uart.base + MU_IER, TRANSMIT) };
    let got = wait(gic, 5_000);
    // SAFETY: as above. The cause goes before the interrupt ends.
    unsafe { write32(uart.base + MU_IER, 0) };
    if got != 0 {
        gic.end(got);
    }
    let after = wait(gic, 50);
    println!("ok wanted={intid} before={before} got={got} after={after}");
    Some(())
}

/// `copy BLOCK SOURCE TARGET LENGTH PATTERN`, the first three physical: has the engine copy.
fn copy(fdt: &Fdt<'_>, words: &mut Words<'_>) -> Option<()> {
    let engine = device(fdt, "brcm,bcm2835-dma")?;
    let mut number = || u32::try_from(words.number()?).ok();
    let (block, source, target) = (number()?, number()?, number()?);
    let (length, pattern) = (number()?, number()?);
    SOURCE.fill(pattern);
    let fields = [TI, BUS | source, BUS | target, length, 0, 0, 0, 0];
    for (index, field) in fields.into_iter().enumerate() {
        // SAFETY: the first words of our own page.
        unsafe { write32(BLOCK.address() + 4 * index, field) };
    }
    clean(BLOCK.address(), 4096);
    clean(SOURCE.address(), 4096);
    barrier();
    let begin = time::now();
    // SAFETY: registers of the device that this VM owns; where it reads and writes is what whoever
    // sent the command wants to see.
    unsafe {
        write32(engine.base + DMA_CS, RESET);
        write32(engine.base + DMA_CONBLK, BUS | block);
        write32(engine.base + DMA_CS, ACTIVE);
        while read32(engine.base + DMA_CS) & END == 0 {
            if time::passed(begin, 2_000) {
                println!("err the engine does not end: {:#x}", read32(engine.base + DMA_CS));
                return Some(());
            }
        }
    }
    println!("ok");
    Some(())
}

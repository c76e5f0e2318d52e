//! ACPI tables of a QEMU that runs no firmware: its fw_cfg device has them, and a list of what
//! firmware is to do with them (QEMU, docs/specs/fw_cfg.rst and hw/acpi/bios-linker-loader).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use palisade_acpi::Physical;
use palisade_model_against_qemu::qtest::Qtest;

/// fw_cfg of `virt`: its DMA register takes an address, big-endian.
const DMA: u64 = 0x0902_0010;
/// Where requests and answers are put, in RAM; the device tree lies below.
const REQUEST: u64 = 0x4100_0000;
const ANSWER: u64 = 0x4110_0000;
/// The list of files, and what asks for a selection and a read.
const DIRECTORY: u16 = 0x19;
const SELECT_AND_READ: u32 = 1 << 3 | 1 << 1;
/// No file of tables is larger.
const LARGEST: usize = 1 << 20;

/// Where the files would be put.
const FIRST: u64 = 0xbf00_0000;
const APART: u64 = 16 << 20;

/// The files with tables, at addresses.
#[derive(Debug)]
pub struct Files {
    pieces: Vec<(String, u64, Vec<u8>)>,
}

impl Physical for Files {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.pieces.iter().find_map(|(_, start, bytes)| {
            let at = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(at..at.checked_add(length)?)
        })
    }
}

impl Files {
    /// Reads the files and does what firmware would do.
    pub fn read(qtest: &mut Qtest) -> Result<Self> {
        let directory = directory(qtest)?;
        let mut file = |name: &str| {
            let (key, size) = directory.get(name).with_context(|| format!("no file {name}"))?;
            item(qtest, *key, *size)
        };
        let orders = file("etc/table-loader")?;
        let mut files = Self { pieces: Vec::new() };
        for order in orders.chunks_exact(128) {
            let name = |at: usize| text(order.get(at..at + 56).unwrap_or_default());
            let word = |at: usize| Some(u32::from_le_bytes(*order.get(at..)?.first_chunk()?));
            let number = |at: usize| word(at).map(|word| word as usize).context("a short order");
            match number(0)? {
                1 => {
                    let address = FIRST + APART * files.pieces.len() as u64;
                    files.pieces.push((name(4), address, file(&name(4))?));
                }
                2 => {
                    let (to, from) = (name(4), name(60));
                    let size = order.get(120).copied().context("a short order")?;
                    let base = files.find(&from)?.1;
                    files.add(&to, number(116)?, size.into(), base)?;
                }
                3 => files.sum(&name(4), number(60)?, number(64)?, number(68)?)?,
                // 0 fills the list; 4 is for firmware that tells QEMU where it put a file.
                _ => {}
            }
        }
        Ok(files)
    }

    /// The root pointer's address.
    pub fn root(&self) -> Result<u64> {
        self.pieces
            .iter()
            .find(|(name, ..)| name == "etc/acpi/rsdp")
            .map(|(_, address, _)| *address)
            .context("no root pointer")
    }

    fn find(&mut self, name: &str) -> Result<&mut (String, u64, Vec<u8>)> {
        let found = self.pieces.iter_mut().find(|(other, ..)| other == name);
        found.with_context(|| format!("{name} was not allocated"))
    }

    /// Adds `base` to a pointer of `size` bytes.
    fn add(&mut self, name: &str, at: usize, size: usize, base: u64) -> Result<()> {
        let bytes = &mut self.find(name)?.2;
        let pointer = bytes.get_mut(at..at + size).context("a pointer outside its file")?;
        let mut word = [0; 8];
        word.get_mut(..size).context("a wide pointer")?.copy_from_slice(pointer);
        let sum = u64::from_le_bytes(word).wrapping_add(base).to_le_bytes();
        pointer.copy_from_slice(sum.get(..size).context("a wide pointer")?);
        Ok(())
    }

    /// Makes `length` bytes from `start` add up to 0 by the byte `at`.
    fn sum(&mut self, name: &str, at: usize, start: usize, length: usize) -> Result<()> {
        let bytes = &mut self.find(name)?.2;
        *bytes.get_mut(at).context("a sum outside its file")? = 0;
        let part = bytes.get(start..start + length).context("a sum of what is not there")?;
        let sum = part.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        *bytes.get_mut(at).context("a sum outside its file")? = 0u8.wrapping_sub(sum);
        Ok(())
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// Key and size of each file.
fn directory(qtest: &mut Qtest) -> Result<BTreeMap<String, (u16, usize)>> {
    let count = item(qtest, DIRECTORY, 4)?;
    let count = u32::from_be_bytes(*count.first_chunk().context("no list of files")?) as usize;
    ensure!(count < 1000, "{count} files");
    let list = item(qtest, DIRECTORY, 4 + 64 * count)?;
    let entry = |entry: &[u8]| {
        let size = u32::from_be_bytes(*entry.first_chunk()?) as usize;
        let key = u16::from_be_bytes(*entry.get(4..)?.first_chunk()?);
        Some((text(entry.get(8..)?), (key, size)))
    };
    Ok(list.get(4..).unwrap_or_default().chunks_exact(64).filter_map(entry).collect())
}

/// The first `size` bytes of an item, by DMA into RAM.
fn item(qtest: &mut Qtest, key: u16, size: usize) -> Result<Vec<u8>> {
    ensure!(size <= LARGEST, "a file of {size} bytes");
    let control = u32::from(key) << 16 | SELECT_AND_READ;
    // Control, length, address: big-endian, while QEMU's protocol writes little-endian.
    qtest.tell(&format!("writel {REQUEST:#x} {:#x}", control.swap_bytes()))?;
    qtest.tell(&format!("writel {:#x} {:#x}", REQUEST + 4, (size as u32).swap_bytes()))?;
    qtest.tell(&format!("writeq {:#x} {:#x}", REQUEST + 8, ANSWER.swap_bytes()))?;
    qtest.tell(&format!("writeq {DMA:#x} {:#x}", REQUEST.swap_bytes()))?;
    let done = qtest.ask([format!("readl {REQUEST:#x}")])?;
    ensure!(done == [0], "fw_cfg answers {done:x?}");
    qtest.bytes(ANSWER, size)
}

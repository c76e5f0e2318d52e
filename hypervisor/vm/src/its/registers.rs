//! The control frame of the virtual ITS (IHI 0069, 12.19).

use palisade_gic::its::Command;

use super::Backend;
use super::devices::{COLLECTION_BITS, MAX_EVENT_BITS, Mappings};
use super::job::{Job, Step};

const CTLR: u64 = 0x0000;
const IIDR: u64 = 0x0004;
const TYPER: u64 = 0x0008;
const CBASER: u64 = 0x0080;
const CWRITER: u64 = 0x0088;
const CREADR: u64 = 0x0090;
const BASER: u64 = 0x0100;
const PIDR2: u64 = 0xffe8;

const ENABLED: u32 = 1 << 0;
const QUIESCENT: u32 = 1 << 31;
const VALID: u64 = 1 << 63;
/// Bits 19:5: a byte offset into the queue, a multiple of a command.
const OFFSET: u64 = 0xf_ffe0;
const COMMAND_BYTES: u64 = 32;
/// Bits of a DeviceID: a PCI requester id.
const DEVICE_BITS: u64 = 16;
/// GITS_TYPER: physical LPIs, 8-byte entries, RDbase is a processor number (PTA = 0).
const TYPER_VALUE: u64 = 1
    | 7 << 4
    | (MAX_EVENT_BITS as u64 - 1) << 8
    | (DEVICE_BITS - 1) << 13
    | (COLLECTION_BITS as u64 - 1) << 32
    | 1 << 36;
/// GITS_BASER: entry size and type are read-only. 8 bytes; 1 = devices, 4 = collections.
const BASER_FIXED: [u64; 2] = [7 << 48 | 1 << 56, 7 << 48 | 4 << 56];
/// GITS_BASER.Page_Size (12.19.1): 4 KiB, 16 KiB or 64 KiB, as the guest writes; the value 3 stands
/// for 64 KiB. What it is out of reset is UNKNOWN: 64 KiB here, for those who lay their tables by
/// what they find.
const PAGE_SIZE: u64 = 3 << 8;
const PAGE_64K: u64 = 2 << 8;
const BASER_READ_ONLY: u64 = 0x1f << 48 | 7 << 56;
/// JEP106 code of Arm, as hardware without a vendor of its own shows it.
const IIDR_VALUE: u64 = 0x43b;
/// GICv3 (12.9.18).
const PIDR2_VALUE: u64 = 0x3b;

/// A VM's ITS: its registers and what its commands have mapped.
#[derive(Debug)]
pub struct VirtualIts {
    mappings: Mappings,
    enabled: bool,
    cbaser: u64,
    cwriter: u64,
    creadr: u64,
    baser: [u64; 2],
    /// What is left of the command at `creadr`.
    job: Option<Job>,
    refused: u64,
}

impl VirtualIts {
    /// The ITS of a VM that owns the devices with these DeviceIDs.
    pub fn new(devices: impl IntoIterator<Item = u32>) -> Self {
        Self {
            mappings: Mappings::new(devices),
            enabled: false,
            cbaser: 0,
            cwriter: 0,
            creadr: 0,
            baser: BASER_FIXED.map(|fixed| fixed | PAGE_64K),
            job: None,
            refused: 0,
        }
    }

    /// Commands that were skipped because they made no sense.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether something is left to do: commands that wait, or one that was begun.
    pub fn has_work(&self) -> bool {
        self.job.is_some()
            || self.enabled && self.cbaser & VALID != 0 && self.creadr != self.cwriter
    }

    /// Reads `width` bytes (4 or 8) at `offset` of the control frame.
    pub fn read(&mut self, offset: u64, width: u8, backend: &mut impl Backend) -> u64 {
        // A guest that polls CREADR drives its own queue forward.
        self.advance(backend);
        let whole = match offset & !7 {
            // CTLR and IIDR share a doubleword.
            CTLR => u64::from(self.control()) | IIDR_VALUE << 32,
            TYPER => TYPER_VALUE,
            CBASER => self.cbaser,
            CWRITER => self.cwriter,
            CREADR => self.creadr,
            PIDR2 => PIDR2_VALUE,
            table => {
                self.table(table).map_or(0, |index| self.baser.get(index).copied().unwrap_or(0))
            }
        };
        let shifted = whole >> ((offset & 4) * 8);
        if width == 8 { whole } else { shifted & 0xffff_ffff }
    }

    /// Writes `width` bytes (4 or 8) at `offset` of the control frame.
    pub fn write(&mut self, offset: u64, width: u8, value: u64, backend: &mut impl Backend) {
        let merge = |old: u64| match (width, offset & 4) {
            (8, _) => value,
            (_, 0) => old & !0xffff_ffff | value & 0xffff_ffff,
            _ => old & 0xffff_ffff | value << 32,
        };
        match offset & !7 {
            CTLR if offset & 4 == 0 => self.enabled = value as u32 & ENABLED != 0,
            // Tables and queue are fixed while the ITS is enabled or not at rest (12.19.1, 12.19.2).
            CBASER if self.is_at_rest() => {
                self.cbaser = merge(self.cbaser);
                self.creadr = 0;
                self.cwriter = 0;
            }
            CWRITER => self.cwriter = merge(self.cwriter) & OFFSET,
            table if self.is_at_rest() => {
                if let Some(index) = self.table(table)
                    && let (Some(slot), Some(fixed)) =
                        (self.baser.get_mut(index), BASER_FIXED.get(index))
                {
                    // Indirect tables are not offered, so bit 62 reads as zero.
                    let new = merge(*slot) & !BASER_READ_ONLY & !(1 << 62) | fixed;
                    *slot = if new & PAGE_SIZE == PAGE_SIZE { new & !(1 << 8) } else { new };
                }
            }
            _ => {}
        }
        self.advance(backend);
    }

    /// Works on the queue while this exit has room.
    pub fn advance(&mut self, backend: &mut impl Backend) {
        while self.has_work() && backend.may_go_on() {
            self.step(backend);
        }
    }

    /// One piece of work: of the command that was begun, or the next command.
    fn step(&mut self, backend: &mut impl Backend) {
        let bytes = ((self.cbaser & 0xff) + 1) * 4096;
        let step = match self.job.take() {
            Some(job) => self.mappings.work(job, backend),
            None if self.cwriter >= bytes || self.creadr >= bytes => {
                // A write pointer outside the queue can never be reached.
                self.refused += 1;
                self.creadr = self.cwriter;
                return;
            }
            None => self.begin(backend),
        };
        match step {
            Step::Left(job) => {
                self.job = Some(job);
                return;
            }
            Step::Refused => self.refused += 1,
            Step::Done => {}
        }
        self.creadr = (self.creadr + COMMAND_BYTES) % bytes;
    }

    /// Begins the command at the read pointer.
    fn begin(&mut self, backend: &mut impl Backend) -> Step {
        let at = (self.cbaser & 0xf_ffff_ffff_f000) + self.creadr;
        let mut bytes = [0; COMMAND_BYTES as usize];
        let known = backend.read(at, &mut bytes);
        match Command::decode(words(&bytes)) {
            Ok(command) if known => self.mappings.execute(command, backend),
            _ => Step::Refused,
        }
    }

    /// Takes everything apart, for a VM that ends or resets.
    pub fn reset(&mut self, backend: &mut impl Backend) {
        let ids = self.mappings.ids();
        for &device in &ids {
            self.unmap(device, backend);
        }
        *self = Self { refused: self.refused, ..Self::new(ids) };
    }

    /// The VM gets a device.
    pub fn add_device(&mut self, id: u32) {
        self.mappings.add(id);
    }

    /// The VM loses a device, with every event that it was given. Commands that name it make no
    /// sense from now on.
    pub fn remove_device(&mut self, id: u32, backend: &mut impl Backend) {
        self.unmap(id, backend);
        self.mappings.remove(id);
    }

    /// Unmaps a device at once: as many pieces as its events make.
    fn unmap(&mut self, device: u32, backend: &mut impl Backend) {
        let job = Job::Unmap { device, bits: None };
        while let Step::Left(_) = self.mappings.work(job, backend) {}
    }

    /// Disabled, and nothing begun.
    fn is_at_rest(&self) -> bool {
        !self.enabled && self.job.is_none()
    }

    fn control(&self) -> u32 {
        let enabled = if self.enabled { ENABLED } else { 0 };
        enabled | if self.has_work() { 0 } else { QUIESCENT }
    }

    fn table(&self, offset: u64) -> Option<usize> {
        let index = offset.checked_sub(BASER)? / 8;
        (index < 2).then_some(index as usize)
    }
}

fn words(bytes: &[u8; COMMAND_BYTES as usize]) -> [u64; 4] {
    core::array::from_fn(|word| {
        let mut one = [0; 8];
        for (at, byte) in one.iter_mut().enumerate() {
            *byte = bytes.get(word * 8 + at).copied().unwrap_or(0);
        }
        u64::from_le_bytes(one)
    })
}

const _: () = assert!(IIDR == CTLR + 4);

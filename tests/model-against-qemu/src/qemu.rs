//! QEMU's `virt` with its SMMU and edu devices as a witness. Its CPU only sleeps: everything is
//! written and read from outside.

use std::ffi::OsString;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use palisade_e2e::interrupt;
use palisade_e2e::machine::{Machine, Spec};
use tempfile::TempDir;

use crate::place;
use crate::qtest::Qtest;
use crate::witness::{Transfer, Way, Witness};

/// The SMMU's registers, configuration space, and where the devices' registers are put.
const SMMU: u64 = 0x0905_0000;
const ECAM: u64 = 0x40_1000_0000;
const BARS: u64 = 0x1000_0000;
/// edu: identity, and the size of its registers.
const EDU: u64 = 0x11e8_1234;
const BAR_SIZE: u64 = 1 << 20;
/// edu's registers for DMA (QEMU, docs/specs/edu.rst) and where its buffer begins.
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const RUN: u64 = 1 << 0;
const TO_MEMORY: u64 = 1 << 1;
const BUFFER: u64 = 0x4_0000;
/// A transfer takes 100 ms of the machine's time; a busy host gets many times that.
const PATIENCE: Duration = Duration::from_secs(60);
/// `wfi; b .-4`.
const SLEEP: u64 = 0x17ff_ffff_d503_207f;

/// The machine.
pub struct Qemu {
    machine: Machine,
    qtest: Qtest,
    _folder: TempDir,
}

impl Qemu {
    /// Starts it; `guard` as in [`Spec`].
    ///
    /// # Errors
    /// QEMU does not start or lacks something.
    pub fn start(qemu: &Path, guard: Vec<OsString>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
        let socket = folder.path().join("qtest");
        let listener = UnixListener::bind(&socket)?;
        let mut arguments: Vec<OsString> = [
            "-machine",
            "virt,virtualization=on,gic-version=3,iommu=smmuv3",
            "-cpu",
            "cortex-a72",
            "-m",
            "512M",
            "-qtest-log",
            "none",
        ]
        .map(Into::into)
        .into();
        let mut add = |what: &str, value: String| arguments.extend([what.into(), value.into()]);
        add("-qtest", format!("unix:{}", socket.display()));
        let park = place::PARK;
        add("-device", format!("loader,addr={park:#x},data={SLEEP:#x},data-len=8"));
        add("-device", format!("loader,addr={park:#x},cpu-num=0"));
        for slot in 0..place::SLOTS {
            add("-device", format!("edu,dma_mask={:#x},addr={:#x}", u64::MAX, slot + 1));
        }
        let spec = Spec { qemu: qemu.to_path_buf(), arguments, guard };
        let (mut machine, _input, _output) = Machine::start(&spec)?;
        let qtest = Qtest::accept(&listener, || match machine.ended()? {
            Some(status) => bail!("QEMU: {status} {}", machine.complaints()),
            None => Ok(()),
        })?;
        let mut this = Self { machine, qtest, _folder: folder };
        // QEMU's device tree lies there: memory starts out empty on both sides.
        this.qtest.tell(&format!("memset {:#x} 0x200000 0x0", place::RAM.start))?;
        (0..place::SLOTS).try_for_each(|slot| this.enable(slot))?;
        Ok(this)
    }

    /// Gives a device its registers, and lets it be a bus master.
    fn enable(&mut self, slot: usize) -> Result<()> {
        let config = ECAM + (u64::from(place::stream(slot)) << 12);
        self.qtest.tell(&format!("writel {:#x} {:#x}", config + 0x10, bar(slot)))?;
        self.qtest.tell(&format!("writew {:#x} 0x6", config + 0x4))?;
        let found =
            self.qtest.ask([format!("readl {config:#x}"), format!("readl {:#x}", bar(slot))])?;
        ensure!(found == [EDU, 0x0100_00ed], "no edu in slot {slot}: {found:x?}");
        Ok(())
    }

    /// What went wrong, with what QEMU said of it.
    fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| self.machine.complaints())
    }
}

/// The registers of a device.
fn bar(slot: usize) -> u64 {
    BARS + slot as u64 * BAR_SIZE
}

impl Witness for Qemu {
    fn name(&self) -> &'static str {
        "QEMU"
    }

    fn load(&mut self, places: &[u64]) -> Result<Vec<u64>> {
        let words = self.qtest.ask(places.iter().map(|pa| format!("readq {pa:#x}")));
        self.explain(words)
    }

    fn store(&mut self, words: &[(u64, u64)]) -> Result<()> {
        for (pa, word) in words {
            let told = self.qtest.tell(&format!("writeq {pa:#x} {word:#x}"));
            self.explain(told)?;
        }
        Ok(())
    }

    fn register(&mut self, offset: u64) -> Result<u32> {
        let value = self.qtest.ask([format!("readl {:#x}", SMMU + offset)]);
        Ok(self.explain(value)?.first().copied().unwrap_or(0) as u32)
    }

    fn set_register(&mut self, offset: u64, value: u32) -> Result<()> {
        let told = self.qtest.tell(&format!("writel {:#x} {value:#x}", SMMU + offset));
        self.explain(told)
    }

    fn set_register64(&mut self, offset: u64, value: u64) -> Result<()> {
        let told = self.qtest.tell(&format!("writeq {:#x} {value:#x}", SMMU + offset));
        self.explain(told)
    }

    fn wait(&mut self) {}

    fn transfer(&mut self, transfers: &[Transfer]) -> Result<()> {
        for transfer in transfers {
            let bar = bar(transfer.slot);
            let inside = BUFFER + transfer.word as u64 * 8;
            let (source, destination, way) = match transfer.way {
                Way::Read => (transfer.address, inside, 0),
                Way::Write => (inside, transfer.address, TO_MEMORY),
            };
            for (register, value) in [
                (SOURCE, source),
                (DESTINATION, destination),
                (COUNT, transfer.words as u64 * 8),
                (COMMAND, RUN | way),
            ] {
                self.qtest.tell(&format!("writeq {:#x} {value:#x}", bar + register))?;
            }
        }
        let end = Instant::now() + PATIENCE;
        let status = |transfer: &Transfer| format!("readq {:#x}", bar(transfer.slot) + COMMAND);
        loop {
            let commands = self.qtest.ask(transfers.iter().map(status));
            if self.explain(commands)?.iter().all(|command| command & RUN == 0) {
                return Ok(());
            }
            if interrupt::asked() {
                bail!("interrupted");
            }
            if Instant::now() > end {
                bail!("a transfer does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

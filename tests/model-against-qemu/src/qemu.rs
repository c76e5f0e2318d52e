//! QEMU's `virt` with its SMMU and thirty devices as a witness. Its CPU only sleeps: everything is
//! written and read from outside.

use std::ffi::OsString;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use palisade_e2e::interrupt;
use palisade_e2e::machine::{Machine, Spec};
use tempfile::TempDir;

use crate::hand::Hand;
use crate::place;
use crate::qtest::Qtest;
use crate::witness::{Transfer, Witness};

/// The SMMU's registers, configuration space, and where the devices' registers are put.
const SMMU: u64 = 0x0905_0000;
const ECAM: u64 = 0x40_1000_0000;
const BARS: u64 = 0x1000_0000;
/// Room for a device's registers.
const BAR_SIZE: u64 = 1 << 20;
/// A transfer takes 100 ms of the machine's time; a busy host gets many times that.
const PATIENCE: Duration = Duration::from_secs(60);
/// `wfi; b .-4`.
const SLEEP: u64 = 0x17ff_ffff_d503_207f;

/// The machine.
pub struct Qemu {
    hand: Hand,
    machine: Machine,
    qtest: Qtest,
    _folder: TempDir,
}

impl Qemu {
    /// Starts it with devices of one kind; `guard` as in [`Spec`].
    ///
    /// # Errors
    /// QEMU does not start or lacks something.
    pub fn start(qemu: &Path, guard: Vec<OsString>, hand: Hand) -> Result<Self> {
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
            add("-device", hand.argument(slot));
        }
        let spec = Spec { qemu: qemu.to_path_buf(), arguments, guard };
        let (mut machine, _input, _output) = Machine::start(&spec)?;
        let qtest = Qtest::accept(&listener, || match machine.ended()? {
            Some(status) => bail!("QEMU: {status} {}", machine.complaints()),
            None => Ok(()),
        })?;
        let mut this = Self { hand, machine, qtest, _folder: folder };
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
        let found = self.qtest.ask([format!("readl {config:#x}")])?;
        let name = self.hand.name();
        ensure!(found == [self.hand.identity()], "no {name} in slot {slot}: {found:x?}");
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

    fn reads(&self) -> bool {
        self.hand.reads()
    }

    fn becomes(&self, before: u64, word: u64) -> u64 {
        self.hand.becomes(before, word)
    }

    fn transfer(&mut self, transfers: &[Transfer]) -> Result<()> {
        for transfer in transfers {
            for order in self.hand.orders(bar(transfer.slot), transfer) {
                self.qtest.tell(&order)?;
            }
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let status = |transfer: &Transfer| self.hand.status(bar(transfer.slot));
            let answers = self.qtest.ask(transfers.iter().map(status));
            if !self.explain(answers)?.into_iter().any(|status| self.hand.copies(status)) {
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

/// Whether `qemu` has devices of this kind.
///
/// # Errors
/// It does not start.
pub fn has(qemu: &Path, hand: Hand) -> Result<bool> {
    let device = format!("{},help", hand.name());
    let output = Command::new(qemu)
        .args(["-machine", "none", "-device", &device])
        .output()
        .with_context(|| format!("cannot start {}", qemu.display()))?;
    // It ends well without the device, too, but lists nothing then.
    Ok(!output.stdout.is_empty())
}

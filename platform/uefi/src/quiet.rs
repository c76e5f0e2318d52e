//! Before the hand-over no device masters the bus and every SMMU aborts.

/// Registers of one device, 32 bits each.
pub trait Registers {
    /// Reads the register at `offset`.
    fn read(&self, offset: u64) -> u32;
    /// Writes it.
    fn write(&self, offset: u64, value: u32);
}

/// PCI Express Base Specification 5.0, 7.5.1.1: where Command is, and Bus Master Enable.
const COMMAND: u64 = 4;
const BUS_MASTER: u32 = 1 << 2;
/// Bytes of a function's configuration space, and functions of a bus.
const FUNCTION: u64 = 4096;
const FUNCTIONS: u64 = 256;

/// Switches bus mastering off in every function of `buses` buses; answers how many had it on.
///
/// Every number is looked at: what firmware's bridges lead to cannot hide from it.
pub fn no_bus_mastering(config: &dyn Registers, buses: u64) -> usize {
    let mut count = 0usize;
    for function in 0..buses.saturating_mul(FUNCTIONS) {
        let at = function.saturating_mul(FUNCTION);
        if config.read(at) & 0xffff == 0xffff {
            continue;
        }
        let at = at.saturating_add(COMMAND);
        let command = config.read(at) & 0xffff;
        if command & BUS_MASTER != 0 {
            // Status stands above; its bits are cleared by ones, so that zeros leave it alone.
            config.write(at, command & !BUS_MASTER);
            count = count.saturating_add(1);
        }
    }
    count
}

/// IHI 0070, 6.3: registers of an SMMUv3.
const CR0: u64 = 0x20;
const CR0ACK: u64 = 0x24;
const GBPA: u64 = 0x44;
const SMMUEN: u32 = 1;
const ABORT: u32 = 1 << 20;
const UPDATE: u32 = 1 << 31;
/// Reads of a register until it must have answered.
const PATIENCE: usize = 1_000_000;

/// Makes an SMMU abort everything: first what holds while it is off (6.3.14), then off. At no
/// instant is there bypass that was not there before.
///
/// # Errors
/// Which register did not answer.
pub fn abort_all(smmu: &dyn Registers) -> Result<(), &'static str> {
    let settled =
        |at: u64, mask: u32, value: u32| (0..PATIENCE).any(|_| smmu.read(at) & mask == value);
    if !settled(GBPA, UPDATE, 0) {
        return Err("GBPA");
    }
    // Without Update in the same store the write is ignored.
    smmu.write(GBPA, ABORT | UPDATE);
    if !settled(GBPA, UPDATE | ABORT, ABORT) {
        return Err("GBPA");
    }
    let enabled = smmu.read(CR0);
    if enabled & SMMUEN != 0 {
        smmu.write(CR0, enabled & !SMMUEN);
        if !settled(CR0ACK, SMMUEN, 0) {
            return Err("CR0");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::cell::{Cell, RefCell};
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use super::*;

    /// An SMMU as firmware leaves it, and whether it ever passed a transaction by.
    struct Smmu {
        cr0: Cell<u32>,
        gbpa: Cell<u32>,
        stuck: bool,
        writes: RefCell<Vec<(u64, u32)>>,
        bypassed: Cell<bool>,
    }

    impl Smmu {
        fn new(cr0: u32, gbpa: u32, stuck: bool) -> Self {
            let (cr0, gbpa) = (Cell::new(cr0), Cell::new(gbpa));
            Self { cr0, gbpa, stuck, writes: RefCell::default(), bypassed: Cell::new(false) }
        }
    }

    impl Registers for Smmu {
        fn read(&self, offset: u64) -> u32 {
            match offset {
                CR0 | CR0ACK => self.cr0.get(),
                GBPA => self.gbpa.get(),
                _ => panic!("{offset:#x}"),
            }
        }

        fn write(&self, offset: u64, value: u32) {
            self.writes.borrow_mut().push((offset, value));
            match offset {
                CR0 if !self.stuck => self.cr0.set(value),
                GBPA if value & UPDATE != 0 && !self.stuck => self.gbpa.set(value & !UPDATE),
                _ => {}
            }
            if self.cr0.get() & SMMUEN == 0 && self.gbpa.get() & ABORT == 0 {
                self.bypassed.set(true);
            }
        }
    }

    #[test]
    fn firmware_that_left_it_in_bypass() {
        let smmu = Smmu::new(0, 0x1000, false);
        assert_eq!(abort_all(&smmu), Ok(()));
        assert_eq!(*smmu.writes.borrow(), [(GBPA, ABORT | UPDATE)]);
        assert!(!smmu.bypassed.get());
    }

    #[test]
    fn firmware_that_left_it_enabled() {
        for gbpa in [0, ABORT] {
            let smmu = Smmu::new(0xd, gbpa, false);
            assert_eq!(abort_all(&smmu), Ok(()));
            assert_eq!((smmu.cr0.get(), smmu.gbpa.get()), (0xc, ABORT));
            assert!(!smmu.bypassed.get(), "no instant of bypass");
        }
    }

    #[test]
    fn one_that_does_not_answer() {
        assert_eq!(abort_all(&Smmu::new(0, 0, true)), Err("GBPA"));
        assert_eq!(abort_all(&Smmu::new(0, UPDATE, false)), Err("GBPA"));
        assert_eq!(abort_all(&Smmu::new(1, ABORT, true)), Err("CR0"));
    }

    /// Configuration space of some functions; everything else reads as ones.
    struct Config(RefCell<BTreeMap<u64, u32>>);

    impl Registers for Config {
        fn read(&self, offset: u64) -> u32 {
            self.0.borrow().get(&offset).copied().unwrap_or(u32::MAX)
        }

        fn write(&self, offset: u64, value: u32) {
            let old = self.0.borrow_mut().insert(offset, value);
            assert!(old.is_some(), "nobody is there: {offset:#x}");
        }
    }

    #[test]
    fn nobody_masters_the_bus_afterwards() {
        let function =
            |bdf: u64, command: u32| [(bdf << 12, 0x1111_2222), (bdf << 12 | 4, command)];
        let all = [(0x0000, 0x10_0407), (0x0107, 4), (0x0200, 3), (0x0fff, 0xffff)];
        let registers = all.into_iter().flat_map(|(bdf, command)| function(bdf, command));
        let config = Config(RefCell::new(registers.collect()));
        assert_eq!(no_bus_mastering(&config, 16), 3);
        let commands: Vec<u32> = all.map(|(bdf, _)| config.read(bdf << 12 | 4)).into();
        assert_eq!(commands, [0x0403, 0, 3, 0xfffb]);
        assert_eq!(no_bus_mastering(&config, 16), 0);
    }
}

//! Operations on one page table of any configuration, against a shadow map. No panic; every
//! operation answers what the shadow says; a refused one leaves translations and footprint as
//! they were; every address translates as in the shadow; in the end every frame is back.

use std::cell::Cell;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Agent, Arena, FrameTables, Frames, Owner, Proof, Scope};
use palisade_pgtable::{
    Config, Error, FlushPolicy, FormatId, Gather, PageTable, Prot, Quirks, SIZES_4K, SIZES_16K,
    SIZES_64K, SplitPolicy, TlbError, TlbOps, View, alloc,
};

use super::reached::Reached;
use super::shadow::Shadow;

/// Few, so that they run out.
const FRAMES: u64 = 512;
/// Most operations of one input.
const MOST: usize = 96;

struct Tlb {
    agent: Agent,
    scope: Scope,
    fails: Cell<bool>,
}

impl Tlb {
    fn done(&self) -> std::result::Result<Proof, TlbError> {
        if self.fails.get() {
            return Err(TlbError { agent: self.agent.name() });
        }
        Ok(Proof::new(self.scope).with(self.agent.begin(self.scope).complete()))
    }
}

impl TlbOps for Tlb {
    fn flush_all(&self) -> std::result::Result<Proof, TlbError> {
        self.done()
    }
    fn flush_walk(&self, _: Iova, _: u64, _: u64) -> std::result::Result<Proof, TlbError> {
        self.done()
    }
    fn add_leaf(&self, _: Iova, _: u64, _: u64) {}
    fn sync(&self) -> std::result::Result<Proof, TlbError> {
        self.done()
    }
}

struct World<'r> {
    table: Box<dyn PageTable>,
    frames: Arc<Frames>,
    tlb: Tlb,
    shadow: Shadow,
    /// First input address, and how many bytes there are.
    base: u64,
    span: u128,
    sizes: Vec<u64>,
    reached: &'r mut Reached,
}

/// One input: a configuration, then operations.
pub fn pgtable(data: &[u8], reached: &mut Reached) {
    let mut input = Unstructured::new(data);
    let Ok(config) = config(&mut input) else { return };
    let arena = Arena::new(PhysAddr::new(0x8000_0000), FRAMES);
    let Ok(frames) = Frames::new(arena.map(), &[arena.range()]) else { return };
    let Ok(agent) = frames.register_agent("fuzz") else { return };
    let scope = Scope::new(7);
    let memory = FrameTables::new(frames.clone(), Owner::vm(1), scope, agent.set());
    let before = frames.footprint();
    let table = match alloc(&config, memory) {
        Ok(table) => table,
        Err(error) => {
            assert_eq!(frames.footprint(), before, "{error}: {config:?}");
            return reached.note("no table");
        }
    };
    reached.note("table");
    let root = frames.footprint();
    let ias = table.config().ias;
    let upper = config.quirks.contains(Quirks::TTBR1);
    let bitmap = table.config().pgsize_bitmap;
    let mut world = World {
        table,
        frames: frames.clone(),
        tlb: Tlb { agent, scope, fails: Cell::new(false) },
        shadow: Shadow::default(),
        base: if upper { !0 << ias } else { 0 },
        span: 1 << ias,
        sizes: (0..64).map(|bit| 1 << bit).filter(|size| bitmap & size != 0).collect(),
        reached,
    };
    for _ in 0..MOST {
        if input.is_empty() || world.step(&mut input).is_err() {
            break;
        }
    }
    world.finish(root);
    assert_eq!(frames.footprint(), before, "{config:?}");
}

fn config(input: &mut Unstructured<'_>) -> Result<Config> {
    let plain: u8 = input.arbitrary()?;
    let mut config = Config::new(FormatId::ALL[usize::from(plain) % FormatId::COUNT]);
    config.split = match input.int_in_range(0..=2u8)? {
        0 => SplitPolicy::Refuse,
        1 => SplitPolicy::BreakBeforeMake,
        _ => SplitPolicy::InPlace,
    };
    (config.coherent_walk, config.contiguous) = (input.arbitrary()?, input.arbitrary()?);
    let wide = matches!(config.format, FormatId::Arm64LpaeS1 | FormatId::Arm64LpaeS2);
    match plain / 6 % 8 {
        // Anything at all.
        0 => {
            config.quirks = Quirks::from_bits_retain(input.arbitrary::<u32>()? >> 16);
            (config.pgsize_bitmap, config.ias) = (input.arbitrary()?, input.arbitrary()?);
            (config.oas, config.s2_dirty) = (input.arbitrary()?, input.arbitrary()?);
            config.lpa2 = input.arbitrary()?;
            if input.arbitrary()? {
                config.view = View::Cpu { pa_bits: input.arbitrary()?, vmid16: true };
            }
        }
        1..=6 if wide => {
            let one = config.format == FormatId::Arm64LpaeS1;
            let granules = [SIZES_4K, SIZES_16K, SIZES_64K];
            config.pgsize_bitmap = *input.choose(&granules)?;
            config.ias = input.int_in_range(30..=48)?;
            config.oas = *input.choose(&[40, 42, 44, 48, 48, 48, 48, 48])?;
            if input.arbitrary()? {
                config.quirks = match (one, input.arbitrary()?) {
                    (true, true) => Quirks::HD,
                    (true, false) => Quirks::TTBR1,
                    (false, _) => Quirks::S2FWB,
                };
                config.s2_dirty = !one;
            }
            if input.ratio(1, 6u8)? {
                config.lpa2 = true;
                (config.ias, config.oas) = (input.int_in_range(40..=52)?, 52);
                config.pgsize_bitmap = SIZES_4K | 1 << 39;
            }
        }
        1..=3 if config.format == FormatId::ArmV7s => {
            config.quirks = Quirks::NO_PERMS | Quirks::MTK_EXT;
            (config.ias, config.oas) = (34, 35);
        }
        _ => {}
    }
    Ok(config)
}

impl World<'_> {
    /// An address in a few places where operations collide, or anywhere.
    fn address(&self, input: &mut Unstructured<'_>, unit: u64) -> Result<u64> {
        let top = (self.span - 1) as u64;
        let at = match input.int_in_range(0..=31u8)? {
            0 => return input.arbitrary(),
            1 => return Ok(self.base.wrapping_add(input.int_in_range(0..=16384u64)?)),
            2 | 3 => top - top.min(input.int_in_range(0..=64u64)? * self.sizes[0]),
            kind => {
                let place = u64::from(kind % 3) * (top / 3);
                place.wrapping_add(input.int_in_range(0..=95u64)?.wrapping_mul(self.sizes[0]))
            }
        };
        Ok(self.base | (at & top & !(unit - 1)))
    }

    fn unit(&self, input: &mut Unstructured<'_>) -> Result<u64> {
        Ok(match input.int_in_range(0..=15u8)? {
            0 => input.arbitrary()?,
            1..=5 => *input.choose(&self.sizes)?,
            _ => self.sizes[0],
        })
    }

    fn count(&self, input: &mut Unstructured<'_>) -> Result<u64> {
        Ok(match input.int_in_range(0..=15u8)? {
            0 => input.arbitrary()?,
            1 => input.int_in_range(0..=2000)?,
            2 => input.int_in_range(0..=1 << 18)?,
            _ => input.int_in_range(1..=40)?,
        })
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let kind = input.int_in_range(0..=15u8)?;
        let (unit, count) = (self.unit(input)?, self.count(input)?);
        let align = if unit.is_power_of_two() { unit } else { 1 };
        let iova = self.address(input, align)?;
        match kind {
            0..=7 => {
                let bits = input.int_in_range(0..=self.table.config().oas.min(63))?;
                let mut pa = input.arbitrary::<u64>()? & ((1 << bits) - 1) & !(align - 1);
                if input.ratio(1, 16u8)? {
                    pa = input.arbitrary()?;
                }
                let prot = if input.ratio(1, 8u8)? {
                    Prot::from_bits_truncate(input.arbitrary()?)
                } else {
                    Prot::MEMORY
                };
                self.map(kind, iova, pa, unit, count, prot);
            }
            8..=13 => self.unmap(kind, iova, unit, count, input.ratio(1, 8u8)?),
            14 => self.harvest(iova, unit.saturating_mul(count)),
            15 if unit > self.sizes[0] => self.collapse(iova, unit),
            _ => self.compare_leaves(iova, unit.saturating_mul(count)),
        }
        for at in [iova, iova.wrapping_add(unit), iova.wrapping_sub(1), input.arbitrary()?] {
            self.translates(at);
        }
        Ok(())
    }

    /// Whether the range is one of the table's.
    fn inside(&self, iova: u64, bytes: u128) -> bool {
        iova >= self.base && u128::from(iova - self.base) + bytes <= self.span
    }

    fn map(&mut self, kind: u8, iova: u64, pa: u64, unit: u64, count: u64, prot: Prot) {
        let before = self.frames.footprint();
        let (at, to) = (Iova::new(iova), PhysAddr::new(pa));
        let bytes = u128::from(unit) * u128::from(count);
        // One range of mixed sizes, or pages of one.
        let result = if kind < 3 {
            let Ok(size) = u64::try_from(bytes) else { return };
            self.table.map_range(at, to, size, prot)
        } else {
            let Ok(count) = usize::try_from(count) else { return };
            self.table.map_pages(at, to, unit, count, prot)
        };
        let context = || format!("{iova:#x} {pa:#x} {unit:#x} {count} {:?}", self.table.config());
        let taken = self.inside(iova, bytes) && self.shadow.any(iova, bytes);
        match result {
            Ok(()) => {
                assert!(!taken && self.inside(iova, bytes) && bytes > 0, "{}", context());
                let end = u128::from(pa) + bytes;
                assert!(end <= 1 << self.table.config().oas, "{}", context());
                self.shadow.map(iova, pa, bytes as u64);
                for offset in [0, bytes as u64 - 1, bytes as u64 / 2] {
                    self.translates(iova + offset);
                }
                self.reached.note(if kind < 3 { "map range" } else { "map pages" });
                return;
            }
            Err(Error::Exists(_)) => assert!(taken, "{}", context()),
            Err(Error::Corrupt { .. } | Error::Tlb(_)) => panic!("{result:?} {}", context()),
            Err(Error::PartialBlock(_)) => panic!("nothing to split: {}", context()),
            Err(_) => {}
        }
        assert_eq!(self.frames.footprint(), before, "{result:?} {}", context());
        self.reached.note(match result {
            Err(Error::Exists(_)) => "exists",
            Err(Error::NoMemory(_)) => "no memory",
            _ => "map refused",
        });
    }

    fn unmap(&mut self, kind: u8, iova: u64, unit: u64, count: u64, fails: bool) {
        let before = self.frames.footprint();
        let bytes = u128::from(unit) * u128::from(count);
        let policy = if kind == 8 { FlushPolicy::Deferred } else { FlushPolicy::Strict };
        let mut gather = Gather::with_policy(&self.tlb, policy);
        let at = Iova::new(iova);
        let result = if kind < 11 {
            let Ok(size) = u64::try_from(bytes) else { return };
            self.tlb.fails.set(fails);
            self.table.unmap_range(at, size, &mut gather)
        } else {
            let Ok(count) = usize::try_from(count) else { return };
            self.tlb.fails.set(fails);
            self.table.unmap_pages(at, unit, count, &mut gather)
        };
        self.tlb.fails.set(false);
        let tables = self.table.config();
        let context = || format!("{iova:#x} {unit:#x} {count} {tables:?}");
        match result {
            Ok(done) => {
                assert!(self.inside(iova, bytes), "{}", context());
                let expected = if kind < 11 {
                    self.shadow.unmap(iova, bytes)
                } else {
                    self.shadow.unmap_units(iova, unit, count)
                };
                assert_eq!(done, expected, "{}", context());
                self.reached.note(if done > 0 { "unmap" } else { "unmap nothing" });
            }
            Err(error) => {
                if let Error::Corrupt { .. } = error {
                    panic!("{error} {}", context());
                }
                // A split at one end may stay where the other end's failed in the hardware.
                if !matches!(error, Error::Tlb(_)) {
                    assert!(gather.is_empty(), "{error} {}", context());
                    assert_eq!(self.frames.footprint(), before, "{error} {}", context());
                }
                self.reached.note(match error {
                    Error::PartialBlock(_) => "partial block",
                    Error::Tlb(_) => "split failed",
                    _ => "unmap refused",
                });
            }
        }
        release(&self.frames, gather);
    }

    /// Only what is mapped is recorded, and what was cleaned is not recorded again.
    fn harvest(&mut self, iova: u64, bytes: u64) {
        let mut gather = Gather::new(&self.tlb);
        for round in 0..2 {
            let (shadow, mut found) = (&self.shadow, 0);
            let mut record = |at: Iova, size: u64| {
                assert!(shadow.get(at.get()).is_some() && size > 0);
                found += 1;
            };
            let at = Iova::new(iova);
            let result = self.table.read_and_clear_dirty(at, bytes, &mut gather, &mut record);
            match result {
                Ok(()) => {
                    assert!(self.table.config().tracks_dirty());
                    assert!(round == 0 || found == 0, "cleaned, and dirty again");
                    self.reached.note("harvest");
                }
                Err(error) => assert!(!matches!(error, Error::Corrupt { .. }), "{error}"),
            }
        }
        assert!(gather.finish().is_ok());
    }

    /// Whatever becomes of it, the same addresses translate to the same as before.
    fn collapse(&mut self, iova: u64, unit: u64) {
        let pages = unit / self.sizes[0];
        if pages <= 8192 && self.inside(iova, u128::from(unit)) {
            // So that there is something to make a block of.
            self.map(7, iova, 0, self.sizes[0], pages, Prot::MEMORY);
        }
        let before = self.frames.footprint();
        let mut gather = Gather::new(&self.tlb);
        let result = self.table.collapse(Iova::new(iova), unit, &mut gather);
        let context = || format!("{iova:#x} {unit:#x} {:?}", self.table.config());
        self.reached.note(match result {
            Ok(()) => "collapse",
            Err(Error::Corrupt { .. } | Error::Exists(_) | Error::Tlb(_)) => {
                panic!("{result:?} {}", context())
            }
            Err(_) => "collapse refused",
        });
        if result.is_err() {
            assert!(gather.is_empty(), "{result:?} {}", context());
            assert_eq!(self.frames.footprint(), before, "{result:?} {}", context());
        }
        release(&self.frames, gather);
        for at in [iova, iova.wrapping_add(unit / 2), iova.wrapping_add(unit - 1)] {
            self.translates(at);
        }
    }

    /// Every leaf says what the shadow says.
    fn compare_leaves(&mut self, iova: u64, bytes: u64) {
        let shadow = &self.shadow;
        let mut visit = |leaf: palisade_pgtable::Leaf| {
            for offset in [0, leaf.size - 1] {
                let wanted = shadow.get(leaf.iova.get() + offset);
                assert_eq!(wanted, Some(leaf.pa.get() + offset), "{leaf:x?}");
            }
        };
        match self.table.leaves(Iova::new(iova), bytes, &mut visit) {
            Ok(()) => self.reached.note("leaves"),
            Err(error) => assert!(!matches!(error, Error::Corrupt { .. }), "{error}"),
        }
    }

    fn translates(&self, iova: u64) {
        let at = Iova::new(iova);
        let found = self.table.iova_to_phys(at).map(PhysAddr::get);
        let config = self.table.config();
        assert_eq!(found, self.shadow.get(iova), "{iova:#x} {config:?}");
        let walk = self.table.walk(at);
        assert!(!walk.corrupt, "{iova:#x} {config:?}");
        let leaf = walk.leaf.map(|leaf| leaf.pa.get() + (iova - leaf.iova.get()));
        assert_eq!(leaf, found, "{iova:#x} {config:?}");
    }

    /// Everything is as in the shadow, and everything comes back.
    fn finish(mut self, root: palisade_mem::Footprint) {
        self.shadow.ends().for_each(|end| {
            self.translates(end);
            self.translates(end.wrapping_add(1));
            self.translates(end.wrapping_sub(1));
        });
        let size = self.span as u64;
        self.compare_leaves(self.base, size);
        let mut gather = Gather::new(&self.tlb);
        let done = self.table.unmap_range(Iova::new(self.base), size, &mut gather);
        assert_eq!(done, Ok(self.shadow.total()));
        release(&self.frames, gather);
        assert_eq!(self.frames.footprint(), root, "only the root is left");
        let World { table, frames, tlb, .. } = self;
        let mut gather = Gather::new(&tlb);
        table.free(&mut gather);
        release(&frames, gather);
    }
}

/// Finishes a gather and gives its tables back.
fn release(frames: &Frames, gather: Gather<'_>) {
    let Ok(flushed) = gather.finish() else { panic!("the invalidation was not told to fail") };
    let Some(flushed) = flushed else { return };
    if let Some(tables) = flushed.tables {
        assert!(frames.release(tables, &flushed.proof).is_ok());
    }
}

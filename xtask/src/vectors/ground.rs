//! What the page-table vectors are replayed on: frames that come one after the
//! other from 0x8000_0000, and the reading of the files' common columns.

use std::sync::{Arc, atomic::AtomicU64};

use anyhow::{Context, Result, bail};
use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{
    Agent, Arena, Block, FRAME_BYTES, FrameTables, Frames, Owner, PhysRange, Proof, Scope,
    TableMemory, Use,
};
use palisade_pgtable::{
    Config, FormatId, Gather, PageTable, Prot, Quirks, SIZES_4K, SIZES_16K, SIZES_64K, TlbError,
    TlbOps,
};

use super::table::Row;

/// Where tables begin.
pub const BASE: u64 = 0x8000_0000;
/// Where the allocator's own frames are: below.
const HOME: u64 = BASE - 0x20_0000;

/// Memory and a TLB that always answers.
pub struct Ground {
    /// The frames.
    pub frames: Arc<Frames>,
    /// Table memory over them.
    pub memory: FrameTables,
    agent: Agent,
    _odd: Option<Block>,
    _arena: Arena,
}

impl Ground {
    /// `count` frames, a power of two, from [`BASE`].
    pub fn new(count: u64) -> Result<Self> {
        let span = (BASE - HOME) / FRAME_BYTES + count;
        let arena = Arena::new(PhysAddr::new(HOME), span);
        // The tags take all of the first range but one frame, which is taken too.
        let tags = (span * 8).div_ceil(FRAME_BYTES) + 1;
        let home = PhysRange { start: PhysAddr::new(HOME), bytes: tags * FRAME_BYTES };
        let tables = PhysRange { start: PhysAddr::new(BASE), bytes: count * FRAME_BYTES };
        let frames = Frames::new(arena.map(), &[home, tables])?;
        let odd = frames.alloc(0, Use::Private, Owner::HYPERVISOR).ok();
        let agent = frames.register_agent("vectors")?;
        let memory = FrameTables::new(frames.clone(), Owner::vm(0), Scope::new(1), agent.set());
        Ok(Self { frames, memory, agent, _odd: odd, _arena: arena })
    }

    /// A table, or `None` where the configuration is refused.
    pub fn table(&self, config: &Config) -> Option<Box<dyn PageTable>> {
        palisade_pgtable::alloc(config, self.memory.clone()).ok()
    }

    /// Gives a table back.
    pub fn free(&self, table: Box<dyn PageTable>) -> Result<()> {
        let mut gather = Gather::new(self);
        table.free(&mut gather);
        self.finish(gather)
    }

    /// Finishes a gather and gives its tables back.
    pub fn finish(&self, gather: Gather<'_>) -> Result<()> {
        let Ok(flushed) = gather.finish() else { bail!("an invalidation failed") };
        if let Some(flushed) = flushed
            && let Some(tables) = flushed.tables
            && self.frames.release(tables, &flushed.proof).is_err()
        {
            bail!("tables were not released");
        }
        Ok(())
    }

    /// One 64-bit word of the table of 4 KiB at `at`.
    pub fn word(&self, at: u64, index: usize) -> Option<&AtomicU64> {
        self.memory.table::<[AtomicU64; 512]>(PhysAddr::new(at))?.words().get(index)
    }

    fn proof(&self) -> Result<Proof, TlbError> {
        let scope = Scope::new(1);
        Ok(Proof::new(scope).with(self.agent.begin(scope).complete()))
    }
}

impl TlbOps for Ground {
    fn flush_all(&self) -> Result<Proof, TlbError> {
        self.proof()
    }
    fn flush_walk(&self, _: Iova, _: u64, _: u64) -> Result<Proof, TlbError> {
        self.proof()
    }
    fn add_leaf(&self, _: Iova, _: u64, _: u64) {}
    fn sync(&self) -> Result<Proof, TlbError> {
        self.proof()
    }
}

/// The format of a row.
pub fn format(row: Row<'_>) -> Result<FormatId> {
    Ok(match row.get("format")? {
        "ARM_32_LPAE_S1" => FormatId::Arm32LpaeS1,
        "ARM_32_LPAE_S2" => FormatId::Arm32LpaeS2,
        "ARM_64_LPAE_S1" => FormatId::Arm64LpaeS1,
        "ARM_64_LPAE_S2" => FormatId::Arm64LpaeS2,
        "ARM_MALI_LPAE" => FormatId::ArmMaliLpae,
        other => bail!("unknown format {other}"),
    })
}

/// All page sizes of a row's granule.
pub fn granule(row: Row<'_>) -> Result<u64> {
    Ok(match row.get("granule")? {
        "4K" => SIZES_4K,
        "16K" => SIZES_16K,
        "64K" => SIZES_64K,
        other => bail!("unknown granule {other}"),
    })
}

/// Format, granule and sizes of a row; coherent, no quirks.
pub fn plain(row: Row<'_>) -> Result<Config> {
    let mut config = Config::new(format(row)?);
    config.pgsize_bitmap = granule(row)?;
    config.ias = u8::try_from(row.number("ias")?).context("ias")?;
    config.oas = u8::try_from(row.number("oas")?).context("oas")?;
    Ok(config)
}

/// The same with coherency and quirks.
pub fn config(row: Row<'_>) -> Result<Config> {
    let mut config = plain(row)?;
    config.coherent_walk = row.flag("coherent")?;
    config.quirks = quirks(row)?;
    Ok(config)
}

/// A row's quirks, unknown ones included.
pub fn quirks(row: Row<'_>) -> Result<Quirks> {
    Ok(Quirks::from_bits_retain(u32::try_from(row.number("quirks")?).context("quirks")?))
}

/// The files' permission bits: NOEXEC where ours say EXEC.
pub fn prot(bits: u64) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, bits & 1 != 0);
    prot.set(Prot::WRITE, bits & 2 != 0);
    prot.set(Prot::CACHE, bits & 4 != 0);
    prot.set(Prot::EXEC, bits & 8 == 0);
    prot.set(Prot::DEVICE, bits & 16 != 0);
    prot.set(Prot::PRIV, bits & 32 != 0);
    prot
}

/// A translation as the files write it: 0 for none.
pub fn translation(table: &dyn PageTable, iova: u64) -> u64 {
    table.iova_to_phys(Iova::new(iova)).map_or(0, PhysAddr::get)
}

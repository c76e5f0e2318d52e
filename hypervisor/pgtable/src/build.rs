//! From a configuration to a table: each format's constructor.

use alloc::boxed::Box;
use core::sync::atomic::AtomicUsize;

use palisade_hal::PhysAddr;
use palisade_mem::TableMemory;

use crate::config::{Config, FormatId, Quirks};
use crate::error::ConfigError;
use crate::fmt::lpae::{
    Granule, Granule4K, Granule4K52, Granule16K, Granule16K52, Granule64K, Lpae, Style,
};
use crate::fmt::v7s::V7s;
use crate::fmt::{lpae_s1, lpae_s2, lpae32, mali_lpae};
use crate::geometry::{Geometry, Stage, only_quirks};
use crate::regs::Registers;
use crate::space::{Shape, Space};
use crate::table::PageTable;

/// Counts the tables of a format while they live.
pub(crate) type Users = Option<&'static AtomicUsize>;
/// A new table, or why not.
pub(crate) type Built = Result<Box<dyn PageTable>, ConfigError>;

type Derive = fn(&Config, &Geometry, PhysAddr) -> Registers;

struct Plan {
    geometry: Geometry,
    style: Style,
    registers: Derive,
}

fn finish<G: Granule, M: TableMemory + 'static>(
    config: &Config,
    memory: M,
    users: Users,
    plan: Plan,
) -> Built {
    let Plan { geometry, style, registers } = plan;
    let shape = Shape {
        start: geometry.start,
        roots: geometry.roots,
        ias: geometry.ias,
        oas: geometry.oas,
        sizes: geometry.sizes,
        table_bits: geometry.oas,
        upper: config.quirks.contains(Quirks::TTBR1),
    };
    let format = Lpae::<G>::new(style);
    let mut space =
        Space::new(format, memory, *config, &shape, |_, root| registers(config, &geometry, root))?;
    space.users = users;
    Ok(Box::new(space))
}

fn by_granule<M: TableMemory + 'static>(
    config: &Config,
    memory: M,
    users: Users,
    plan: Plan,
) -> Built {
    let finish = match (plan.geometry.granule, config.lpa2) {
        (12, false) => finish::<Granule4K, M>,
        (12, true) => finish::<Granule4K52, M>,
        (14, false) => finish::<Granule16K, M>,
        (14, true) => finish::<Granule16K52, M>,
        _ => finish::<Granule64K, M>,
    };
    finish(config, memory, users, plan)
}

fn plan_s1(config: &Config) -> Result<Plan, ConfigError> {
    only_quirks(config, lpae_s1::QUIRKS)?;
    if config.s2_dirty {
        return Err(ConfigError::Option(config.format));
    }
    if config.quirks.contains(Quirks::OUTER_WBWA) && config.coherent_walk {
        return Err(ConfigError::Quirks(config.format, Quirks::OUTER_WBWA));
    }
    let geometry = Geometry::derive(config, Stage::One)?;
    let registers: Derive =
        |config, shape, root| Registers::Stage1(lpae_s1::registers(config, shape, root));
    Ok(Plan { geometry, style: lpae_s1::style(config), registers })
}

fn plan_s2(config: &Config) -> Result<Plan, ConfigError> {
    only_quirks(config, lpae_s2::QUIRKS)?;
    let geometry = Geometry::derive(config, Stage::Two)?;
    let registers: Derive =
        |config, shape, root| Registers::Stage2(lpae_s2::registers(config, shape, root));
    Ok(Plan { geometry, style: lpae_s2::style(config), registers })
}

/// ARM_64_LPAE_S1.
pub(crate) fn lpae64_s1<M: TableMemory + 'static>(c: &Config, memory: M, users: Users) -> Built {
    by_granule(c, memory, users, plan_s1(c)?)
}

/// ARM_64_LPAE_S2.
pub(crate) fn lpae64_s2<M: TableMemory + 'static>(c: &Config, memory: M, users: Users) -> Built {
    by_granule(c, memory, users, plan_s2(c)?)
}

/// ARM_64_LPAE_S2 with the 4 KiB granule and 48-bit descriptors only: what a small
/// image links.
pub(crate) fn lpae64_s2_4k<M: TableMemory + 'static>(c: &Config, memory: M, users: Users) -> Built {
    if c.lpa2 {
        return Err(ConfigError::Option(c.format));
    }
    let plan = plan_s2(c)?;
    if plan.geometry.granule != 12 {
        return Err(ConfigError::PageSizes(c.format, c.pgsize_bitmap));
    }
    finish::<Granule4K, M>(c, memory, users, plan)
}

/// ARM_32_LPAE_S1.
pub(crate) fn lpae32_s1<M: TableMemory + 'static>(c: &Config, memory: M, users: Users) -> Built {
    lpae32::check_s1(c)?;
    finish::<Granule4K, M>(c, memory, users, plan_s1(c)?)
}

/// ARM_32_LPAE_S2.
pub(crate) fn lpae32_s2<M: TableMemory + 'static>(c: &Config, memory: M, users: Users) -> Built {
    lpae32::check_s2(c)?;
    finish::<Granule4K, M>(c, memory, users, plan_s2(c)?)
}

/// ARM_MALI_LPAE.
pub(crate) fn mali<M: TableMemory + 'static>(c: &Config, memory: M, users: Users) -> Built {
    only_quirks(c, Quirks::empty())?;
    let geometry = mali_lpae::shape(c, Geometry::derive(c, Stage::One)?)?;
    let registers: Derive = |config, _, root| Registers::Mali(mali_lpae::registers(config, root));
    finish::<Granule4K, M>(
        c,
        memory,
        users,
        Plan { geometry, style: mali_lpae::style(), registers },
    )
}

/// ARM_V7S.
pub(crate) fn v7s<M: TableMemory + 'static>(c: &Config, memory: M, users: Users) -> Built {
    let (format, v7s) = V7s::new(c)?;
    let shape = Shape {
        start: 1,
        roots: v7s.roots,
        ias: v7s.ias,
        oas: v7s.oas,
        sizes: v7s.sizes,
        table_bits: if c.quirks.contains(Quirks::MTK_TTBR_EXT) { 35 } else { 32 },
        upper: false,
    };
    let mut space = Space::new(format, memory, *c, &shape, |format, root| {
        Registers::V7s(format.registers(c, root))
    })?;
    space.users = users;
    Ok(Box::new(space))
}

/// A table of any format, without a registry.
///
/// # Errors
/// What the format does not support, or no memory for the root.
pub fn alloc<M: TableMemory + 'static>(
    config: &Config,
    memory: M,
) -> Result<Box<dyn PageTable>, ConfigError> {
    match config.format {
        FormatId::Arm32LpaeS1 => lpae32_s1(config, memory, None),
        FormatId::Arm32LpaeS2 => lpae32_s2(config, memory, None),
        FormatId::Arm64LpaeS1 => lpae64_s1(config, memory, None),
        FormatId::Arm64LpaeS2 => lpae64_s2(config, memory, None),
        FormatId::ArmV7s => v7s(config, memory, None),
        FormatId::ArmMaliLpae => mali(config, memory, None),
    }
}

//! The registry: one slot per format, indexed by its number. Set, clear and test
//! need no list and no lock, and formats do not contend with each other.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicUsize, Ordering};

use log::{error, info};
use palisade_mem::{Slot, TableMemory};
use thiserror::Error;

use crate::build::{self, Built, Users};
use crate::config::{Config, FormatId};
use crate::error::ConfigError;
use crate::selftest::{SelfTest, SelfTestError};
use crate::table::PageTable;

/// A format's constructor, for tables in memory `M`. Every format takes its
/// memory from the caller; each table frees itself, so there is no free here that
/// could be missing when it is needed.
pub struct FormatFns<M> {
    format: FormatId,
    alloc: fn(&Config, M, Users) -> Built,
}

impl<M: TableMemory + 'static> FormatFns<M> {
    /// The long-descriptor family: 32-bit S1 and S2, 64-bit S1 and S2, Mali. Keep
    /// it in a `static`: registrations are told apart by address.
    pub const fn lpae() -> [Self; 5] {
        [
            Self { format: FormatId::Arm32LpaeS1, alloc: build::lpae32_s1 },
            Self { format: FormatId::Arm32LpaeS2, alloc: build::lpae32_s2 },
            Self { format: FormatId::Arm64LpaeS1, alloc: build::lpae64_s1 },
            Self { format: FormatId::Arm64LpaeS2, alloc: build::lpae64_s2 },
            Self { format: FormatId::ArmMaliLpae, alloc: build::mali },
        ]
    }

    /// The short-descriptor family: v7s.
    pub const fn v7s() -> [Self; 1] {
        [Self { format: FormatId::ArmV7s, alloc: build::v7s }]
    }

    /// Stage 2 with the 4 KiB granule and 48-bit descriptors alone: what a small
    /// image links.
    pub const fn stage2_4k() -> [Self; 1] {
        [Self { format: FormatId::Arm64LpaeS2, alloc: build::lpae64_s2_4k }]
    }

    /// Stage 1 and stage 2, 64 bits, every granule.
    pub const fn lpae64() -> [Self; 2] {
        [
            Self { format: FormatId::Arm64LpaeS1, alloc: build::lpae64_s1 },
            Self { format: FormatId::Arm64LpaeS2, alloc: build::lpae64_s2 },
        ]
    }

    /// Which format.
    pub fn format(&self) -> FormatId {
        self.format
    }

    /// A new table that no registry counts.
    pub(crate) fn build(&self, config: &Config, memory: M, users: Users) -> Built {
        (self.alloc)(config, memory, users)
    }
}

/// Why a format was not registered or unregistered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RegisterError {
    /// The format has one already (EEXIST).
    #[error("{}: registered already", .0.name())]
    Exists(FormatId),
    /// Tables of the format are alive (EBUSY).
    #[error("{}: tables are alive", .0.name())]
    Busy(FormatId),
    /// The format's self-test failed (EFAULT).
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
}

/// All registered formats for tables in memory `M`. Registration is over before
/// the first table is allocated.
pub struct Registry<M: 'static> {
    slots: [Slot<FormatFns<M>>; FormatId::COUNT],
    users: [AtomicUsize; FormatId::COUNT],
}

impl<M: TableMemory + 'static> Registry<M> {
    /// Nothing registered.
    pub const fn new() -> Self {
        Self {
            slots: [const { Slot::new() }; FormatId::COUNT],
            users: [const { AtomicUsize::new(0) }; FormatId::COUNT],
        }
    }

    fn slot(&self, format: FormatId) -> &Slot<FormatFns<M>> {
        &self.slots[format as usize]
    }

    /// Registers one format.
    ///
    /// # Errors
    /// [`RegisterError::Exists`], and nothing has changed.
    pub fn register(&self, fns: &'static FormatFns<M>) -> Result<(), RegisterError> {
        if self.slot(fns.format).fill(fns) {
            Ok(())
        } else {
            Err(RegisterError::Exists(fns.format))
        }
    }

    /// Unregisters exactly these functions; others in their slot stay.
    ///
    /// # Errors
    /// [`RegisterError::Busy`] while tables of the format live.
    pub fn unregister(&self, fns: &'static FormatFns<M>) -> Result<(), RegisterError> {
        let slot = self.slot(fns.format);
        if !slot.take(fns) {
            return Ok(());
        }
        // Empty first, look second: an allocation counts itself before it looks
        // into the slot, so one of the two sees the other.
        if self.users[fns.format as usize].load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        slot.fill(fns);
        Err(RegisterError::Busy(fns.format))
    }

    /// Registers a family: each member passes the self-test and only then is
    /// published. A failure unregisters, in reverse, exactly those registered here.
    ///
    /// # Errors
    /// The first member's that failed.
    pub fn register_family(
        &self,
        family: &'static [FormatFns<M>],
        test: &SelfTest<'_, M>,
    ) -> Result<(), RegisterError>
    where
        M: Clone,
    {
        for (nth, fns) in family.iter().enumerate() {
            let registered = test
                .run(fns)
                .map_err(RegisterError::from)
                .and_then(|report| self.register(fns).map(|()| report));
            match registered {
                Ok(report) => info!("pgtable: {}: {report}", fns.format.name()),
                Err(error) => {
                    error!("pgtable: not registered: {error}");
                    for fns in family.iter().take(nth).rev() {
                        // Registered a moment ago; nobody had the time to use it.
                        let _busy = self.unregister(fns);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Whether the format is registered.
    pub fn is_registered(&self, format: FormatId) -> bool {
        self.slot(format).get().is_some()
    }

    /// How many tables of the format live.
    pub fn tables(&self, format: FormatId) -> usize {
        self.users[format as usize].load(Ordering::Relaxed)
    }

    /// A new, empty table.
    ///
    /// # Errors
    /// [`ConfigError::Unregistered`], what the format refuses, or no memory.
    pub fn alloc(
        &'static self,
        config: &Config,
        memory: M,
    ) -> Result<Box<dyn PageTable>, ConfigError> {
        let users = &self.users[config.format as usize];
        users.fetch_add(1, Ordering::SeqCst);
        let built = match self.slot(config.format).get() {
            Some(fns) => fns.build(config, memory, Some(users)),
            None => Err(ConfigError::Unregistered(config.format)),
        };
        if built.is_err() {
            users.fetch_sub(1, Ordering::Release);
        }
        built
    }
}

impl<M: TableMemory + 'static> Default for Registry<M> {
    fn default() -> Self {
        Self::new()
    }
}

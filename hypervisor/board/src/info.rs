//! The whole board.

use alloc::vec::Vec;

use arrayvec::ArrayVec;

use crate::{
    Conduit, Cpu, Gic, Note, PcieHost, PowerManager, Range, Reservation, Smmu, Timer, Uart,
};

/// Most memory ranges that are kept; the smallest beyond are left out.
pub const MAX_MEMORY: usize = 64;
/// Most reservations that are kept apart; beyond, the nearest two become one that covers both.
pub const MAX_RESERVED: usize = 128;
/// Most cores that are kept.
pub const MAX_CPUS: usize = 32;
/// Most SMMUs; a board with more is refused, since the rest could not be made to abort.
pub const MAX_SMMUS: usize = 32;
/// Most PCIe hosts that are kept.
pub const MAX_PCIE: usize = 16;

/// What a machine has. Strings are borrowed from the firmware's description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoardInfo<'a> {
    /// `model` of the root node, empty where absent.
    pub model: &'a str,
    /// First `compatible` of the root node, empty where absent.
    pub compatible: &'a str,
    /// RAM, in ascending order and without overlaps.
    pub memory: ArrayVec<Range, MAX_MEMORY>,
    /// What must not be used of it, the tree's own bytes excepted.
    pub reserved: ArrayVec<Reservation, MAX_RESERVED>,
    /// The cores, in the tree's order.
    pub cpus: ArrayVec<Cpu, MAX_CPUS>,
    /// How PSCI is called, if there is PSCI.
    pub psci: Option<Conduit>,
    /// The interrupt controller.
    pub gic: Gic,
    /// Power control by registers, where there is any.
    pub power: Option<PowerManager>,
    /// The generic timer.
    pub timer: Timer,
    /// The console.
    pub uart: Option<Uart>,
    /// PCIe hosts, at most [`MAX_PCIE`].
    pub pcie: Vec<PcieHost>,
    /// SMMUv3s, at most [`MAX_SMMUS`].
    pub smmus: Vec<Smmu>,
    /// What the boot loader left behind.
    pub chosen: Chosen<'a>,
    /// What is left out, at most [`MAX_NOTES`](crate::MAX_NOTES).
    pub notes: Vec<Note<'a>>,
    /// How many notes more there were.
    pub more_notes: usize,
}

/// `/chosen`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Chosen<'a> {
    /// The command line, empty where absent.
    pub bootargs: &'a str,
    /// The initrd: for Palisade, the bundle.
    pub initrd: Option<Range>,
}

impl<'a> Chosen<'a> {
    /// The value of `key=value` in the command line; the last one wins.
    pub fn argument(&self, key: &str) -> Option<&'a str> {
        let mut found = None;
        for word in self.bootargs.split_ascii_whitespace() {
            if let Some((name, value)) = crate::text::divide(word, b'=')
                && name == key
            {
                found = Some(value);
            }
        }
        found
    }
}

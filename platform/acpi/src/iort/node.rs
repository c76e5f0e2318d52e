//! Nodes (DEN0049, section 3.1).

use alloc::vec::Vec;

use palisade_board::Range;

use crate::bytes::Bytes;
use crate::error::{Error, Fault};
use crate::iort::mapping::{self, Mapping};

/// Bytes of a node's head (table 3).
const HEAD: usize = 16;
/// Most ITSs of a group, and most memory ranges of an RMR node.
const MOST: u32 = 64;

/// A node.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// Its bytes.
    pub(crate) at: Bytes<'a>,
    /// What it is.
    pub kind: NodeKind<'a>,
    /// Where its IDs go, in the table's order.
    pub mappings: Vec<Mapping>,
}

/// What a node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeKind<'a> {
    /// ITSs, by their identifiers in the MADT, any of which serves.
    ItsGroup(Vec<u32>),
    /// A device of ACPI's name space.
    Named(NamedComponent<'a>),
    /// PCIe hosts of one segment.
    Root(RootComplex),
    /// An SMMUv1 or SMMUv2.
    OldSmmu,
    /// An SMMUv3.
    Smmu(SmmuNode),
    /// Memory that devices access since before the start.
    Reserved(ReservedMemory),
    /// A performance counter group, or something newer.
    Other(u8),
}

/// Table 11.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamedComponent<'a> {
    /// Its path in ACPI's name space.
    pub name: &'a str,
}

/// Table 13.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RootComplex {
    /// The segment of all its functions.
    pub segment: u32,
    /// Devices' DMA snoops the CPUs' caches (CCA).
    pub coherent: bool,
}

/// Table 9.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SmmuNode {
    /// Physical address of register page 0.
    pub base: u64,
    /// COHACC override: its table walks snoop the CPUs' caches.
    pub coherent: bool,
    /// 0 for an SMMUv3 as the architecture says.
    pub model: u32,
    /// GSIVs; 0 where there is none.
    pub event: u32,
    /// Page requests.
    pub pri: u32,
    /// Global errors.
    pub gerror: u32,
    /// CMD_SYNC.
    pub sync: u32,
}

/// Table 17: an RMR node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReservedMemory {
    /// What the devices that its mappings name may be accessing.
    pub ranges: Vec<Range>,
}

/// The node at `at` of the table; its length is checked.
pub(crate) fn read(table: Bytes<'_>, at: usize) -> Result<Node<'_>, Error> {
    const WHAT: &str = "node";
    let length = usize::from(table.u16(at.saturating_add(1), WHAT)?);
    if length < HEAD {
        return Err(table.error(at, WHAT, Fault::Length(length as u64)));
    }
    let node = table.part(at, length, WHAT)?;
    let kind = match node.u8(0, WHAT)? {
        0 => NodeKind::ItsGroup(its_group(node)?),
        1 => NodeKind::Named(NamedComponent { name: name(node)? }),
        2 => NodeKind::Root(root_complex(node)?),
        3 => NodeKind::OldSmmu,
        4 => NodeKind::Smmu(smmu(node)?),
        6 => NodeKind::Reserved(ReservedMemory { ranges: ranges(node)? }),
        other => NodeKind::Other(other),
    };
    let mappings = match kind {
        // An ITS group is an end, and what is not known has no meaning here.
        NodeKind::ItsGroup(_) | NodeKind::Other(_) => Vec::new(),
        _ => mapping::read(node)?,
    };
    Ok(Node { at: node, kind, mappings })
}

/// Table 7.
fn its_group(node: Bytes<'_>) -> Result<Vec<u32>, Error> {
    const WHAT: &str = "ITS group";
    let count = node.u32(16, WHAT)?;
    if count > MOST {
        return Err(node.error(16, WHAT, Fault::TooMany(MOST as usize)));
    }
    let at = |index: usize| 20usize.saturating_add(index.saturating_mul(4));
    (0..count as usize).map(|index| node.u32(at(index), WHAT)).collect()
}

/// The text of a named component, which ends with a NUL.
fn name(node: Bytes<'_>) -> Result<&str, Error> {
    const NAME: usize = 29;
    const WHAT: &str = "named component";
    let room = node.len().saturating_sub(NAME);
    let bytes = node.part(NAME, room, WHAT)?.raw();
    let end = bytes.iter().position(|byte| *byte == 0);
    let text =
        end.and_then(|end| bytes.get(..end)).and_then(|text| text.is_ascii().then_some(text));
    text.and_then(|text| core::str::from_utf8(text).ok()).ok_or(node.error(
        NAME,
        WHAT,
        Fault::Length(room as u64),
    ))
}

fn root_complex(node: Bytes<'_>) -> Result<RootComplex, Error> {
    const WHAT: &str = "root complex";
    // Table 14: Cache Coherent Attribute, 1 for fully coherent.
    let coherent = node.u32(16, WHAT)? == 1;
    Ok(RootComplex { segment: node.u32(28, WHAT)?, coherent })
}

fn smmu(node: Bytes<'_>) -> Result<SmmuNode, Error> {
    const WHAT: &str = "SMMUv3";
    // Table 10: bit 0, COHACC override.
    let coherent = node.u32(24, WHAT)? & 1 != 0;
    Ok(SmmuNode {
        base: node.u64(16, WHAT)?,
        coherent,
        model: node.u32(40, WHAT)?,
        event: node.u32(44, WHAT)?,
        pri: node.u32(48, WHAT)?,
        gerror: node.u32(52, WHAT)?,
        sync: node.u32(56, WHAT)?,
    })
}

/// The descriptors of an RMR node (table 18).
fn ranges(node: Bytes<'_>) -> Result<Vec<Range>, Error> {
    const WHAT: &str = "RMR memory range";
    const LENGTH: usize = 20;
    let count = node.u32(20, WHAT)?;
    let array = node.u32(24, WHAT)? as usize;
    if count > MOST {
        return Err(node.error(20, WHAT, Fault::TooMany(MOST as usize)));
    }
    let range = |index: usize| {
        let at = array.saturating_add(index.saturating_mul(LENGTH));
        let (base, length) = (node.u64(at, WHAT)?, node.u64(at.saturating_add(8), WHAT)?);
        Range::new(base, length).ok_or(node.error(at, WHAT, Fault::Value(length)))
    };
    (0..count as usize).map(range).collect()
}

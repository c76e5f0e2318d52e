//! ID mappings (DEN0049, table 5).

use crate::bytes::Bytes;
use crate::error::{Error, Fault};

/// Bytes of one.
const LENGTH: usize = 20;
/// Flags, bit 0: the input is not looked at, there is one output.
const SINGLE: u32 = 1;
/// Most mappings of a node.
const MOST: u32 = 512;

/// A run of IDs and what they are on the way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// First ID that comes in.
    pub input: u32,
    /// The number of IDs as it stands there: less one, in what follows the specification.
    pub count: u32,
    /// What the first one goes out as.
    pub output: u32,
    /// Offset in the table of the node that it goes out to.
    pub to: u32,
    /// There is one ID only, whatever comes in.
    pub single: bool,
}

/// The mappings of a node; none where it has none.
pub(crate) fn read(node: Bytes<'_>) -> Result<alloc::vec::Vec<Mapping>, Error> {
    const WHAT: &str = "ID mappings";
    let count = node.u32(8, WHAT)?;
    let array = node.u32(12, WHAT)? as usize;
    if count > MOST {
        return Err(node.error(8, WHAT, Fault::TooMany(MOST as usize)));
    }
    let bytes = (count as usize).saturating_mul(LENGTH);
    let array = if count == 0 { node } else { node.part(array, bytes, WHAT)? };
    (0..count as usize).map(|index| one(array, index.saturating_mul(LENGTH))).collect()
}

fn one(array: Bytes<'_>, at: usize) -> Result<Mapping, Error> {
    const WHAT: &str = "ID mapping";
    let mapping = array.part(at, LENGTH, WHAT)?;
    Ok(Mapping {
        input: mapping.u32(0, WHAT)?,
        count: mapping.u32(4, WHAT)?,
        output: mapping.u32(8, WHAT)?,
        to: mapping.u32(12, WHAT)?,
        single: mapping.u32(16, WHAT)? & SINGLE != 0,
    })
}

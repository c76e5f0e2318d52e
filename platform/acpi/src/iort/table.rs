//! The whole table (DEN0049, table 2).

use alloc::vec::Vec;

use crate::error::{Error, Fault, Signature};
use crate::iort::node::{self, Node};
use crate::tables::Tables;

/// Most nodes.
const MOST: u32 = 1024;

/// Every node, in the table's order.
#[derive(Clone, Debug)]
pub struct Iort<'a> {
    /// The nodes.
    pub nodes: Vec<Node<'a>>,
}

impl<'a> Iort<'a> {
    /// Reads the IORT, where there is one.
    ///
    /// # Errors
    /// A node cannot be read: whatever names a node behind it would name another.
    pub fn read(tables: &Tables<'a>) -> Result<Option<Self>, Error> {
        let Some(table) = tables.find(Signature::IORT) else { return Ok(None) };
        let count = table.u32(36, "number of nodes")?;
        if count > MOST {
            return Err(table.error(36, "number of nodes", Fault::TooMany(MOST as usize)));
        }
        let mut at = table.u32(40, "node offset")? as usize;
        let mut nodes: Vec<Node<'a>> = Vec::new();
        for _ in 0..count {
            let node = node::read(table, at)?;
            // A node is 16 bytes at least, so that this goes on.
            at = at.saturating_add(node.at.len());
            nodes.push(node);
        }
        Ok(Some(Self { nodes }))
    }

    /// The node at this offset of the table, as mappings name it.
    pub(crate) fn at(&self, offset: u32) -> Option<&Node<'a>> {
        // They stand in ascending order.
        let found = self.nodes.binary_search_by_key(&offset, |node| node.at.offset());
        found.ok().and_then(|index| self.nodes.get(index))
    }
}

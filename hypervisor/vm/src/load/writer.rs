//! Writes a flattened device tree, by vm-fdt.
//!
//! No call fails: what is wrong first is remembered and said at the end, so that who describes a
//! machine need not ask after each of its properties.

use alloc::vec::Vec;

use vm_fdt::{Error, FdtWriter, FdtWriterNode};

/// A device tree on its way.
pub struct TreeWriter {
    writer: Result<FdtWriter, Error>,
    open: Vec<FdtWriterNode>,
}

impl Default for TreeWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeWriter {
    /// Nothing yet; the first node is the root.
    pub fn new() -> Self {
        Self { writer: FdtWriter::new(), open: Vec::new() }
    }

    /// Begins a node; "" is the root's name.
    #[inline(never)]
    pub fn begin(&mut self, name: &str) {
        let open = &mut self.open;
        attempt(&mut self.writer, |writer| writer.begin_node(name).map(|node| open.push(node)));
    }

    /// Begins a node with a unit address.
    #[inline(never)]
    pub fn begin_at(&mut self, name: &str, address: u64) {
        self.begin(&alloc::format!("{name}@{address:x}"));
    }

    /// Ends the node begun last.
    #[inline(never)]
    pub fn end(&mut self) {
        let node = self.open.pop();
        attempt(&mut self.writer, |writer| match node {
            Some(node) => writer.end_node(node),
            None => Err(Error::OutOfOrderEndNode),
        });
    }

    /// A property of plain bytes.
    #[inline(never)]
    pub fn bytes(&mut self, name: &str, value: &[u8]) {
        attempt(&mut self.writer, |writer| writer.property(name, value));
    }

    /// A property without a value.
    pub fn flag(&mut self, name: &str) {
        self.bytes(name, &[]);
    }

    /// A property of 32-bit cells.
    #[inline(never)]
    pub fn cells(&mut self, name: &str, cells: &[u32]) {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &bytes);
    }

    /// A property of one 32-bit cell.
    pub fn cell(&mut self, name: &str, cell: u32) {
        self.bytes(name, &cell.to_be_bytes());
    }

    /// A property of pairs of cells.
    #[inline(never)]
    pub fn pairs(&mut self, name: &str, pairs: &[u64]) {
        let bytes: Vec<u8> = pairs.iter().flat_map(|pair| pair.to_be_bytes()).collect();
        self.bytes(name, &bytes);
    }

    /// A property of texts.
    #[inline(never)]
    pub fn texts(&mut self, name: &str, texts: &[&str]) {
        let mut bytes = Vec::new();
        for text in texts {
            if text.as_bytes().contains(&0) {
                attempt(&mut self.writer, |_| Err(Error::InvalidString));
            }
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        self.bytes(name, &bytes);
    }

    /// A property that is one text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.texts(name, &[text]);
    }

    /// The blob.
    ///
    /// # Errors
    /// What was wrong first.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        self.writer.and_then(FdtWriter::finish)
    }
}

/// Goes on if nothing was wrong until now; keeps what is wrong.
#[inline(never)]
fn attempt(
    state: &mut Result<FdtWriter, Error>,
    step: impl FnOnce(&mut FdtWriter) -> Result<(), Error>,
) {
    if let Ok(writer) = state
        && let Err(error) = step(writer)
    {
        *state = Err(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_laid_out_as_vm_fdt_lays_them_out() {
        let mut ours = TreeWriter::new();
        let mut other = FdtWriter::new().unwrap();
        ours.begin("");
        let root = other.begin_node("").unwrap();
        ours.cell("#address-cells", 2);
        other.property_u32("#address-cells", 2).unwrap();
        ours.begin_at("memory", 0x4000_0000);
        let memory = other.begin_node("memory@40000000").unwrap();
        ours.pairs("reg", &[0x4000_0000, 1 << 33]);
        other.property_array_u64("reg", &[0x4000_0000, 1 << 33]).unwrap();
        ours.cells("interrupts", &[1, 2, 3]);
        other.property_array_u32("interrupts", &[1, 2, 3]).unwrap();
        ours.texts("compatible", &["arm,pl011", "arm,primecell"]);
        let list = ["arm,pl011", "arm,primecell"].map(alloc::string::String::from).to_vec();
        other.property_string_list("compatible", list).unwrap();
        ours.text("label", "a");
        other.property_string("label", "a").unwrap();
        ours.flag("always-on");
        other.property_null("always-on").unwrap();
        ours.end();
        other.end_node(memory).unwrap();
        ours.end();
        other.end_node(root).unwrap();
        assert_eq!(ours.finish().unwrap(), other.finish().unwrap());
    }

    #[test]
    fn what_is_wrong_first_is_said_at_the_end() {
        let mut tree = TreeWriter::new();
        tree.begin("");
        tree.text("bootargs", "a\0b");
        tree.end();
        tree.end();
        assert_eq!(tree.finish(), Err(Error::InvalidString));
        let mut tree = TreeWriter::new();
        tree.begin("");
        assert_eq!(tree.finish(), Err(Error::UnclosedNode));
        let mut tree = TreeWriter::new();
        tree.begin("");
        tree.end();
        tree.end();
        assert_eq!(tree.finish(), Err(Error::OutOfOrderEndNode));
    }
}

//! Writes a flattened device tree (Devicetree Specification 0.4, chapter 5).
//!
//! No call can fail: what is wrong is remembered and said at the end, so that who describes a
//! machine need not ask after every property.

use alloc::vec::Vec;

const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
const LAST_COMPATIBLE: u32 = 16;
const HEADER_BYTES: usize = 40;
/// One empty entry: the list's end.
const RESERVATION_BYTES: usize = 16;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;

/// Why there is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A name or text has a NUL in it.
    #[error("a text with a NUL in it")]
    Text,
    /// A node was begun and not ended, or the other way round.
    #[error("nodes do not nest")]
    Nesting,
    /// Longer than the header's words can say.
    #[error("too long")]
    Length,
}

/// A device tree on its way.
#[derive(Debug, Default)]
pub struct TreeWriter {
    structure: Vec<u8>,
    /// The properties' names, each once, each NUL-terminated.
    names: Vec<u8>,
    open: usize,
    wrong: Option<TreeError>,
}

impl TreeWriter {
    /// Nothing yet; the first node is the root.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a node; "" is the root's name.
    #[inline(never)]
    pub fn begin(&mut self, name: &str) {
        self.word(BEGIN_NODE);
        self.string(name);
        self.pad();
        self.open = self.open.saturating_add(1);
    }

    /// Begins a node with a unit address.
    #[inline(never)]
    pub fn begin_at(&mut self, name: &str, address: u64) {
        self.begin(&alloc::format!("{name}@{address:x}"));
    }

    /// Ends the node begun last.
    #[inline(never)]
    pub fn end(&mut self) {
        self.word(END_NODE);
        match self.open.checked_sub(1) {
            Some(open) => self.open = open,
            None => self.wrong = Some(TreeError::Nesting),
        }
    }

    /// A property of plain bytes.
    #[inline(never)]
    pub fn bytes(&mut self, name: &str, value: &[u8]) {
        self.property(name, value.len());
        self.structure.extend_from_slice(value);
        self.pad();
    }

    /// A property without a value.
    #[inline(never)]
    pub fn flag(&mut self, name: &str) {
        self.property(name, 0);
    }

    /// A property of 32-bit cells.
    #[inline(never)]
    pub fn cells(&mut self, name: &str, cells: &[u32]) {
        self.property(name, size_of_val(cells));
        for cell in cells {
            self.word(*cell);
        }
    }

    /// A property of one 32-bit cell.
    #[inline(never)]
    pub fn cell(&mut self, name: &str, cell: u32) {
        self.cells(name, &[cell]);
    }

    /// A property of pairs of cells.
    #[inline(never)]
    pub fn pairs(&mut self, name: &str, pairs: &[u64]) {
        self.property(name, size_of_val(pairs));
        for pair in pairs {
            self.structure.extend_from_slice(&pair.to_be_bytes());
        }
    }

    /// A property of texts.
    #[inline(never)]
    pub fn texts(&mut self, name: &str, texts: &[&str]) {
        let bytes = texts.iter().fold(0, |sum: usize, text| sum.saturating_add(text.len() + 1));
        self.property(name, bytes);
        for text in texts {
            self.string(text);
        }
        self.pad();
    }

    /// A property that is one text.
    #[inline(never)]
    pub fn text(&mut self, name: &str, text: &str) {
        self.texts(name, &[text]);
    }

    /// The blob.
    ///
    /// # Errors
    /// What was wrong on the way.
    pub fn finish(mut self) -> Result<Vec<u8>, TreeError> {
        if self.open != 0 {
            self.wrong = Some(TreeError::Nesting);
        }
        self.word(END);
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let structure = HEADER_BYTES + RESERVATION_BYTES;
        let names = structure.saturating_add(self.structure.len());
        let total = names.saturating_add(self.names.len());
        if u32::try_from(total).is_err() {
            return Err(TreeError::Length);
        }
        let mut blob = Self { structure: Vec::with_capacity(total), ..Self::default() };
        for word in [
            MAGIC,
            total as u32,
            structure as u32,
            names as u32,
            HEADER_BYTES as u32,
            VERSION,
            LAST_COMPATIBLE,
            0,
            self.names.len() as u32,
            self.structure.len() as u32,
        ] {
            blob.word(word);
        }
        let mut blob = blob.structure;
        blob.extend_from_slice(&[0; RESERVATION_BYTES]);
        blob.extend_from_slice(&self.structure);
        blob.extend_from_slice(&self.names);
        Ok(blob)
    }

    #[inline(never)]
    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    fn pad(&mut self) {
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    #[inline(never)]
    fn string(&mut self, text: &str) {
        if text.as_bytes().contains(&0) {
            self.wrong = Some(TreeError::Text);
        }
        self.structure.extend_from_slice(text.as_bytes());
        self.structure.push(0);
    }

    /// The head of a property; the value follows.
    #[inline(never)]
    fn property(&mut self, name: &str, bytes: usize) {
        let name = self.name(name);
        self.word(PROPERTY);
        self.word(bytes as u32);
        self.word(name as u32);
    }

    /// Where a name is among the names.
    fn name(&mut self, name: &str) -> usize {
        let mut at = 0;
        for known in self.names.split(|byte| *byte == 0) {
            if known == name.as_bytes() && at < self.names.len() {
                return at;
            }
            at = at.saturating_add(known.len() + 1);
        }
        let at = self.names.len();
        if name.as_bytes().contains(&0) {
            self.wrong = Some(TreeError::Text);
        }
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::{TreeError, TreeWriter};

    #[test]
    fn it_writes_what_another_writer_writes() {
        let mut ours = TreeWriter::new();
        let mut other = vm_fdt::FdtWriter::new().unwrap();
        ours.begin("");
        let root = other.begin_node("").unwrap();
        ours.cell("#address-cells", 2);
        other.property_u32("#address-cells", 2).unwrap();
        ours.begin_at("memory", 0x4000_0000);
        let memory = other.begin_node("memory@40000000").unwrap();
        ours.pairs("reg", &[0x4000_0000, 1 << 33]);
        other.property_array_u64("reg", &[0x4000_0000, 1 << 33]).unwrap();
        ours.end();
        other.end_node(memory).unwrap();
        ours.begin("serial");
        let serial = other.begin_node("serial").unwrap();
        ours.texts("compatible", &["arm,pl011", "arm,primecell"]);
        let list = ["arm,pl011", "arm,primecell"].map(alloc::string::String::from).to_vec();
        other.property_string_list("compatible", list).unwrap();
        ours.cells("reg", &[1, 2, 3]);
        other.property_array_u32("reg", &[1, 2, 3]).unwrap();
        ours.text("label", "a");
        other.property_string("label", "a").unwrap();
        ours.flag("always-on");
        other.property_null("always-on").unwrap();
        ours.bytes("odd", &[1, 2, 3, 4, 5]);
        other.property("odd", &[1, 2, 3, 4, 5]).unwrap();
        ours.end();
        other.end_node(serial).unwrap();
        ours.end();
        other.end_node(root).unwrap();
        assert_eq!(ours.finish().unwrap(), other.finish().unwrap());
    }

    #[test]
    fn what_is_wrong_is_said_at_the_end() {
        let mut tree = TreeWriter::new();
        tree.begin("");
        tree.text("bootargs", "a\0b");
        tree.end();
        assert_eq!(tree.finish(), Err(TreeError::Text));
        let mut tree = TreeWriter::new();
        tree.begin("");
        tree.flag("a\0b");
        tree.end();
        assert_eq!(tree.finish(), Err(TreeError::Text));
        let mut tree = TreeWriter::new();
        tree.begin("");
        assert_eq!(tree.finish(), Err(TreeError::Nesting));
        let mut tree = TreeWriter::new();
        tree.end();
        assert_eq!(tree.finish(), Err(TreeError::Nesting));
    }
}

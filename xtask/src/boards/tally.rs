//! What came of every tree, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use palisade_board::{BoardInfo, UartKind};
use palisade_fdt::{Error, Tree, board, compact};

use super::firmware;

/// The counts of `cargo xtask boards`.
#[derive(Debug, Default)]
pub struct Boards {
    /// Trees that were looked at.
    pub trees: usize,
    /// Those that a board came of.
    pub read: usize,
    /// The others by kind, with the names of their files.
    pub refused: BTreeMap<String, Vec<String>>,
    /// Boards that were read, by what their console is.
    pub consoles: BTreeMap<&'static str, usize>,
    /// Boards with an SMMUv3.
    pub with_smmu: usize,
    /// SMMUv3s in all boards.
    pub smmus: usize,
    /// Boards that were read, by what they do without and why.
    pub notes: BTreeMap<String, usize>,
}

impl Boards {
    /// Reads one tree.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        self.trees += 1;
        let mut bytes = bytes.to_vec();
        let outcome = compact(&mut bytes).map_err(|fault| fault.kind.to_string());
        let Err(kind) = outcome.and_then(|()| self.read(&bytes)) else { return };
        self.refused.entry(kind).or_default().push(name.to_owned());
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        let filled = filled(bytes);
        let bytes = filled.as_deref().unwrap_or(bytes);
        let tree = Tree::new(bytes).map_err(|fault| fault.kind.to_string())?;
        let board = board(&tree).map_err(|error| kind(&error))?;
        self.count(&board);
        Ok(())
    }

    fn count(&mut self, board: &BoardInfo<'_>) {
        self.read += 1;
        self.smmus += board.smmus.len();
        self.with_smmu += usize::from(!board.smmus.is_empty());
        let console = match board.uart.map(|uart| uart.kind) {
            Some(UartKind::Pl011) => "PL011",
            Some(UartKind::Sbsa) => "SBSA",
            Some(UartKind::Ns16550 { .. }) => "16550",
            None => "none",
        };
        *self.consoles.entry(console).or_default() += 1;
        let notes: BTreeSet<String> =
            board.notes.iter().map(|note| format!("{} ({})", note.part, note.reason)).collect();
        for note in notes {
            *self.notes.entry(note).or_default() += 1;
        }
    }
}

/// The tree with memory, where its firmware was to fill that in.
fn filled(bytes: &[u8]) -> Option<Vec<u8>> {
    let tree = Tree::new(bytes).ok()?;
    let mut memory = false;
    let _ = tree.visit(&mut |node| {
        if node.depth() == 0 {
            return Ok(palisade_fdt::Visit::Children);
        }
        if node.texts("device_type").any(|kind| kind == "memory") {
            memory |= matches!(node.register(0), Ok(Some(_)));
        }
        Ok(palisade_fdt::Visit::Skip)
    });
    let root = tree.node("/")?;
    let cells = |name: &str, default| root.u32(name).unwrap_or(default);
    if memory {
        return None;
    }
    firmware::with_memory(bytes, cells("#address-cells", 2), cells("#size-cells", 1))
}

/// An error without the names that are its board's own.
fn kind(error: &Error<'_>) -> String {
    match error {
        Error::Property { property, problem, .. } => format!("{property}: {problem}"),
        Error::TooMany { what, .. } => format!("too many {what}"),
        other => other.to_string(),
    }
}

impl fmt::Display for Boards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = self.trees - self.read;
        writeln!(f, "{} trees: {} read, {refused} refused", self.trees, self.read)?;
        for (kind, names) in &self.refused {
            let first: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
            writeln!(f, "  refused {:5}  {kind} ({}, ...)", names.len(), first.join(", "))?;
        }
        for (console, count) in &self.consoles {
            writeln!(f, "  console {count:5}  {console}")?;
        }
        for (note, count) in &self.notes {
            writeln!(f, "  without {count:5}  {note}")?;
        }
        write!(f, "  SMMUv3s {:5}  on {} boards", self.smmus, self.with_smmu)
    }
}

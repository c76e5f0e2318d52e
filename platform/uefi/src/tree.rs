//! The firmware's own device tree, with what the hypervisor is told added: command line, bundle,
//! and memory that the firmware keeps (Devicetree Specification v0.4, chapter 5).

use alloc::vec::Vec;

use palisade_board::Range;

use crate::Refusal;

const MAGIC: u32 = 0xd00d_feed;
const HEADER: usize = 40;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Properties of /chosen that are ours; old ones of these names go.
const NAMES: [&str; 3] = ["bootargs", "linux,initrd-start", "linux,initrd-end"];

/// What is added.
#[derive(Clone, Copy, Debug, Default)]
pub struct Additions<'a> {
    /// The command line.
    pub bootargs: &'a str,
    /// Where the bundle is.
    pub bundle: Option<Range>,
    /// What of the memory is the firmware's.
    pub kept: &'a [Range],
}

/// Words of a part of a tree, big-endian.
struct Words<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    fn word(&mut self) -> Option<u32> {
        let word = self.bytes.get(self.at..)?.first_chunk::<4>()?;
        self.at = self.at.checked_add(4)?;
        Some(u32::from_be_bytes(*word))
    }

    /// `length` bytes, and what aligns the next word.
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at = self.at.checked_add(length.checked_next_multiple_of(4)?)?;
        Some(bytes)
    }
}

/// A copy of the tree with the additions.
///
/// # Errors
/// Its bytes cannot be divided into nodes and properties.
pub fn amend(tree: &[u8], additions: &Additions<'_>) -> Result<Vec<u8>, Refusal> {
    copy(tree, additions).ok_or(Refusal::Tree("the firmware's device tree is damaged".into()))
}

fn copy(tree: &[u8], additions: &Additions<'_>) -> Option<Vec<u8>> {
    let header = |index: usize| {
        let word = tree.get(index.checked_mul(4)?..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*word) as usize)
    };
    if header(0)? as u32 != MAGIC {
        return None;
    }
    let part = |offset: usize, size: usize| tree.get(offset..offset.checked_add(size)?);
    let nodes = part(header(2)?, header(9)?)?;
    let strings = part(header(3)?, header(8)?)?;
    let reserved = reserved(tree.get(header(4)?..)?, additions.kept)?;

    let mut names = strings.to_vec();
    let offsets = NAMES.map(|name| {
        let at = names.len();
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        at as u32
    });
    let structure = structure(nodes, strings, &ours(additions, offsets))?;

    let mut blob = Vec::new();
    let at_structure = HEADER.checked_add(reserved.len())?;
    let at_strings = at_structure.checked_add(structure.len())?;
    let total = at_strings.checked_add(names.len())?;
    let words = [
        MAGIC as usize,
        total,
        at_structure,
        at_strings,
        HEADER,
        17,
        16,
        header(7)?,
        names.len(),
        structure.len(),
    ];
    for word in words {
        blob.extend(u32::try_from(word).ok()?.to_be_bytes());
    }
    [reserved, structure, names].iter().for_each(|part| blob.extend_from_slice(part));
    Some(blob)
}

/// The reservation block: what is kept, then what it held before.
fn reserved(old: &[u8], kept: &[Range]) -> Option<Vec<u8>> {
    let mut block = Vec::new();
    for range in kept {
        block.extend(range.start().to_be_bytes());
        block.extend(range.size().to_be_bytes());
    }
    for entry in old.chunks_exact(16) {
        block.extend_from_slice(entry);
        if entry.iter().all(|byte| *byte == 0) {
            return Some(block);
        }
    }
    None
}

/// Our properties of /chosen, as tokens.
fn ours(additions: &Additions<'_>, [bootargs, start, end]: [u32; 3]) -> Vec<u8> {
    let mut tokens = Vec::new();
    let mut property = |name: u32, value: &[u8]| {
        tokens.extend(PROPERTY.to_be_bytes());
        tokens.extend((value.len() as u32).to_be_bytes());
        tokens.extend(name.to_be_bytes());
        tokens.extend_from_slice(value);
        tokens.resize(tokens.len().next_multiple_of(4), 0);
    };
    let mut text = additions.bootargs.as_bytes().to_vec();
    text.push(0);
    property(bootargs, &text);
    if let Some(bundle) = additions.bundle {
        property(start, &bundle.start().to_be_bytes());
        property(end, &bundle.end().to_be_bytes());
    }
    tokens
}

/// The structure block with `ours` in /chosen.
fn structure(nodes: &[u8], strings: &[u8], ours: &[u8]) -> Option<Vec<u8>> {
    let mut words = Words { bytes: nodes, at: 0 };
    let mut copy = Vec::new();
    let mut depth = 0usize;
    // Whether this is /chosen itself, and whether there was one.
    let (mut inside, mut met) = (false, false);
    loop {
        let from = words.at;
        let token = words.word()?;
        let mut keep = true;
        match token {
            BEGIN_NODE => {
                let rest = nodes.get(words.at..)?;
                let end = rest.iter().position(|byte| *byte == 0)?;
                let name = words.take(end.checked_add(1)?)?;
                depth = depth.checked_add(1)?;
                inside = depth == 2 && name == b"chosen\0" && !met;
                copy.extend_from_slice(nodes.get(from..words.at)?);
                if inside {
                    met = true;
                    copy.extend_from_slice(ours);
                }
                continue;
            }
            END_NODE => {
                depth = depth.checked_sub(1)?;
                inside = false;
                if depth == 0 && !met {
                    copy.extend(BEGIN_NODE.to_be_bytes());
                    copy.extend_from_slice(b"chosen\0\0");
                    copy.extend_from_slice(ours);
                    copy.extend(END_NODE.to_be_bytes());
                    met = true;
                }
            }
            PROPERTY => {
                let (length, name) = (words.word()? as usize, words.word()? as usize);
                words.take(length)?;
                let name = strings.get(name..)?;
                let is = |ours: &str| {
                    name.strip_prefix(ours.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
                };
                keep = !(inside && NAMES.iter().any(|ours| is(ours)));
            }
            // Deleted entries are left out.
            NOP => keep = false,
            END => {
                copy.extend(END.to_be_bytes());
                return (depth == 0).then_some(copy);
            }
            _ => return None,
        }
        if keep {
            copy.extend_from_slice(nodes.get(from..words.at)?);
        }
    }
}

//! The validator: what it accepts, the `fdt` crate reads without a panic.
//!
//! Devicetree Specification v0.4, chapter 5. Work is linear in the blob's size.

/// Largest blob that is accepted, in bytes.
pub const MAX_SIZE: usize = 2 << 20;
/// Deepest nesting that is accepted; the root has depth 1.
pub const MAX_DEPTH: usize = 16;
/// Longest node or property name that is accepted, in bytes.
const MAX_NAME: usize = 96;

const MAGIC: u32 = 0xd00d_feed;
const HEADER: usize = 40;
const VERSION: u32 = 17;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// What is wrong with a blob, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("device tree is malformed at byte {offset:#x}: {kind}")]
pub struct Fault {
    /// Offset in the blob, in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub kind: FaultKind,
}

/// What is wrong with a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum FaultKind {
    #[error("no device tree magic")]
    Magic,
    #[error("truncated")]
    Truncated,
    #[error("larger than 2 MiB")]
    Oversized,
    #[error("unknown format version")]
    Version,
    #[error("a block lies outside the blob or is misaligned")]
    Block,
    #[error("the memory reservation block has no end")]
    Reservations,
    #[error("unknown token")]
    Token,
    #[error("a token stands where none of its kind may stand")]
    Order,
    #[error("bad name")]
    Name,
    #[error("nodes nest too deep")]
    Depth,
    #[error("bad number of cells")]
    Cells,
    #[error("a deleted entry (NOP)")]
    Nop,
}

#[cold]
const fn fault<T>(offset: usize, kind: FaultKind) -> Result<T, Fault> {
    Err(Fault { offset, kind })
}

#[inline(never)]
fn word(bytes: &[u8], offset: usize) -> Result<u32, Fault> {
    match bytes.get(offset..).and_then(|rest| rest.first_chunk::<4>()) {
        Some(chunk) => Ok(u32::from_be_bytes(*chunk)),
        None => fault(offset, FaultKind::Truncated),
    }
}

/// The blocks of a blob.
struct Layout<'a> {
    /// Bytes up to `totalsize`.
    blob: &'a [u8],
    /// Offset of the structure block.
    structure: usize,
    /// One past its last byte.
    structure_end: usize,
    /// The strings block.
    strings: &'a [u8],
}

/// Checks header and block ranges.
fn layout(bytes: &[u8]) -> Result<Layout<'_>, Fault> {
    if word(bytes, 0)? != MAGIC {
        return fault(0, FaultKind::Magic);
    }
    if bytes.len() < HEADER {
        return fault(bytes.len(), FaultKind::Truncated);
    }
    let total = word(bytes, 4)? as usize;
    if total > MAX_SIZE {
        return fault(4, FaultKind::Oversized);
    }
    let Some(blob) = bytes.get(..total) else {
        return fault(bytes.len(), FaultKind::Truncated);
    };
    if word(bytes, 20)? < VERSION || word(bytes, 24)? > VERSION {
        return fault(20, FaultKind::Version);
    }
    let block = |offset_at: usize, size_at: usize, align: usize| {
        let start = word(blob, offset_at)? as usize;
        let end = start.saturating_add(word(blob, size_at)? as usize);
        if start < HEADER || !start.is_multiple_of(align) || end > total {
            return fault(offset_at, FaultKind::Block);
        }
        Ok((start, end))
    };
    let (structure, structure_end) = block(8, 36, 4)?;
    let (strings, strings_end) = block(12, 32, 1)?;

    let mut at = word(blob, 16)? as usize;
    if at < HEADER || !at.is_multiple_of(8) {
        return fault(16, FaultKind::Block);
    }
    loop {
        let Some(entry) = blob.get(at..).and_then(|rest| rest.first_chunk::<16>()) else {
            return fault(at, FaultKind::Reservations);
        };
        if entry.iter().all(|byte| *byte == 0) {
            break;
        }
        at = at.saturating_add(16);
    }
    let Some(strings) = blob.get(strings..strings_end) else {
        return fault(12, FaultKind::Block);
    };
    Ok(Layout { blob, structure, structure_end, strings })
}

/// Length of the NUL-terminated name at the start of `bytes`.
fn name_length(bytes: &[u8], allowed: fn(u8) -> bool) -> Option<usize> {
    let length = bytes.iter().take(MAX_NAME + 1).position(|byte| *byte == 0)?;
    bytes.iter().take(length).all(|byte| allowed(*byte)).then_some(length)
}

fn node_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b",._+-@".contains(&byte)
}

fn property_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b",._+?#-".contains(&byte)
}

/// Properties whose value everything else is read with.
fn check_value(name: &[u8], value: &[u8]) -> bool {
    let limit = match name {
        b"#address-cells" | b"#size-cells" => 4,
        b"#interrupt-cells" | b"#iommu-cells" | b"#clock-cells" | b"#msi-cells" => 8,
        b"phandle" | b"linux,phandle" | b"interrupt-parent" => u32::MAX,
        _ => return true,
    };
    value.first_chunk::<4>().is_some_and(|cell| u32::from_be_bytes(*cell) <= limit)
        && value.len() == 4
}

/// One token of the structure block.
enum Token {
    Begin,
    End,
    Property,
    Nop,
    Last,
}

/// The token at `at` and the offset after it.
fn token(layout: &Layout<'_>, at: usize) -> Result<(Token, usize), Fault> {
    let Some(block) = layout.blob.get(..layout.structure_end) else {
        return fault(at, FaultKind::Block);
    };
    let align = |offset: usize| match offset.checked_next_multiple_of(4) {
        Some(next) if next <= block.len() => Ok(next),
        _ => fault(at, FaultKind::Truncated),
    };
    let body = at.saturating_add(4);
    Ok(match word(block, at)? {
        BEGIN_NODE => {
            let name = block.get(body..).unwrap_or_default();
            let Some(length) = name_length(name, node_character) else {
                return fault(body, FaultKind::Name);
            };
            // Only the root has no name.
            if (length == 0) != (at == layout.structure) {
                return fault(body, FaultKind::Name);
            }
            (Token::Begin, align(body.saturating_add(length).saturating_add(1))?)
        }
        END_NODE => (Token::End, body),
        PROP => {
            let length = word(block, body)? as usize;
            let name = word(block, body.saturating_add(4))? as usize;
            let name = layout.strings.get(name..).unwrap_or_default();
            let name = match name_length(name, property_character) {
                Some(length) if length > 0 => name.get(..length).unwrap_or_default(),
                _ => return fault(body, FaultKind::Name),
            };
            let start = body.saturating_add(8);
            let end = start.saturating_add(length);
            let Some(value) = block.get(start..end) else {
                return fault(body, FaultKind::Truncated);
            };
            if !check_value(name, value) {
                return fault(start, FaultKind::Cells);
            }
            (Token::Property, align(end)?)
        }
        NOP => (Token::Nop, body),
        END => (Token::Last, body),
        _ => return fault(at, FaultKind::Token),
    })
}

/// Walks all tokens. `nop` is told where each deleted entry stands.
fn walk(
    layout: &Layout<'_>,
    nop: &mut dyn FnMut(usize) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    let mut at = layout.structure;
    let mut depth = 0usize;
    // Whether a property may stand here: after BEGIN_NODE or another property.
    let mut properties = false;
    let mut finished = false;
    loop {
        let (kind, next) = token(layout, at)?;
        match kind {
            Token::Begin if !finished => {
                depth = depth.saturating_add(1);
                if depth > MAX_DEPTH {
                    return fault(at, FaultKind::Depth);
                }
                properties = true;
            }
            Token::End if depth > 0 => {
                depth = depth.saturating_sub(1);
                properties = false;
                finished = depth == 0;
            }
            Token::Property if properties => {}
            Token::Last if finished => return Ok(next),
            Token::Nop => nop(at)?,
            _ => return fault(at, FaultKind::Order),
        }
        at = next;
    }
}

/// Checks a blob from header to last token.
///
/// # Errors
/// The first [`Fault`], with its offset. A blob with deleted entries is
/// refused: [`compact`] removes them.
pub fn validate(bytes: &[u8]) -> Result<(), Fault> {
    walk(&layout(bytes)?, &mut |at| fault(at, FaultKind::Nop)).map(drop)
}

/// Removes deleted entries (NOP tokens) in place, as some firmware leaves them
/// behind and the reader does not take them. Does nothing to other blobs.
///
/// # Errors
/// As [`validate`]; the blob is unchanged then.
pub fn compact(bytes: &mut [u8]) -> Result<(), Fault> {
    let checked = layout(bytes)?;
    let start = checked.structure;
    let mut nops = 0usize;
    let end = walk(&checked, &mut |_| {
        nops = nops.saturating_add(1);
        Ok(())
    })?;
    if nops == 0 {
        return Ok(());
    }
    let (mut from, mut to) = (start, start);
    while from < end {
        // `checked` borrows the bytes, so each step looks at them afresh; the
        // part from `from` on has not been touched yet.
        let view = Layout { structure: start, ..layout(bytes)? };
        let Ok((kind, next)) = token(&view, from) else { break };
        if !matches!(kind, Token::Nop) {
            bytes.copy_within(from..next, to);
            to = to.saturating_add(next.saturating_sub(from));
        }
        from = next;
    }
    // The structure block keeps its size; what is left of it is never read.
    if let Some(rest) = bytes.get_mut(to..end) {
        rest.fill(0);
    }
    Ok(())
}

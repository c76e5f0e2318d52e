//! A64 loads and stores of general registers, by their encodings (DDI 0487, C4.1.94): for those
//! whose syndrome the core does not decode. What is not carried out here has a name.

use crate::mmio::Width;

/// Where the address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// A general register; 31 is the stack pointer.
    Register(u8),
    /// The instruction's own address.
    Literal,
}

/// What is added to the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// Bytes.
    Immediate(i64),
    /// A general register (31 is zero), extended as `option` says, then shifted left.
    Register {
        /// The register.
        index: u8,
        /// 2 UXTW, 3 LSL, 6 SXTW, 7 SXTX.
        option: u8,
        /// By how many bits.
        shift: u8,
    },
}

/// When the offset is added, and whether the base keeps the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writeback {
    /// Added before; the base stays.
    None,
    /// Added before; the base keeps it.
    Before,
    /// Added after; the base keeps it.
    After,
}

/// A load or store of one or two general registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// A load, else a store.
    pub load: bool,
    /// Of each register's access.
    pub width: Width,
    /// A load's sign is extended.
    pub signed: bool,
    /// A load fills 64 bits of its register; else 32, and the upper half is 0.
    pub wide: bool,
    /// The register; 31 is zero.
    pub first: u8,
    /// A pair's other register, at the next higher address.
    pub second: Option<u8>,
    /// Where the address comes from.
    pub base: Base,
    /// What is added to it.
    pub offset: Offset,
    /// What becomes of the base.
    pub writeback: Writeback,
}

/// Why an instruction is not carried out here; the text completes "it is …".
pub type Refusal = &'static str;

pub(super) const EXCLUSIVE: Refusal = "an exclusive load or store";
pub(super) const COMPARE: Refusal = "a compare and swap";
pub(super) const ORDERED: Refusal = "a load-acquire or store-release";
pub(super) const ATOMIC: Refusal = "an atomic read and write";
pub(super) const BLOCK: Refusal = "a 64-byte load or store";
pub(super) const VECTOR: Refusal = "a load or store of a vector register";
pub(super) const PREFETCH: Refusal = "a prefetch";
pub(super) const TAGS: Refusal = "an access to memory tags";
pub(super) const COPY: Refusal = "a memory copy or set";
pub(super) const SIGNED_POINTER: Refusal = "a load with pointer authentication";
pub(super) const ZERO: Refusal = "DC ZVA or a kin of it";
pub(super) const UNPREDICTABLE: Refusal =
    "unpredictable: it loads or stores its own base, or loads twice";
pub(super) const UNALLOCATED: Refusal = "an unallocated load or store";
pub(super) const NEITHER: Refusal = "neither a load nor a store";

const fn bits(word: u32, high: u32, low: u32) -> u32 {
    word >> low & (!0 >> (31 - (high - low)))
}

/// The field as a signed number.
const fn signed(word: u32, high: u32, low: u32) -> i64 {
    ((word << (31 - high)) as i32 >> (31 - (high - low))) as i64
}

const fn width(size: u32) -> Width {
    match size {
        0 => Width::Bits8,
        1 => Width::Bits16,
        2 => Width::Bits32,
        _ => Width::Bits64,
    }
}

/// What the instruction `word` does.
///
/// # Errors
/// What it is, where it is no load or store of general registers that can be carried out here.
pub fn decode(word: u32) -> Result<Transfer, Refusal> {
    // DC ZVA, DC GVA, DC GZVA (C5.3): op1 3, CRn 7, CRm 4, op2 1, 3, 4.
    if word & 0xffff_ff00 == 0xd50b_7400 && matches!(bits(word, 7, 5), 1 | 3 | 4) {
        return Err(ZERO);
    }
    // op0 of the main table: x1x0.
    if word >> 27 & 1 == 0 || word >> 25 & 1 != 0 {
        return Err(NEITHER);
    }
    let vector = bits(word, 26, 26) != 0;
    let transfer = match (bits(word, 29, 27), bits(word, 24, 24)) {
        (0b001, _) => return Err(exclusive_or_vector(word, vector)),
        _ if vector => return Err(VECTOR),
        (0b011, 0) => literal(word)?,
        (0b011, _) => return Err(unscaled_ordered_or_tags(word)),
        (0b101, _) => pair(word)?,
        (0b111, 0) => unscaled_or_register(word)?,
        (0b111, _) => single(word, Offset::Immediate(scaled(word)), Writeback::None)?,
        _ => return Err(UNALLOCATED),
    };
    predictable(transfer)
}

const fn exclusive_or_vector(word: u32, vector: bool) -> Refusal {
    if vector {
        return VECTOR;
    }
    if bits(word, 24, 24) != 0 {
        return UNALLOCATED;
    }
    // o2 (23), o1 (21); bit 31 clear with o1 is CASP.
    match (bits(word, 23, 23), bits(word, 21, 21), bits(word, 31, 31)) {
        (1, 1, _) | (0, 1, 0) => COMPARE,
        (1, 0, _) => ORDERED,
        _ => EXCLUSIVE,
    }
}

const fn unscaled_ordered_or_tags(word: u32) -> Refusal {
    match (bits(word, 21, 21), bits(word, 11, 10), bits(word, 31, 30)) {
        (0, 0b00, _) => ORDERED,
        (0, 0b01, _) => COPY,
        (1, _, 0b11) => TAGS,
        _ => UNALLOCATED,
    }
}

fn literal(word: u32) -> Result<Transfer, Refusal> {
    let (width, signed_load, wide) = match bits(word, 31, 30) {
        0b00 => (Width::Bits32, false, false),
        0b01 => (Width::Bits64, false, true),
        0b10 => (Width::Bits32, true, true),
        _ => return Err(PREFETCH),
    };
    Ok(Transfer {
        load: true,
        width,
        signed: signed_load,
        wide,
        first: bits(word, 4, 0) as u8,
        second: None,
        base: Base::Literal,
        offset: Offset::Immediate(signed(word, 23, 5) * 4),
        writeback: Writeback::None,
    })
}

fn pair(word: u32) -> Result<Transfer, Refusal> {
    let load = bits(word, 22, 22) != 0;
    let writeback = match bits(word, 24, 23) {
        0b01 => Writeback::After,
        0b11 => Writeback::Before,
        _ => Writeback::None,
    };
    let (width, signed_load) = match (bits(word, 31, 30), load, bits(word, 24, 23)) {
        (0b00, ..) => (Width::Bits32, false),
        (0b10, ..) => (Width::Bits64, false),
        (0b01, true, 0b01..) => (Width::Bits32, true),
        (0b01, false, 0b01..) => return Err(TAGS),
        _ => return Err(UNALLOCATED),
    };
    Ok(Transfer {
        load,
        width,
        signed: signed_load,
        wide: signed_load || width == Width::Bits64,
        first: bits(word, 4, 0) as u8,
        second: Some(bits(word, 14, 10) as u8),
        base: Base::Register(bits(word, 9, 5) as u8),
        offset: Offset::Immediate(signed(word, 21, 15) * width.bytes() as i64),
        writeback,
    })
}

fn unscaled_or_register(word: u32) -> Result<Transfer, Refusal> {
    let immediate = Offset::Immediate(signed(word, 20, 12));
    match (bits(word, 21, 21), bits(word, 11, 10)) {
        (0, 0b00) => single(word, immediate, Writeback::None),
        (0, 0b01) => indexed(word, immediate, Writeback::After),
        (0, 0b10) => indexed(word, immediate, Writeback::None),
        (0, _) => indexed(word, immediate, Writeback::Before),
        (_, 0b10) => {
            let (index, option) = (bits(word, 20, 16) as u8, bits(word, 15, 13) as u8);
            if option & 0b010 == 0 {
                return Err(UNALLOCATED);
            }
            let shift = if bits(word, 12, 12) != 0 { bits(word, 31, 30) as u8 } else { 0 };
            single(word, Offset::Register { index, option, shift }, Writeback::None)
        }
        // LD64B, ST64B, ST64BV and ST64BV0: size 3, A and R clear, o3 set, opc 1, 2, 3 or 5.
        (_, 0b00) if bits(word, 31, 30) == 3 && bits(word, 23, 22) == 0 && is_block(word) => {
            Err(BLOCK)
        }
        // LDAPR: A set, R clear, Rs 31, o3 set, opc 4.
        (_, 0b00) if bits(word, 23, 22) == 0b10 && bits(word, 20, 12) == 0b1_1111_1100 => {
            Err(ORDERED)
        }
        (_, 0b00) => Err(ATOMIC),
        _ if bits(word, 31, 30) == 3 => Err(SIGNED_POINTER),
        _ => Err(UNALLOCATED),
    }
}

const fn is_block(word: u32) -> bool {
    bits(word, 15, 15) != 0 && matches!(bits(word, 14, 12), 1 | 2 | 3 | 5)
}

/// The unsigned offset of 12 bits, in units of the width.
const fn scaled(word: u32) -> i64 {
    (bits(word, 21, 10) << bits(word, 31, 30)) as i64
}

/// The forms that cannot prefetch.
fn indexed(word: u32, offset: Offset, writeback: Writeback) -> Result<Transfer, Refusal> {
    match single(word, offset, writeback) {
        Err(PREFETCH) => Err(UNALLOCATED),
        other => other,
    }
}

/// One register: size in bits 31:30, opc in bits 23:22.
fn single(word: u32, offset: Offset, writeback: Writeback) -> Result<Transfer, Refusal> {
    let size = bits(word, 31, 30);
    let (load, signed, wide) = match (bits(word, 23, 22), size) {
        (0b00, _) => (false, false, size == 3),
        (0b01, _) => (true, false, size == 3),
        (0b10, 3) => return Err(PREFETCH),
        (0b10, _) => (true, true, true),
        (_, 0 | 1) => (true, true, false),
        _ => return Err(UNALLOCATED),
    };
    Ok(Transfer {
        load,
        width: width(size),
        signed,
        wide,
        first: bits(word, 4, 0) as u8,
        second: None,
        base: Base::Register(bits(word, 9, 5) as u8),
        offset,
        writeback,
    })
}

/// Refuses what the manual leaves open (C6.2, "CONSTRAINED UNPREDICTABLE behavior" of each).
fn predictable(transfer: Transfer) -> Result<Transfer, Refusal> {
    let Transfer { load, first, second, base, writeback, .. } = transfer;
    let own_base = |register: u8| register != 31 && base == Base::Register(register);
    let overlaps = own_base(first) || second.is_some_and(own_base);
    if writeback != Writeback::None && overlaps || load && second == Some(first) {
        return Err(UNPREDICTABLE);
    }
    Ok(transfer)
}

//! From the root pointer to every table (5.2.5 to 5.2.8).

use alloc::vec::Vec;

use crate::bytes::Bytes;
use crate::error::{Error, Fault, Signature};

/// Most tables that the XSDT may name.
pub const MAX_TABLES: usize = 256;
/// Largest table that is read, in bytes. An SSDT may be larger, and is not looked at.
pub const MAX_TABLE: u32 = 1 << 20;
/// Bytes of a table's head (5.2.6).
pub(crate) const HEAD: usize = 36;

/// Bytes at physical addresses: the seam to the machine.
pub trait Physical {
    /// `length` bytes from `address`; `None` where not all of them are readable memory.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;
}

/// Every table that the firmware names.
#[derive(Clone, Debug)]
pub struct Tables<'a> {
    tables: Vec<(Signature, &'a [u8])>,
    oem: &'a [u8],
}

impl<'a> Tables<'a> {
    /// Follows the root pointer at `rsdp`. Tables that Palisade does not read are not looked at.
    ///
    /// # Errors
    /// The root pointer, the XSDT or a table that is read is damaged; or there are too many.
    pub fn new(memory: &'a dyn Physical, rsdp: u64) -> Result<Self, Error> {
        let xsdt = xsdt(memory, rsdp)?;
        let xsdt = table(memory, xsdt, Some(Signature::XSDT))?;
        let entries = Bytes::new(Signature::XSDT, xsdt);
        // 5.2.8: physical addresses of 64 bits, not aligned. What is left over is none.
        let count = xsdt.len().saturating_sub(HEAD) / 8;
        if count > MAX_TABLES {
            return Err(entries.error(HEAD, "entries", Fault::TooMany(MAX_TABLES)));
        }
        let mut tables = Vec::new();
        for index in 0..count {
            let at = HEAD.saturating_add(index.saturating_mul(8));
            let address = entries.u64(at, "entry")?;
            if address == 0 {
                continue;
            }
            let head = memory
                .bytes(address, HEAD)
                .and_then(|head| head.first_chunk::<4>())
                .ok_or(entries.error(at, "entry", Fault::Unreadable(address)))?;
            let signature = Signature(*head);
            if READ.contains(&signature) {
                tables.push((signature, table(memory, address, None)?));
            }
        }
        // 5.2.6: OEMID of six bytes.
        let oem = xsdt.get(10..16).unwrap_or_default();
        Ok(Self { tables, oem })
    }

    /// The first table of this signature.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn need(&self, signature: Signature) -> Result<Bytes<'a>, Error> {
        self.find(signature).ok_or(missing(signature, "table"))
    }

    /// The first table of this signature, if there is one.
    pub(crate) fn find(&self, signature: Signature) -> Option<Bytes<'a>> {
        let found = self.tables.iter().find(|(other, _)| *other == signature);
        found.map(|(_, bytes)| Bytes::new(signature, bytes))
    }

    /// Who made the machine, as the XSDT says; empty where it is no text.
    pub(crate) fn oem(&self) -> &'a str {
        core::str::from_utf8(self.oem).unwrap_or_default().trim_matches(['\0', ' '])
    }
}

/// The tables that are read.
const READ: [Signature; 7] = [
    Signature::FADT,
    Signature::MADT,
    Signature::GTDT,
    Signature::MCFG,
    Signature::SPCR,
    Signature::DBG2,
    Signature::IORT,
];

const fn missing(table: Signature, what: &'static str) -> Error {
    Error { table, offset: 0, what, fault: Fault::Missing }
}

/// The XSDT's address, from the root pointer (5.2.5.3).
fn xsdt(memory: &dyn Physical, address: u64) -> Result<u64, Error> {
    const LENGTH: usize = 36;
    const WHAT: &str = "root pointer";
    let fault = |fault| Error { table: Signature::RSDP, offset: 0, what: WHAT, fault };
    let first = memory.bytes(address, 20).ok_or(fault(Fault::Unreadable(address)))?;
    let first = Bytes::new(Signature::RSDP, first);
    if first.raw().get(..8) != Some(b"RSD PTR ") {
        return Err(fault(Fault::Signature));
    }
    // Revision 0 is ACPI 1.0, which has neither an XSDT nor AArch64.
    let revision = first.u8(15, "revision")?;
    if revision < 2 {
        return Err(fault(Fault::Revision(revision)));
    }
    let whole = memory.bytes(address, LENGTH).ok_or(fault(Fault::Unreadable(address)))?;
    if sum(first.raw()) != 0 || sum(whole) != 0 {
        return Err(fault(Fault::Checksum));
    }
    let address = Bytes::new(Signature::RSDP, whole).u64(24, "XsdtAddress")?;
    if address == 0 {
        return Err(missing(Signature::XSDT, "XSDT"));
    }
    Ok(address)
}

/// A whole table, its length and checksum right.
fn table(memory: &dyn Physical, address: u64, expected: Option<Signature>) -> Result<&[u8], Error> {
    let fault = |table, fault| Error { table, offset: 0, what: "table", fault };
    let named = expected.unwrap_or(Signature(*b"    "));
    let head = memory.bytes(address, HEAD).ok_or(fault(named, Fault::Unreadable(address)))?;
    let head = Bytes::new(named, head);
    let signature = Signature(head.raw().first_chunk::<4>().copied().unwrap_or_default());
    if expected.is_some_and(|expected| expected != signature) {
        return Err(fault(named, Fault::Signature));
    }
    let length = head.u32(4, "length")?;
    if !(HEAD as u32..=MAX_TABLE).contains(&length) {
        return Err(fault(signature, Fault::Length(length.into())));
    }
    let whole = memory
        .bytes(address, length as usize)
        .ok_or(fault(signature, Fault::Unreadable(address)))?;
    // A length that reaches too far shows in the sum as well.
    if whole.len() != length as usize || sum(whole) != 0 {
        return Err(fault(signature, Fault::Checksum));
    }
    Ok(whole)
}

/// All bytes together, modulo 256.
fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

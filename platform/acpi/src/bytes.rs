//! Bytes of a table or of a structure in it, read by offset and never beyond their end.

use crate::error::{Error, Fault, Signature};

/// A part of a table that knows where it lies in it. All values are little-endian (5.2).
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    table: Signature,
    base: u32,
    bytes: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// A whole table.
    pub(crate) const fn new(table: Signature, bytes: &'a [u8]) -> Self {
        Self { table, base: 0, bytes }
    }

    /// Where it begins in its table.
    pub(crate) const fn offset(self) -> u32 {
        self.base
    }

    /// How many there are.
    pub(crate) const fn len(self) -> usize {
        self.bytes.len()
    }

    /// All of them.
    pub(crate) const fn raw(self) -> &'a [u8] {
        self.bytes
    }

    /// An error about what stands `at` here.
    pub(crate) fn error(self, at: usize, what: &'static str, fault: Fault) -> Error {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        Error { table: self.table, offset: self.base.saturating_add(at), what, fault }
    }

    /// `length` bytes from `at`.
    pub(crate) fn part(
        self,
        at: usize,
        length: usize,
        what: &'static str,
    ) -> Result<Bytes<'a>, Error> {
        let end = at.checked_add(length);
        let bytes = end.and_then(|end| self.bytes.get(at..end));
        let base = u32::try_from(at).ok().and_then(|at| self.base.checked_add(at));
        match (bytes, base) {
            (Some(bytes), Some(base)) => Ok(Bytes { table: self.table, base, bytes }),
            _ => Err(self.error(at, what, Fault::Length(length as u64))),
        }
    }

    fn array<const N: usize>(self, at: usize, what: &'static str) -> Result<[u8; N], Error> {
        let part = self.part(at, N, what)?;
        part.bytes.first_chunk::<N>().copied().ok_or(self.error(at, what, Fault::Length(N as u64)))
    }

    pub(crate) fn u8(self, at: usize, what: &'static str) -> Result<u8, Error> {
        self.array::<1>(at, what).map(|[byte]| byte)
    }

    pub(crate) fn u16(self, at: usize, what: &'static str) -> Result<u16, Error> {
        self.array(at, what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(self, at: usize, what: &'static str) -> Result<u32, Error> {
        self.array(at, what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(self, at: usize, what: &'static str) -> Result<u64, Error> {
        self.array(at, what).map(u64::from_le_bytes)
    }

    /// Structures of a type and a length of one byte each, one behind the other from `at` on, as
    /// the MADT has them (5.2.12). Calls `each` with the type and the structure.
    ///
    /// # Errors
    /// One is shorter than its own head or reaches beyond the table; or the first error of `each`.
    pub(crate) fn structures(
        self,
        mut at: usize,
        what: &'static str,
        each: &mut dyn FnMut(u8, Bytes<'a>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Every turn goes on by two bytes at least.
        while at < self.len() {
            let kind = self.u8(at, what)?;
            let length = usize::from(self.u8(at.saturating_add(1), what)?);
            if length < 2 {
                return Err(self.error(at, what, Fault::Length(length as u64)));
            }
            each(kind, self.part(at, length, what)?)?;
            at = at.saturating_add(length);
        }
        Ok(())
    }
}

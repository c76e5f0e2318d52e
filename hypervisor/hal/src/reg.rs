//! Typed register offsets: names and fields by tock-registers, access by [`Mmio`].

use core::marker::PhantomData;

use tock_registers::fields::FieldValue;
use tock_registers::{LocalRegisterCopy, RegisterLongName, UIntLike};

use crate::twin::mmio::Mmio;

/// A register width that a bus access can have.
pub trait Word: UIntLike {
    /// One load of this width at `offset` bytes.
    fn load(mmio: &Mmio, offset: u64) -> Self;
    /// One store of this width at `offset` bytes.
    fn store(self, mmio: &Mmio, offset: u64);
}

impl Word for u8 {
    fn load(mmio: &Mmio, offset: u64) -> Self {
        mmio.read8(offset)
    }
    fn store(self, mmio: &Mmio, offset: u64) {
        mmio.write8(offset, self);
    }
}

impl Word for u16 {
    fn load(mmio: &Mmio, offset: u64) -> Self {
        mmio.read16(offset)
    }
    fn store(self, mmio: &Mmio, offset: u64) {
        mmio.write16(offset, self);
    }
}

impl Word for u32 {
    fn load(mmio: &Mmio, offset: u64) -> Self {
        mmio.read32(offset)
    }
    fn store(self, mmio: &Mmio, offset: u64) {
        mmio.write32(offset, self);
    }
}

impl Word for u64 {
    fn load(mmio: &Mmio, offset: u64) -> Self {
        mmio.read64(offset)
    }
    fn store(self, mmio: &Mmio, offset: u64) {
        mmio.write64(offset, self);
    }
}

/// A register at a fixed offset, `T` wide, with the fields of `R`.
pub struct Reg<T: Word, R: RegisterLongName = ()> {
    offset: u64,
    shape: PhantomData<(T, R)>,
}

impl<T: Word, R: RegisterLongName> Clone for Reg<T, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Word, R: RegisterLongName> Copy for Reg<T, R> {}

impl<T: Word, R: RegisterLongName> Reg<T, R> {
    /// The register `offset` bytes from its block's base.
    pub const fn at(offset: u64) -> Self {
        Self { offset, shape: PhantomData }
    }

    /// Element `index` of an array of registers that lie `stride` bytes apart.
    pub const fn element(self, index: u64, stride: u64) -> Self {
        Self::at(self.offset + index * stride)
    }

    /// The offset in bytes.
    pub const fn offset(self) -> u64 {
        self.offset
    }
}

impl Mmio {
    /// Reads a register; one access of its width.
    pub fn read<T: Word, R: RegisterLongName>(&self, reg: Reg<T, R>) -> LocalRegisterCopy<T, R> {
        LocalRegisterCopy::new(T::load(self, reg.offset))
    }

    /// Writes fields to a register, every other bit 0; one access of its width.
    pub fn write<T: Word, R: RegisterLongName>(&self, reg: Reg<T, R>, value: FieldValue<T, R>) {
        value.value.store(self, reg.offset);
    }

    /// Reads a register as a plain word.
    pub fn get<T: Word, R: RegisterLongName>(&self, reg: Reg<T, R>) -> T {
        T::load(self, reg.offset)
    }

    /// Writes a plain word to a register.
    pub fn set<T: Word, R: RegisterLongName>(&self, reg: Reg<T, R>, value: T) {
        value.store(self, reg.offset);
    }

    /// Reads, changes the given fields, writes back: two accesses, not atomic.
    pub fn modify<T: Word, R: RegisterLongName>(&self, reg: Reg<T, R>, value: FieldValue<T, R>) {
        let mut copy = self.read(reg);
        copy.modify(value);
        self.set(reg, copy.get());
    }
}

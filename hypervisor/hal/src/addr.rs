//! Addresses. Three number spaces that must never be mixed up, so three types.

use core::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this numeric value, in bytes.
            #[inline]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The numeric value, in bytes.
            #[inline]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// This address plus `bytes`, or `None` on wrap-around.
            #[inline]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            /// This address minus `bytes`, or `None` below zero.
            #[inline]
            pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
                match self.0.checked_sub(bytes) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            /// Whether the address is a multiple of `align`, a power of two.
            #[inline]
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }

            /// The address rounded down to a multiple of `align`, a power of two.
            #[inline]
            pub const fn align_down(self, align: u64) -> Self {
                Self(self.0 & !(align - 1))
            }

            /// The offset within the enclosing block of `align` bytes, a power of two.
            #[inline]
            pub const fn offset_in(self, align: u64) -> u64 {
                self.0 & (align - 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// A physical address (PA): what a memory controller or a peripheral decodes.
    PhysAddr
}
address! {
    /// An intermediate physical address (IPA): what a guest believes to be physical.
    Ipa
}
address! {
    /// An input address of an IOMMU (IOVA): what a device puts on the bus.
    Iova
}

impl From<Ipa> for Iova {
    /// Without a stage 1 a device's input address is the IPA.
    fn from(ipa: Ipa) -> Self {
        Self(ipa.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(PhysAddr::new(u64::MAX).checked_add(1), None);
        assert_eq!(PhysAddr::new(0).checked_sub(1), None);
        assert_eq!(PhysAddr::new(0x1fff).align_down(0x1000), PhysAddr::new(0x1000));
        assert_eq!(PhysAddr::new(0x1fff).offset_in(0x1000), 0xfff);
        assert!(!Ipa::new(0x1800).is_aligned(0x1000));
    }
}

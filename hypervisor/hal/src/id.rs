//! Identifiers that travel on buses and in translation-table entries.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The identifier with this number.
            #[inline]
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The number.
            #[inline]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

id! {
    /// StreamID: which device a transaction comes from (IHI 0070, 3.2). Up to 32 bits.
    StreamId(u32)
}
id! {
    /// SubstreamID, on PCIe the PASID: which process of a device. Up to 20 bits.
    SubstreamId(u32)
}
id! {
    /// Address-space identifier: tags stage-1 TLB entries. 8 or 16 bits.
    Asid(u16)
}
id! {
    /// Virtual-machine identifier: tags stage-2 TLB entries. 8 or 16 bits; 0 is never a VM.
    Vmid(u16)
}

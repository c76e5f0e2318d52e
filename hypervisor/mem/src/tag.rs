//! One word per frame: what it is used for, by whom, and what its user counts.

/// Bytes of a frame: the smallest granule that everything here supports.
pub const FRAME_BYTES: u64 = 1 << FRAME_SHIFT;
/// log2 of [`FRAME_BYTES`].
pub const FRAME_SHIFT: u32 = 12;

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Use {
    /// Nobody's; the allocator holds it.
    Free = 0,
    /// Never given out: firmware, images, the tags themselves.
    Reserved = 1,
    /// The hypervisor's private data.
    Private = 2,
    /// A translation table that a walker reads.
    Table = 3,
    /// A guest's RAM.
    Guest = 4,
    /// Read or written by a device on the hypervisor's behalf: queues, stream tables.
    Dma = 5,
    /// Taken from its user, not yet proven unreachable.
    Detached = 6,
    /// Unreachability could not be proven: lost for good, on purpose.
    Quarantined = 7,
}

impl Use {
    /// How many there are.
    pub(crate) const COUNT: usize = 8;

    const fn from_bits(bits: u64) -> Self {
        match bits & 0xf {
            0 => Self::Free,
            2 => Self::Private,
            3 => Self::Table,
            4 => Self::Guest,
            5 => Self::Dma,
            6 => Self::Detached,
            7 => Self::Quarantined,
            _ => Self::Reserved,
        }
    }
}

/// Whose a frame is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Owner(u16);

impl Owner {
    /// The hypervisor itself.
    pub const HYPERVISOR: Self = Self(0);

    /// The VM with this index (order of the manifest).
    pub const fn vm(index: u16) -> Self {
        Self(index.saturating_add(1))
    }

    /// The number in the tag: 0 is the hypervisor, n + 1 the VM with index n.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The VM's index, or `None` for the hypervisor.
    pub const fn vm_index(self) -> Option<u16> {
        self.0.checked_sub(1)
    }
}

/// The tag word: use in bits 3:0, exposed 4, head of its block 5, size class of a
/// table 7:6 (first frame of each table only), order of the block 15:8 (heads only), owner 31:16, and 32 bits for the frame's user
/// (a table's count of live entries; the link of a free or detached frame).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Tag(u64);

impl Tag {
    /// Exposed: some walker or device was told of it.
    pub const EXPOSED: u64 = 1 << 4;
    const HEAD: u64 = 1 << 5;
    /// Where a table's size class stands, and its bits.
    pub(crate) const CLASS_SHIFT: u32 = 6;
    pub(crate) const CLASS: u64 = 3 << Self::CLASS_SHIFT;
    const ORDER_SHIFT: u32 = 8;
    /// The bits that say how the frame lies in its block, and whether it is exposed.
    pub(crate) const SHAPE: u64 = Self::EXPOSED | Self::HEAD | 0xff << Self::ORDER_SHIFT;
    const OWNER_SHIFT: u32 = 16;
    /// Where the user's 32 bits start.
    pub const COUNT_SHIFT: u32 = 32;
    /// The bits that say use and owner: what a one-load check compares.
    pub const IDENTITY: u64 = 0xf | 0xffff << Self::OWNER_SHIFT;

    /// The tag in this word.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The bits of [`Tag::IDENTITY`] for this use and owner.
    pub const fn identity(of: Use, owner: Owner) -> u64 {
        of as u64 | (owner.0 as u64) << Self::OWNER_SHIFT
    }

    pub(crate) const fn new(of: Use, owner: Owner, head: bool, order: u8) -> Self {
        let mut word = Self::identity(of, owner) | (order as u64) << Self::ORDER_SHIFT;
        if head {
            word |= Self::HEAD;
        }
        Self(word)
    }

    /// A free single frame, and the next one.
    pub(crate) const fn free(next: u32) -> Self {
        Self::new(Use::Free, Owner::HYPERVISOR, false, 0).with_count(next)
    }

    /// The word.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// What the frame is used for.
    pub const fn usage(self) -> Use {
        Use::from_bits(self.0)
    }

    /// Whose it is.
    pub const fn owner(self) -> Owner {
        Owner((self.0 >> Self::OWNER_SHIFT) as u16)
    }

    /// Whether some walker or device was told of it.
    pub const fn is_exposed(self) -> bool {
        self.0 & Self::EXPOSED != 0
    }

    /// Whether it is the first frame of its block.
    pub const fn is_head(self) -> bool {
        self.0 & Self::HEAD != 0
    }

    /// Whether it is, or was until it was detached, the first frame of a table.
    pub const fn is_table(self) -> bool {
        self.0 & Self::CLASS != 0
    }

    /// log2 of the block's length in frames; meaningful for heads.
    pub const fn order(self) -> u8 {
        (self.0 >> Self::ORDER_SHIFT) as u8
    }

    /// The 32 bits of the frame's user.
    pub const fn count(self) -> u32 {
        (self.0 >> Self::COUNT_SHIFT) as u32
    }

    pub(crate) const fn with_count(self, count: u32) -> Self {
        Self(self.0 & 0xffff_ffff | (count as u64) << Self::COUNT_SHIFT)
    }

    pub(crate) const fn with_use(self, of: Use) -> Self {
        Self(self.0 & !0xf | of as u64)
    }

    pub(crate) const fn with_exposed(self) -> Self {
        Self(self.0 | Self::EXPOSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap() {
        let tag = Tag::new(Use::Table, Owner::vm(0x1234), true, 9).with_exposed().with_count(512);
        assert_eq!(tag.usage(), Use::Table);
        assert_eq!(tag.owner(), Owner::vm(0x1234));
        assert!(tag.is_head() && tag.is_exposed());
        assert_eq!(tag.order(), 9);
        assert_eq!(tag.count(), 512);
        assert_eq!(tag.word() & Tag::IDENTITY, Tag::identity(Use::Table, Owner::vm(0x1234)));
        assert_eq!(tag.with_use(Use::Detached).owner(), tag.owner());
    }
}

//! The translation caches (3.17, 16.2): they answer from what they hold until a command or
//! chance takes it away.

use crate::command::Range;
use crate::rng::Rng;

/// The translation regime that tags an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum World {
    El1,
    El2,
}

/// How an entry is tagged (3.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag {
    pub world: World,
    /// `None` where no VMID is matched.
    pub vmid: Option<u16>,
    /// `None` for global entries and regimes without ASIDs.
    pub asid: Option<u16>,
}

/// What a cached word was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A stage 1 leaf, or both stages combined.
    Stage1Leaf,
    /// A stage 1 table descriptor.
    Stage1Table,
    /// A stage 2 leaf.
    Stage2Leaf,
    /// A stage 2 table descriptor.
    Stage2Table,
}

impl Kind {
    fn is_stage1(self) -> bool {
        matches!(self, Kind::Stage1Leaf | Kind::Stage1Table)
    }

    fn is_leaf(self) -> bool {
        matches!(self, Kind::Stage1Leaf | Kind::Stage2Leaf)
    }
}

/// Who may do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Rights {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    pub privileged_read: bool,
    pub privileged_write: bool,
    pub privileged_execute: bool,
    /// A write is allowed once hardware has marked the page dirty.
    pub write_when_dirty: bool,
}

/// One cached word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub kind: Kind,
    pub tag: Tag,
    /// First input address, and the bytes it answers for.
    pub base: u64,
    pub span: u64,
    /// log2 of the granule, and the level the word came from.
    pub granule: u32,
    pub level: u32,
    /// Output address, or the next table (a PA).
    pub output: u64,
    /// For a combined leaf, the IPA that stage 1 gave.
    pub middle: u64,
    pub rights: Rights,
    /// For a combined leaf, what stage 2 allows.
    pub stage2_rights: Option<Rights>,
    /// A Device memory type.
    pub device: bool,
}

impl Entry {
    /// Two entries that may stand side by side: one translation, cached with and without the
    /// contiguous hint.
    fn agrees(&self, other: &Entry) -> bool {
        self.level == other.level
            && self.granule == other.granule
            && self.output.wrapping_sub(self.base) == other.output.wrapping_sub(other.base)
            && self.rights == other.rights
    }

    fn covers(&self, address: u64) -> bool {
        address.wrapping_sub(self.base) < self.span
    }

    fn overlaps(&self, range: &Range) -> bool {
        self.base <= range.end && range.start <= self.base.wrapping_add(self.span - 1)
    }

    fn in_range(&self, range: &Range) -> bool {
        if !self.overlaps(range) || range.granule.is_some_and(|granule| granule != self.granule) {
            return false;
        }
        if self.kind.is_leaf() {
            range.level.is_none_or(|level| level == self.level)
        } else {
            !range.leaf && range.level.is_none_or(|level| self.level < level)
        }
    }
}

/// What an invalidation reaches, and no more (4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    El2 { asid: Option<u16>, range: Option<Range> },
    El1All,
    Stage1 { vmid: u16, asid: Option<u16>, range: Option<Range> },
    Vmid { vmid: u16 },
    Stage2 { vmid: u16, range: Range },
}

/// The answer of a look-up.
pub(crate) enum Lookup {
    Miss,
    Hit(Entry),
    /// Entries of different size or content answer.
    Conflict(Entry),
}

/// All cached words.
#[derive(Default)]
pub(crate) struct Tlb {
    entries: Vec<Entry>,
}

/// More than this and chance evicts.
const CAPACITY: usize = 192;

impl Tlb {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What answers for a leaf of `kind` at `address`.
    pub fn leaf(&self, kind: Kind, tag: Tag, address: u64) -> Lookup {
        let mut found: Option<Entry> = None;
        for entry in &self.entries {
            if entry.kind != kind || !Self::tagged(entry, tag) || !entry.covers(address) {
                continue;
            }
            match found {
                None => found = Some(*entry),
                Some(first) if first.agrees(entry) => {}
                Some(first) => return Lookup::Conflict(first),
            }
        }
        found.map_or(Lookup::Miss, Lookup::Hit)
    }

    /// The deepest cached table descriptor on the way to `address`.
    pub fn table(&self, kind: Kind, tag: Tag, address: u64) -> Option<Entry> {
        self.entries
            .iter()
            .filter(|e| e.kind == kind && Self::tagged(e, tag) && e.covers(address))
            .max_by_key(|e| e.level)
            .copied()
    }

    fn tagged(entry: &Entry, tag: Tag) -> bool {
        entry.tag.world == tag.world
            && entry.tag.vmid == tag.vmid
            && (entry.tag.asid.is_none() || entry.tag.asid == tag.asid)
    }

    /// Caches `entry`, beside or instead of an equal one.
    pub fn insert(&mut self, entry: Entry, rng: &mut Rng) {
        self.entries.retain(|old| {
            !(old.kind == entry.kind
                && old.tag == entry.tag
                && old.base == entry.base
                && old.span == entry.span
                && old.level == entry.level)
        });
        if self.entries.len() >= CAPACITY {
            self.evict(rng);
        }
        self.entries.push(entry);
    }

    /// Drops the leaf entries that answer for `address`.
    pub fn forget(&mut self, kind: Kind, tag: Tag, address: u64) {
        self.entries.retain(|entry| {
            !(entry.kind == kind && Self::tagged(entry, tag) && entry.covers(address))
        });
    }

    /// Drops one entry, chosen by chance.
    pub fn evict(&mut self, rng: &mut Rng) {
        if !self.entries.is_empty() {
            let victim = rng.index(self.entries.len());
            self.entries.swap_remove(victim);
        }
    }

    /// Removes exactly what `scope` requires.
    pub fn invalidate(&mut self, scope: &Scope, match_vmid: bool) {
        self.entries.retain(|entry| {
            let vmid = |wanted: u16| !match_vmid || entry.tag.vmid == Some(wanted);
            let el1 = entry.tag.world == World::El1;
            let gone = match *scope {
                Scope::El1All => el1,
                Scope::El2 { asid, range } => {
                    !el1 && asid.is_none_or(|asid| entry.tag.asid.is_none_or(|own| own == asid))
                        && range.is_none_or(|range| entry.in_range(&range))
                }
                Scope::Vmid { vmid: wanted } => el1 && vmid(wanted),
                Scope::Stage1 { vmid: wanted, asid, range } => {
                    el1 && entry.kind.is_stage1()
                        && vmid(wanted)
                        && match (asid, range) {
                            (None, None) => true,
                            // By ASID: global entries stay.
                            (Some(asid), None) => entry.tag.asid == Some(asid),
                            (asid, Some(range)) => {
                                let same = entry.tag.asid.is_none() || entry.tag.asid == asid;
                                (asid.is_none() || same) && entry.in_range(&range)
                            }
                        }
                }
                Scope::Stage2 { vmid: wanted, range } => {
                    el1 && !entry.kind.is_stage1() && vmid(wanted) && entry.in_range(&range)
                }
            };
            !gone
        });
    }
}

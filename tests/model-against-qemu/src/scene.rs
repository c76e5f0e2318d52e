//! One case: a device's STE, the memory behind it, and what happens in which order.

use std::collections::BTreeMap;

use crate::place;
use crate::witness::Way;

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// The device accesses one doubleword.
    Access {
        /// As the device sees it.
        address: u64,
        /// Which way.
        way: Way,
    },
    /// The CPU stores doublewords.
    Store(Vec<(u64, u64)>),
    /// The SMMU is told commands, and a CMD_SYNC.
    Commands(Vec<[u64; 2]>),
}

/// A case that is being written for the device in one slot, or has been.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Its name: what it is about, then with what.
    pub name: String,
    /// Which device.
    pub slot: usize,
    /// Its STE at the beginning.
    pub ste: [u64; 8],
    /// Structures and tables, as they stand after all stores so far.
    pub image: BTreeMap<u64, u64>,
    /// What happens then.
    pub steps: Vec<Step>,
    /// What stood in places that were stored to later.
    first: BTreeMap<u64, u64>,
    free: u64,
}

/// How to write a case, whichever device it gets.
pub struct Plan {
    /// Its name.
    pub name: String,
    write: Box<dyn Fn(&mut Scene)>,
}

impl Plan {
    /// A case that `write` fills in.
    pub fn new(name: impl Into<String>, write: impl Fn(&mut Scene) + 'static) -> Self {
        Self { name: name.into(), write: Box::new(write) }
    }

    /// The case for the device in `slot`.
    #[must_use]
    pub fn scene(&self, slot: usize) -> Scene {
        let mut scene = Scene {
            name: self.name.clone(),
            slot,
            ste: [0; 8],
            image: BTreeMap::new(),
            steps: Vec::new(),
            first: BTreeMap::new(),
            free: place::slice(slot) + place::TABLES,
        };
        (self.write)(&mut scene);
        scene
    }
}

impl Scene {
    /// StreamID of the device.
    #[must_use]
    pub fn stream(&self) -> u32 {
        place::stream(self.slot)
    }

    /// Physical address of 4 KiB of what is to be reached; there are 64 of them.
    #[must_use]
    pub fn target(&self, page: u64) -> u64 {
        place::slice(self.slot) + (page << 12) % place::TARGETS
    }

    /// Physical address of the device's CD.
    #[must_use]
    pub fn context(&self) -> u64 {
        place::slice(self.slot) + place::CONTEXTS
    }

    /// Room for a table of `size` bytes, a power of two, aligned to its size.
    ///
    /// # Panics
    /// A case that needs more than a slice has is written wrongly.
    pub fn room(&mut self, size: u64) -> u64 {
        let at = self.free.next_multiple_of(size);
        self.free = at + size;
        assert!(self.free <= place::slice(self.slot) + place::SLICE, "{}: no room", self.name);
        at
    }

    /// The word at `pa` after all stores so far.
    #[must_use]
    pub fn word(&self, pa: u64) -> u64 {
        self.image.get(&pa).copied().unwrap_or(0)
    }

    /// Sets it.
    pub fn put(&mut self, pa: u64, word: u64) {
        self.image.insert(pa, word);
    }

    /// Sets a structure of several words.
    pub fn put_all(&mut self, pa: u64, words: &[u64]) {
        for (at, word) in (pa..).step_by(8).zip(words) {
            self.put(at, *word);
        }
    }

    /// The device reads.
    pub fn read(&mut self, address: u64) {
        self.steps.push(Step::Access { address, way: Way::Read });
    }

    /// The device writes.
    pub fn write(&mut self, address: u64) {
        self.steps.push(Step::Access { address, way: Way::Write });
    }

    /// Leaves the reads out, for devices that cannot.
    pub fn drop_reads(&mut self) {
        self.steps.retain(|step| !matches!(step, Step::Access { way: Way::Read, .. }));
    }

    /// The device reads, then writes.
    pub fn both(&mut self, address: u64) {
        self.read(address);
        self.write(address);
    }

    /// The CPU stores later what `change` puts into memory now.
    pub fn later(&mut self, change: impl FnOnce(&mut Self)) {
        let before = self.image.clone();
        change(self);
        // `image` is what stands there now; the beginning is kept apart.
        for (pa, word) in &before {
            self.first.entry(*pa).or_insert(*word);
        }
        let was = |pa: &u64| before.get(pa).copied().unwrap_or(0);
        let changed: Vec<(u64, u64)> = self
            .image
            .iter()
            .filter(|(pa, word)| was(pa) != **word)
            .map(|(pa, word)| (*pa, *word))
            .collect();
        for (pa, _) in &changed {
            self.first.entry(*pa).or_insert(0);
        }
        self.steps.push(Step::Store(changed));
    }

    /// Memory at the beginning: structures and tables.
    #[must_use]
    pub fn beginning(&self) -> Vec<(u64, u64)> {
        self.image.keys().map(|pa| (*pa, self.first_word(*pa))).collect()
    }

    /// The word at `pa` at the beginning.
    #[must_use]
    pub fn first_word(&self, pa: u64) -> u64 {
        self.first.get(&pa).copied().unwrap_or_else(|| self.word(pa))
    }

    /// The CPU stores another STE later.
    pub fn change_ste(&mut self, words: &[u64; 8]) {
        let at = place::ste(self.stream());
        self.steps.push(Step::Store((at..).step_by(8).zip(words.iter().copied()).collect()));
    }

    /// The SMMU is told commands, and a CMD_SYNC.
    pub fn command(&mut self, commands: &[[u64; 2]]) {
        self.steps.push(Step::Commands(commands.to_vec()));
    }
}

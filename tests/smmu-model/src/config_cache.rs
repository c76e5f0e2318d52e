//! The configuration caches (3.21.3, 16.2): level 1 descriptors, STEs and CDs.

use std::collections::BTreeMap;

use crate::rng::Rng;

/// A structure fetch under way: its doublewords arrive one by one, in any order.
#[derive(Clone, Debug)]
pub(crate) struct SteFetch {
    pub stream: u32,
    pub address: u64,
    pub words: [Option<u64>; 8],
}

/// Cached structures, valid or not: invalid ones are cached too (16.2).
#[derive(Default)]
pub(crate) struct ConfigCache {
    pub stream_tables: BTreeMap<u32, u64>,
    pub stes: BTreeMap<u32, [u64; 8]>,
    pub context_tables: BTreeMap<(u32, u32), u64>,
    pub cds: BTreeMap<(u32, u32), [u64; 8]>,
    pub fetches: Vec<SteFetch>,
}

impl ConfigCache {
    /// CMD_CFGI_STE_RANGE and wider: everything of the streams `first..=last`.
    pub fn invalidate_streams(&mut self, first: u32, last: u32, split: u32) {
        let hit = |stream: u32| stream >= first && stream <= last;
        self.stes.retain(|stream, _| !hit(*stream));
        self.fetches.retain(|fetch| !hit(fetch.stream));
        self.cds.retain(|(stream, _), _| !hit(*stream));
        self.context_tables.retain(|(stream, _), _| !hit(*stream));
        self.stream_tables.retain(|index, _| {
            let index = u64::from(*index);
            index < u64::from(first) >> split || index > u64::from(last) >> split
        });
    }

    /// CMD_CFGI_STE (4.3.1).
    pub fn invalidate_ste(&mut self, stream: u32, leaf: bool, split: u32) {
        self.stes.remove(&stream);
        self.fetches.retain(|fetch| fetch.stream != stream);
        self.cds.retain(|(owner, _), _| *owner != stream);
        self.context_tables.retain(|(owner, _), _| *owner != stream);
        if !leaf {
            self.stream_tables.remove(&(u64::from(stream) >> split).try_into().unwrap_or(0));
        }
    }

    /// CMD_CFGI_CD (4.3.3). A level 1 descriptor that locates the CD goes only without Leaf.
    pub fn invalidate_cd(&mut self, stream: u32, index: u32, leaf: bool, leaf_log2: Option<u32>) {
        self.cds.remove(&(stream, index));
        if !leaf {
            match leaf_log2 {
                Some(log2) => {
                    self.context_tables.remove(&(stream, index >> log2));
                }
                None => self.context_tables.retain(|(owner, _), _| *owner != stream),
            }
        }
    }

    /// CMD_CFGI_CD_ALL (4.3.4).
    pub fn invalidate_cds(&mut self, stream: u32) {
        self.cds.retain(|(owner, _), _| *owner != stream);
        self.context_tables.retain(|(owner, _), _| *owner != stream);
    }

    /// Drops one cached structure, chosen by chance.
    pub fn evict(&mut self, rng: &mut Rng) {
        match rng.below(4) {
            0 => drop_one(&mut self.stes, rng),
            1 => drop_one(&mut self.cds, rng),
            2 => drop_one(&mut self.stream_tables, rng),
            _ => drop_one(&mut self.context_tables, rng),
        }
    }
}

/// Removes one key by chance.
fn drop_one<K: Copy + Ord, V>(map: &mut BTreeMap<K, V>, rng: &mut Rng) {
    let keys: Vec<K> = map.keys().copied().collect();
    if !keys.is_empty() {
        map.remove(&keys[rng.index(keys.len())]);
    }
}

//! What should be mapped: intervals, cut as they are unmapped.

use std::collections::BTreeMap;

/// Input address → (length, output address).
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Shadow(BTreeMap<u64, (u64, u64)>);

impl Shadow {
    /// What `iova` translates to.
    pub fn get(&self, iova: u64) -> Option<u64> {
        let (&start, &(size, pa)) = self.0.range(..=iova).next_back()?;
        (iova - start < size).then(|| pa + (iova - start))
    }

    /// Whether anything is mapped in the range.
    pub fn any(&self, iova: u64, size: u64) -> bool {
        self.get(iova).is_some() || self.0.range(iova..iova + size).next().is_some()
    }

    /// Maps a range in which nothing is mapped.
    pub fn map(&mut self, iova: u64, pa: u64, size: u64) {
        assert!(!self.any(iova, size));
        self.0.insert(iova, (size, pa));
    }

    fn cut(&mut self, at: u64) {
        let Some((&start, &(size, pa))) = self.0.range(..at).next_back() else { return };
        if at < start + size {
            self.0.insert(start, (at - start, pa));
            self.0.insert(at, (start + size - at, pa + (at - start)));
        }
    }

    /// Unmaps a range; answers how many bytes were mapped.
    pub fn unmap(&mut self, iova: u64, size: u64) -> u64 {
        self.cut(iova);
        self.cut(iova + size);
        let keys: Vec<u64> = self.0.range(iova..iova + size).map(|(&key, _)| key).collect();
        keys.iter().filter_map(|key| self.0.remove(key)).map(|(size, _)| size).sum()
    }

    /// Unmaps units until one with nothing mapped; answers how many bytes of units.
    pub fn unmap_units(&mut self, iova: u64, unit: u64, count: u64) -> u64 {
        for nth in 0..count {
            let at = iova + nth * unit;
            if !self.any(at, unit) {
                return nth * unit;
            }
            self.unmap(at, unit);
        }
        count * unit
    }

    /// Some mapped address, chosen by `seed`.
    pub fn some(&self, seed: u64) -> Option<u64> {
        let nth = seed as usize % self.0.len().max(1);
        let (&start, &(size, _)) = self.0.iter().nth(nth)?;
        Some(start + (seed >> 8) % size)
    }
}

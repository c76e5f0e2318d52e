//! What should be mapped, in addresses that cannot wrap.

use std::collections::BTreeMap;

/// First input address → (bytes, first output address).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shadow(BTreeMap<u128, (u128, u64)>);

impl Shadow {
    /// What `iova` translates to.
    pub(super) fn get(&self, iova: u64) -> Option<u64> {
        let iova = u128::from(iova);
        let (&start, &(size, pa)) = self.0.range(..=iova).next_back()?;
        (iova - start < size).then(|| pa + (iova - start) as u64)
    }

    /// Whether anything is mapped in the range.
    pub(super) fn any(&self, iova: u64, size: u128) -> bool {
        let start = u128::from(iova);
        self.get(iova).is_some() || self.0.range(start..start + size).next().is_some()
    }

    /// Maps a range in which nothing is mapped.
    pub(super) fn map(&mut self, iova: u64, pa: u64, size: u64) {
        self.0.insert(u128::from(iova), (u128::from(size), pa));
    }

    /// Unmaps a range; answers how many bytes were mapped.
    pub(super) fn unmap(&mut self, iova: u64, size: u128) -> u64 {
        let start = u128::from(iova);
        self.cut(start);
        self.cut(start + size);
        let keys: Vec<u128> = self.0.range(start..start + size).map(|(&key, _)| key).collect();
        keys.iter().filter_map(|key| self.0.remove(key)).map(|(size, _)| size as u64).sum()
    }

    /// Unmaps units until one with nothing mapped; answers how many bytes of units.
    pub(super) fn unmap_units(&mut self, iova: u64, unit: u64, count: u64) -> u64 {
        for nth in 0..count {
            let at = iova + nth * unit;
            if !self.any(at, u128::from(unit)) {
                return nth * unit;
            }
            self.unmap(at, u128::from(unit));
        }
        count * unit
    }

    /// Bytes mapped in all.
    pub(super) fn total(&self) -> u64 {
        self.0.values().map(|(size, _)| *size as u64).sum()
    }

    /// First and last byte of each interval.
    pub(super) fn ends(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|(start, (size, _))| [*start as u64, (start + size - 1) as u64])
    }

    fn cut(&mut self, at: u128) {
        let Some((&start, &(size, pa))) = self.0.range(..at).next_back() else { return };
        if at < start + size {
            self.0.insert(start, (at - start, pa));
            self.0.insert(at, (start + size - at, pa + (at - start) as u64));
        }
    }
}

//! The model as a witness.

use anyhow::Result;
use palisade_smmu_model::{
    Abort, Access, Features, Memory, Model, Outcome, SparseMemory, StallModel,
};

use crate::place;
use crate::witness::{BUFFER, Transfer, Way, Witness};

/// Memory that answers only where there is RAM.
struct Ram(SparseMemory);

impl Memory for Ram {
    fn read64(&mut self, pa: u64) -> Result<u64, Abort> {
        if place::RAM.contains(&pa) { self.0.read64(pa) } else { Err(Abort) }
    }

    fn write64(&mut self, pa: u64, value: u64) -> Result<(), Abort> {
        if place::RAM.contains(&pa) { self.0.write64(pa, value) } else { Err(Abort) }
    }
}

/// The model, with devices that hold a buffer each.
pub struct Modelled {
    model: Model,
    memory: SparseMemory,
    buffers: Vec<[u64; BUFFER]>,
}

/// What QEMU's SMMU offers (its IDR0, IDR1, IDR3 and IDR5), so that both say the same.
fn features() -> Features {
    Features {
        hyp: false,
        ats: false,
        split_ats: false,
        msi: false,
        sev: false,
        pri: false,
        two_level_contexts: false,
        stall: StallModel::TerminateOnly,
        terminate_aborts: true,
        attribute_override: false,
        cmdq_log2: 19,
        evtq_log2: 19,
        priq_log2: 0,
        ssid_bits: 0,
        sid_bits: 16,
        bbml: 2,
        fwb: false,
        stall_max: 0,
        ..Features::default()
    }
}

impl Modelled {
    /// A model whose choices come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let memory = SparseMemory::new();
        let model = Model::new(features(), Box::new(Ram(memory.clone())), seed);
        Self { model, memory, buffers: vec![[0; BUFFER]; place::SLOTS] }
    }
}

impl Witness for Modelled {
    fn name(&self) -> &'static str {
        "the model"
    }

    fn load(&mut self, places: &[u64]) -> Result<Vec<u64>> {
        Ok(places.iter().map(|&pa| self.memory.get(pa)).collect())
    }

    fn store(&mut self, words: &[(u64, u64)]) -> Result<()> {
        words.iter().for_each(|&(pa, word)| self.memory.set(pa, word));
        Ok(())
    }

    fn register(&mut self, offset: u64) -> Result<u32> {
        Ok(self.model.mmio_read(offset, 4) as u32)
    }

    fn set_register(&mut self, offset: u64, value: u32) -> Result<()> {
        self.model.mmio_write(offset, 4, value.into());
        Ok(())
    }

    fn set_register64(&mut self, offset: u64, value: u64) -> Result<()> {
        self.model.mmio_write(offset, 8, value);
        Ok(())
    }

    fn wait(&mut self) {
        self.model.step();
    }

    fn transfer(&mut self, transfers: &[Transfer]) -> Result<()> {
        for transfer in transfers {
            let stream = place::stream(transfer.slot);
            let words = &mut self.buffers[transfer.slot][transfer.word..][..transfer.words];
            for (word, address) in words.iter_mut().zip((transfer.address..).step_by(8)) {
                let access = match transfer.way {
                    Way::Read => Access::Read,
                    Way::Write => Access::Write(*word),
                };
                let outcome = self.model.transaction(stream, None, address, access);
                if let (Outcome::Done { data, .. }, Way::Read) = (outcome, transfer.way) {
                    *word = data;
                }
            }
        }
        Ok(())
    }
}

//! Fetching configuration structures through the configuration caches (3.3.2, 3.21.3).

use crate::bits::mask;
use crate::config_cache::SteFetch;
use crate::event::{Class, Event, EventKind};
use crate::model::Model;
use crate::regs::SMMUEN;
use crate::ste::{Contexts, Ste};
use crate::transaction::{Policy, Refused, Request};
use crate::walk::Want;
use crate::{cd, ste};

impl Model {
    fn read_structure(&mut self, address: u64) -> Result<[u64; 8], ()> {
        let mut order = [0usize, 1, 2, 3, 4, 5, 6, 7];
        self.rng.shuffle(&mut order);
        let mut words = [0; 8];
        for i in order {
            words[i] = self.read_word(address + 8 * i as u64)?;
        }
        Ok(words)
    }

    fn read_word(&mut self, address: u64) -> Result<u64, ()> {
        if self.injected.aborts(address) || address >> self.features.oas != 0 {
            return Err(());
        }
        self.memory.read64(address).map_err(|_| ())
    }

    /// Where the STE of `stream` is: the stream table's level 1 goes through its cache.
    fn ste_address(&mut self, stream: u32, quiet: bool) -> Result<u64, Event> {
        let bad_stream = Event::new(EventKind::BadStreamId, stream, None);
        let (log2, split, two_level) = self.stream_table_shape();
        if u64::from(stream) >> log2.min(self.features.sid_bits) != 0 {
            return Err(bad_stream);
        }
        let base = self.regs.strtab_base & mask(55, 6);
        if !two_level {
            let size = 64u64 << log2;
            return Ok((base & !(size - 1)) + 64 * u64::from(stream));
        }
        let size = (8u64 << log2.saturating_sub(split)).max(64);
        let index = (u64::from(stream) >> split) as u32;
        let raw = match self.configs.stream_tables.get(&index) {
            Some(raw) => *raw,
            None => {
                let address = (base & !(size - 1)) + 8 * u64::from(index);
                let raw = self.read_word(address).map_err(|()| Event {
                    second_address: address,
                    ..Event::new(EventKind::SteFetch, stream, None)
                })?;
                if self.rng.percent(self.temper.cache) {
                    self.configs.stream_tables.insert(index, raw);
                }
                raw
            }
        };
        let mut faults = Vec::new();
        let level1 = ste::level1(raw, split, &self.features, &mut faults);
        if !quiet {
            self.blame_all(faults);
        }
        let level1 = level1.ok_or(bad_stream)?;
        let offset = u64::from(stream) & ((1 << split) - 1);
        if offset >> level1.log2 != 0 {
            return Err(bad_stream);
        }
        Ok(level1.table + 64 * offset)
    }

    pub(crate) fn ste_words(&mut self, stream: u32, quiet: bool) -> Result<[u64; 8], Event> {
        if let Some(words) = self.configs.stes.get(&stream) {
            return Ok(*words);
        }
        // A fetch that is under way is used, with whatever it has read so far.
        let started = self.configs.fetches.iter().position(|fetch| fetch.stream == stream);
        let (address, partial) = match started {
            Some(index) if self.rng.percent(80) => {
                let fetch = self.configs.fetches.swap_remove(index);
                (fetch.address, fetch.words)
            }
            _ => (self.ste_address(stream, quiet)?, [None; 8]),
        };
        let failed =
            Event { second_address: address, ..Event::new(EventKind::SteFetch, stream, None) };
        let fresh = self.read_structure(address).map_err(|()| failed)?;
        let mut words = fresh;
        for (word, early) in words.iter_mut().zip(partial) {
            *word = early.unwrap_or(*word);
        }
        if self.rng.percent(self.temper.cache) {
            self.configs.stes.insert(stream, words);
        }
        Ok(words)
    }

    /// log2 of the CDs in a second-level table of `stream`, as its cached STE says.
    pub(crate) fn context_leaf_log2(&self, stream: u32) -> Option<u32> {
        let words = self.configs.stes.get(&stream)?;
        let ste = ste::parse(words, &self.features, &mut Vec::new()).ok()?;
        ste.stage1?.leaf_log2
    }

    /// An IPA or PA of a CD structure, as the PA it is at.
    fn cd_place(&mut self, ste: &Ste, address: u64) -> Result<u64, Refused> {
        let Some(stage2) = ste.stage2 else { return Ok(address) };
        self.stage2_walk(&stage2, address, Want::WALK, Class::Cd)
            .map(|translated| translated.pa)
            .map_err(|fault| Refused::Walk(fault, Policy::stage2(&stage2)))
    }

    pub(crate) fn cd_words(
        &mut self,
        ste: &Ste,
        contexts: &Contexts,
        request: &Request,
        index: u32,
    ) -> Result<[u64; 8], Refused> {
        let key = (request.stream, index);
        if let Some(words) = self.configs.cds.get(&key) {
            return Ok(*words);
        }
        let event = |kind, address| {
            Refused::Config(Event {
                second_address: address,
                ..Event::new(kind, request.stream, request.substream)
            })
        };
        let address = match contexts.leaf_log2 {
            None => contexts.table + 64 * u64::from(index),
            Some(log2) => {
                let upper = index >> log2;
                let key = (request.stream, upper);
                let raw = match self.configs.context_tables.get(&key) {
                    Some(raw) => *raw,
                    None => {
                        let slot = contexts.table + 8 * u64::from(upper);
                        let address = self.cd_place(ste, slot)?;
                        let raw = self
                            .read_word(address)
                            .map_err(|()| event(EventKind::CdFetch, address))?;
                        if self.rng.percent(self.temper.cache) {
                            self.configs.context_tables.insert(key, raw);
                        }
                        raw
                    }
                };
                let mut faults = Vec::new();
                let table = cd::level1(raw, log2, &mut faults);
                self.blame_all(faults);
                let Some(table) = table else {
                    // SubstreamID is always valid here: 0 where none came (7.3.9).
                    return Err(Refused::Config(Event::new(
                        EventKind::BadSubstreamId,
                        request.stream,
                        Some(request.substream.unwrap_or(0)),
                    )));
                };
                table + 64 * u64::from(index & ((1 << log2) - 1))
            }
        };
        let address = self.cd_place(ste, address)?;
        let words =
            self.read_structure(address).map_err(|()| event(EventKind::CdFetch, address))?;
        if self.rng.percent(self.temper.cache) {
            self.configs.cds.insert(key, words);
        }
        Ok(words)
    }

    /// Starts fetching the STE of `stream` without anybody asking.
    pub(crate) fn start_ste_fetch(&mut self, stream: u32) {
        let known = self.configs.stes.contains_key(&stream)
            || self.configs.fetches.iter().any(|fetch| fetch.stream == stream);
        if known || self.configs.fetches.len() >= 4 {
            return;
        }
        if let Ok(address) = self.ste_address(stream, true) {
            self.configs.fetches.push(SteFetch { stream, address, words: [None; 8] });
        }
    }

    /// Fetches under way read a doubleword or two; complete ones are cached.
    pub(crate) fn advance_fetches(&mut self) {
        if self.regs.cr0ack & SMMUEN == 0 {
            self.configs.fetches.clear();
            return;
        }
        let mut fetches = std::mem::take(&mut self.configs.fetches);
        fetches.retain_mut(|fetch| {
            for _ in 0..2 {
                let missing: Vec<usize> = (0..8).filter(|i| fetch.words[*i].is_none()).collect();
                if missing.is_empty() {
                    break;
                }
                let i = missing[self.rng.index(missing.len())];
                match self.read_word(fetch.address + 8 * i as u64) {
                    Ok(word) => fetch.words[i] = Some(word),
                    Err(()) => return false,
                }
            }
            let words = fetch.words.map(|word| word.unwrap_or(0));
            let complete = fetch.words.iter().all(Option::is_some);
            if complete {
                self.configs.stes.entry(fetch.stream).or_insert(words);
            }
            !complete
        });
        self.configs.fetches = fetches;
    }
}

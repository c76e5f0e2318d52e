//! The calls, one function each, in the order of their numbers.

use alloc::sync::Arc;

use arrayvec::ArrayVec;
use palisade_abi::{
    BindFlags, COMMAND_BYTES, DeviceFlags, INVALIDATION_BYTES, InvalidationRecord,
    STREAM_ENTRY_BYTES, Status, call, pack_widths,
};
use palisade_hal::{Asid, Iova, Ipa, SubstreamId};
use palisade_iommu::sva::{self, Process, Range};
use palisade_iommu::{DefaultSubstream, Response, StreamState, Waits};

use super::check::{Outcome, address_space};
use super::device::ServiceDevice;
use super::process::GuestProcess;
use super::ring::Ring;
use super::service::{BINDINGS, MAX_BITS, Service, State, flags};

/// Results of a call: X1–X3.
type Results = [u64; 3];

/// An error, with results that tell how far the call came.
struct Failure(Status, Results);

type Answer = Result<Results, Failure>;

const NOTHING: Results = [0; 3];

impl<T: Into<Outcome>> From<T> for Failure {
    fn from(error: T) -> Self {
        let Outcome(status) = error.into();
        Self(status, NOTHING)
    }
}

impl Service {
    /// Whether `function` is a number of this service at all.
    pub fn knows(function: u32) -> bool {
        matches!(function, call::COUNT | call::UID | call::REVISION)
            || (call::BASE..call::BASE + call::CALLS).contains(&function)
    }

    /// Carries out one call: `arguments` are X1–X6, the answer is X0–X3.
    pub fn handle(&self, function: u32, arguments: [u64; 6]) -> [u64; 4] {
        let [x1, x2, x3, x4, ..] = arguments;
        let answer = match function {
            _ if !self.offers(function) => Err(Status::NotSupported.into()),
            call::COUNT => return [u64::from(call::CALLS), 0, 0, 0],
            call::UID => return call::UID_WORDS.map(u64::from),
            call::REVISION => return [call::INTERFACE_VERSION >> 16, 0, 0, 0],
            call::VERSION => Ok([call::INTERFACE_VERSION, 0, 0]),
            call::FEATURES => self.features(x1),
            call::DEVICE_INFO => self.device_info(x1),
            call::FAULT_RING => self.fault_ring(x1, x2),
            call::FAULTS_POLL => self.faults_poll(),
            call::CONTEXTS_ENABLE => self.contexts_enable(x1, x2, x3),
            call::STAGE1_DISABLE => self.stage1_disable(x1),
            call::BIND => self.bind(arguments),
            call::UNBIND => self.unbind(x1, x2),
            call::INVALIDATE => {
                let record = InvalidationRecord { asid: x1, start: x2, end: x3, leaf: x4 };
                self.invalidate(&record)
            }
            call::INVALIDATE_BATCH => self.invalidate_batch(x1, x2),
            call::EXIT => self.exit(x1),
            call::STREAM_ENTRY => self.stream_entry(x1, x2),
            call::COMMANDS => self.commands(x1, x2, x3),
            call::RESUME => self.resume(x1, x2, x3),
            call::GIVE_UP => self.give_up(x1, x2),
            _ => Err(Status::NotSupported.into()),
        };
        let (status, [x1, x2, x3]) = match answer {
            Ok(results) => (Status::Success, results),
            Err(Failure(status, results)) => (status, results),
        };
        [status.to_register(), x1, x2, x3]
    }

    /// Whether the VM is offered a function: one with SMMUs of its own shares its address spaces,
    /// and hears of faults, through them alone.
    fn offers(&self, function: u32) -> bool {
        self.smmus.is_empty() || !(call::FAULT_RING..=call::RESUME).contains(&function)
    }

    fn features(&self, function: u64) -> Answer {
        match u32::try_from(function) {
            Ok(function) if Self::knows(function) && self.offers(function) => Ok(NOTHING),
            _ => Err(Status::NotSupported.into()),
        }
    }

    fn device_info(&self, number: u64) -> Answer {
        let state = self.state.lock();
        let (device, index) = state.device(number)?;
        let capabilities = device.group.instance().capabilities();
        let on = state.groups.get(index).is_some_and(|shared| shared.table.is_some());
        let DeviceFlags(flags) = flags(device, &capabilities, on);
        let substreams = capabilities.substream_bits.min(MAX_BITS);
        let widths = pack_widths(substreams, capabilities.asid_bits, self.ipa_bits);
        Ok([flags, widths, capabilities.granules])
    }

    fn fault_ring(&self, base: u64, bytes: u64) -> Answer {
        let mut state = self.state.lock();
        if bytes == 0 {
            state.ring = None;
            return Ok(NOTHING);
        }
        let base = Ipa::new(base);
        if !base.is_aligned(4096) || bytes & 4095 != 0 || bytes > call::MAX_RING {
            return Err(Status::Invalid.into());
        }
        if !self.ram.contains(base, bytes) {
            return Err(Status::Outside.into());
        }
        state.ring = Some(Ring::new(base, bytes, &*self.ram)?);
        Ok(NOTHING)
    }

    fn faults_poll(&self) -> Answer {
        let groups: alloc::vec::Vec<_> = {
            let state = self.state.lock();
            if state.ring.is_none() {
                return Err(Status::NotFound.into());
            }
            state.groups.iter().map(|shared| shared.group.clone()).collect()
        };
        let mut left = call::MAX_BATCH as usize;
        for group in groups {
            left = left.saturating_sub(self.iommus.drain(group.instance(), left).records);
        }
        let written = self.pump(&mut |_| {});
        let lost = self.state.lock().ring.map_or(0, |ring| ring.lost());
        Ok([written, lost, 0])
    }

    fn contexts_enable(&self, number: u64, bits: u64, default: u64) -> Answer {
        let default = match default {
            0 => DefaultSubstream::Terminate,
            1 => DefaultSubstream::Bypass,
            2 => DefaultSubstream::Zero,
            _ => return Err(Status::Invalid.into()),
        };
        let bits = u8::try_from(bits).ok().filter(|&bits| bits <= MAX_BITS);
        let bits = bits.ok_or(Status::Invalid)?;
        let mut state = self.state.lock();
        let (_, index) = state.device(number)?;
        let shared = state.groups.get_mut(index).ok_or(Status::NotFound)?;
        let store = self.iommus.enable_contexts(
            &shared.group,
            self.owner,
            bits,
            default,
            self.view.clone(),
        )?;
        shared.table = Some(self.space.alloc_table(Arc::new(store)));
        Ok(NOTHING)
    }

    fn stage1_disable(&self, number: u64) -> Answer {
        let mut state = self.state.lock();
        let (device, index) = state.device(number)?;
        let group = device.group.clone();
        let answer = self.iommus.disable_nesting(&group, self.owner);
        // Refused: nothing was touched. Failed: the streams abort, and what was bound is gone.
        match answer {
            Err(palisade_iommu::Error::NotOwner | palisade_iommu::Error::Mode) => {}
            _ => self.drop_table(&mut state, index, answer.is_ok()),
        }
        answer.map(|()| NOTHING).map_err(Failure::from)
    }

    fn bind(&self, arguments: [u64; 6]) -> Answer {
        let [number, substream, table, tcr, mair, asid_flags] = arguments;
        let substream = SubstreamId::new(u32::try_from(substream).map_err(|_| Status::Invalid)?);
        let asid = Asid::new(asid_flags as u16);
        if asid_flags & !BindFlags::ALL != 0 || asid.get() == 0 {
            return Err(Status::Invalid.into());
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (index, id) = state.table(number)?;
        let (device, _) = state.device(number)?;
        let capabilities = device.group.instance().capabilities();
        let stalls = asid_flags & BindFlags::STALL != 0;
        if stalls && !flags(device, &capabilities, true).contains(DeviceFlags::STALLS) {
            return Err(Status::Invalid.into());
        }
        let (space, granule) = address_space(table, tcr, mair, stalls, &capabilities, &*self.ram)?;
        let process = match state.processes.get(&asid.get()) {
            Some(process) if process.is(&space) => process.clone(),
            Some(_) => return Err(Status::Busy.into()),
            None => {
                state.next_key = state.next_key.wrapping_add(1);
                GuestProcess::new(state.next_key, asid, space, granule)
            }
        };
        let shared: Arc<dyn Process> = process.clone();
        let key = (index, substream.get());
        let answer = match state.bonds.remove(&key) {
            Some(bond) if asid_flags & BindFlags::REBIND == 0 => {
                state.bonds.insert(key, bond);
                return Err(Status::Busy.into());
            }
            Some(bond) => match sva::rebind(&self.space, bond, &shared) {
                Ok(bond) => {
                    state.bonds.insert(key, bond);
                    Ok(NOTHING)
                }
                Err((bond, error)) => {
                    state.bonds.insert(key, bond);
                    Err(error.into())
                }
            },
            None if state.bonds.len() >= BINDINGS => return Err(Status::NoMemory.into()),
            None => match sva::bind(&self.space, id, substream, &shared) {
                Ok(bond) => {
                    state.bonds.insert(key, bond);
                    Ok(NOTHING)
                }
                Err(error) => Err(error.into()),
            },
        };
        if process.is_shared() {
            state.processes.insert(process.asid().get(), process);
        }
        state.reap();
        answer
    }

    fn unbind(&self, number: u64, substream: u64) -> Answer {
        let substream = u32::try_from(substream).map_err(|_| Status::NotFound)?;
        let mut state = self.state.lock();
        let (index, _) = state.table(number)?;
        let bond = state.bonds.remove(&(index, substream)).ok_or(Status::NotFound)?;
        let answer = sva::unbind(&self.space, bond);
        state.reap();
        answer.map(|()| NOTHING).map_err(Failure::from)
    }

    fn invalidate(&self, record: &InvalidationRecord) -> Answer {
        let state = self.state.lock();
        let (process, range) = judge(&state, record)?;
        self.waits.around(|| process.invalidate(&[range]))?;
        Ok([range.end.get(), 0, 0])
    }

    fn invalidate_batch(&self, base: u64, count: u64) -> Answer {
        if count > call::MAX_BATCH {
            return Err(Status::Invalid.into());
        }
        let state = self.state.lock();
        let mut run = Run::new(&self.waits);
        for index in 0..count {
            let mut bytes = [0; INVALIDATION_BYTES];
            let copied = self.copy(base, index, &mut bytes);
            let record = InvalidationRecord::from_bytes(&bytes);
            let judged = copied.and_then(|()| judge(&state, &record));
            let (process, range) = match judged {
                Ok(judged) => judged,
                Err(outcome) => {
                    run.finish()?;
                    return Err(Failure(outcome.0, [index, 0, 0]));
                }
            };
            run.push(index, process, range)?;
            if range.end.get() < record.end {
                // Longer than one call's work: the guest goes on with this very record.
                run.finish()?;
                return Ok([index, range.end.get(), 0]);
            }
        }
        run.finish()?;
        Ok([count, 0, 0])
    }

    fn exit(&self, asid: u64) -> Answer {
        let state = self.state.lock();
        let process = state.process(asid)?;
        process.exit().map(|()| NOTHING).map_err(Failure::from)
    }

    fn stream_entry(&self, number: u64, base: u64) -> Answer {
        let mut bytes = [0; STREAM_ENTRY_BYTES];
        let state = self.state.lock();
        let (device, index) = state.device(number)?;
        if state.groups.get(index).is_some_and(|shared| shared.table.is_some()) {
            return Err(Status::Busy.into());
        }
        self.copy(base, 0, &mut bytes)?;
        let mut words = [0; 8];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = word_of(chunk);
        }
        let now = self.iommus.attach_guest_entry(&device.group, self.owner, &words)?;
        let code = match now {
            StreamState::Abort => 0,
            StreamState::Stage2 => 2,
            StreamState::Nested => 3,
            // The driver cannot answer these for a guest's entry.
            StreamState::Bypass | StreamState::Stage1 => return Err(Status::Hardware.into()),
        };
        Ok([code, 0, 0])
    }

    fn commands(&self, number: u64, base: u64, count: u64) -> Answer {
        if count > call::MAX_BATCH {
            return Err(Status::Invalid.into());
        }
        let state = self.state.lock();
        let (device, _) = state.device(number)?;
        let mut words = [[0; 2]; call::MAX_BATCH as usize];
        let words = words.get_mut(..count as usize).ok_or(Status::Invalid)?;
        for (done, command) in words.iter_mut().enumerate() {
            let mut bytes = [0; COMMAND_BYTES];
            self.copy(base, done as u64, &mut bytes)?;
            for (word, chunk) in command.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = word_of(chunk);
            }
        }
        // Only devices behind the same IOMMU, and of this VM, can be named. A name stands for
        // every stream of the group: they share one entry, and so its descriptors.
        let phandle = device.group.instance().phandle();
        let stream = |number: u32, nth: usize| {
            let (named, _) = state.device(u64::from(number)).ok()?;
            let here = named.group.instance().phandle() == phandle;
            let along = |one: &&ServiceDevice| here && Arc::ptr_eq(&one.group, &named.group);
            let devices = state.devices.iter().filter(along);
            devices.flat_map(|one| &one.streams).nth(nth).copied()
        };
        match self.iommus.guest_invalidate(&device.group, self.owner, &stream, words) {
            Ok(done) => Ok([done as u64, 0, 0]),
            Err((done, error)) => Err(Failure(Outcome::from(error).0, [done as u64, 0, 0])),
        }
    }

    fn resume(&self, number: u64, tag: u64, answer: u64) -> Answer {
        let response = match answer {
            0 => Response::Abort,
            1 => Response::Retry,
            2 => Response::Terminate,
            _ => return Err(Status::Invalid.into()),
        };
        let tag = u16::try_from(tag).map_err(|_| Status::Invalid)?;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (device, _) = state.device(number)?;
        if !device.policy.stalls {
            return Err(Status::NotSupported.into());
        }
        // Only what the hardware has told, and only once: anything else it need not bear.
        let told = |stall: &(_, u16)| stall.1 == tag && device.streams.contains(&stall.0);
        let index = state.stalls.iter().position(told).ok_or(Status::NotFound)?;
        let group = device.group.clone();
        let (stream, _) = state.stalls.swap_remove(index);
        self.iommus.resume(&group, self.owner, stream, tag, response)?;
        Ok(NOTHING)
    }

    fn give_up(&self, base: u64, bytes: u64) -> Answer {
        let start = Ipa::new(base);
        if bytes == 0 || !start.is_aligned(4096) || bytes & 4095 != 0 {
            return Err(Status::Invalid.into());
        }
        let end = base.checked_add(bytes).ok_or(Status::Outside)?;
        let unit = (base | (call::GIVE_UP_UNIT - 1)).saturating_add(1);
        let stop = end.min(unit);
        self.ram.give_up(start, stop - base)?;
        Ok([stop, 0, 0])
    }

    /// Copies the `index`-th structure of a guest's array, once.
    fn copy<const N: usize>(&self, base: u64, index: u64, to: &mut [u8; N]) -> Result<(), Outcome> {
        let offset = index.checked_mul(N as u64).ok_or(Status::Outside)?;
        let at = Ipa::new(base).checked_add(offset).ok_or(Status::Outside)?;
        if !at.is_aligned(8) {
            return Err(Status::Invalid.into());
        }
        self.ram.read(at, to).map_err(Outcome::from)
    }
}

/// Consecutive records of one address space: they go to the hardware together.
struct Run<'w> {
    waits: &'w Waits,
    process: Option<Arc<GuestProcess>>,
    ranges: ArrayVec<Range, { call::MAX_BATCH as usize }>,
    /// Index of its first record.
    first: u64,
}

impl<'w> Run<'w> {
    fn new(waits: &'w Waits) -> Self {
        Self { waits, process: None, ranges: ArrayVec::new(), first: 0 }
    }

    /// Adds a record; one of another address space sends what came before.
    fn push(
        &mut self,
        index: u64,
        process: Arc<GuestProcess>,
        range: Range,
    ) -> Result<(), Failure> {
        let same = self.process.as_ref().is_some_and(|own| Arc::ptr_eq(own, &process));
        if !same || self.ranges.is_full() {
            self.finish()?;
            self.first = index;
            self.process = Some(process);
        }
        // Not full: it was emptied just now.
        let _ = self.ranges.try_push(range);
        Ok(())
    }

    /// Sends what is there. A failure names its first record: none of them counts as done.
    fn finish(&mut self) -> Result<(), Failure> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let answer = self.waits.around(|| process.invalidate(&self.ranges));
        self.ranges.clear();
        answer.map_err(|error| Failure(Outcome::from(error).0, [self.first, 0, 0]))
    }
}

/// The address space and the range that a record names, or the first part of a long one.
fn judge(
    state: &State,
    record: &InvalidationRecord,
) -> Result<(Arc<GuestProcess>, Range), Outcome> {
    let process = state.process(record.asid)?;
    let InvalidationRecord { start, end, leaf, .. } = *record;
    let granule = process.granule();
    let range = if start == 0 && end == u64::MAX {
        Range { granule, ..Range::ALL }
    } else {
        let unit = if leaf == 0 { granule } else { leaf };
        if start > end || !is_entry_size(unit, granule) || (start | end) & (unit - 1) != 0 {
            return Err(Status::Invalid.into());
        }
        let stop = end.min(start.saturating_add(call::MAX_RANGE.max(unit)));
        let (start, end) = (Iova::new(start), Iova::new(stop));
        Range { start, end, granule, leaf: (leaf != 0).then_some(leaf) }
    };
    Ok((process, range))
}

/// An entry of some level maps `size` bytes in tables of this granule.
fn is_entry_size(size: u64, granule: u64) -> bool {
    let per_level = granule.trailing_zeros() - 3;
    (0..3).any(|level| granule.checked_shl(level * per_level) == Some(size))
}

fn word_of(chunk: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(chunk) {
        *to = *from;
    }
    u64::from_le_bytes(bytes)
}

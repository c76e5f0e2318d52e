//! A process to share, with everything that can go wrong in it.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use palisade_hal::{Asid, Iova};
use palisade_iommu::pasid::PasidError;
use palisade_iommu::sva::{AddressSpace, Process, ProcessKey, ProcessNotifier, Range};

pub struct TestProcess {
    key: u64,
    pub asid: AtomicU16,
    root: u64,
    gone: AtomicBool,
    pub refuse: AtomicBool,
    pub pins: AtomicI32,
    pub notifiers: Mutex<Vec<Arc<dyn ProcessNotifier>>>,
}

impl TestProcess {
    pub fn new(key: u64, asid: u16) -> Arc<Self> {
        Arc::new(Self {
            key,
            asid: AtomicU16::new(asid),
            root: 0x1_0000_0000 + key * 0x1000,
            gone: AtomicBool::new(false),
            refuse: AtomicBool::new(false),
            pins: AtomicI32::new(0),
            notifiers: Mutex::default(),
        })
    }

    pub fn shared(self: &Arc<Self>) -> Arc<dyn Process> {
        self.clone()
    }

    pub fn root(&self) -> u64 {
        self.root
    }

    pub fn pinned(&self) -> i32 {
        self.pins.load(Ordering::SeqCst)
    }

    pub fn watched(&self) -> usize {
        self.notifiers.lock().unwrap().len()
    }

    /// The tables changed in `start..end`.
    pub fn change(&self, start: u64, end: u64) -> Result<(), PasidError> {
        let (start, end) = (Iova::new(start), Iova::new(end));
        self.change_all(&[Range { start, end, granule: 4096, leaf: Some(4096) }])
    }

    /// The tables changed in several ranges at once.
    pub fn change_all(&self, ranges: &[Range]) -> Result<(), PasidError> {
        let notifiers = self.notifiers.lock().unwrap().clone();
        notifiers.iter().try_for_each(|notifier| notifier.invalidate(ranges))
    }

    /// The process ends, now.
    pub fn exit(&self) -> Result<(), PasidError> {
        self.gone.store(true, Ordering::SeqCst);
        let notifiers = self.notifiers.lock().unwrap().clone();
        notifiers.iter().map(|notifier| notifier.release()).fold(Ok(()), Result::and)
    }
}

impl Process for TestProcess {
    fn key(&self) -> ProcessKey {
        ProcessKey(self.key)
    }
    fn pin(&self) -> Option<Asid> {
        if self.gone.load(Ordering::SeqCst) {
            return None;
        }
        self.pins.fetch_add(1, Ordering::SeqCst);
        Some(Asid::new(self.asid.load(Ordering::SeqCst)))
    }
    fn unpin(&self) {
        self.pins.fetch_sub(1, Ordering::SeqCst);
    }
    fn address_space(&self) -> AddressSpace {
        AddressSpace { table: self.root, tcr: 25, mair: 0xff, stalls: false }
    }
    fn register(&self, notifier: Arc<dyn ProcessNotifier>) -> Result<(), PasidError> {
        if self.refuse.load(Ordering::SeqCst) || self.gone.load(Ordering::SeqCst) {
            return Err(PasidError::NoProcess);
        }
        self.notifiers.lock().unwrap().push(notifier);
        Ok(())
    }
    fn unregister(&self, notifier: &Arc<dyn ProcessNotifier>) {
        let mut notifiers = self.notifiers.lock().unwrap();
        notifiers.retain(|other| !Arc::ptr_eq(other, notifier));
    }
}

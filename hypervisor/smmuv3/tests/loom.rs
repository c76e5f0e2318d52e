//! The command queue's protocol under every interleaving that loom's bound allows: several cores
//! produce, one SMMU consumes.
//!
//! Properties:
//! 1. What the consumer reads at a position is the command that was put there.
//! 2. No two syncs have the same cookie, and cookies grow in the order of the queue.
//! 3. A core that sees its sync passed finds its own commands consumed.
//! 4. Nothing is lost or consumed twice, although the queue wraps.

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use palisade_smmuv3::queue::Producer;
use palisade_smmuv3::queue::ring::Ring;

const LOG2: u32 = 1;
const ENTRIES: usize = 1 << LOG2;

struct Queue {
    producer: Mutex<Producer>,
    slots: [AtomicU64; ENTRIES],
    prod: AtomicU32,
    cons: AtomicU32,
    /// What was consumed, in order: core and cookie.
    log: Mutex<Vec<u64>>,
}

/// Looks at CONS before a core gives up: its deadline.
const LOOKS: usize = 2;

/// The word of a core's sync with its cookie.
fn word(core: u64, position: u64) -> u64 {
    core << 32 | (position + 1)
}

impl Queue {
    /// A queue that already is one entry on, so that the next two wrap.
    fn new() -> Self {
        let queue = Self {
            producer: Mutex::new(Producer::new(Ring::new(LOG2))),
            slots: std::array::from_fn(|_| AtomicU64::new(0)),
            prod: AtomicU32::new(0),
            cons: AtomicU32::new(0),
            log: Mutex::new(Vec::new()),
        };
        assert!(queue.produce(9).is_some());
        queue.consume();
        queue
    }

    /// One sync's position, or `None` where the queue is full.
    fn produce(&self, core: u64) -> Option<u64> {
        let mut producer = self.producer.lock().unwrap();
        if producer.space() < 1 {
            let cons = producer.ring().pointer(self.cons.load(Ordering::Acquire));
            producer.observe(cons).expect("CONS is never impossible");
        }
        let position = producer.reserve(1)?;
        let slot = &self.slots[producer.index(position) as usize];
        slot.store(word(core, position), Ordering::Relaxed);
        // The barrier before PROD.
        self.prod.store(producer.prod().get(), Ordering::Release);
        Some(position)
    }

    /// Whether the sync at `position` is seen to be passed, by the core's deadline.
    fn wait(&self, position: u64) -> bool {
        for _ in 0..LOOKS {
            let mut producer = self.producer.lock().unwrap();
            let cons = producer.ring().pointer(self.cons.load(Ordering::Acquire));
            producer.observe(cons).expect("CONS is never impossible");
            if producer.passed(position) {
                return true;
            }
        }
        false
    }

    /// One core's batch: produced, waited for, and if passed then really consumed.
    fn run(&self, core: u64) {
        if let Some(position) = self.produce(core)
            && self.wait(position)
        {
            let log = self.log.lock().unwrap();
            assert!(log.contains(&word(core, position)), "credited without being consumed");
        }
    }

    /// The SMMU: consumes what it finds, once.
    fn consume(&self) {
        let ring = Ring::new(LOG2);
        let prod = ring.pointer(self.prod.load(Ordering::Acquire));
        let mut cons = ring.pointer(self.cons.load(Ordering::Relaxed));
        let waiting = ring.used(prod, cons).expect("no more than the queue holds");
        for _ in 0..waiting {
            let value = self.slots[ring.index(cons) as usize].load(Ordering::Relaxed);
            let mut log = self.log.lock().unwrap();
            assert_eq!(value & 0xffff_ffff, log.len() as u64 + 1, "cookies grow without a gap");
            log.push(value);
            drop(log);
            cons = ring.advance(cons, 1);
            self.cons.store(cons.get(), Ordering::Release);
        }
    }
}

#[test]
fn producers_and_consumer() {
    let long = std::env::var_os("PALISADE_LONG").is_some();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(if long { 4 } else { 2 });
    model.check(|| {
        let queue = Arc::new(Queue::new());
        let cores: Vec<_> = (0..2)
            .map(|core| {
                let queue = queue.clone();
                thread::spawn(move || queue.run(core))
            })
            .collect();
        queue.consume();
        queue.consume();
        for core in cores {
            core.join().unwrap();
        }
        queue.consume();
        let log = queue.log.lock().unwrap();
        assert_eq!(log.len() as u64, queue.producer.lock().unwrap().produced());
    });
}

/// The same, full: a third core finds space only after the consumer made some.
#[test]
fn a_full_queue_is_never_overrun() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let queue = Arc::new(Queue::new());
        queue.run(0);
        queue.run(1);
        let core = {
            let queue = queue.clone();
            thread::spawn(move || queue.run(2))
        };
        queue.consume();
        core.join().unwrap();
        queue.consume();
    });
}

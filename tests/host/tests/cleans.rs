//! How far a cache clean reaches.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;

use palisade_hal::PhysAddr;
use palisade_hal::fake::{Observer, Op, observe};
use palisade_mem::{Arena, DmaBuffer, Frames};

/// Every clean, as offset from the buffer's first word and length.
#[derive(Default)]
struct Cleans(RefCell<Vec<(usize, usize)>>);

impl Observer for Cleans {
    fn observe(&self, op: Op, _: &'static Location<'static>) {
        if let Op::Clean { start, bytes, .. } = op {
            self.0.borrow_mut().push((start, bytes));
        }
    }
}

#[test]
fn a_clean_covers_what_was_asked_for_and_never_wraps() {
    let arena = Arena::new(PhysAddr::new(0x8000_0000), 16);
    let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
    let buffer = DmaBuffer::new(&frames, 0x2000, false).unwrap();
    let first = buffer.words().as_ptr().addr();
    let words = buffer.words().len();
    let cleaned = |from: usize, count: usize| {
        let cleans = Rc::new(Cleans::default());
        observe(cleans.clone(), || {
            buffer.publish(from, count);
            buffer.refresh(from, count);
        });
        cleans.0.take()
    };
    for (from, count) in [(0, 1), (3, 5), (0, words), (words - 1, 1)] {
        let expected = (first + 8 * from, 8 * count);
        assert_eq!(cleaned(from, count), [expected, expected], "{count} from {from}");
    }
    // What does not lie in the buffer is not cleaned in part, nor anywhere else.
    for (from, count) in [
        (0, words + 1),
        (words, 1),
        (1, usize::MAX),
        (usize::MAX, 1),
        (usize::MAX, usize::MAX),
        (words - 1, usize::MAX / 8 + 2),
    ] {
        assert_eq!(cleaned(from, count), [], "{count} from {from}");
    }
}

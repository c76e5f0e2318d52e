//! Table memory: where translation tables live.
//!
//! [`TableMemory`] is the seam under the page-table crate. A physical address
//! taken from a table entry becomes a reference only through
//! [`table`](TableMemory::table), which compares the frame's tag (use, owner and
//! size of table) in one load: a corrupted entry is a `None`, never somebody
//! else's memory. The same tag word carries the table's live count, so that a
//! table that became empty is known without looking at its entries.

mod frames;
mod seam;
mod words;

pub use frames::FrameTables;
pub use seam::TableMemory;
pub use words::{Table, Words};

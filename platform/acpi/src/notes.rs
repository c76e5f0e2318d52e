//! What is left out of a board while it is read.

use alloc::vec::Vec;

use palisade_board::{MAX_NOTES, Note, Part, Problem, Reason};

use crate::bytes::Bytes;
use crate::error::{Error, Fault};

/// The notes so far.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) list: Vec<Note<'static>>,
    pub(crate) more: usize,
}

impl Notes {
    /// Notes that a part is left out, because of a structure of a table.
    pub(crate) fn add(&mut self, at: Bytes<'_>, part: Part, what: &'static str, problem: Problem) {
        let Error { table, offset, .. } = at.error(0, what, Fault::Missing);
        self.note(table.name(), part, Reason::Entry { what, offset, problem });
    }

    /// The value, or a note that the part goes without, because of the error.
    pub(crate) fn keep<T>(&mut self, part: Part, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error { table, offset, what, fault }) => {
                let reason = match (fault, problem(fault)) {
                    (Fault::TooMany(most), _) => Reason::TooMany(most),
                    (_, problem) => Reason::Entry { what, offset, problem },
                };
                self.note(table.name(), part, reason);
                None
            }
        }
    }

    /// Notes once that there are more of a part than are kept.
    pub(crate) fn too_many(&mut self, node: &'static str, part: Part, most: usize) {
        let reason = Reason::TooMany(most);
        if !self.list.iter().any(|note| note.part == part && note.reason == reason) {
            self.note(node, part, reason);
        }
    }

    /// The same of what stands in no table.
    pub(crate) fn other(
        &mut self,
        node: &'static str,
        part: Part,
        what: &'static str,
        problem: Problem,
    ) {
        self.note(node, part, Reason::Entry { what, offset: 0, problem });
    }

    fn note(&mut self, node: &'static str, part: Part, reason: Reason) {
        if self.list.len() < MAX_NOTES {
            self.list.push(Note { node, part, reason });
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

/// The same in the words that boards have.
const fn problem(fault: Fault) -> Problem {
    match fault {
        Fault::Missing => Problem::Missing,
        Fault::Length(_) | Fault::Revision(_) => Problem::Length,
        _ => Problem::Value,
    }
}

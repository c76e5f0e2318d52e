//! What is left out of a board while it is read.

use alloc::vec::Vec;

use palisade_board::{MAX_NOTES, Note, Part, Reason};

use crate::error::Error;
use crate::tree::Node;

/// The notes so far.
#[derive(Default)]
pub(crate) struct Notes<'a> {
    pub(crate) list: Vec<Note<'a>>,
    pub(crate) more: usize,
}

impl<'a> Notes<'a> {
    /// Notes that `part` of `node` is left out.
    pub(crate) fn add(&mut self, node: &Node<'_, 'a>, part: Part, reason: Reason) {
        if self.list.len() < MAX_NOTES {
            self.list.push(Note { node: node.name(), part, reason });
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// The value, or a note that the part goes without, because of the error.
    pub(crate) fn keep<T>(
        &mut self,
        node: &Node<'_, 'a>,
        part: Part,
        result: Result<T, Error<'a>>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(node, part, error.reason());
                None
            }
        }
    }

    /// Pushes what there is room for; the first that there is none for is noted.
    pub(crate) fn push<T>(
        &mut self,
        node: &Node<'_, 'a>,
        part: Part,
        list: &mut Vec<T>,
        most: usize,
        value: T,
    ) {
        if list.len() < most {
            list.push(value);
        } else {
            self.too_many(node, part, most);
        }
    }

    /// Notes once that there are more of a part than are kept.
    pub(crate) fn too_many(&mut self, node: &Node<'_, 'a>, part: Part, most: usize) {
        let reason = Reason::TooMany(most);
        if !self.list.iter().any(|note| note.part == part && note.reason == reason) {
            self.add(node, part, reason);
        }
    }
}

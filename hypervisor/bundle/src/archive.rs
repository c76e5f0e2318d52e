//! The archive: cpio in its "new ASCII" format (newc), read in place.

use alloc::boxed::Box;

use arrayvec::ArrayVec;

use crate::error::{Error, Problem};

/// Most files that are kept.
pub const MAX_FILES: usize = 64;
/// Longest name, in bytes, its NUL included.
const MAX_NAME: usize = 128;
const MAGIC: &[u8] = b"070701";
/// Magic and 13 fields of 8 hexadecimal digits.
const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// A regular file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct File<'a> {
    /// Its name, without a leading "./".
    pub name: &'a str,
    /// Its bytes.
    pub data: &'a [u8],
}

/// The files of an archive.
#[derive(Clone, Debug)]
pub struct Archive<'a> {
    files: ArrayVec<File<'a>, MAX_FILES>,
    size: usize,
}

fn fail<'a, T>(file: &'a str, problem: Problem<'a>) -> Result<T, Box<Error<'a>>> {
    Err(Error::new(file, "", "", problem))
}

/// Field `index` of a header: eight hexadecimal digits.
fn field(header: &[u8], index: usize) -> Option<u32> {
    let start = index.checked_mul(8)?.checked_add(MAGIC.len())?;
    let digits = header.get(start..)?.first_chunk::<8>()?;
    let mut value = 0u32;
    for digit in digits {
        value = (value << 4) | char::from(*digit).to_digit(16)?;
    }
    Some(value)
}

impl<'a> Archive<'a> {
    /// Reads all headers up to the trailer. Bytes behind it are ignored.
    ///
    /// # Errors
    /// The first thing that is wrong, with file or offset.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Box<Error<'a>>> {
        let mut files = ArrayVec::<File<'a>, MAX_FILES>::new();
        let mut at = 0usize;
        loop {
            let Some(header) = bytes.get(at..).and_then(|rest| rest.get(..HEADER)) else {
                return fail("", Problem::Truncated(at));
            };
            let sizes = (field(header, 1), field(header, 6), field(header, 11));
            let (true, (Some(mode), Some(size), Some(name_size))) =
                (header.starts_with(MAGIC), sizes)
            else {
                return fail("", Problem::Header(at));
            };
            let (size, name_size) = (size as usize, name_size as usize);
            let name_at = at.saturating_add(HEADER);
            if !(2..=MAX_NAME).contains(&name_size) {
                return fail("", Problem::FileName(name_at));
            }
            let Some(name) = bytes.get(name_at..name_at.saturating_add(name_size)) else {
                return fail("", Problem::Truncated(name_at));
            };
            let Some((0, name)) = name.split_last() else {
                return fail("", Problem::FileName(name_at));
            };
            let text = match core::str::from_utf8(name) {
                Ok(text) if name.iter().all(u8::is_ascii_graphic) => text,
                _ => return fail("", Problem::FileName(name_at)),
            };
            // Name and data are both padded to four bytes.
            let data_at = name_at.saturating_add(name_size).next_multiple_of(4);
            let data_end = data_at.saturating_add(size);
            let Some(data) = bytes.get(data_at..data_end) else {
                return fail(text, Problem::Truncated(bytes.len()));
            };
            at = data_end.saturating_add(3) & !3;
            if name == TRAILER {
                return Ok(Self { files, size: at.min(bytes.len()) });
            }
            match mode & KIND {
                REGULAR => {}
                DIRECTORY => continue,
                _ => return fail(text, Problem::FileKind),
            }
            let name = text.strip_prefix("./").unwrap_or(text);
            if files.iter().any(|file| file.name == name) {
                return fail(name, Problem::Twice);
            }
            if files.try_push(File { name, data }).is_err() {
                return fail(name, Problem::TooMany(MAX_FILES));
            }
        }
    }

    /// The file of this name.
    pub fn file(&self, name: &str) -> Option<File<'a>> {
        self.files.iter().find(|file| file.name == name).copied()
    }

    /// All files, in the archive's order.
    pub fn files(&self) -> &[File<'a>] {
        &self.files
    }

    /// Bytes up to the end of the trailer.
    pub fn size(&self) -> usize {
        self.size
    }
}

//! The model against the manual, section by section.

mod ats;
mod bench;
mod caches;
mod commands;
mod registers;
mod translation;

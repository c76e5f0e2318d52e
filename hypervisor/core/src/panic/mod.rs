//! What is left when things go wrong: the way off, the watchdog, the last words.

pub(crate) mod backtrace;
pub(crate) mod context;
pub(crate) mod fatal;
pub(crate) mod provoke;
pub(crate) mod watchdog;

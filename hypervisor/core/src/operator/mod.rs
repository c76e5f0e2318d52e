//! What the operator sees and says: the prompt, posture, faults and counters.

pub(crate) mod counts;
pub(crate) mod devices;
pub(crate) mod dispatch;
pub(crate) mod faults;
pub(crate) mod footprint;
pub(crate) mod posture;
pub(crate) mod prompt;
pub(crate) mod shown;
pub(crate) mod storm;

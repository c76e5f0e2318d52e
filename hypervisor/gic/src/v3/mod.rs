//! GICv3: distributor and redistributors through registers in memory, the CPU interface through
//! system registers.
mod driver;
mod registers;
#[cfg(test)]
mod tests;

pub use driver::GicV3;

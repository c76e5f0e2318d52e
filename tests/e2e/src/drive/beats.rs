//! Reads of `disk` beside everything else: proof that it goes on, and goes on right.

use anyhow::Result;
use serde_json::json;

use crate::drive::disk;
use crate::outcome::Check;
use crate::session::Session;

const SECTORS: u64 = 128;

/// How often disk was asked, and how often its answer was right.
#[derive(Clone, Copy, Debug)]
pub struct Beats {
    seed: u64,
    done: u64,
    right: u64,
}

impl Beats {
    /// None yet, of a disk written with a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, done: 0, right: 0 }
    }

    /// Reads a piece of the disk somewhere.
    pub fn beat(&mut self, session: &mut Session) -> Result<()> {
        let sector = disk::word(self.seed, self.done) % (disk::BYTES / 512 - SECTORS);
        self.done += 1;
        self.right += u64::from(disk::alive(session, self.seed, sector, SECTORS)?);
        Ok(())
    }

    /// Whether every read was right, and there was one.
    pub fn check(&self, name: &str) -> Check {
        let evidence = json!({ "reads": self.done, "right": self.right });
        Check::new(name, self.done > 0 && self.right == self.done, evidence)
    }
}

//! Commands that take more than one piece of work.

use super::Backend;
use super::devices::{Mappings, Place};

/// What is left of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Job {
    /// The events of a collection go to a vCPU.
    Move { collection: u16, to: usize, from: Place },
    /// The configuration of a collection's events is read anew.
    Configure { collection: u16, vcpu: usize, from: Place },
    /// A device's events are unmapped and its table taken away; then it gets one for so many bits
    /// of an EventID, if any.
    Unmap { device: u32, bits: Option<u8> },
}

/// What came of a piece of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The command is carried out.
    Done,
    /// The command makes no sense, or the world refused it. It is ignored, which is one of the
    /// behaviours that the manual allows (IHI 0069, 5.3.3).
    Refused,
    /// There is more to do.
    Left(Job),
}

impl From<bool> for Step {
    fn from(done: bool) -> Self {
        if done { Self::Done } else { Self::Refused }
    }
}

impl Mappings {
    /// Does one piece: at most [`PIECE`](super::PIECE) events, and at most one wait.
    pub fn work(&mut self, job: Job, backend: &mut impl Backend) -> Step {
        match job {
            Job::Move { collection, to, from } => match self.next_of(collection, from) {
                Some((device, piece, from)) => {
                    backend.move_events(device, &piece, to);
                    Step::Left(Job::Move { collection, to, from })
                }
                None => Step::Done,
            },
            Job::Configure { collection, vcpu, from } => match self.next_of(collection, from) {
                Some((device, piece, from)) => {
                    backend.configure(device, &piece);
                    Step::Left(Job::Configure { collection, vcpu, from })
                }
                None => {
                    backend.refresh_all(vcpu);
                    Step::Done
                }
            },
            Job::Unmap { device, bits } => {
                let piece = self.take_last(device);
                if !piece.is_empty() {
                    backend.unmap_events(device, &piece);
                    return Step::Left(job);
                }
                self.replace_table(device, bits, backend)
            }
        }
    }

    /// The last piece of a MAPD: the device has no events any more.
    fn replace_table(&mut self, id: u32, bits: Option<u8>, backend: &mut impl Backend) -> Step {
        let Some(device) = self.device(id) else { return Step::Refused };
        if device.event_bits.take().is_some() {
            backend.map_device(id, None);
        }
        match bits {
            Some(bits) if backend.map_device(id, Some(bits)) => {
                device.event_bits = Some(bits);
                Step::Done
            }
            Some(_) => Step::Refused,
            None => Step::Done,
        }
    }
}

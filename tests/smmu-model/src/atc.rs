//! A device's own TLB and its ATS messages (3.9, 13.6).

use crate::event::{Event, EventKind};
use crate::model::Model;
use crate::regs::{ATSCHK, SMMUEN};
use crate::ste::Ats;
use crate::transaction::{Access, Outcome, Refused, Request};
use crate::walk::Want;

/// The completion of a translation request (3.9.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtsReply {
    /// Unsupported request: ATS is not for this device.
    Unsupported,
    /// Completer abort.
    CompleterAbort,
    /// Success, with or without access.
    Success {
        /// The translated page.
        address: u64,
        /// Bytes it covers, from its aligned start.
        span: u64,
        /// R.
        read: bool,
        /// W.
        write: bool,
    },
}

/// One translation a device keeps.
#[derive(Clone, Copy, Debug)]
struct AtcEntry {
    stream: u32,
    substream: Option<u32>,
    base: u64,
    span: u64,
    output: u64,
    write: bool,
}

/// The device TLBs of all streams.
#[derive(Default)]
pub(crate) struct Atc {
    entries: Vec<AtcEntry>,
}

impl Atc {
    /// CMD_ATC_INV. Without a PASID, entries with one go as well.
    pub fn invalidate(
        &mut self,
        stream: u32,
        substream: Option<u32>,
        global: bool,
        start: u64,
        end: u64,
    ) {
        self.entries.retain(|entry| {
            let same = substream.is_none() || global || entry.substream == substream;
            let last = entry.base + (entry.span - 1);
            !(entry.stream == stream && same && entry.base <= end && start <= last)
        });
    }

    fn find(&self, stream: u32, substream: Option<u32>, address: u64) -> Option<AtcEntry> {
        self.entries
            .iter()
            .find(|entry| {
                entry.stream == stream
                    && entry.substream == substream
                    && address.wrapping_sub(entry.base) < entry.span
            })
            .copied()
    }
}

impl Model {
    /// An ATS translation request.
    pub fn ats_request(
        &mut self,
        stream: u32,
        substream: Option<u32>,
        address: u64,
        write: bool,
    ) -> AtsReply {
        let refuse = |model: &mut Model| {
            let event = Event {
                read: true,
                address,
                ..Event::new(EventKind::BadAtsRequest, stream, substream)
            };
            model.record(event, true);
            AtsReply::Unsupported
        };
        if self.injected.service_failure || !self.features.ats {
            return AtsReply::Unsupported;
        }
        if self.regs.cr0ack & SMMUEN == 0 {
            return refuse(self);
        }
        let ste = match self.locate_ste(stream, false) {
            Ok(ste) => ste,
            Err(event) if event.kind == EventKind::BadStreamId => return AtsReply::Unsupported,
            Err(_) => return AtsReply::CompleterAbort,
        };
        if !ste.pass {
            return AtsReply::Unsupported;
        }
        let split = match ste.ats {
            Ats::Full => false,
            Ats::Split if self.regs.cr0ack & ATSCHK != 0 => true,
            _ => return refuse(self),
        };
        let request = Request::new(stream, substream, address, Access::Read);
        let want = Want { write, instruction: false, privileged: false, probe: true };
        match self.translate(&ste, &request, want, split) {
            Ok(translated) => {
                let second = translated.stage2_rights.unwrap_or(translated.rights);
                AtsReply::Success {
                    address: translated.pa & !0xfff,
                    span: 0x1000,
                    read: translated.rights.read && second.read,
                    write: write && translated.rights.write && second.write,
                }
            }
            Err(Refused::Walk(fault, _)) if fault.kind.is_translation_related() => {
                AtsReply::Success { address: 0, span: 0x1000, read: false, write: false }
            }
            Err(_) => AtsReply::CompleterAbort,
        }
    }

    /// An access by a device with an ATC: from its own TLB if it has the page, else it asks.
    pub fn ats_access(
        &mut self,
        stream: u32,
        substream: Option<u32>,
        address: u64,
        access: Access,
    ) -> Outcome {
        let write = matches!(access, Access::Write(_));
        let held = self.atc.find(stream, substream, address).filter(|e| e.write || !write);
        let entry = match held {
            Some(entry) => entry,
            None => match self.ats_request(stream, substream, address, write) {
                AtsReply::Success { address: output, span, read, write: writable }
                    if if write { writable } else { read } =>
                {
                    let base = address & !(span - 1);
                    let entry = AtcEntry { stream, substream, base, span, output, write: writable };
                    self.atc.entries.push(entry);
                    entry
                }
                _ => return Outcome::Aborted { event: None },
            },
        };
        let address = entry.output + (address - entry.base);
        let request = Request::new(stream, None, address, access);
        self.request(Request { translated: true, ..request })
    }
}

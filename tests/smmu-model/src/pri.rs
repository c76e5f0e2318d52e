//! Page requests (chapter 8).

use crate::model::{Interrupt, Model};
use crate::queue::Queue;
use crate::regs::{PRIQ_ABT_ERR, PRIQEN, SMMUEN};

/// A page request message from a device (8, PPR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// StreamID.
    pub stream: u32,
    /// PASID.
    pub substream: Option<u32>,
    /// The page.
    pub address: u64,
    /// Page request group index, 9 bits.
    pub group: u16,
    /// Last of its group.
    pub last: bool,
    /// Read wanted.
    pub read: bool,
    /// Write wanted.
    pub write: bool,
}

/// A PRG response on its way to a device (8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// StreamID.
    pub stream: u32,
    /// PASID, where the message has one.
    pub substream: Option<u32>,
    /// Page request group index.
    pub group: u16,
    /// 0b0000 success, 0b0001 invalid, 0b1111 failure.
    pub code: u8,
    /// The SMMU answered by itself.
    pub automatic: bool,
}

const OVERFLOW: u32 = 1 << 31;
const SUCCESS: u8 = 0;
const FAILURE: u8 = 0xf;

impl Model {
    /// A device asks for a page.
    pub fn page_request(&mut self, request: PageRequest) {
        let automatic = |model: &mut Model, substream, code| {
            if request.last {
                let (stream, group) = (request.stream, request.group);
                model.pri_responses.push(Response {
                    stream,
                    substream,
                    group,
                    code,
                    automatic: true,
                });
            }
        };
        let enabled = self.regs.cr0ack & (PRIQEN | SMMUEN) == PRIQEN | SMMUEN;
        if !enabled || self.regs.active_errors() & PRIQ_ABT_ERR != 0 {
            return automatic(self, None, FAILURE);
        }
        let log2 = self.regs.priq.log2(self.features.priq_log2);
        let plain = Queue { prod: self.regs.priq.prod & !OVERFLOW, ..self.regs.priq };
        let active = (self.regs.priq.prod ^ self.regs.priq.cons) & OVERFLOW != 0;
        let full = plain.used(log2).is_none_or(|used| used >> log2 != 0);
        if active || full {
            if !active {
                self.regs.priq.prod ^= OVERFLOW;
            }
            let keep = self.features.pps;
            return match request.substream {
                None => automatic(self, None, SUCCESS),
                Some(_) if keep => automatic(self, request.substream, SUCCESS),
                Some(_) => match self.locate_ste(request.stream, false) {
                    Ok(ste) if ste.response_pasid => {
                        automatic(self, request.substream, SUCCESS);
                    }
                    Ok(_) => automatic(self, None, SUCCESS),
                    Err(_) => automatic(self, None, FAILURE),
                },
            };
        }
        let low = u64::from(request.stream)
            | u64::from(request.substream.unwrap_or(0) & 0xf_ffff) << 32
            | u64::from(request.read) << 60
            | u64::from(request.write) << 61
            | u64::from(request.last) << 62
            | u64::from(request.substream.is_some()) << 63;
        let high = request.address & !0xfff | u64::from(request.group & 0x1ff);
        let address = plain.entry(plain.prod, log2, 4);
        let failed = std::mem::take(&mut self.injected.abort_pri)
            | self.memory.write64(address, low).is_err()
            | self.memory.write64(address + 8, high).is_err();
        if failed {
            self.raise_global_error(PRIQ_ABT_ERR);
            return automatic(self, None, FAILURE);
        }
        let was_empty = plain.used(log2) == Some(0);
        self.regs.priq.prod = Queue::next(self.regs.priq.prod, log2);
        if was_empty {
            self.signal(2, 2, Interrupt::PriQueue, Model::PRI_FAILURE);
        }
    }

    /// CMD_PRI_RESP.
    pub(crate) fn respond(&mut self, stream: u32, substream: Option<u32>, group: u16, code: u8) {
        let code = match code {
            2 => SUCCESS,
            1 => 1,
            _ => FAILURE,
        };
        self.pri_responses.push(Response { stream, substream, group, code, automatic: false });
    }

    /// The PRG responses sent since the last call.
    pub fn take_page_responses(&mut self) -> Vec<Response> {
        std::mem::take(&mut self.pri_responses)
    }
}

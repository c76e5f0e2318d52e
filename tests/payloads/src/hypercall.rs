//! The guest's side of the hypervisor's interface: calls, the fault ring.

use palisade_abi::{
    FAULT_BYTES, FaultRecord, RING_HEADER_BYTES, RING_MAGIC, RingHeader, Status, call,
};

use crate::memory::{Page, barrier, read64, write64};

/// One call: the status, and X1 to X3.
pub fn call(function: u32, arguments: [u64; 6]) -> (Status, [u64; 3]) {
    let [x1, x2, x3, x4, x5, x6] = arguments;
    let (status, r1, r2, r3): (u64, u64, u64, u64);
    barrier();
    // SAFETY: a call by the SMCCC: X0 to X17 may change, nothing else does; what the hypervisor
    // reads and writes is named by the arguments and is ours.
    unsafe {
        core::arch::asm!(
            "hvc #0",
            inout("x0") u64::from(function) => status,
            inout("x1") x1 => r1, inout("x2") x2 => r2, inout("x3") x3 => r3,
            inout("x4") x4 => _, inout("x5") x5 => _, inout("x6") x6 => _,
            lateout("x7") _, lateout("x8") _, lateout("x9") _, lateout("x10") _,
            lateout("x11") _, lateout("x12") _, lateout("x13") _, lateout("x14") _,
            lateout("x15") _, lateout("x16") _, lateout("x17") _,
            options(nostack),
        );
    }
    (Status::from_register(status).unwrap_or(Status::NotSupported), [r1, r2, r3])
}

/// One call that either works or says why not.
///
/// # Errors
/// The status.
pub fn ask(function: u32, arguments: [u64; 6]) -> Result<[u64; 3], Status> {
    match call(function, arguments) {
        (Status::Success, results) => Ok(results),
        (status, _) => Err(status),
    }
}

/// The service is there, in a version that we speak.
pub fn present() -> bool {
    let (_, _) = call(call::UID, [0; 6]);
    matches!(ask(call::VERSION, [0; 6]), Ok([version, ..]) if version >> 16 == 1)
}

/// The fault ring.
pub struct Ring {
    page: &'static Page,
    read: u64,
}

impl Ring {
    /// Asks for faults to be written to `page`.
    ///
    /// # Errors
    /// The status of the call.
    pub fn new(page: &'static Page) -> Result<Self, Status> {
        ask(call::FAULT_RING, [page.address() as u64, 4096, 0, 0, 0, 0])?;
        let ring = Self { page, read: 0 };
        if ring.word(RingHeader::MAGIC) == RING_MAGIC { Ok(ring) } else { Err(Status::Invalid) }
    }

    fn word(&self, offset: u64) -> u64 {
        // SAFETY: inside our own page, aligned.
        unsafe { read64(self.page.address() + offset as usize) }
    }

    /// The next fault, after asking the hypervisor for what is pending.
    pub fn pop(&mut self) -> Option<FaultRecord> {
        let _ = ask(call::FAULTS_POLL, [0; 6]);
        if self.read >= self.word(RingHeader::PRODUCER) {
            return None;
        }
        let index = self.read % self.word(RingHeader::CAPACITY).max(1);
        let start = (RING_HEADER_BYTES + index as usize * FAULT_BYTES) as u64;
        let mut bytes = [0; FAULT_BYTES];
        for (at, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&self.word(start + at as u64 * 8).to_le_bytes());
        }
        self.read += 1;
        // SAFETY: as above.
        unsafe { write64(self.page.address() + RingHeader::CONSUMER as usize, self.read) };
        Some(FaultRecord::from_bytes(&bytes))
    }
}

//! Who must forget a VM's translations: the CPUs and the IOMMUs of its domain.
use core::cell::Cell;

use palisade_hal::{Iova, Ipa, PhysAddr, Vmid, tlb};
use palisade_iommu::{Domain, Flush};
use palisade_mem::{Agent, Proof, Scope};
use palisade_pgtable::{TlbError, TlbOps};

/// Both views' invalidations: what one unmaps, the other unmaps too or never had.
pub struct VmTlb<'a> {
    /// The CPUs' stage-2 TLBs.
    pub cpus: &'a Agent,
    /// The VM's VMID.
    pub vmid: Vmid,
    /// Root of the CPU view.
    pub root: PhysAddr,
    /// The DMA view's users.
    pub domain: &'a Domain,
    /// The queued range: start, bytes.
    pub queued: Cell<Option<(u64, u64)>>,
}

impl VmTlb<'_> {
    fn flush(&self, range: Option<(u64, u64)>) -> Result<Proof, TlbError> {
        // The ticket first: it covers what was detached before the invalidation is sent.
        let ticket = self.cpus.begin(self.domain.scope());
        let what = match range {
            Some((start, bytes)) => {
                tlb::flush_ipa(self.vmid, self.root, Ipa::new(start), bytes, 4096);
                Flush::Range { start: Ipa::new(start), size: bytes, leaf: None }
            }
            None => {
                tlb::flush_vmid(self.vmid, self.root);
                Flush::All
            }
        };
        let mut proof = Proof::new(self.domain.scope()).with(ticket.complete());
        match self.domain.flush(what, &mut proof) {
            Ok(()) => Ok(proof),
            Err(_) => Err(TlbError { agent: "an IOMMU of the VM's domain" }),
        }
    }
}

impl TlbOps for VmTlb<'_> {
    fn flush_all(&self) -> Result<Proof, TlbError> {
        self.flush(None)
    }

    fn flush_walk(&self, iova: Iova, size: u64, _granule: u64) -> Result<Proof, TlbError> {
        self.flush(Some((iova.get(), size)))
    }

    fn add_leaf(&self, iova: Iova, size: u64, _granule: u64) {
        let end = iova.get().saturating_add(size);
        let hull = match self.queued.get() {
            Some((start, bytes)) => {
                let start = start.min(iova.get());
                (start, end.max(start.saturating_add(bytes)) - start)
            }
            None => (iova.get(), size),
        };
        self.queued.set(Some(hull));
    }

    fn sync(&self) -> Result<Proof, TlbError> {
        self.flush(self.queued.take())
    }
}

/// A table that no register ever pointed at: there is nothing to forget.
pub struct Unused<'a> {
    /// The agent that its frames wait for.
    pub cpus: &'a Agent,
    /// Its address space.
    pub scope: Scope,
}

impl TlbOps for Unused<'_> {
    fn flush_all(&self) -> Result<Proof, TlbError> {
        let ticket = self.cpus.begin(self.scope);
        Ok(Proof::new(self.scope).with(ticket.complete()))
    }

    fn flush_walk(&self, _: Iova, _: u64, _: u64) -> Result<Proof, TlbError> {
        self.flush_all()
    }

    fn add_leaf(&self, _: Iova, _: u64, _: u64) {}

    fn sync(&self) -> Result<Proof, TlbError> {
        self.flush_all()
    }
}

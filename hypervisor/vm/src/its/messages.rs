//! The machine's messages: a physical ITS, the LPIs, and whose each is.

use alloc::sync::Arc;

use palisade_gic::its::{Its, LpiTable};
use palisade_hal::lock::{FairMutex, Rank};
use palisade_mem::SortedMap;

use crate::vgic::Vgic;

/// An LPI of a guest.
#[derive(Clone)]
struct Route {
    vgic: Arc<Vgic>,
    intid: u32,
}

/// A physical ITS, and who is behind the LPIs. One for each ITS of the machine; every VM with
/// messages holds that of its devices. The LPIs are one table for all of them (IHI 0069, 5.1).
pub struct Messages {
    its: Its,
    shared: Arc<Shared>,
}

struct Shared {
    lpis: LpiTable,
    /// Every VM with messages takes it: fair.
    routes: FairMutex<SortedMap<u32, Route>>,
}

impl Messages {
    /// Over an ITS in service, whose cores are mapped.
    pub fn new(its: Its, lpis: LpiTable) -> Arc<Self> {
        let routes = FairMutex::new(Rank::LpiRoutes, SortedMap::new());
        Arc::new(Self { its, shared: Arc::new(Shared { lpis, routes }) })
    }

    /// Over another ITS of the same machine.
    pub fn beside(&self, its: Its) -> Arc<Self> {
        Arc::new(Self { its, shared: self.shared.clone() })
    }

    /// The physical ITS.
    pub fn its(&self) -> &Its {
        &self.its
    }

    /// The physical LPIs.
    pub fn lpis(&self) -> &LpiTable {
        &self.shared.lpis
    }

    /// How many LPIs lead to a guest.
    pub fn routes(&self) -> usize {
        self.shared.routes.lock().len()
    }

    /// A physical LPI was taken, whichever ITS raised it: the guest's becomes pending. False if it is nobody's by now.
    pub fn raise(&self, physical: u32) -> bool {
        let route = self.shared.routes.lock().get(&physical).cloned();
        if let Some(route) = &route {
            route.vgic.set_lpi_pending(route.intid, true);
        }
        route.is_some()
    }

    pub(super) fn connect(&self, physical: u32, vgic: &Arc<Vgic>, intid: u32) {
        self.shared.routes.lock().insert(physical, Route { vgic: vgic.clone(), intid });
    }

    pub(super) fn disconnect(&self, physical: u32) {
        self.shared.routes.lock().remove(&physical);
    }
}

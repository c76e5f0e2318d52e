//! The machine's messages: the physical ITS, its LPIs, and whose each is.

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

/// The physical ITS and who is behind its LPIs. One for the machine; every VM with messages
/// holds it.
pub struct Messages {
    its: Its,
    lpis: LpiTable,
    /// Every VM with messages takes it: fair.
    routes: FairMutex<SortedMap<u32, Route>>,
}

impl Messages {
    /// Over an ITS in service, whose cores are mapped.
    pub fn new(its: Its, lpis: LpiTable) -> Arc<Self> {
        Arc::new(Self { its, lpis, routes: FairMutex::new(Rank::LpiRoutes, SortedMap::new()) })
    }

    /// The physical ITS.
    pub fn its(&self) -> &Its {
        &self.its
    }

    /// The physical LPIs.
    pub fn lpis(&self) -> &LpiTable {
        &self.lpis
    }

    /// How many LPIs lead to a guest.
    pub fn routes(&self) -> usize {
        self.routes.lock().len()
    }

    /// A physical LPI was taken: the guest's becomes pending. False if it is nobody's by now.
    pub fn raise(&self, physical: u32) -> bool {
        let route = self.routes.lock().get(&physical).cloned();
        if let Some(route) = &route {
            route.vgic.set_lpi_pending(route.intid, true);
        }
        route.is_some()
    }

    pub(super) fn connect(&self, physical: u32, vgic: &Arc<Vgic>, intid: u32) {
        self.routes.lock().insert(physical, Route { vgic: vgic.clone(), intid });
    }

    pub(super) fn disconnect(&self, physical: u32) {
        self.routes.lock().remove(&physical);
    }
}

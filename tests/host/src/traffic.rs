//! Devices that try every address from every stream, and the check of what they got.

use std::collections::BTreeMap;

use palisade_smmu_model::{Access, EventKind, Model, Outcome, Request, Rng};

use crate::ledger::{Ledger, Page};

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: the name that sabotage rows expect.
    pub assertion: &'static str,
    /// What was seen.
    pub detail: String,
}

/// The devices.
pub struct Traffic {
    /// What they are held against.
    pub ledger: Ledger,
    /// They try often.
    pub eager: bool,
    /// Nobody transmits.
    pub quiet: bool,
    /// The first violation.
    pub violation: Option<Violation>,
    /// Transactions tried.
    pub tried: u64,
    /// Transactions that reached memory.
    pub reached: u64,
    /// Streams and pages they try.
    pub streams: Vec<u32>,
    pub pages: Vec<u64>,
    rng: Rng,
    posted: BTreeMap<u64, (Request, bool)>,
}

impl Traffic {
    pub fn new(seed: u64) -> Self {
        Traffic {
            ledger: Ledger::default(),
            eager: false,
            quiet: false,
            violation: None,
            tried: 0,
            reached: 0,
            streams: Vec::new(),
            pages: Vec::new(),
            rng: Rng::new(seed),
            posted: BTreeMap::new(),
        }
    }

    /// A few transactions, and the ends of earlier ones.
    pub fn pulse(&mut self, model: &mut Model) {
        self.ledger.firmware &= model.is_enabled();
        if !self.ledger.firmware && !model.is_open() {
            self.ledger.open.clear();
        }
        self.collect(model);
        if self.quiet || self.streams.is_empty() || self.pages.is_empty() {
            return;
        }
        let count = self.rng.below(if self.eager { 12 } else { 3 });
        for _ in 0..count {
            let (stream, page) = self.aim();
            let address = page + self.rng.below(512) * 8;
            let write = self.rng.percent(50);
            let access = if write { Access::Write(1) } else { Access::Read };
            let mut request = Request::new(stream, None, address, access);
            let trusted = self.ledger.trusted.contains(&stream);
            // A trusted device may name any physical address: it is trusted not to.
            request.translated = !trusted && model.features().ats && self.rng.percent(5);
            self.tried += 1;
            if trusted && self.rng.percent(60) {
                let outcome = model.ats_access(stream, None, address, access);
                self.check(&request, outcome, true);
                continue;
            }
            if self.rng.percent(30) {
                match model.post(request) {
                    Outcome::Posted { id } => {
                        let open = self.is_open(request.stream);
                        self.posted.insert(id, (request, open));
                    }
                    outcome => self.check(&request, outcome, true),
                }
            } else {
                let outcome = model.request(request);
                self.check(&request, outcome, true);
            }
        }
    }

    /// Half of the time where something has just changed.
    fn aim(&mut self) -> (u32, u64) {
        let mut stream = self.streams[self.rng.index(self.streams.len())];
        let mut page = self.pages[self.rng.index(self.pages.len())];
        let Ledger { hot_streams, hot_pages, .. } = &self.ledger;
        if self.rng.percent(50) && !hot_streams.is_empty() {
            stream = hot_streams[self.rng.index(hot_streams.len())];
        }
        if self.rng.percent(50) && !hot_pages.is_empty() {
            page = hot_pages[self.rng.index(hot_pages.len())];
        }
        (stream, page)
    }

    fn is_open(&self, stream: u32) -> bool {
        self.ledger.open.contains(&stream)
    }

    fn collect(&mut self, model: &mut Model) {
        for (id, request, outcome) in model.take_completed() {
            // What passed before the SMMU could abort is the devices' own affair (6.3.14.1).
            if let Some((_, false)) = self.posted.remove(&id) {
                self.check(&request, outcome, false);
            }
        }
    }

    /// Accesses that landed in the hypervisor's memory.
    pub fn intruded(&mut self, intrusions: &mut Vec<u64>) {
        if let Some(pa) = intrusions.drain(..).next() {
            self.violate("reach", format!("a device reached the hypervisor's memory at {pa:#x}"));
        }
    }

    fn violate(&mut self, assertion: &'static str, detail: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { assertion, detail });
        }
    }

    /// `fresh`: it was translated at this instant, so a refusal has to have a reason now.
    fn check(&mut self, request: &Request, outcome: Outcome, fresh: bool) {
        let write = matches!(request.access, Access::Write(_));
        let page = request.address & !0xfff;
        let answers = self.ledger.answers(request.stream, page);
        match outcome {
            Outcome::Done { pa, .. } => {
                self.reached += 1;
                let at = pa & !0xfff;
                let allowed = answers.pages.contains(&Page { pa: at, writable: true })
                    || !write && answers.pages.contains(&Page { pa: at, writable: false });
                let offset = pa & 0xfff == request.address & 0xfff;
                if self.is_open(request.stream) && at == page {
                    return;
                }
                if !allowed || !offset || request.translated {
                    self.violate(
                        "reach",
                        format!("{request:x?} reached {pa:#x}; allowed are {answers:x?}"),
                    );
                }
            }
            Outcome::Aborted { event } | Outcome::Ignored { event } if fresh => {
                // Structures are never wrong, only absent.
                let wrong = event.filter(|event| {
                    !matches!(
                        event.kind,
                        EventKind::BadStreamId
                            | EventKind::TranslationForbidden
                            | EventKind::Translation
                            | EventKind::Permission
                            | EventKind::TlbConflict
                    )
                });
                if let Some(event) = wrong
                    && !self.ledger.broken
                {
                    self.violate("config", format!("{request:x?} met {event:x?}"));
                }
                let read_only = answers.pages.iter().any(|page| !page.writable);
                let reason = answers.refused
                    || write && read_only
                    || request.translated
                    || self.is_open(request.stream)
                    || self.ledger.broken;
                if !reason {
                    self.violate(
                        "lost",
                        format!(
                            "{request:x?} was refused ({outcome:x?}); it leads to {answers:x?}"
                        ),
                    );
                }
            }
            _ => {}
        }
    }
}

//! A device's transaction on its way through the SMMU (chapter 15).

use crate::bits::ones;
use crate::driver_fault::DriverFault;
use crate::event::{Class, Event, EventKind};
use crate::model::{Model, Posted};
use crate::regs::{ATSCHK, GBPA_ABORT, REC_CFG_ATS, RECINVSID, SMMUEN};
use crate::ste::{Ats, Contexts, DefaultSubstream, Stage2, Ste};
use crate::walk::{Stage1, Translated, WalkFault, Want};
use crate::{cd, ste};

/// What a transaction does at its address: one aligned doubleword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes this value.
    Write(u64),
}

/// A transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// StreamID.
    pub stream: u32,
    /// SubstreamID (PASID).
    pub substream: Option<u32>,
    /// Input address.
    pub address: u64,
    /// Read or write.
    pub access: Access,
    /// PnU.
    pub privileged: bool,
    /// InD; ignored for writes.
    pub instruction: bool,
    /// Marked Translated (ATS).
    pub translated: bool,
}

impl Request {
    /// An unprivileged data access.
    pub fn new(stream: u32, substream: Option<u32>, address: u64, access: Access) -> Self {
        Request {
            stream,
            substream,
            address,
            access,
            privileged: false,
            instruction: false,
            translated: false,
        }
    }

    fn want(&self) -> Want {
        let write = matches!(self.access, Access::Write(_));
        Want {
            write,
            instruction: self.instruction && !write,
            privileged: self.privileged,
            probe: false,
        }
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It reached `pa`; `data` was read or written there.
    Done {
        /// Where.
        pa: u64,
        /// What.
        data: u64,
    },
    /// The device saw an abort.
    Aborted {
        /// The event that was recorded.
        event: Option<Event>,
    },
    /// Reads as zero, writes ignored (CD.A = 0).
    Ignored {
        /// The event that was recorded.
        event: Option<Event>,
    },
    /// It waits for CMD_RESUME; [`Model::take_completed`] tells the end by `id`.
    Stalled {
        /// STAG.
        tag: u16,
        /// Its name in [`Model::take_completed`].
        id: u64,
    },
    /// It is on its way; [`Model::take_completed`] tells the end by `id`.
    Posted {
        /// Its name in [`Model::take_completed`].
        id: u64,
    },
}

/// Where a transaction may go.
pub(crate) enum Resolution {
    Pass(u64),
    Abort(Option<Event>),
    Ignore(Option<Event>),
    Stall(Event),
}

/// The CD, or the absence of one, that a transaction uses.
enum Choice {
    NoStage1,
    Cd(Contexts, u32),
}

impl Model {
    /// A transaction, from arrival to its end.
    pub fn transaction(
        &mut self,
        stream: u32,
        substream: Option<u32>,
        address: u64,
        access: Access,
    ) -> Outcome {
        self.request(Request::new(stream, substream, address, access))
    }

    /// The same, with every attribute.
    pub fn request(&mut self, request: Request) -> Outcome {
        match self.arrive(&request) {
            Ok(pa) => self.perform(pa, &request),
            Err(outcome) => outcome,
        }
    }

    /// A transaction that is translated now and reaches memory some steps later: a CMD_SYNC
    /// that starts in between has to wait for it.
    pub fn post(&mut self, request: Request) -> Outcome {
        match self.arrive(&request) {
            Ok(pa) => {
                let id = self.new_id();
                self.posted.push(Posted { id, pa, request });
                Outcome::Posted { id }
            }
            Err(outcome) => outcome,
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn arrive(&mut self, request: &Request) -> Result<u64, Outcome> {
        self.recent.push_back((request.stream, request.substream, request.address));
        if self.recent.len() > 32 {
            self.recent.pop_front();
        }
        match self.resolve(request) {
            Resolution::Pass(pa) => Ok(pa),
            Resolution::Abort(event) => Err(Outcome::Aborted { event }),
            Resolution::Ignore(event) => Err(Outcome::Ignored { event }),
            Resolution::Stall(event) => {
                let id = self.new_id();
                let tag = self.stall(id, *request, event);
                Err(Outcome::Stalled { tag, id })
            }
        }
    }

    /// The access itself.
    pub(crate) fn perform(&mut self, pa: u64, request: &Request) -> Outcome {
        let done = match request.access {
            Access::Read => self.memory.device_read(pa & !7),
            Access::Write(data) => self.memory.device_write(pa & !7, data).map(|()| data),
        };
        done.map_or(Outcome::Aborted { event: None }, |data| Outcome::Done { pa, data })
    }

    pub(crate) fn finish_one_posted(&mut self) {
        if !self.posted.is_empty() {
            let index = self.rng.index(self.posted.len());
            let Posted { id, pa, request } = self.posted.swap_remove(index);
            let outcome = self.perform(pa, &request);
            self.completed.push((id, request, outcome));
        }
    }

    pub(crate) fn finish_all_posted(&mut self) {
        while !self.posted.is_empty() {
            self.finish_one_posted();
        }
    }

    /// Translates and checks, recording what has to be recorded.
    pub(crate) fn resolve(&mut self, request: &Request) -> Resolution {
        if self.injected.service_failure {
            return Resolution::Abort(None);
        }
        if request.translated {
            return self.resolve_translated(request);
        }
        if self.regs.cr0ack & SMMUEN == 0 {
            let abort = self.regs.gbpa_effective & GBPA_ABORT != 0;
            if abort || request.address >> self.features.oas != 0 {
                return Resolution::Abort(None);
            }
            return Resolution::Pass(request.address);
        }
        let ste = match self.locate_ste(request.stream, false) {
            Ok(ste) => ste,
            Err(event) => return self.config_abort(request, event),
        };
        if !ste.pass {
            return Resolution::Abort(None);
        }
        match self.translate(&ste, request, request.want(), false) {
            Ok(translated) => Resolution::Pass(translated.pa),
            Err(Refused::Config(event)) => self.abort_with(event, ste.merge_events),
            Err(Refused::Walk(fault, policy)) => self.walk_abort(&ste, request, fault, policy),
        }
    }

    fn resolve_translated(&mut self, request: &Request) -> Resolution {
        let forbidden = |model: &mut Model| {
            let event = Event {
                read: matches!(request.access, Access::Read),
                address: request.address,
                ..Event::new(EventKind::TranslationForbidden, request.stream, request.substream)
            };
            model.abort_with(event, false)
        };
        if self.regs.cr0ack & SMMUEN == 0 {
            return forbidden(self);
        }
        let in_range = request.address >> self.features.oas == 0;
        if self.regs.cr0ack & ATSCHK == 0 {
            // Unchecked: the SMMU lets it pass, whatever the STE says (3.9.1.3).
            return if in_range {
                Resolution::Pass(request.address)
            } else {
                Resolution::Abort(None)
            };
        }
        let ste = match self.locate_ste(request.stream, false) {
            Ok(ste) => ste,
            Err(event) if self.regs.cr2 & REC_CFG_ATS != 0 => {
                return self.abort_with(event, true);
            }
            Err(_) => return Resolution::Abort(None),
        };
        if !ste.pass {
            return Resolution::Abort(None);
        }
        match (ste.ats, ste.stage2) {
            (Ats::Full, _) if in_range => Resolution::Pass(request.address),
            (Ats::Full, _) => Resolution::Abort(None),
            (Ats::Split, Some(stage2)) => {
                let walk = self.stage2_walk(&stage2, request.address, request.want(), Class::Input);
                match walk {
                    Ok(translated) => Resolution::Pass(translated.pa),
                    Err(fault) => {
                        let policy = Policy::stage2(&stage2);
                        self.walk_abort(&ste, request, fault, policy)
                    }
                }
            }
            _ => forbidden(self),
        }
    }

    fn abort_with(&mut self, event: Event, merge: bool) -> Resolution {
        self.record(event, merge);
        Resolution::Abort(Some(event))
    }

    fn config_abort(&mut self, request: &Request, event: Event) -> Resolution {
        if event.kind == EventKind::BadStreamId && self.regs.cr2 & RECINVSID == 0 {
            return Resolution::Abort(None);
        }
        self.abort_with(Event { substream: request.substream, ..event }, true)
    }

    fn walk_abort(
        &mut self,
        ste: &Ste,
        request: &Request,
        fault: WalkFault,
        policy: Policy,
    ) -> Resolution {
        let want = request.want();
        let needs_second = fault.stage2 || fault.kind == EventKind::WalkAbort;
        let unknown = self.rng.next_u64() & ones(self.features.oas) & !0xfff;
        let event = Event {
            stage2: fault.stage2,
            class: fault.class,
            read: !want.write,
            instruction: want.instruction,
            privileged: want.privileged,
            table_read: fault.kind == EventKind::Permission
                && fault.class == Class::Table
                && fault.table_read,
            address: request.address,
            // The IPA of a stage 1 fault is UNKNOWN.
            second_address: if needs_second { fault.address } else { unknown },
            ..Event::new(fault.kind, request.stream, request.substream)
        };
        if !fault.kind.is_translation_related() {
            return self.abort_with(event, ste.merge_events);
        }
        if policy.stall {
            return Resolution::Stall(event);
        }
        let recorded = policy.record.then_some(event);
        if let Some(event) = recorded {
            self.record(event, ste.merge_events);
        }
        if policy.abort { Resolution::Abort(recorded) } else { Resolution::Ignore(recorded) }
    }

    /// From an STE that lets traffic pass to an address. `stage1_only` leaves the IPA.
    pub(crate) fn translate(
        &mut self,
        ste: &Ste,
        request: &Request,
        want: Want,
        stage1_only: bool,
    ) -> Result<Translated, Refused> {
        match self.choose_cd(ste, request)? {
            Choice::NoStage1 => {
                let address = request.address;
                // Stage 1 bypass: the address must lie in the IAS (3.4).
                if address >> self.features.oas != 0 {
                    let fault = WalkFault {
                        kind: EventKind::AddressSize,
                        stage2: false,
                        class: Class::Input,
                        address: 0,
                        table_read: true,
                    };
                    return Err(Refused::Walk(fault, Policy::default()));
                }
                match &ste.stage2 {
                    Some(stage2) if !stage1_only => self
                        .stage2_walk(stage2, address, want, Class::Input)
                        .map_err(|fault| Refused::Walk(fault, Policy::stage2(stage2))),
                    _ => Ok(Translated::identity(address)),
                }
            }
            Choice::Cd(contexts, index) => {
                let cd = self.locate_cd(ste, &contexts, request, index, false)?;
                let stage2 = if stage1_only { None } else { ste.stage2 };
                let config = Stage1 { cd, el2: contexts.el2, stage2, vmid: ste.vmid };
                self.stage1_walk(&config, request.address, want).map_err(|fault| {
                    let policy = match &ste.stage2 {
                        Some(stage2) if fault.stage2 => Policy::stage2(stage2),
                        _ => Policy { stall: cd.stall, record: cd.record, abort: cd.abort },
                    };
                    Refused::Walk(fault, policy)
                })
            }
        }
    }

    fn choose_cd(&mut self, ste: &Ste, request: &Request) -> Result<Choice, Refused> {
        let event = |kind| Refused::Config(Event::new(kind, request.stream, request.substream));
        let bad = || Err(event(EventKind::BadSubstreamId));
        let disabled = || Err(event(EventKind::StreamDisabled));
        let Some(contexts) = ste.stage1 else {
            return if request.substream.is_some() { bad() } else { Ok(Choice::NoStage1) };
        };
        match request.substream {
            Some(_) if contexts.log2 == 0 => bad(),
            Some(substream) if substream >> contexts.log2 != 0 => bad(),
            Some(0) if contexts.default == DefaultSubstream::Zero => disabled(),
            Some(substream) => Ok(Choice::Cd(contexts, substream)),
            None if contexts.log2 == 0 => Ok(Choice::Cd(contexts, 0)),
            None => match contexts.default {
                DefaultSubstream::Terminate => disabled(),
                DefaultSubstream::Bypass => Ok(Choice::NoStage1),
                DefaultSubstream::Zero => Ok(Choice::Cd(contexts, 0)),
            },
        }
    }

    /// The STE of `stream`; the error is the event it causes. `quiet` blames nobody.
    pub(crate) fn locate_ste(&mut self, stream: u32, quiet: bool) -> Result<Ste, Event> {
        let raw = self.ste_words(stream, quiet)?;
        let mut faults: Vec<DriverFault> = Vec::new();
        let parsed = ste::parse(&raw, &self.features, &mut faults);
        if !quiet {
            self.blame_all(faults);
        }
        parsed.map_err(|_| Event::new(EventKind::BadSte, stream, None))
    }

    /// The CD at `index`, fetched through stage 2 where that is enabled.
    pub(crate) fn locate_cd(
        &mut self,
        ste: &Ste,
        contexts: &Contexts,
        request: &Request,
        index: u32,
        quiet: bool,
    ) -> Result<cd::Cd, Refused> {
        let raw = self.cd_words(ste, contexts, request, index)?;
        let mut faults: Vec<DriverFault> = Vec::new();
        let disabled = contexts.stall_disabled;
        let parsed = cd::parse(&raw, disabled, contexts.el2, &self.features, &mut faults);
        if !quiet {
            self.blame_all(faults);
        }
        parsed.map_err(|_| {
            Refused::Config(Event::new(EventKind::BadCd, request.stream, request.substream))
        })
    }
}

/// Why there is no address.
#[derive(Debug)]
pub(crate) enum Refused {
    Config(Event),
    Walk(WalkFault, Policy),
}

/// What A, R and S say about a translation-related fault (5.5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub stall: bool,
    pub record: bool,
    pub abort: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { stall: false, record: true, abort: true }
    }
}

impl Policy {
    pub fn stage2(stage2: &Stage2) -> Self {
        Policy { stall: stage2.stall, record: stage2.record, abort: true }
    }
}

impl Translated {
    fn identity(address: u64) -> Self {
        let everything = crate::tlb::Rights {
            read: true,
            write: true,
            execute: true,
            privileged_read: true,
            privileged_write: true,
            privileged_execute: true,
            write_when_dirty: false,
        };
        Translated {
            pa: address,
            middle: address,
            span: 0x1000,
            rights: everything,
            stage2_rights: None,
            device: false,
        }
    }
}

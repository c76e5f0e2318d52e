//! A guest that follows a script: each [`enter`] runs the next step, which may
//! change the guest's registers and says how the guest comes back. The core's
//! registers are kept per thread and can be read back by the test.

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use crate::context::{El1, Exit, GuestContext, Ich, Stage2};
use crate::controls::{has_pointer_authentication, has_ras};

/// One run of a scripted guest.
pub type Step = Box<dyn FnOnce(&mut GuestContext) -> Exit>;

#[derive(Default)]
struct Core {
    steps: VecDeque<Step>,
    el1: BTreeMap<El1, u64>,
    ich: BTreeMap<Ich, u64>,
    lists: [u64; 16],
    ids: BTreeMap<(u8, u8), u64>,
    par: u64,
    /// What stage 1 makes of single pages, by their number.
    pages: std::vec::Vec<(u64, u64)>,
}

std::thread_local! {
    static CORE: RefCell<Core> = RefCell::default();
    static CONTROLS: Cell<Controls> = Cell::default();
}

/// What the hypervisor has set on the core that this thread plays.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Controls {
    /// Stage-2 tables.
    pub stage2: Stage2,
    /// HCR_EL2.
    pub hcr: u64,
    /// VMPIDR_EL2.
    pub vmpidr: u64,
    /// CNTVOFF_EL2.
    pub cntvoff: u64,
    /// How often EL1 was reset.
    pub resets: u32,
    /// How often its pointer-authentication keys were, where the core has them.
    pub keys_reset: u32,
    /// How often the syndromes of virtual SErrors were, where the core has them.
    pub syndromes_reset: u32,
}

/// Appends a step to this thread's script.
pub fn script(step: impl FnOnce(&mut GuestContext) -> Exit + 'static) {
    CORE.with_borrow_mut(|core| core.steps.push_back(Box::new(step)));
}

/// Steps of this thread's script that have not run.
pub fn steps_left() -> usize {
    CORE.with_borrow(|core| core.steps.len())
}

/// What the hypervisor has set on this thread's core.
pub fn controls() -> Controls {
    CONTROLS.get()
}

/// Sets what [`id_register`] answers.
pub fn set_id_register(crm: u8, op2: u8, value: u64) {
    CORE.with_borrow_mut(|core| core.ids.insert((crm, op2), value));
}

/// Sets what [`translate_stage1`] and [`translate_both`] answer.
pub fn set_translation(par: u64) {
    CORE.with_borrow_mut(|core| core.par = par);
}

/// Sets what [`translate_stage1`] answers for the page around `address`.
pub fn set_page_translation(address: u64, par: u64) {
    CORE.with_borrow_mut(|core| core.pages.push((address >> 12, par)));
}

/// Forgets script and registers of this thread's core.
pub fn clear() {
    CORE.take();
    CONTROLS.take();
}

/// Runs the next step of the script.
///
/// # Panics
/// When the script is over: the code under test entered a guest once too often.
pub fn enter(context: &mut GuestContext) -> Exit {
    let step = CORE.with_borrow_mut(|core| core.steps.pop_front());
    let exit = step.expect("the guest's script is over")(context);
    context.esr = exit.esr;
    context.far = exit.far;
    context.hpfar = exit.hpfar;
    exit
}

fn change(apply: impl FnOnce(&mut Controls)) {
    let mut controls = CONTROLS.get();
    apply(&mut controls);
    CONTROLS.set(controls);
}

/// Puts stage-2 tables in force.
pub fn set_stage2(stage2: Stage2) {
    change(|controls| controls.stage2 = stage2);
}

/// Sets HCR_EL2. RW, AMO, IMO and FMO are always added.
pub fn set_hcr(value: u64) {
    change(|controls| controls.hcr = value | 1 << 31 | 0b111 << 3);
}

/// Reads HCR_EL2.
pub fn hcr() -> u64 {
    CONTROLS.get().hcr
}

/// Sets what the guest reads as MPIDR_EL1 (bit 31 is added).
pub fn set_identity(affinity: u64) {
    change(|controls| controls.vmpidr = affinity | 1 << 31);
}

/// Sets CNTVOFF_EL2, in ticks.
pub fn set_virtual_offset(ticks: u64) {
    change(|controls| controls.cntvoff = ticks);
}

/// Puts EL1 and its timers into the state in which a vCPU starts.
pub fn reset_el1() {
    CORE.with_borrow_mut(|core| {
        core.el1.clear();
        core.el1.insert(El1::Sctlr, 0x30d0_0800);
    });
    change(|controls| {
        controls.resets += 1;
        controls.keys_reset += u32::from(has_pointer_authentication());
        controls.syndromes_reset += u32::from(has_ras());
    });
}

/// Reads a register of EL1 or its timers; 0 unless written.
pub fn read_el1(register: El1) -> u64 {
    CORE.with_borrow(|core| core.el1.get(&register).copied().unwrap_or(0))
}

/// Every register of EL1 and its timers that was written since the last reset.
pub fn written_el1() -> BTreeMap<El1, u64> {
    CORE.with_borrow(|core| core.el1.clone())
}

/// Writes a register of EL1 or its timers.
pub fn write_el1(register: El1, value: u64) {
    CORE.with_borrow_mut(|core| core.el1.insert(register, value));
}

/// Reads a register of the virtual GIC CPU interface; 0 unless written, ICH_VTR
/// says four list registers.
pub fn read_ich(register: Ich) -> u64 {
    let unwritten = if register == Ich::Vtr { 3 } else { 0 };
    CORE.with_borrow(|core| core.ich.get(&register).copied().unwrap_or(unwritten))
}

/// Writes a register of the virtual GIC CPU interface, the read-only ones too:
/// a test plays the hardware with it.
pub fn write_ich(register: Ich, value: u64) {
    CORE.with_borrow_mut(|core| core.ich.insert(register, value));
}

/// Reads ICH_LR`n`_EL2; 0 for an `n` past 15.
pub fn read_list(n: usize) -> u64 {
    CORE.with_borrow(|core| core.lists.get(n).copied().unwrap_or(0))
}

/// Writes ICH_LR`n`_EL2; ignored for an `n` past 15.
pub fn write_list(n: usize, value: u64) {
    CORE.with_borrow_mut(|core| {
        if let Some(list) = core.lists.get_mut(n) {
            *list = value;
        }
    });
}

/// What the guest's stage 1 makes of an address, as PAR_EL1.
pub fn translate_stage1(address: u64, _write: bool) -> u64 {
    CORE.with_borrow(|core| {
        let page = core.pages.iter().find(|(page, _)| *page == address >> 12);
        page.map_or(core.par, |(_, par)| *par)
    })
}

/// What both stages make of an address, as PAR_EL1.
pub fn translate_both(_address: u64, _write: bool) -> u64 {
    CORE.with_borrow(|core| core.par)
}

/// The core's own ID register; 0 unless set.
pub fn id_register(crm: u8, op2: u8) -> u64 {
    CORE.with_borrow(|core| core.ids.get(&(crm, op2)).copied().unwrap_or(0))
}

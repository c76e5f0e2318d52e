//! Plugging in and out: whatever step fails, nothing is left half done.

use std::cell::{Cell, RefCell};

use palisade_iommu::Group;
use palisade_vm::WireError;
use palisade_vm::passthrough::{Assigned, Fittings, Holder, PlugError, Which};
use palisade_vm::pci::PciError;

use super::*;

/// Notes what is fitted, and fails the step after `left` further ones.
struct Bench<'r> {
    rig: &'r Rig,
    left: Cell<Option<usize>>,
    fitted: RefCell<Vec<(&'static str, u32)>>,
    undone: RefCell<Vec<&'static str>>,
    /// No wire comes back.
    held: Cell<bool>,
}

impl<'r> Bench<'r> {
    fn new(rig: &'r Rig) -> Self {
        let (fitted, undone) = (RefCell::default(), RefCell::default());
        Self { rig, left: Cell::new(None), fitted, undone, held: Cell::new(false) }
    }

    fn fit(&self, what: &'static str, which: u32) -> Result<(), PlugError> {
        let left = self.left.get();
        if left == Some(0) {
            return Err(PciError::Taken(0).into());
        }
        self.left.set(left.map(|left| left - 1));
        self.fitted.borrow_mut().push((what, which));
        Ok(())
    }

    fn undo(&self, what: &'static str, which: u32) {
        self.fitted.borrow_mut().retain(|fitted| *fitted != (what, which));
        self.undone.borrow_mut().push(what);
    }

    fn owned(&self) -> usize {
        self.rig.book.rows().iter().filter(|row| row.owner.is_some()).count()
    }

    fn plug(&self, vm: u16, domain: &Arc<Domain>, bdfs: &[u16]) -> Result<usize, PlugError> {
        let devices: Vec<Device<'_>> =
            (1..).zip(bdfs).map(|(slot, bdf)| device(*bdf, slot << 3)).collect();
        let request = Request { vm, devices: &devices, present: &[], no_isolation: false };
        let rig = self.rig;
        rig.book.plug(self, &request, domain, &rig.iommus, &*rig.clock).map(|all| all.len())
    }

    fn unplug(&self, vm: u16, which: Which<'_>) -> Vec<(u16, Condition)> {
        let rig = self.rig;
        let returned = rig.book.unplug(self, vm, which, &rig.iommus, &*rig.clock);
        returned.devices.iter().map(|r| (r.address.requester(), r.condition)).collect()
    }
}

impl Fittings for Bench<'_> {
    fn share(&self, device: &Assigned) -> Result<(), PlugError> {
        self.fit("share", device.address.number())
    }
    fn unshare(&self, group: &Arc<Group>, _clean: bool) {
        for device in group.devices() {
            self.undo("share", device.get());
        }
    }
    fn open_messages(&self, device: &Assigned) -> Result<(), PlugError> {
        self.fit("messages", device.guest.bdf.into())
    }
    fn close_messages(&self, guest: u16) {
        assert!(self.owned() > 0, "its next owner could be waiting for them");
        self.undo("messages", guest.into());
    }
    fn connect(&self, device: &Assigned) -> Result<(), PlugError> {
        self.fit("wire", device.wire.expect("wired").0.intid)
    }
    fn disconnect(&self, intid: u32) -> Result<(), WireError> {
        assert!(self.owned() > 0, "its next owner could be waiting for it");
        self.undo("wire", intid);
        if self.held.get() { Err(WireError::Held(intid)) } else { Ok(()) }
    }
    fn show(&self, device: &Assigned) -> Result<(), PlugError> {
        self.fit("bus", device.guest.bdf.into())
    }
    fn hide(&self, guest: u16) {
        assert_eq!(self.rig.state(NVME), StreamState::Stage2, "first the guest loses it");
        self.undo("bus", guest.into());
    }
    fn kick(&self) {
        self.undone.borrow_mut().push("kick");
    }
    fn expose(&self) {
        self.undone.borrow_mut().push("expose");
    }
}

#[test]
fn a_plug_whose_kth_step_fails_leaves_nothing() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    for left in 0..8 {
        let bench = Bench::new(&rig);
        bench.left.set(Some(left));
        let refused = bench.plug(0, &domain, &[NVME, EDU]);
        assert_eq!(refused, Err(PciError::Taken(0).into()), "step {left}");
        assert_eq!(*bench.fitted.borrow(), [], "step {left}");
        assert_eq!(bench.owned(), 0, "step {left}");
        assert_eq!((rig.state(NVME), rig.state(EDU)), (StreamState::Abort, StreamState::Abort));
        assert!(rig.book.rows().iter().all(|row| row.condition == Condition::Free));
    }
    let bench = Bench::new(&rig);
    assert_eq!(bench.plug(0, &domain, &[NVME, EDU]), Ok(2), "and whole it works");
    assert_eq!(bench.fitted.borrow().len(), 8);
    assert_eq!(rig.driver.core_faults(), [] as [String; 0]);
}

#[test]
fn a_plug_whose_kth_driver_call_fails_leaves_nothing() {
    for calls in 0.. {
        let rig = rig(ports(), Some(FakeDriver::new()));
        let (_, domain) = rig.domain(0);
        let bench = Bench::new(&rig);
        rig.driver.fail_after(calls, DriverError::Timeout(StreamId::new(NVME.into())));
        let plugged = bench.plug(0, &domain, &[NVME, EDU]);
        if rig.driver.disarm() {
            assert!(calls > 1, "some call did fail");
            assert_eq!(plugged, Ok(2));
            return;
        }
        assert!(plugged.is_err(), "call {calls}");
        assert_eq!(*bench.fitted.borrow(), [], "call {calls}");
        assert_eq!(bench.owned(), 0, "call {calls}");
        assert!(![rig.state(NVME), rig.state(EDU)].contains(&StreamState::Stage2));
    }
}

#[test]
fn unplugging_undoes_every_step_in_one_order() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let bench = Bench::new(&rig);
    bench.plug(0, &domain, &[NVME, EDU]).expect("plugged");
    assert_eq!(bench.unplug(1, Which::All), [], "not that VM's");
    assert_eq!(bench.unplug(1, Which::These(&[at(NVME)])), []);
    bench.undone.borrow_mut().clear();
    assert_eq!(bench.unplug(0, Which::These(&[at(EDU)])), [(EDU, Condition::Free)]);
    assert_eq!(*bench.undone.borrow(), ["bus", "wire", "messages", "kick", "share"]);
    assert_eq!(bench.fitted.borrow().len(), 4, "the other stays as it was");
    assert_eq!(rig.state(NVME), StreamState::Stage2);
    assert_eq!(bench.unplug(0, Which::All), [(NVME, Condition::Free)]);
    assert_eq!(*bench.fitted.borrow(), []);
    assert_eq!(bench.owned(), 0);
}

#[test]
fn an_unplug_whose_kth_driver_call_fails_frees_nothing_that_is_not_confirmed() {
    for calls in 0.. {
        let rig = rig(ports(), Some(FakeDriver::new()));
        let (_, domain) = rig.domain(0);
        let bench = Bench::new(&rig);
        bench.plug(0, &domain, &[NVME]).expect("plugged");
        rig.driver.fail_after(calls, DriverError::Timeout(StreamId::new(NVME.into())));
        let returned = bench.unplug(0, Which::All);
        assert_eq!(*bench.fitted.borrow(), [], "call {calls}");
        assert_eq!(bench.owned(), 0, "call {calls}");
        if rig.driver.disarm() {
            assert!(calls > 0, "some call did fail");
            assert_eq!(returned, [(NVME, Condition::Free)]);
            return;
        }
        assert_eq!(returned, [(NVME, Condition::Dead)], "call {calls}");
    }
}

#[test]
fn a_wire_that_does_not_come_back_stays_its_owners() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let bench = Bench::new(&rig);
    bench.plug(0, &domain, &[NVME]).expect("plugged");
    let wire = rig.book.rows()[0].wire.expect("wired");
    bench.held.set(true);
    let unplugged = rig.book.unplug(&bench, 0, Which::All, &rig.iommus, &*rig.clock);
    assert_eq!(unplugged.held, Some(WireError::Held(wire)));
    assert_eq!(rig.book.lines().holder(wire), Some(Holder::Vm(0)), "nobody else gets it");
    assert_eq!(unplugged.devices.len(), 1);
    assert_eq!(rig.state(NVME), StreamState::Abort);
}

/// What nothing confines must prove itself idle: its reset is done, and nothing is pending.
#[test]
fn a_device_that_may_still_write_exposes_its_vms_memory() {
    let never = Device { no_reset: true, ..device(0x0020, 8) };
    for (smmu, one, exposed) in [
        (false, device(NVME, 8), false),
        // It cannot tell whether something is pending.
        (false, device(EDU, 8), true),
        // It can, and is not reset.
        (false, never, true),
        // Its stream aborts.
        (true, device(EDU, 8), false),
        (true, never, false),
    ] {
        let mut root = ports();
        root.push(edu_at(4).express(0, false));
        let rig = rig(root, smmu.then(FakeDriver::new));
        let (_, domain) = rig.domain(0);
        let devices = [one];
        let request = Request { vm: 0, devices: &devices, present: &[], no_isolation: !smmu };
        rig.book.assign(&request, &domain, &rig.iommus, &*rig.clock).expect("assigned");
        let returned = rig.book.take_back(0, &rig.iommus, &*rig.clock);
        assert!(returned.iter().all(|device| device.reaches == exposed), "{smmu} {one:?}");
    }
    // And the VM is told, where an abort was not confirmed too.
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let bench = Bench::new(&rig);
    bench.plug(0, &domain, &[NVME, EDU]).expect("plugged");
    rig.driver.fail_after(0, DriverError::Timeout(StreamId::new(EDU.into())));
    assert_eq!(bench.unplug(0, Which::These(&[at(EDU)])), [(EDU, Condition::Dead)]);
    assert!(bench.undone.borrow().contains(&"expose"));
    bench.undone.borrow_mut().clear();
    assert_eq!(bench.unplug(0, Which::All), [(NVME, Condition::Free)]);
    assert!(!bench.undone.borrow().contains(&"expose"));
}

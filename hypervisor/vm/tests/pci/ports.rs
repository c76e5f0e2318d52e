//! I/O ports: whole pages of the machine's window, where the guest puts them in its own.

use super::*;

/// As QEMU's e1000: registers, and ports to reset it by.
fn card() -> FakeFunction {
    FakeFunction::endpoint(0, 0, 0x100e_8086).bar32(0, 0x2_0000).bar_io(1, 0x40)
}

const PORT_BAR: u16 = header::BAR0 + 4;

#[test]
fn ports_are_mapped_where_the_guest_puts_them_while_they_are_decoded() {
    let rig = rig(card());
    let decoded = || rig.bus.peek32(DEVICE, header::COMMAND) as u16 & 3;
    let real = rig.bus.peek32(DEVICE, PORT_BAR);
    rig.write32(PORT_BAR, u32::MAX);
    assert_eq!(rig.read32(PORT_BAR), 0xffff_f001, "no less than a page");
    rig.write32(header::BAR0, LOW as u32);
    rig.write32(PORT_BAR, 0x2000);
    rig.command(header::COMMAND_MEMORY);
    let memory = (LOW, rig.bar(0), 0x2_0000);
    assert_eq!((rig.view.now(), decoded()), (vec![memory], header::COMMAND_MEMORY));
    rig.command(header::COMMAND_MEMORY | header::COMMAND_IO);
    let ports = |at| (at, rig.bar(1), 0x1000);
    assert_eq!((rig.view.now(), decoded()), (vec![memory, ports(0x3eff_2000)], 3));
    assert!((PORTS + 0x1000..PORTS + 0x1_0000).contains(&rig.bar(1)) && rig.bar(1) & 0xfff == 0);
    rig.write32(PORT_BAR, 0xf000);
    assert_eq!(rig.view.now(), [memory, ports(0x3eff_f000)]);
    // Beyond the window, and at the address that is none.
    for nowhere in [0x1_0000, 0, 0xffff_f000] {
        rig.write32(PORT_BAR, nowhere);
        assert_eq!(rig.view.now(), [memory]);
    }
    rig.write32(PORT_BAR, 0x3000);
    rig.command(header::COMMAND_IO);
    assert_eq!((rig.view.now(), decoded()), (vec![ports(0x3eff_3000)], header::COMMAND_IO));
    rig.command(0);
    assert_eq!((rig.view.now(), decoded()), (vec![], 0));
    assert_eq!(rig.bus.peek32(DEVICE, PORT_BAR), real, "the device's own address stays");
    // A reset of the machine's takes it, and it comes back with the memory's.
    rig.host.reset();
    rig.command(header::COMMAND_IO);
    assert_eq!((rig.read32(PORT_BAR), rig.view.now()), (1, vec![]), "as at first");
}

#[test]
fn ports_without_pages_of_their_own_are_not_there() {
    let rig = rig_behind(FakeFunction::root_port(1, vec![card()]).without_io());
    rig.write32(PORT_BAR, u32::MAX);
    assert_eq!(rig.read32(PORT_BAR), 0);
    rig.command(header::COMMAND_IO | header::COMMAND_MEMORY);
    assert_eq!(rig.read16(header::COMMAND), header::COMMAND_MEMORY);
    assert_eq!(rig.bus.peek32(DEVICE, header::COMMAND) as u16 & header::COMMAND_IO, 0);
}

//! The host in the device tree.

use super::*;

#[test]
fn the_device_tree_agrees_with_the_wires() {
    let mut fdt = TreeWriter::new();
    fdt.begin("");
    fdt.cell("#address-cells", 2);
    fdt.cell("#size-cells", 2);
    describe(&mut fdt, Interrupts { gic: 1, gic_address_cells: 2, its: None }, &[]);
    fdt.begin("gic");
    fdt.cell("phandle", 1);
    fdt.end();
    fdt.end();
    let blob = fdt.finish().expect("finish");
    // SPI 4 for device 1, pin A; SPI 6 for device 3, pin A; SPI 3 for device 3, pin B.
    assert_eq!((wire(1, 1), wire(3, 1), wire(3, 2)), (36, 38, 35));
    let line = |device: u32, pin: u32, spi: u32| {
        [device << 11, 0, 0, pin, 1, 0, 0, 0, spi, 4].map(u32::to_be_bytes).concat()
    };
    for (device, pin) in [(0, 1), (1, 1), (2, 3), (3, 4)] {
        let wanted = line(device, pin, wire(device as u8, pin as u8) - 32);
        assert!(blob.windows(wanted.len()).any(|window| window == wanted));
    }
}

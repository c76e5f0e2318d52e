//! Bundles, right ones and wrong ones: every refusal names file, VM and field.

mod common;

use common::{TestVm, Value, archive, bundle, entry, manifest};
use palisade_bundle::{Bundle, Device, Place, Problem, ReadOnly, Requester};

const CORES: usize = 4;

/// What the only VM of a bundle is refused with.
fn refusal(vm: TestVm) -> String {
    let bytes = bundle(&[vm]);
    let bundle = Bundle::parse(&bytes, CORES).expect("the rest is right");
    bundle.entries()[0].vm.as_ref().expect_err("must be refused").to_string()
}

#[test]
fn a_right_bundle_is_read_in_order() {
    let bytes = bundle(&[
        TestVm::plain("disk")
            .with("vcpus", Value::U32(2))
            .with("initrd", Value::Text("initrd.cpio"))
            .with("bootargs", Value::Text("console=ttyAMA0"))
            .with("readonly", Value::U64s(vec![0x4010_0000, 0x1000]))
            .device(&[("pci", Value::U32(0x0100)), ("guest-bdf", Value::U32(0x10))])
            .device(&[("pci", Value::U32(0x1_0200)), ("settle-ms", Value::U32(200))]),
        TestVm::plain("rogue")
            .with("dma-isolation", Value::Text("none"))
            .device(&[("fdt-path", Value::Text("/soc/timer@7e003000")), ("stalls", Value::Empty)])
            .device(&[
                ("pci", Value::U32(0x0300)),
                ("reset", Value::Text("none")),
                ("ats-trusted", Value::Empty),
            ]),
    ]);
    let bundle = Bundle::parse(&bytes, CORES).expect("right");
    let vms: Vec<_> =
        bundle.entries().iter().map(|entry| entry.vm.as_ref().expect("right")).collect();
    let (disk, rogue) = (vms[0], vms[1]);
    assert_eq!((disk.name, disk.vcpus, disk.memory), ("disk", 2, 32 << 20));
    assert_eq!((disk.kernel.name, disk.kernel.data), ("kernel.bin", &[0x5a; 8192][..]));
    assert_eq!(disk.initrd.map(|file| file.data.len()), Some(100));
    assert_eq!(disk.bootargs, "console=ttyAMA0");
    assert_eq!(disk.readonly[..], [ReadOnly { ipa: 0x4010_0000, size: 0x1000 }]);
    assert!(!disk.no_dma_isolation && rogue.no_dma_isolation);
    assert_eq!(
        disk.devices[0],
        Device {
            place: Place::Pci(Requester { segment: 0, bdf: 0x0100 }),
            guest: 0x10,
            no_reset: false,
            settle_ms: 0,
            ats_trusted: false,
            stalls: false,
        }
    );
    assert_eq!(disk.devices[1].place, Place::Pci(Requester { segment: 1, bdf: 0x0200 }));
    assert_eq!((disk.devices[1].guest, disk.devices[1].settle_ms), (0x08, 200), "first free slot");
    assert_eq!(rogue.devices[0].place, Place::Path("/soc/timer@7e003000"));
    assert!(rogue.devices[0].stalls && !rogue.devices[0].ats_trusted);
    assert!(rogue.devices[1].no_reset && rogue.devices[1].ats_trusted);
}

#[test]
fn refusals_name_vm_and_field() {
    let plain = || TestVm::plain("a");
    for (vm, message) in [
        (plain().with("vcpus", Value::U32(0)), "vcpus: 0 is out of range 1..=8"),
        (plain().with("vcpus", Value::U64(1)), "vcpus: wrong type or length"),
        (
            plain().with("memory", Value::U64(0x20_0001)),
            "memory: 0x200001 is not a multiple of 4 KiB",
        ),
        (
            plain().with("memory", Value::U64(1 << 60)),
            "memory: 1152921504606846976 is out of range 2097152..=137438953472",
        ),
        (
            plain().with("kernel", Value::Text("none.bin")),
            "kernel: the bundle has no file \"none.bin\"",
        ),
        (
            plain().with("kernel", Value::Text("empty.bin")),
            "kernel: the file \"empty.bin\" is empty",
        ),
        (
            plain().with("dma-isolation", Value::Text("off")),
            "dma-isolation: \"off\" is not allowed here",
        ),
        (plain().with("vcpu", Value::U32(1)), "vcpu: unknown"),
        (
            plain().with("readonly", Value::U64s(vec![0x4000_0000])),
            "readonly: wrong type or length",
        ),
        (
            plain().with("readonly", Value::U64s(vec![0x3fff_f000, 0x2000])),
            "readonly: 0x3ffff000 is outside the VM's memory",
        ),
        (
            plain().with("readonly", Value::U64s(vec![0x41ff_f000, 0x2000])),
            "readonly: 0x41fff000 is outside the VM's memory",
        ),
        (
            plain().with("readonly", Value::U64s(vec![0x4000_0800, 0x1000])),
            "readonly: 0x40000800 is not a multiple of 4 KiB",
        ),
        (
            plain().with("readonly", Value::U64s(vec![0x4000_0000, 0x2000, 0x4000_1000, 0x1000])),
            "readonly: overlaps another at 0x40001000",
        ),
        (
            plain().with("readonly", Value::U64s(vec![0x4000_0000, u64::MAX - 0xfff])),
            "readonly: 0x40000000 is outside the VM's memory",
        ),
        (plain().device(&[]), "device@0: needs either pci or fdt-path"),
        (
            plain().device(&[("pci", Value::U32(8)), ("fdt-path", Value::Text("/a"))]),
            "device@0: needs either pci or fdt-path",
        ),
        (
            plain().device(&[("fdt-path", Value::Text("soc"))]),
            "fdt-path: \"soc\" is not allowed here",
        ),
        (
            plain().device(&[("pci", Value::U32(8)), ("reset", Value::Text("soft"))]),
            "reset: \"soft\" is not allowed here",
        ),
        (
            plain().device(&[("pci", Value::U32(8)), ("settle-ms", Value::U32(60_001))]),
            "settle-ms: 60001 is out of range 0..=60000",
        ),
        (plain().device(&[("pci", Value::U32(8)), ("colour", Value::Empty)]), "colour: unknown"),
        (
            plain().device(&[("pci", Value::U32(8)), ("stalls", Value::Empty)]),
            "stalls: a PCI device must not be stalled",
        ),
        (
            plain().device(&[("fdt-path", Value::Text("/a")), ("stalls", Value::U32(1))]),
            "stalls: unknown",
        ),
        (
            plain().device(&[("fdt-path", Value::Text("/a")), ("ats-trusted", Value::Empty)]),
            "ats-trusted: is for devices on PCI only",
        ),
        (
            plain().device(&[("pci", Value::U32(8)), ("ats-trusted", Value::Text("yes"))]),
            "ats-trusted: unknown",
        ),
        (
            plain().device(&[("pci", Value::U32(8))]).device(&[("pci", Value::U32(8))]),
            "device@1: already claimed by vm \"a\"",
        ),
        (
            plain()
                .device(&[("pci", Value::U32(8)), ("guest-bdf", Value::U32(8))])
                .device(&[("pci", Value::U32(16)), ("guest-bdf", Value::U32(8))]),
            "device@1: two devices at guest address 0x0008",
        ),
    ] {
        assert_eq!(refusal(vm), format!("bundle: manifest.dtb: vm \"a\": {message}"));
    }
    let mut bare = plain();
    bare.properties.clear();
    assert_eq!(refusal(bare), "bundle: manifest.dtb: vm \"a\": vcpus: missing");
}

#[test]
fn images_must_fit_the_memory() {
    let kernel = vec![1u8; 3 << 20];
    let vm = TestVm::plain("big").with("memory", Value::U64(2 << 20));
    let bytes = archive(&[("manifest.dtb", &manifest(&[vm])), ("kernel.bin", &kernel)]);
    let bundle = Bundle::parse(&bytes, CORES).expect("the rest is right");
    assert_eq!(
        bundle.entries()[0].vm.as_ref().expect_err("too big").to_string(),
        "bundle: manifest.dtb: vm \"big\": memory: 4194304 bytes of images do not fit 2097152 bytes of memory"
    );
}

#[test]
fn one_bad_vm_leaves_the_others_alone() {
    let device = [("pci", Value::U32(0x0100))];
    let bytes = bundle(&[
        TestVm::plain("first").with("vcpus", Value::U32(2)).device(&device),
        TestVm::plain("thief").device(&device),
        TestVm::plain("wide").with("vcpus", Value::U32(3)),
        TestVm::plain("last").with("vcpus", Value::U32(2)),
    ]);
    let bundle = Bundle::parse(&bytes, CORES).expect("right as a whole");
    let results: Vec<_> = bundle
        .entries()
        .iter()
        .map(|entry| entry.vm.as_ref().map(|vm| vm.vcpus).map_err(ToString::to_string))
        .collect();
    assert_eq!(
        results,
        [
            Ok(2),
            Err("bundle: manifest.dtb: vm \"thief\": devices: already claimed by vm \"first\""
                .into()),
            Err("bundle: manifest.dtb: vm \"wide\": vcpus: needs 3 cores, 2 are left".into()),
            Ok(2),
        ]
    );
}

#[test]
fn what_is_wrong_as_a_whole() {
    let whole = |bytes: &[u8]| Bundle::parse(bytes, CORES).expect_err("wrong").to_string();
    assert_eq!(whole(b""), "bundle: truncated at byte 0x0");
    assert_eq!(whole(&[0; 512]), "bundle: no cpio (newc) header at byte 0x0");
    assert_eq!(
        whole(&archive(&[("kernel.bin", b"k")])),
        "bundle: the bundle has no file \"manifest.dtb\""
    );
    assert_eq!(
        whole(&archive(&[("manifest.dtb", b"garbage, not a tree at all, none whatever")])),
        "bundle: manifest.dtb: device tree is malformed at byte 0x0: no device tree magic"
    );
    assert_eq!(whole(&archive(&[("a", b"1"), ("a", b"2")])), "bundle: a: occurs twice");
    let mut link = entry("link", 0o120_777, b"target");
    link.extend(archive(&[]));
    assert_eq!(whole(&link), "bundle: link: neither a regular file nor a directory");
    let twin = [TestVm::plain("a"), TestVm::plain("a")];
    assert_eq!(whole(&bundle(&twin)), "bundle: manifest.dtb: vm \"a\": name: occurs twice");
    assert_eq!(whole(&bundle(&[])), "bundle: manifest.dtb: vms: missing");
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    assert_eq!(
        whole(&bundle(&names.map(TestVm::plain))),
        "bundle: manifest.dtb: vms: too many, at most 8"
    );
}

#[test]
fn directories_and_leading_dots_are_skipped() {
    let manifest = manifest(&[TestVm::plain("a")]);
    let mut bytes = entry(".", 0o040_755, b"");
    bytes.extend(entry("./manifest.dtb", 0o100_644, &manifest));
    bytes.extend(archive(&[("./kernel.bin", b"k")]));
    let bundle = Bundle::parse(&bytes, CORES).expect("right");
    assert!(bundle.entries()[0].vm.is_ok());
}

#[test]
fn truncation_and_damage_never_panic() {
    let whole = bundle(&[
        TestVm::plain("a").device(&[("pci", Value::U32(8))]),
        TestVm::plain("b").with("readonly", Value::U64s(vec![0x4010_0000, 0x1000])),
    ]);
    let size = Bundle::parse(&whole, CORES).expect("right").archive().size();
    for length in 0..size {
        let error = Bundle::parse(&whole[..length], CORES).expect_err("cut");
        assert!(matches!(error.problem, Problem::Truncated(_)), "cut to {length}: {error}");
    }
    // Everything but the kernel's own bytes, which mean nothing here.
    let kernel = whole.windows(4).position(|window| window == [0x5a; 4]).expect("kernel");
    let mut bytes = whole.clone();
    for at in (0..size).filter(|at| !(kernel..kernel + 8192).contains(at)) {
        for mask in [0xff, 0x01] {
            bytes[at] ^= mask;
            if let Ok(bundle) = Bundle::parse(&bytes, CORES) {
                for entry in bundle.entries() {
                    if let Err(error) = &entry.vm {
                        assert!(!error.to_string().is_empty());
                    }
                }
            }
            bytes[at] ^= mask;
        }
    }
}

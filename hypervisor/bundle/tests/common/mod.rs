//! Builds bundles, right and wrong ones.

use vm_fdt::FdtWriter;

/// One newc entry: header, name, data, padding.
pub fn entry(name: &str, mode: u32, data: &[u8]) -> Vec<u8> {
    let fields = [1, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    let mut out = b"070701".to_vec();
    for field in fields {
        out.extend(format!("{field:08X}").bytes());
    }
    out.extend(name.bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(data);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// An archive of regular files with a trailer, padded to 512 bytes.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in files {
        out.extend(entry(name, 0o100_644, data));
    }
    out.extend(entry("TRAILER!!!", 0, &[]));
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// What a property of a test manifest holds.
#[derive(Clone, Debug)]
pub enum Value {
    U32(u32),
    U64(u64),
    U64s(Vec<u64>),
    Text(&'static str),
    Empty,
}

/// A VM of a test manifest.
#[derive(Clone, Debug)]
pub struct TestVm {
    pub name: &'static str,
    pub properties: Vec<(&'static str, Value)>,
    pub devices: Vec<Vec<(&'static str, Value)>>,
}

impl TestVm {
    /// A VM that is right.
    pub fn plain(name: &'static str) -> Self {
        Self {
            name,
            properties: vec![
                ("vcpus", Value::U32(1)),
                ("memory", Value::U64(32 << 20)),
                ("kernel", Value::Text("kernel.bin")),
            ],
            devices: vec![],
        }
    }

    /// Replaces or adds a property.
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.properties.retain(|(other, _)| *other != name);
        self.properties.push((name, value));
        self
    }

    /// Adds a device.
    pub fn device(mut self, properties: &[(&'static str, Value)]) -> Self {
        self.devices.push(properties.to_vec());
        self
    }
}

fn put(fdt: &mut FdtWriter, name: &str, value: &Value) {
    match value {
        Value::U32(value) => fdt.property_u32(name, *value),
        Value::U64(value) => fdt.property_u64(name, *value),
        Value::U64s(values) => fdt.property_array_u64(name, values),
        Value::Text(value) => fdt.property_string(name, value),
        Value::Empty => fdt.property_null(name),
    }
    .expect("property");
}

/// A manifest of version 1.
pub fn manifest(vms: &[TestVm]) -> Vec<u8> {
    let mut fdt = FdtWriter::new().expect("writer");
    let root = fdt.begin_node("").expect("root");
    fdt.property_string("compatible", "palisade,manifest-1").expect("compatible");
    let list = fdt.begin_node("vms").expect("vms");
    for vm in vms {
        let node = fdt.begin_node(vm.name).expect("vm");
        for (name, value) in &vm.properties {
            put(&mut fdt, name, value);
        }
        if !vm.devices.is_empty() {
            let devices = fdt.begin_node("devices").expect("devices");
            for (index, device) in vm.devices.iter().enumerate() {
                let node = fdt.begin_node(&format!("device@{index}")).expect("device");
                for (name, value) in device {
                    put(&mut fdt, name, value);
                }
                fdt.end_node(node).expect("end");
            }
            fdt.end_node(devices).expect("end");
        }
        fdt.end_node(node).expect("end");
    }
    fdt.end_node(list).expect("end");
    fdt.end_node(root).expect("end");
    fdt.finish().expect("finish")
}

/// A bundle of these VMs with a `kernel.bin` of 8 KiB and an `empty.bin`.
pub fn bundle(vms: &[TestVm]) -> Vec<u8> {
    archive(&[
        ("manifest.dtb", &manifest(vms)),
        ("kernel.bin", &[0x5a; 8192]),
        ("initrd.cpio", &[1; 100]),
        ("empty.bin", &[]),
    ])
}

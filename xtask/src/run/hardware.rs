//! QEMU's command line for a machine of ours.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use palisade_e2e::scenario::{Device, Scenario, size};

/// Root ports stand at device 1 and up; the machine has room for that many.
const MOST_PORTS: usize = 30;
/// Bytes of the file that a network card can bring.
const FILE: usize = 128 << 10;

/// A machine's command line under construction.
#[derive(Clone, Debug, Default)]
pub struct Hardware {
    /// QEMU's arguments.
    pub arguments: Vec<OsString>,
    /// The disk image of each device that has one.
    pub disks: Vec<Option<PathBuf>>,
    /// The file that each network card can bring its guest.
    pub files: Vec<Option<PathBuf>>,
}

impl Hardware {
    fn word(&mut self, word: impl Into<OsString>) {
        self.arguments.push(word.into());
    }

    /// The machine of a scenario: CPUs, memory, GIC, SMMU.
    pub fn machine(scenario: &Scenario, cores: u32) -> Result<Self> {
        let mut hardware = Self::default();
        let smmu = if scenario.smmu { ",iommu=smmuv3" } else { "" };
        let Scenario { machine, gic, cpu, memory, .. } = scenario;
        let memory = size(memory).with_context(|| format!("memory: {memory:?} is no size"))?;
        hardware.word("-M");
        hardware.word(format!("{machine},virtualization=on,gic-version={gic}{smmu}"));
        for word in ["-cpu", cpu, "-smp", &cores.to_string(), "-m"] {
            hardware.word(word);
        }
        hardware.word(format!("{}M", memory >> 20));
        if scenario.icount {
            hardware.word("-icount");
            hardware.word("shift=0,sleep=off");
        }
        Ok(hardware)
    }

    /// What the machine boots.
    pub fn boot(&mut self, kernel: &Path, initrd: Option<&Path>, append: &str) {
        self.word("-kernel");
        self.word(kernel);
        if let Some(initrd) = initrd {
            self.word("-initrd");
            self.word(initrd);
        }
        self.word("-append");
        self.word(append);
    }

    /// A machine that boots by its firmware, from the volume in a folder. The volume is no PCI
    /// device, so that buses are numbered as without it.
    pub fn boot_uefi(&mut self, firmware: &Path, volume: &Path) {
        self.word("-bios");
        self.word(firmware);
        self.word("-drive");
        let volume = volume.display();
        self.word(format!("if=none,id=esp,format=raw,readonly=on,file=fat:{volume}"));
        self.word("-device");
        self.word("virtio-blk-device,drive=esp,bootindex=0");
    }

    /// Adds devices, each behind its own root port unless it says otherwise, so that the n-th
    /// port's device is found at bus n while there are no bridges. Disk images are made in
    /// `folder`.
    pub fn devices(&mut self, devices: &[Device], folder: &Path) -> Result<()> {
        let mut ports = 0;
        let mut slots = 0;
        for (number, device) in devices.iter().enumerate() {
            let what = || format!("device {:?}", device.qemu);
            let disk = match &device.disk {
                Some(text) => {
                    let bytes = size(text)
                        .with_context(|| format!("{}: disk: {text:?} is no size", what()))?;
                    let path = folder.join(format!("disk{number}.img"));
                    File::create(&path)
                        .and_then(|file| file.set_len(bytes))
                        .with_context(|| format!("cannot make {}", path.display()))?;
                    self.word("-drive");
                    let file = path.display();
                    self.word(format!(
                        "file={file},if=none,format=raw,id=disk{number},cache=writethrough"
                    ));
                    Some(path)
                }
                None => None,
            };
            let mut words = device.qemu.clone();
            if disk.is_some() {
                words.push_str(&format!(",drive=disk{number}"));
            }
            let file = if device.net { Some(self.network(number, folder)?) } else { None };
            if file.is_some() {
                words.push_str(&format!(",netdev=net{number},romfile="));
            }
            if device.port {
                let shares = device.function > 0 || device.bridge && slots > 0;
                if !shares {
                    ports += 1;
                    anyhow::ensure!(ports <= MOST_PORTS, "{}: no room for more devices", what());
                    self.port(ports, device.bridge);
                }
                slots = match (device.bridge, device.function) {
                    (true, 0) => slots + 1,
                    (true, _) => slots,
                    (false, _) => 0,
                };
                let bus = if device.bridge { "bridge" } else { "port" };
                let function = device.function;
                words.push_str(&format!(",bus={bus}{ports},addr={slots:#x}.{function}"));
            } else {
                slots = 0;
                words.push_str(",bus=pcie.0");
            }
            if device.function == 0 && devices.get(number + 1).is_some_and(|d| d.function > 0) {
                words.push_str(",multifunction=on");
            }
            self.word("-device");
            self.word(words);
            self.disks.push(disk);
            self.files.push(file);
        }
        Ok(())
    }

    /// Adds a root port, with a conventional bridge behind it or not.
    fn port(&mut self, number: usize, bridge: bool) {
        self.word("-device");
        self.word(format!(
            "pcie-root-port,id=port{number},bus=pcie.0,addr={number:#x},chassis={number}"
        ));
        if bridge {
            self.word("-device");
            self.word(format!("pcie-pci-bridge,id=bridge{number},bus=port{number},addr=0"));
        }
    }

    /// The host's end of a network card's line: QEMU itself answers there, and hands out one file.
    fn network(&mut self, number: usize, folder: &Path) -> Result<PathBuf> {
        let shared = folder.join(format!("net{number}"));
        let path = shared.join("data");
        // Bytes that differ from card to card.
        let mut word = number as u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (word >> 56) as u8
        })
        .take(FILE)
        .collect();
        std::fs::create_dir_all(&shared)
            .and_then(|()| std::fs::write(&path, bytes))
            .with_context(|| format!("cannot make {}", path.display()))?;
        self.word("-netdev");
        self.word(format!("user,id=net{number},ipv6=off,tftp={}", shared.display()));
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(qemu: &str) -> Device {
        let qemu = qemu.to_owned();
        Device { qemu, disk: None, net: false, port: true, function: 0, bridge: false }
    }

    #[test]
    fn functions_and_conventional_devices_share_their_port() {
        let folder = tempfile::tempdir().unwrap();
        let mut hardware = Hardware::default();
        let behind = |function| Device { bridge: true, function, ..device("edu") };
        let one = Device { function: 1, ..device("edu") };
        let devices = [device("nvme"), one, behind(0), behind(0), behind(1), device("edu")];
        hardware.devices(&devices, folder.path()).unwrap();
        let words: Vec<_> = hardware.arguments.iter().filter_map(|word| word.to_str()).collect();
        for word in [
            "nvme,bus=port1,addr=0x0.0,multifunction=on",
            "edu,bus=port1,addr=0x0.1",
            "pcie-pci-bridge,id=bridge2,bus=port2,addr=0",
            "edu,bus=bridge2,addr=0x1.0",
            "edu,bus=bridge2,addr=0x2.0,multifunction=on",
            "edu,bus=bridge2,addr=0x2.1",
            "edu,bus=port3,addr=0x0.0",
        ] {
            assert!(words.contains(&word), "{word}: {words:?}");
        }
    }

    #[test]
    fn every_device_gets_its_own_port_and_bus() {
        let folder = tempfile::tempdir().unwrap();
        let mut hardware = Hardware::default();
        let mut disk = device("virtio-blk-pci");
        disk.disk = Some("1MiB".to_owned());
        let mut nvme = device("nvme,serial=1");
        nvme.port = false;
        hardware.devices(&[disk, nvme, device("edu")], folder.path()).unwrap();
        let words: Vec<_> = hardware.arguments.iter().filter_map(|word| word.to_str()).collect();
        assert!(words.contains(&"virtio-blk-pci,drive=disk0,bus=port1,addr=0x0.0"), "{words:?}");
        assert!(words.contains(&"nvme,serial=1,bus=pcie.0"), "{words:?}");
        assert!(words.contains(&"edu,bus=port2,addr=0x0.0"), "{words:?}");
        assert_eq!(folder.path().join("disk0.img").metadata().unwrap().len(), 1 << 20);
    }
}

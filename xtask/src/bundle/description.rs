//! What an operator writes: VMs in TOML. Scenario files hold the same and a `[scenario]` table.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use palisade_e2e::scenario::Scenario;
use serde::Deserialize;

/// A whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The machine and the host's part, in scenario files.
    #[serde(default)]
    pub scenario: Option<Scenario>,
    /// The VMs, in the order of their consoles' channels.
    #[serde(default, rename = "vm")]
    pub vms: Vec<Vm>,
}

/// One VM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// vCPUs, each on a core of its own.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// RAM, such as "64MiB".
    pub memory: String,
    /// "payload:NAME", "debian:kernel", or a file beside the TOML file.
    pub kernel: String,
    /// "debian:initramfs", or a file beside the TOML file.
    #[serde(default)]
    pub initrd: Option<String>,
    /// The kernel is firmware, which starts in flash at address 0; also "debian:u-boot" and
    /// "debian:edk2" then.
    #[serde(default)]
    pub firmware: bool,
    /// The guest's command line.
    #[serde(default)]
    pub bootargs: String,
    /// "smmu" (the default) or "none".
    #[serde(default)]
    pub dma_isolation: Option<String>,
    /// "smmuv3": an SMMU of its own before its devices; "none" (the default).
    #[serde(default)]
    pub iommu: Option<String>,
    /// The devices it owns.
    #[serde(default, rename = "device")]
    pub devices: Vec<Device>,
    /// Guest memory that it, and its devices, may only read.
    #[serde(default)]
    pub readonly: Vec<ReadOnly>,
}

/// A device of a VM.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its PCI address, such as "0000:01:00.0".
    #[serde(default)]
    pub pci: Option<String>,
    /// Its path in the machine's device tree.
    #[serde(default)]
    pub fdt_path: Option<String>,
    /// Where the guest sees it, such as "00:01.0".
    #[serde(default)]
    pub guest: Option<String>,
    /// "none": it cannot be reset and that is accepted.
    #[serde(default)]
    pub reset: Option<String>,
    /// Milliseconds that its DMA may still be under way after it was told to stop.
    #[serde(default)]
    pub settle_ms: Option<u32>,
    /// It may hold translations itself (ATS): a device that lies about them reaches all memory.
    #[serde(default)]
    pub ats_trusted: bool,
    /// Its faulting transactions may stall until the guest answers; never on PCI.
    #[serde(default)]
    pub stalls: bool,
}

/// A range of guest memory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadOnly {
    /// Its guest-physical address.
    pub ipa: u64,
    /// Its size, such as "4KiB".
    pub size: String,
}

fn one() -> u32 {
    1
}

impl Description {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the file, the line and the field.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }
}

/// A PCI address: segment, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Segment, 0..=65535.
    pub segment: u16,
    /// Bus.
    pub bus: u8,
    /// Device, 0..=31.
    pub device: u8,
    /// Function, 0..=7.
    pub function: u8,
}

impl Address {
    /// segment << 16 | bus << 8 | device << 3 | function.
    pub fn word(self) -> u32 {
        let Self { segment, bus, device, function } = self;
        u32::from(segment) << 16
            | u32::from(bus) << 8
            | u32::from(device) << 3
            | u32::from(function)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, bus, device, function } = self;
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl FromStr for Address {
    type Err = anyhow::Error;

    /// Reads `[SSSS:]BB:DD.F`, hexadecimal as lspci writes it.
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (segment, bus, rest) = match parts.as_slice() {
            [bus, rest] => ("0", *bus, *rest),
            [segment, bus, rest] => (*segment, *bus, *rest),
            _ => bail!("{text:?} is no PCI address such as 0000:01:00.0"),
        };
        let wrong = || format!("{text:?} is no PCI address such as 0000:01:00.0");
        let (device, function) = rest.split_once('.').with_context(wrong)?;
        let segment = u16::from_str_radix(segment, 16).with_context(wrong)?;
        let bus = u8::from_str_radix(bus, 16).with_context(wrong)?;
        let device = u8::from_str_radix(device, 16).with_context(wrong)?;
        let function = u8::from_str_radix(function, 16).with_context(wrong)?;
        if device > 31 || function > 7 {
            bail!("{text:?}: the device goes up to 1f and the function up to 7");
        }
        Ok(Self { segment, bus, device, function })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses() {
        let address: Address = "0001:02:1f.7".parse().unwrap();
        assert_eq!(address.word(), 0x0001_02ff);
        assert_eq!(address.to_string(), "0001:02:1f.7");
        assert_eq!("00:01.0".parse::<Address>().unwrap().word(), 8);
        for bad in ["", "1", "00:20.0", "00:01.8", "00:01", "x:01.0", "1:2:3:4.0", "100:00.0"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let text = "[[vm]]\nname='a'\nmemory='1MiB'\nkernel='k'\ncolour='red'\n";
        let error = toml::from_str::<Description>(text).unwrap_err().to_string();
        assert!(error.contains("colour"), "{error}");
    }
}

//! What a scenario file says beside its VMs.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The `[scenario]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, as in the report.
    pub name: String,
    /// One line for people.
    #[serde(default)]
    pub about: String,
    /// QEMU's machine.
    #[serde(default = "default_machine")]
    pub machine: String,
    /// QEMU's CPU.
    #[serde(default = "default_cpu")]
    pub cpu: String,
    /// Whether the machine has an SMMU.
    #[serde(default = "yes")]
    pub smmu: bool,
    /// Version of the machine's GIC.
    #[serde(default = "default_gic")]
    pub gic: u8,
    /// Cores of the machine; the sum of the VMs' vCPUs when not said.
    #[serde(default)]
    pub cores: Option<u32>,
    /// The machine's memory.
    #[serde(default = "default_memory")]
    pub memory: String,
    /// Seconds allowed for the whole run.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
    /// Who plays the host's part.
    pub driver: Driver,
    /// The names of all checks; a missing one fails the verdict.
    pub checks: Vec<String>,
    /// The bundle is packed without looking at it: the hypervisor is to find what is wrong.
    #[serde(default)]
    pub unchecked: bool,
    /// How often the `restart` driver lets a VM run, and the `reboots` driver has it reset.
    #[serde(default)]
    pub cycles: u32,
    /// QEMU counts instructions: one takes a nanosecond of the machine's time, and sleep none of
    /// the host's.
    #[serde(default)]
    pub icount: bool,
    /// For the `exits` driver: the instructions of each exit, as they were last.
    #[serde(default)]
    pub instructions: BTreeMap<String, u64>,
    /// More words for the hypervisor's command line.
    #[serde(default)]
    pub bootargs: String,
    /// The machine's PCI devices, in the order of their root ports.
    #[serde(default, rename = "device")]
    pub devices: Vec<Device>,
    /// What each VM must come to, for the `states` driver.
    #[serde(default, rename = "expect")]
    pub expected: Vec<Expected>,
}

/// Who plays the host's part in a scenario.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// Two VMs, one of them attacking.
    Isolation,
    /// More input at once than anybody takes at once.
    Burst,
    /// The same attack with nothing in its way.
    Control,
    /// One VM works while another does whatever comes to its mind.
    Gremlin,
    /// What each of a guest's exits costs in instructions.
    Exits,
    /// A board without an SMMU.
    Honest,
    /// What the words `dma_isolation = "none"` bring about there.
    HonestControl,
    /// An unmodified kernel does its jobs.
    Linux,
    /// Unmodified kernels drive SMMUs of their own.
    LinuxIommu,
    /// A guest shares address spaces with its device.
    Sva,
    /// The operator moves devices between VMs that run.
    Reassign,
    /// A VM starts itself anew, over and over.
    Reboots,
    /// A VM powers off and is started anew, over and over.
    Restart,
    /// Two unmodified kernels with a disk and a network card each, and one VM that attacks both.
    TwoLinux,
    /// Nothing to do but to wait for what each VM comes to.
    States,
}

/// A PCI device of the machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// QEMU's `-device` argument without bus and address.
    pub qemu: String,
    /// Size of a fresh disk image for it.
    #[serde(default)]
    pub disk: Option<String>,
    /// Whether it is a network card: the host then answers on its line, and has a file for it.
    #[serde(default)]
    pub net: bool,
    /// Whether it stands behind its own root port.
    #[serde(default = "yes")]
    pub port: bool,
    /// Its function number; above 0 it is one more function of the device before it.
    #[serde(default)]
    pub function: u8,
    /// Whether a conventional bridge stands between its root port and it. Such devices that follow
    /// one another share the bridge, on which they are devices 1, 2 and so on.
    #[serde(default)]
    pub bridge: bool,
}

/// What a VM must come to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The check's name.
    pub check: String,
    /// The VM's name.
    pub vm: String,
    /// "off", "crashed" or "refused".
    pub state: String,
    /// Words that the error must hold.
    #[serde(default)]
    pub words: Vec<String>,
    /// What a line of its console must start with.
    #[serde(default)]
    pub says: Option<String>,
}

fn default_machine() -> String {
    "virt".to_owned()
}

fn default_cpu() -> String {
    "cortex-a72".to_owned()
}

fn default_memory() -> String {
    "2GiB".to_owned()
}

fn default_gic() -> u8 {
    3
}

fn default_timeout() -> u64 {
    120
}

fn yes() -> bool {
    true
}

/// Reads a size: bytes, or with KiB, MiB, GiB (K, M, G). `None` when it is none or too large.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let shift = match unit.trim() {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("2G"), Some(2 << 30));
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("1 KiB"), Some(1024));
        for bad in ["", "MiB", "1TB", "-1", "99999999999999G", "1.5G"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}

//! What can be wrong with a bundle: file, VM and field first.

use alloc::boxed::Box;
use core::fmt;

use palisade_fdt::Fault;

/// Why a bundle, or one VM of it, is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error<'a> {
    /// The file of the bundle, empty where it is the archive itself.
    pub file: &'a str,
    /// The VM, empty where it is the whole manifest.
    pub vm: &'a str,
    /// The property or node, empty where there is none.
    pub field: &'a str,
    /// What is wrong.
    pub problem: Problem<'a>,
}

impl<'a> Error<'a> {
    /// In a box: every step of reading hands it up, and it is long.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(
        file: &'a str,
        vm: &'a str,
        field: &'a str,
        problem: Problem<'a>,
    ) -> Box<Self> {
        Box::new(Self { file, vm, field, problem })
    }
}

impl core::error::Error for Error<'_> {}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bundle: ")?;
        if !self.file.is_empty() {
            write!(f, "{}: ", self.file)?;
        }
        if !self.vm.is_empty() {
            write!(f, "vm \"{}\": ", self.vm)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        fmt::Display::fmt(&self.problem, f)
    }
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem<'a> {
    /// The archive ends in the middle of something.
    #[error("truncated at byte {0:#x}")]
    Truncated(usize),
    /// There is no newc header where one must be.
    #[error("no cpio (newc) header at byte {0:#x}")]
    Header(usize),
    /// The name of a file is empty, too long or not printable ASCII.
    #[error("a file's name at byte {0:#x} is not usable")]
    FileName(usize),
    /// The archive holds something that is no file.
    #[error("neither a regular file nor a directory")]
    FileKind,
    /// Two files have one name.
    #[error("occurs twice")]
    Twice,
    /// There are more of them than Palisade keeps.
    #[error("too many, at most {0}")]
    TooMany(usize),
    /// There is no such file in the bundle.
    #[error("the bundle has no file \"{0}\"")]
    NoSuchFile(&'a str),
    /// The file is empty.
    #[error("the file \"{0}\" is empty")]
    EmptyFile(&'a str),
    /// The manifest's bytes are no device tree.
    #[error("{0}")]
    Malformed(Fault),
    /// A manifest of another version, or something else.
    #[error("not a manifest of version 1")]
    Version,
    /// Firmware does not look for it.
    #[error("firmware does not look for one: give either")]
    WithFirmware,
    /// Missing.
    #[error("missing")]
    Missing,
    /// Nothing that the manifest format knows.
    #[error("unknown")]
    Unknown,
    /// The value has the wrong length or type.
    #[error("wrong type or length")]
    Type,
    /// The value is out of range.
    #[error("{value} is out of range {least}..={most}")]
    Value {
        /// The value.
        value: u64,
        /// Least allowed.
        least: u64,
        /// Most allowed.
        most: u64,
    },
    /// The address is not aligned to 4 KiB.
    #[error("{0:#x} is not a multiple of 4 KiB")]
    Misaligned(u64),
    /// A range lies outside the VM's memory.
    #[error("{0:#x} is outside the VM's memory")]
    Outside(u64),
    /// Two ranges overlap.
    #[error("overlaps another at {0:#x}")]
    Overlap(u64),
    /// The text is none of the allowed ones.
    #[error("\"{0}\" is not allowed here")]
    Text(&'a str),
    /// Kernel and initrd do not fit the VM's memory.
    #[error("{needed} bytes of images do not fit {memory} bytes of memory")]
    Images {
        /// Bytes of kernel and initrd and the room the boot protocol wants.
        needed: u64,
        /// Bytes of memory.
        memory: u64,
    },
    /// Another VM, or another entry, has the device already.
    #[error("already claimed by vm \"{0}\"")]
    Claimed(&'a str),
    /// Two devices at one place of the guest's bus.
    #[error("two devices at guest address {0:#06x}")]
    GuestAddress(u16),
    /// Either a PCI address or a path, and not both.
    #[error("needs either pci or fdt-path")]
    Place,
    /// What waits for software on PCI can wait for ever (IHI 0070 §3.12, §16.4).
    #[error("a PCI device must not be stalled")]
    Stalls,
    /// A property that means something on PCI only.
    #[error("is for devices on PCI only")]
    OnPciOnly,
    /// The VMs before this one left too few cores.
    #[error("needs {wanted} cores, {left} are left")]
    Cores {
        /// Asked for.
        wanted: usize,
        /// Left.
        left: usize,
    },
}

//! PAR_EL1: the answer of an address translation instruction (DDI 0487, D24.2.142).

use core::fmt;

/// Which kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// No entry, or an address outside of what the table translates.
    Translation,
    /// An address that is wider than the output size.
    AddressSize,
}

/// An answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Translated; the physical address of the 4 KiB around it.
    Page(u64),
    /// A fault: its kind, level (−1 to 3) and whether stage 2 is to blame.
    Fault(Kind, i8, bool),
    /// Any other: PAR_EL1 itself.
    Other(u64),
}

/// F: the translation failed.
const F: u64 = 1 << 0;
/// PA, for a translation that succeeded.
const PA: u64 = 0x000f_ffff_ffff_f000;
/// FST starts here.
const FST_SHIFT: u32 = 1;
/// PTW: stage 2 faulted on a walk of stage 1.
const PTW: u64 = 1 << 8;
/// S: stage 2 faulted.
const S: u64 = 1 << 9;

impl Answer {
    /// Takes PAR_EL1 apart.
    pub fn new(par: u64) -> Self {
        if par & F == 0 {
            return Self::Page(par & PA);
        }
        let (kind, level) = match par >> FST_SHIFT & 0x3f {
            code @ 0x00..=0x03 => (Kind::AddressSize, code as i8),
            code @ 0x04..=0x07 => (Kind::Translation, code as i8 - 4),
            0x29 => (Kind::AddressSize, -1),
            0x2b => (Kind::Translation, -1),
            _ => return Self::Other(par),
        };
        if par & PTW != 0 {
            return Self::Other(par);
        }
        Self::Fault(kind, level, par & S != 0)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Page(pa) => write!(f, "{pa:#x}"),
            Self::Fault(kind, level, stage2) => {
                write!(f, "{kind:?} fault, level {level}, stage {}", 1 + u8::from(stage2))
            }
            Self::Other(par) => write!(f, "PAR_EL1 = {par:#x}"),
        }
    }
}

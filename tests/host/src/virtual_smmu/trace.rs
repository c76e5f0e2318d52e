//! What a kernel did with its SMMU: the order of registers and opcodes, without operands.

use std::fmt;

use super::kernel;

/// One thing that the kernel did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A load of a register.
    Load(u64),
    /// A store of so many bytes.
    Store(u64, u8, u64),
    /// Commands by their names, and the store of CMDQ_PROD that offers them.
    Commands(Vec<String>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(offset) => write!(f, "load {offset:#x}"),
            Self::Store(offset, bytes, value) => write!(f, "store {offset:#x} {bytes} {value:#x}"),
            Self::Commands(names) => write!(f, "commands {}", names.join(" ")),
        }
    }
}

/// A trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In order.
    pub steps: Vec<Step>,
}

impl Trace {
    /// Reads what QEMU's `smmuv3_*` trace points print. QEMU prints a command when it carries it
    /// out, which is inside the store that offers it.
    ///
    /// # Errors
    /// A line that means nothing.
    pub fn from_qemu(text: &str) -> Result<Self, String> {
        let (mut steps, mut commands) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["smmuv3_cmdq_opcode", "<---", name] => {
                    commands.push(name.trim_start_matches("SMMU_CMD_").to_owned());
                }
                ["smmuv3_read_mmio", "addr:", offset, ..] => {
                    steps.push(Step::Load(page_one(number(offset)?)));
                }
                ["smmuv3_write_mmio", "addr:", offset, value, "size:", bytes, ..] => {
                    let offset = page_one(number(offset)?);
                    if offset == kernel::CMDQ_PROD && !commands.is_empty() {
                        steps.push(Step::Commands(std::mem::take(&mut commands)));
                        continue;
                    }
                    let value = number(value.trim_start_matches("val:"))?;
                    let bytes = number(bytes.split('(').next().unwrap_or(""))? as u8;
                    steps.push(Step::Store(offset, bytes, value));
                }
                _ => {}
            }
        }
        Ok(Self { steps })
    }

    /// Reads the compact form: a step per line, `;` between steps that come again together, and
    /// how often before them.
    ///
    /// # Errors
    /// A line that means nothing.
    pub fn from_compact(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (times, together) = match line.split_once(" x ") {
                Some((times, rest)) => (number(times)?, rest),
                None => (1, line),
            };
            let together = together.split(';').map(step).collect::<Result<Vec<_>, _>>()?;
            for _ in 0..times {
                steps.extend(together.iter().cloned());
            }
        }
        Ok(Self { steps })
    }

    /// The compact form.
    pub fn compact(&self) -> String {
        let mut text = String::new();
        let mut rest = self.steps.as_slice();
        while !rest.is_empty() {
            let length = 1 + usize::from(matches!(
                rest,
                [Step::Commands(_), Step::Load(kernel::CMDQ_CONS), ..]
            ));
            let (together, _) = rest.split_at(length);
            let times = rest.chunks_exact(length).take_while(|chunk| *chunk == together).count();
            if times > 1 {
                text.push_str(&format!("{times} x "));
            }
            let words: Vec<String> = together.iter().map(ToString::to_string).collect();
            text.push_str(&words.join("; "));
            text.push('\n');
            rest = rest.split_at(times * length).1;
        }
        text
    }
}

fn step(text: &str) -> Result<Step, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(match words.as_slice() {
        ["load", offset] => Step::Load(number(offset)?),
        ["store", offset, bytes, value] => {
            Step::Store(number(offset)?, number(bytes)? as u8, number(value)?)
        }
        ["commands", names @ ..] => {
            Step::Commands(names.iter().map(|&name| name.to_owned()).collect())
        }
        _ => return Err(format!("no step: {text:?}")),
    })
}

/// QEMU prints registers of page 1 (6.2) by their place in it.
fn page_one(offset: u64) -> u64 {
    if matches!(offset, 0xa8 | 0xac) { offset | 0x1_0000 } else { offset }
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("no number: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let text = "\
            smmuv3_read_mmio addr: 0x0 val:0xd44101b size: 0x4(0)\n\
            smmuv3_write_mmio addr: 0xac val:0x0 size: 0x4(0)\n\
            smmuv3_write_mmio addr: 0x98 val:0x0 size: 0x4(0)\n\
            smmuv3_cmdq_opcode <--- SMMU_CMD_TLBI_NH_VA\n\
            smmuv3_cmdq_opcode <--- SMMU_CMD_SYNC\n\
            smmuv3_write_mmio addr: 0x98 val:0x2 size: 0x4(0)\n\
            smmuv3_read_mmio addr: 0x9c val:0x2 size: 0x4(0)\n\
            smmuv3_cmdq_opcode <--- SMMU_CMD_TLBI_NH_VA\n\
            smmuv3_cmdq_opcode <--- SMMU_CMD_SYNC\n\
            smmuv3_write_mmio addr: 0x98 val:0x4 size: 0x4(0)\n\
            smmuv3_read_mmio addr: 0x9c val:0x4 size: 0x4(0)\n";
        let trace = Trace::from_qemu(text).unwrap();
        let compact = "load 0x0\nstore 0x100ac 4 0x0\nstore 0x98 4 0x0\n\
                       2 x commands TLBI_NH_VA SYNC; load 0x9c\n";
        assert_eq!(trace.compact(), compact);
        assert_eq!(Trace::from_compact(compact).unwrap(), trace);
    }
}

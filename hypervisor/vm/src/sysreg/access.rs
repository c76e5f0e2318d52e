//! Which register, and what becomes of the access.

/// A system register by its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sysreg {
    /// Op0.
    pub op0: u8,
    /// Op1.
    pub op1: u8,
    /// CRn.
    pub crn: u8,
    /// CRm.
    pub crm: u8,
    /// Op2.
    pub op2: u8,
}

/// A trapped access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysregAccess {
    /// The register.
    pub register: Sysreg,
    /// The general register, 31 is XZR.
    pub rt: usize,
    /// MRS, else MSR.
    pub read: bool,
}

/// What becomes of a trapped access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Reads this value; a write is ignored.
    Value(u64),
    /// Writing it sends an SGI; reading is undefined. Whether of group 1.
    Generate(bool),
    /// The register does not exist here.
    Undefined,
}

impl SysregAccess {
    /// Decodes ISS of exception class 0x18 (D24.2.37, "MSR, MRS or System instruction").
    pub const fn decode(iss: u32) -> Self {
        Self {
            register: Sysreg {
                op0: (iss >> 20 & 3) as u8,
                op1: (iss >> 14 & 7) as u8,
                crn: (iss >> 10 & 0xf) as u8,
                crm: (iss >> 1 & 0xf) as u8,
                op2: (iss >> 17 & 7) as u8,
            },
            rt: (iss >> 5 & 0x1f) as usize,
            read: iss & 1 != 0,
        }
    }

    /// What becomes of it.
    pub const fn treatment(&self) -> Treatment {
        let Sysreg { op0, op1, crn, crm, op2 } = self.register;
        match (op0, op1, crn, crm, op2) {
            // ICC_SGI1R_EL1, ICC_ASGI1R_EL1 (no other security state here), ICC_SGI0R_EL1.
            (3, 0, 12, 11, 5) => Treatment::Generate(true),
            (3, 0, 12, 11, 6 | 7) => Treatment::Generate(false),
            // ACTLR_EL1, and the auxiliary fault and control registers' trap.
            (3, 0, 1, 0, 1) => Treatment::Value(0),
            // MDRAR_EL1: no debug ROM. The other debug registers are the vCPU's own.
            (2, 0, 1, 0, 0) => Treatment::Value(0),
            _ => Treatment::Undefined,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syndrome_names_the_register() {
        // MSR ICC_SGI1R_EL1, x3: op0 3, op1 0, CRn 12, CRm 11, op2 5, write.
        let iss = 3 << 20 | 5 << 17 | 12 << 10 | 3 << 5 | 11 << 1;
        let access = SysregAccess::decode(iss);
        assert_eq!(access.register, Sysreg { op0: 3, op1: 0, crn: 12, crm: 11, op2: 5 });
        assert_eq!((access.rt, access.read), (3, false));
        assert_eq!(access.treatment(), Treatment::Generate(true));
    }

    #[test]
    fn counters_and_trace_are_absent() {
        let treatment = |op0, op1, crn, crm, op2| {
            SysregAccess { register: Sysreg { op0, op1, crn, crm, op2 }, rt: 0, read: true }
                .treatment()
        };
        assert_eq!(treatment(3, 3, 9, 12, 0), Treatment::Undefined, "PMCR_EL0");
        assert_eq!(treatment(2, 0, 1, 0, 0), Treatment::Value(0), "MDRAR_EL1");
        assert_eq!(treatment(3, 0, 9, 9, 0), Treatment::Undefined, "PMSCR_EL1");
        assert_eq!(treatment(2, 1, 0, 0, 0), Treatment::Undefined, "trace");
        assert_eq!(treatment(3, 0, 15, 0, 0), Treatment::Undefined, "implementation defined");
        assert_eq!(treatment(3, 0, 0, 4, 0), Treatment::Undefined, "ID registers have a table");
    }
}

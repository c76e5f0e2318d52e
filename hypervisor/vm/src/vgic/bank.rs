//! Thirty-two interrupts, one bit of each word for each.

/// No vCPU.
pub const NOBODY: u8 = u8::MAX;

/// Thirty-two interrupts: a vCPU's private ones, or a run of shared ones.
#[derive(Debug)]
pub struct Bank {
    /// Forwarded at all.
    pub enabled: u32,
    /// Pending from an edge, a message, a software write or a physical interrupt.
    pub latch: u32,
    /// The level of the line.
    pub line: u32,
    /// Acknowledged and not ended.
    pub active: u32,
    /// Group 1.
    pub group1: u32,
    /// Edge triggered.
    pub edge: u32,
    /// In a list register of its holder; the register knows better than this state.
    pub listed: u32,
    /// Active, and no list register was left for it.
    pub evicted: u32,
    /// Pending was taken back by a register write while listed.
    pub cancel: u32,
    /// Active was taken back by a register write while listed.
    pub drop_active: u32,
    /// Linked to a physical interrupt.
    pub linked: u32,
    /// The physical interrupt is active, and this state has its deactivation to see to.
    pub owed: u32,
    /// The physical interrupt is active, and a list register deactivates it when the guest ends
    /// its own. Another that comes meanwhile, since the guest ended this one on its core and its
    /// line is high still, is a debt of its own.
    pub lent: u32,
    /// 0 is the most urgent.
    pub priority: [u8; 32],
    /// The vCPU it is sent to.
    pub target: [u8; 32],
    /// The vCPU that has it in a list register, or active.
    pub holder: [u8; 32],
    /// What the guest wrote as its route, to be read back.
    pub route: [u32; 32],
    /// The physical interrupt it is linked to.
    pub physical: [u16; 32],
}

impl Bank {
    /// The state after reset (12.9): disabled, group 0, priority 0, level.
    pub const fn new(target: u8) -> Self {
        Self {
            enabled: 0,
            latch: 0,
            line: 0,
            active: 0,
            group1: 0,
            edge: 0,
            listed: 0,
            evicted: 0,
            cancel: 0,
            drop_active: 0,
            linked: 0,
            owed: 0,
            lent: 0,
            priority: [0; 32],
            target: [target; 32],
            holder: [NOBODY; 32],
            route: [0; 32],
            physical: [0; 32],
        }
    }

    /// Pending for this controller to deliver, by latch or by level. A linked interrupt's level
    /// is the physical controller's to look at.
    pub const fn pending(&self) -> u32 {
        self.latch | self.line & !self.edge & !self.linked
    }

    /// Whether nothing of it waits, is active, listed or owed.
    pub const fn is_idle(&self) -> bool {
        let waits = self.latch | self.line | self.active | self.evicted;
        waits | self.listed | self.cancel | self.drop_active | self.owed | self.lent == 0
    }

    /// Pending as a register read tells it: what is listed and not known to be active waits
    /// still, or was taken a moment ago.
    pub const fn seems_pending(&self) -> u32 {
        self.latch | self.line & !self.edge | self.listed & !self.active
    }

    /// Those that are enabled and in an enabled group (bit 0 group 0, bit 1 group 1).
    pub const fn forwarded(&self, groups: u32) -> u32 {
        let group0 = if groups & 1 != 0 { !self.group1 } else { 0 };
        let group1 = if groups & 2 != 0 { self.group1 } else { 0 };
        self.enabled & (group0 | group1)
    }

    /// An interrupt goes into a list register of `vcpu`, `hardware` if that deactivates the physical
    /// one too: the debt is the register's then.
    pub fn list(&mut self, bit: usize, vcpu: u8, hardware: bool) {
        let mask = 1 << (bit & 31);
        self.listed |= mask;
        self.holder[bit & 31] = vcpu;
        if hardware {
            self.owed &= !mask;
            self.lent |= mask;
        }
    }

    /// The bits of those in `bits` that `of` says belong to `vcpu`.
    pub fn belonging(bits: u32, of: &[u8; 32], vcpu: u8) -> u32 {
        each(bits).filter(|&bit| of[bit & 31] == vcpu).fold(0, |sum, bit| sum | 1 << bit)
    }
}

/// The positions of the set bits, lowest first.
pub fn each(bits: u32) -> impl Iterator<Item = usize> {
    let mut rest = bits;
    core::iter::from_fn(move || {
        let bit = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        (bit < 32).then_some(bit as usize)
    })
}

//! Calls that the SMMU on paper answers late or never.

use palisade_iommu::{DriverError, Invalidation, IommuDriver, StreamState};
use palisade_on_target::say;
use palisade_smmuv3::{BringUpError, Options, Smmu, bound};

use crate::count::count;
use crate::paper::Paper;
use crate::paths::{STREAM, VMID};
use crate::smmus::Sum;
use crate::verdict::Verdict;

type OnPaper<'a> =
    &'a mut dyn FnMut(Options) -> Result<(&'static Paper, Smmu<&'static Paper>), BringUpError>;

/// A time-out and what comes of it.
struct Case {
    name: &'static str,
    /// Limits.
    sync_turns: u32,
    register_turns: u32,
    /// When the answer comes, in turns.
    late: u32,
    /// What the call answers.
    answer: Result<(), DriverError>,
    /// Turns of the loops that wait for a CMD_SYNC, and for a register.
    turns: [u64; 2],
}

const CASES: &[Case] = &[
    Case {
        name: "in time, at the last turn",
        sync_turns: 1000,
        register_turns: 1000,
        late: 1000,
        answer: Ok(()),
        turns: [1000, 0],
    },
    Case {
        name: "too late",
        sync_turns: 1000,
        register_turns: 1000,
        late: 1500,
        answer: Err(DriverError::InvalidationTimeout),
        turns: [1500, 0],
    },
    Case {
        name: "never",
        sync_turns: 1000,
        register_turns: 10,
        late: u32::MAX,
        answer: Err(DriverError::Dead),
        turns: [2000, 30],
    },
    Case {
        name: "never, by registers",
        sync_turns: 1,
        register_turns: 1000,
        late: u32::MAX,
        answer: Err(DriverError::Dead),
        turns: [2, 3000],
    },
    Case {
        name: "never, without turns",
        sync_turns: 1,
        register_turns: 1,
        late: u32::MAX,
        answer: Err(DriverError::Dead),
        turns: [2, 3],
    },
];

/// All of them; whether each ended as it must.
pub fn all(on_paper: OnPaper<'_>, sum: &mut Sum) -> bool {
    CASES.iter().all(|case| one(case, on_paper, sum))
}

fn one(case: &Case, on_paper: OnPaper<'_>, sum: &mut Sum) -> bool {
    let &Case { name, sync_turns, register_turns, late, answer, turns } = case;
    // The clock does not come first.
    let (sync_micros, register_micros) = (u64::MAX, u64::MAX);
    let options =
        Options { sync_turns, register_turns, sync_micros, register_micros, ..Options::default() };
    let (paper, smmu) = match on_paper(options) {
        Ok(made) => made,
        Err(error) => {
            say!("on-target: time-out: {name}: {error}");
            return false;
        }
    };
    let call = [Invalidation::Vmid(VMID)];
    paper.turns();
    paper.answer_after(late);
    let (count, result) = count(&smmu, || paper.turns(), |driver| driver.invalidate(&call));
    let bound = smmu.bound(&call);
    let timed_out = u64::from(answer.is_err());
    let verdict = Verdict {
        count,
        commands: bound.commands + timed_out,
        batches: bound.batches + timed_out,
        instructions: bound.instructions
            + timed_out * bound::TIME_OUT
            + bound::TURN * turns[0]
            + bound::REGISTER_TURN * turns[1],
    };
    say!("on-target: time-out: {name}: {verdict}");
    sum.add(1, &verdict);
    let alive = answer != Err(DriverError::Dead);
    let fails_safe = alive || smmu.stream_state(STREAM) == StreamState::Abort;
    let right = result == answer
        && count.turns == turns[0] + turns[1]
        && smmu.is_alive() == alive
        && fails_safe;
    if !right {
        say!("on-target: time-out: {name}: WRONG: {result:?}, {} turns", count.turns);
    }
    right
}

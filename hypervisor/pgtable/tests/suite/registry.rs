//! The registry's contract.
//!
//! 1. A format is registered once; unregistering matches by identity and is no
//!    more than a no-op for strangers.
//! 2. Nothing is unregistered while its tables live, and a table frees itself
//!    whatever became of its registration.
//! 3. The self-test gates publication; a failure unwinds exactly this family.
//! 4. Formats that are not registered are a typed error.

use crate::common::Machine;
use crate::common::metered::Metered;
use palisade_mem::{FrameTables, TableMemory};
use palisade_pgtable::{
    Config, ConfigError, FormatFns, FormatId, Gather, RegisterError, Registry, SelfTest,
};

fn registry<M: TableMemory + 'static>() -> &'static Registry<M> {
    Box::leak(Box::new(Registry::new()))
}

#[test]
fn registered_once_and_unregistered_by_identity() {
    static LPAE: [FormatFns<FrameTables>; 5] = FormatFns::lpae();
    static TWIN: [FormatFns<FrameTables>; 5] = FormatFns::lpae();
    let registry = registry();
    for fns in &LPAE {
        registry.register(fns).unwrap();
    }
    for (fns, twin) in LPAE.iter().zip(&TWIN) {
        assert_eq!(registry.register(twin), Err(RegisterError::Exists(fns.format())));
        registry.unregister(twin).unwrap();
        assert!(registry.is_registered(fns.format()), "a stranger's call changes nothing");
        registry.unregister(fns).unwrap();
        assert!(!registry.is_registered(fns.format()));
        registry.unregister(fns).unwrap();
    }
}

#[test]
fn busy_while_tables_live() {
    static LPAE: [FormatFns<FrameTables>; 5] = FormatFns::lpae();
    let (machine, registry) = (Machine::new(1024), registry());
    let config = Config::new(FormatId::Arm64LpaeS2);
    let missing = registry.alloc(&config, machine.memory.clone()).err();
    assert_eq!(missing, Some(ConfigError::Unregistered(FormatId::Arm64LpaeS2)));
    let fns = LPAE.iter().find(|fns| fns.format() == FormatId::Arm64LpaeS2).unwrap();
    registry.register(fns).unwrap();
    let bad = Config { ias: 60, ..config };
    assert!(registry.alloc(&bad, machine.memory.clone()).is_err());
    assert_eq!(registry.tables(FormatId::Arm64LpaeS2), 0, "a failure is not counted");
    let table = registry.alloc(&config, machine.memory.clone()).unwrap();
    assert_eq!(registry.unregister(fns), Err(RegisterError::Busy(FormatId::Arm64LpaeS2)));
    assert!(registry.is_registered(FormatId::Arm64LpaeS2));
    machine.free(table);
    registry.unregister(fns).unwrap();
    assert_eq!(machine.tables(), 0);
}

#[test]
fn a_failing_self_test_unwinds_exactly_its_family() {
    static LPAE: [FormatFns<Metered>; 5] = FormatFns::lpae();
    static V7S: [FormatFns<Metered>; 1] = FormatFns::v7s();
    static MALI: [FormatFns<Metered>; 5] = FormatFns::lpae();
    let machine = Machine::new(1024);
    let tables = |count: usize| Metered::new(&machine, count);
    let needed = {
        let memory = tables(usize::MAX);
        let test = SelfTest {
            memory: &memory,
            tlb: &machine.tlb,
            release: &|flushed| machine.release(flushed),
        };
        let registry = registry();
        registry.register_family(&LPAE, &test).unwrap();
        usize::MAX - memory.left()
    };
    assert!(needed >= LPAE.len(), "a table each, at least");
    for count in 0..needed {
        let memory = tables(count);
        let test = SelfTest {
            memory: &memory,
            tlb: &machine.tlb,
            release: &|flushed| machine.release(flushed),
        };
        let registry = registry();
        registry.register(&V7S[0]).unwrap();
        let failed = registry.register_family(&LPAE, &test);
        assert!(matches!(failed, Err(RegisterError::SelfTest(_))), "{count} of {needed}");
        for format in FormatId::ALL {
            assert_eq!(registry.is_registered(format), format == FormatId::ArmV7s);
        }
        assert_eq!(machine.tables(), 0);
    }
    // A member that is taken already: the four before it go, the taken one stays.
    let memory = tables(usize::MAX);
    let test = SelfTest {
        memory: &memory,
        tlb: &machine.tlb,
        release: &|flushed| machine.release(flushed),
    };
    let registry = registry();
    registry.register(&MALI[4]).unwrap();
    let failed = registry.register_family(&LPAE, &test);
    assert_eq!(failed, Err(RegisterError::Exists(FormatId::ArmMaliLpae)));
    for format in FormatId::ALL {
        assert_eq!(registry.is_registered(format), format == FormatId::ArmMaliLpae);
    }
}

#[test]
fn the_battery_fits_64_frames() {
    static LPAE: [FormatFns<FrameTables>; 5] = FormatFns::lpae();
    static V7S: [FormatFns<FrameTables>; 1] = FormatFns::v7s();
    // One frame for the tags; alignment of the v7s root costs some.
    let machine = Machine::new(65);
    let test = SelfTest {
        memory: &machine.memory,
        tlb: &machine.tlb,
        release: &|flushed| machine.release(flushed),
    };
    let registry = registry();
    registry.register_family(&LPAE, &test).unwrap();
    registry.register_family(&V7S, &test).unwrap();
    assert_eq!(machine.tables(), 0);
}

#[test]
fn a_table_outlives_nothing_it_needs() {
    // Dropped without `free`, a table keeps its frames: they may be in a TLB.
    let machine = Machine::new(1024);
    let table = machine.alloc(&Config::new(FormatId::Arm64LpaeS2)).unwrap();
    let used = machine.tables();
    drop(table);
    assert_eq!(machine.tables(), used);
    // A failed invalidation hands the tables back to be quarantined.
    let table = machine.alloc(&Config::new(FormatId::Arm64LpaeS2)).unwrap();
    let mut gather = Gather::new(&machine.tlb);
    table.free(&mut gather);
    machine.tlb.fails.set(true);
    let failed = gather.finish().unwrap_err();
    machine.frames.quarantine(failed.tables.unwrap());
    assert_eq!(machine.frames.footprint().quarantined, 1);
}

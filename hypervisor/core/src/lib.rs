//! The hypervisor's own main line: init order, per-CPU data, IRQ dispatch, log, panic, posture report.
#![no_std]
#![allow(unsafe_code)]

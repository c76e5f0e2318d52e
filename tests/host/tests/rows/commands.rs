//! Commands that do not arrive as they were sent.

use palisade_host::{CommandFault, Sabotage};

use super::Row;

const CFGI_STE: u8 = 0x03;
const CFGI_CD: u8 = 0x05;
const TLBI_ASID: u8 = 0x11;
const TLBI_VA: u8 = 0x12;
const CFGI_ALL: u8 = 0x04;
const TLBI_VMALL: u8 = 0x28;
const TLBI_IPA: u8 = 0x2a;
const TLBI_ALL: u8 = 0x30;
const ATC_INV: u8 = 0x40;
const SYNC: u8 = 0x46;

type Asserted = &'static [&'static str];

const REACH: &[&str] = &["reach"];
const PROCESS: &[&str] = &["reach", "lost", "event"];
const LOST: &[&str] = &["lost"];

pub fn rows() -> Vec<Row> {
    use CommandFault::{
        Drop, Late, LeafOnly, Narrow, OtherPage, OtherStream, OtherVmid, ShorterRange,
    };
    type Line = (&'static str, u8, &'static str, CommandFault, &'static str, Asserted);
    let table: &[Line] = &[
        // What an earlier life left in the caches.
        ("drop-cfgi-all-at-bring-up", CFGI_ALL, "bring-up", Drop, "isolation", REACH),
        ("narrow-cfgi-all-at-bring-up", CFGI_ALL, "bring-up", Narrow, "isolation", REACH),
        ("drop-tlbi-all-at-bring-up", TLBI_ALL, "bring-up", Drop, "isolation", REACH),
        // A device changes hands.
        ("drop-cfgi-ste-at-assign", CFGI_STE, "assign", Drop, "isolation", LOST),
        ("other-stream-cfgi-ste-at-assign", CFGI_STE, "assign", OtherStream, "isolation", LOST),
        ("late-cfgi-ste-at-assign", CFGI_STE, "assign", Late, "isolation", LOST),
        ("leaf-cfgi-ste", CFGI_STE, "", LeafOnly, "isolation-two-level", LOST),
        ("drop-sync-at-assign", SYNC, "assign", Drop, "isolation", LOST),
        ("drop-cfgi-ste-at-detach", CFGI_STE, "detach", Drop, "isolation", REACH),
        ("other-stream-cfgi-ste-at-detach", CFGI_STE, "detach", OtherStream, "isolation", REACH),
        ("drop-sync-at-detach", SYNC, "detach", Drop, "isolation", REACH),
        ("drop-cfgi-ste-at-replace", CFGI_STE, "replace", Drop, "isolation", &["reach", "lost"]),
        ("drop-sync-at-replace", SYNC, "replace", Drop, "isolation", &["reach", "lost"]),
        // A VMID changes hands.
        ("drop-tlbi-vmall-at-retire", TLBI_VMALL, "", Drop, "isolation", REACH),
        ("other-vmid-tlbi-vmall", TLBI_VMALL, "", OtherVmid, "isolation", REACH),
        // A page changes hands.
        ("drop-tlbi-ipa-at-unmap", TLBI_IPA, "unmap", Drop, "isolation", REACH),
        ("other-vmid-tlbi-ipa-at-unmap", TLBI_IPA, "unmap", OtherVmid, "isolation", REACH),
        ("other-page-tlbi-ipa-at-unmap", TLBI_IPA, "unmap", OtherPage, "isolation", REACH),
        ("shorter-tlbi-ipa-at-unmap", TLBI_IPA, "unmap", ShorterRange, "isolation", REACH),
        ("late-tlbi-ipa-at-unmap", TLBI_IPA, "unmap", Late, "isolation", REACH),
        ("leaf-tlbi-ipa-at-unmap", TLBI_IPA, "unmap", LeafOnly, "isolation", &["reach", "lost"]),
        ("drop-tlbi-ipa-without-ranges", TLBI_IPA, "unmap", Drop, "isolation-no-ranges", REACH),
        ("drop-sync-at-unmap", SYNC, "unmap", Drop, "isolation", REACH),
        // A device keeps translations of its own.
        ("drop-atc-inv-at-unmap", ATC_INV, "unmap", Drop, "isolation-ats", REACH),
        ("other-stream-atc-inv-at-unmap", ATC_INV, "unmap", OtherStream, "isolation-ats", REACH),
        ("other-page-atc-inv-at-unmap", ATC_INV, "unmap", OtherPage, "isolation-ats", REACH),
        ("drop-atc-inv-at-detach", ATC_INV, "detach", Drop, "isolation-ats", REACH),
        // Address spaces of processes.
        ("drop-cfgi-cd", CFGI_CD, "", Drop, "sharing", PROCESS),
        ("other-stream-cfgi-cd", CFGI_CD, "", OtherStream, "sharing", PROCESS),
        ("drop-tlbi-asid", TLBI_ASID, "", Drop, "sharing", REACH),
        ("drop-tlbi-va", TLBI_VA, "", Drop, "sharing", REACH),
        ("other-page-tlbi-va", TLBI_VA, "", OtherPage, "sharing", REACH),
        ("other-vmid-tlbi-va", TLBI_VA, "", OtherVmid, "sharing", REACH),
        // A block is split.
        (
            "drop-tlbi-ipa-at-split",
            TLBI_IPA,
            "split",
            Drop,
            "splits",
            &["reach", "lost", "driver-fault"],
        ),
        ("drop-sync-at-split", SYNC, "split", Drop, "splits", &["reach", "driver-fault"]),
    ];
    table
        .iter()
        .map(|&(name, opcode, during, fault, test, assertions)| Row {
            name: name.into(),
            fault: Sabotage::Command { opcode, during, fault },
            test,
            assertions,
        })
        .collect()
}

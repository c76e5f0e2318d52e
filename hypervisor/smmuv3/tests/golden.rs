//! Images byte for byte, with the section of the manual that says so.

use palisade_hal::{Asid, PhysAddr, StreamId, SubstreamId, Vmid};
use palisade_smmuv3::command;
use palisade_smmuv3::entry::encode::{
    CdStage1, ImageFeatures, SteStage1, SteStage2, cd_quiesced, cd_stage1, ste_abort, ste_bypass,
    ste_nested, ste_stage1, ste_stage2,
};
use palisade_smmuv3::spec::{Cd, Cmd, L1cd, L1std, PriResponse, ResumeAction, S1Dss, S1Fmt, Ste};

const NONE: ImageFeatures =
    ImageFeatures { attr_types_ovr: false, e2h: false, stalls_configurable: false };

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// §5.2: V = 1, Config = 0b000, everything else 0.
#[test]
fn abort_entry() {
    let mut golden = [0u8; 64];
    golden[0] = 0x01;
    assert_eq!(bytes(&ste_abort().0), golden);
}

/// §5.2: V = 1, Config = 0b100; SHCFG = 0b01 in bits 109:108 where it is read.
#[test]
fn bypass_entry() {
    let mut golden = [0u8; 64];
    golden[0] = 0x09;
    assert_eq!(bytes(&ste_bypass(NONE).0), golden);
    golden[13] = 0x10;
    assert_eq!(bytes(&ste_bypass(ImageFeatures { attr_types_ovr: true, ..NONE }).0), golden);
}

const STAGE_1: SteStage1 = SteStage1 {
    s1_fmt: S1Fmt::Leaf64K,
    s1_context_ptr: 0x8000_1000,
    s1_cd_max: 16,
    s1_dss: S1Dss::Substream0,
    stall: false,
    ats: false,
};

const STAGE_2: SteStage2 = SteStage2 {
    vmid: 0xabc,
    // T0SZ 24, SL0 1, IRGN0 1, ORGN0 1, SH0 3, TG0 0 (4K), PS 2 (40 bits): DDI 0487, VTCR_EL2.
    vtcr: 0x2_3558,
    s2ttb: 0x1_2345_6000,
    stall: false,
    fwb: false,
    ats: false,
};

/// §5.2: S1Fmt 5:4, S1ContextPtr 55:6, S1CDMax 63:59, S1DSS 65:64, S1CIR 67:66, S1COR 69:68,
/// S1CSH 71:70.
#[test]
fn stage_1_entry() {
    let mut golden = [0u8; 64];
    golden[0] = 0x01 | 0b101 << 1 | 0b10 << 4;
    golden[1] = 0x10;
    golden[3] = 0x80;
    golden[7] = 16 << 3;
    golden[8] = 0b10 | 0b01 << 2 | 0b01 << 4 | 0b11 << 6;
    assert_eq!(bytes(&ste_stage1(NONE, &STAGE_1, 0).0), golden);
    // S1STALLD, bit 91, where stalling is configurable and not wanted.
    golden[11] = 0x08;
    let stalls = ImageFeatures { stalls_configurable: true, ..NONE };
    assert_eq!(bytes(&ste_stage1(stalls, &STAGE_1, 0).0), golden);
}

/// §5.2: S2VMID 143:128, S2T0SZ..S2PS 178:160, S2AA64 179, S2PTW 182, S2R 186, S2TTB 247:196.
#[test]
fn stage_2_entry() {
    let mut golden = [0u8; 64];
    golden[0] = 0x01 | 0b110 << 1;
    golden[16] = 0xbc;
    golden[17] = 0x0a;
    golden[20] = 0x58;
    golden[21] = 0x35;
    golden[22] = 0x02 | 1 << 3 | 1 << 6;
    golden[23] = 1 << 2;
    golden[25] = 0x60;
    golden[26] = 0x45;
    golden[27] = 0x23;
    golden[28] = 0x01;
    assert_eq!(bytes(&ste_stage2(NONE, &STAGE_2).0), golden);
    // S2S, bit 185; S2FWB, bit 89; EATS, bits 93:92.
    golden[23] |= 1 << 1;
    golden[11] = 1 << 1 | 0b01 << 4;
    let all = SteStage2 { stall: true, fwb: true, ats: true, ..STAGE_2 };
    assert_eq!(bytes(&ste_stage2(NONE, &all).0), golden);
}

/// §5.2: Config = 0b111 joins both.
#[test]
fn nested_entry_is_both() {
    let one = ste_stage1(NONE, &STAGE_1, 0).0;
    let two = ste_stage2(NONE, &STAGE_2).0;
    let nested = ste_nested(NONE, &STAGE_1, &STAGE_2).0;
    for (at, word) in nested.iter().enumerate() {
        assert_eq!(*word, one[at] | two[at], "word {at}");
    }
}

const CONTEXT: CdStage1 = CdStage1 {
    t0sz: 16,
    tg0: 0,
    walk: (1, 1, 3),
    ips: 5,
    ha: false,
    hd: false,
    stall: false,
    asid: 0x1e20,
    aset: true,
    ttb0: 0x8_7654_3000,
    mair: 0x1122_3344_f404_ff44,
};

/// §5.4: T0SZ 5:0, IR0 9:8, OR0 11:10, SH0 13:12, EPD1 30, V 31, IPS 34:32, AA64 41, R 45, A 46,
/// ASET 47, ASID 63:48, TTB0 119:68, MAIR 255:192.
#[test]
fn context_descriptor() {
    let mut golden = [0u8; 64];
    golden[0] = 16;
    golden[1] = 0b01 | 0b01 << 2 | 0b11 << 4;
    golden[3] = 1 << 6 | 1 << 7;
    golden[4] = 5;
    golden[5] = 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7;
    golden[6] = 0x20;
    golden[7] = 0x1e;
    golden[8..16].copy_from_slice(&0x8_7654_3000u64.to_le_bytes());
    golden[24..32].copy_from_slice(&0x1122_3344_f404_ff44u64.to_le_bytes());
    assert_eq!(bytes(&cd_stage1(&CONTEXT).0), golden);
    // HD 42, HA 43, S 44.
    golden[5] |= 1 << 2 | 1 << 3 | 1 << 4;
    let all = CdStage1 { ha: true, hd: true, stall: true, ..CONTEXT };
    assert_eq!(bytes(&cd_stage1(&all).0), golden);
}

/// §5.4: EPD0, bit 14; R and S cleared unless stalling is forced; ASID and V kept.
#[test]
fn quiesced_context_descriptor() {
    let live = cd_stage1(&CdStage1 { stall: true, ..CONTEXT });
    let quiet = cd_quiesced(&live, false).0;
    assert_eq!(Cd::V.get(&quiet), 1);
    assert_eq!(Cd::EPD0.get(&quiet), 1);
    assert_eq!(Cd::ASID.get(&quiet), 0x1e20);
    assert_eq!((Cd::R.get(&quiet), Cd::S.get(&quiet)), (0, 0));
    assert_eq!((Cd::TTB0.get(&quiet), Cd::T0SZ.get(&quiet)), (0, 0));
    let forced = cd_quiesced(&live, true).0;
    assert_eq!((Cd::R.get(&forced), Cd::S.get(&forced)), (1, 1));
}

/// §5.1 and §5.3: the pointers of the first levels.
#[test]
fn first_level_descriptors() {
    assert_eq!((L1std::SPAN.mask(), L1std::L2_PTR.mask()), (0x1f, 0x000f_ffff_ffff_ffc0));
    assert_eq!((L1cd::V.mask(), L1cd::L2_PTR.mask()), (1, 0x000f_ffff_ffff_f000));
}

fn pin(golden: [u64; 2], built: Cmd) {
    assert_eq!(built.0, golden, "{:#x?}", built.0);
}

/// §4.3: opcode 7:0, StreamID 63:32, SubstreamID 31:12, Leaf 64, Range 68:64.
#[test]
fn configuration_commands() {
    let stream = StreamId::new(0x1234_5678);
    pin([0x1234_5678_0000_0003, 1], command::cfgi_ste(stream, true));
    pin([0x1234_5678_0000_0003, 0], command::cfgi_ste(stream, false));
    pin([0x04, 31], command::cfgi_all());
    pin([0x1234_5678_abcd_e005, 1], command::cfgi_cd(stream, SubstreamId::new(0xabcde), true));
    pin([0x1234_5678_0000_0006, 0], command::cfgi_cd_all(stream));
}

/// §4.4: VMID 47:32, ASID 63:48, Leaf 64, Address 127:76.
#[test]
fn translation_commands() {
    let (vmid, asid) = (Vmid::new(0xbeef), Asid::new(0xcafe));
    pin([0x0000_beef_0000_0010, 0], command::tlbi_nh_all(vmid));
    pin([0xcafe_beef_0000_0011, 0], command::tlbi_nh_asid(vmid, asid));
    pin([0xcafe_beef_0000_0012, 0x1234_5001], command::tlbi_nh_va(vmid, asid, 0x1234_5678, true));
    pin([0x0000_beef_0000_0013, 0x1234_5000], command::tlbi_nh_vaa(vmid, 0x1234_5678, false));
    pin([0x20, 0], command::tlbi_el2_all());
    pin([0x0000_beef_0000_0028, 0], command::tlbi_s12_vmall(vmid));
    pin([0x0000_beef_0000_002a, 0x1234_5001], command::tlbi_s2_ipa(vmid, 0x1234_5678, true));
    pin([0x30, 0], command::tlbi_nsnh_all());
}

/// §4.4.1.1: NUM 16:12, SCALE 24:20, TTL 73:72, TG 75:74.
#[test]
fn range_fields() {
    assert_eq!((Cmd::NUM.word(), Cmd::NUM.mask()), (0, 0x1f000));
    assert_eq!((Cmd::SCALE.word(), Cmd::SCALE.mask()), (0, 0x1f0_0000));
    assert_eq!((Cmd::TTL.word(), Cmd::TTL.mask()), (1, 0x300));
    assert_eq!((Cmd::TG.word(), Cmd::TG.mask()), (1, 0xc00));
}

/// §4.5 and §4.7: SSV 11, Size 69:64, PRGIndex 72:64, Resp 77:76, Ac 12, Ab 13, STAG 79:64.
#[test]
fn device_commands() {
    let stream = StreamId::new(0x18);
    let substream = Some(SubstreamId::new(7));
    pin([0x18_0000_7840, 0x4000_0003], command::atc_inv(stream, substream, 0x4000_0000, 3));
    pin([0x18_0000_0040, 52], command::atc_inv(stream, None, 0, 52));
    pin([0x18_0000_7841, 0x1ff], command::pri_resp(stream, substream, 0x1ff, PriResponse::Failure));
    pin([0x18_0000_1044, 0xbeef], command::resume(stream, 0xbeef, ResumeAction::Retry));
    pin([0x18_0000_2044, 0xbeef], command::resume(stream, 0xbeef, ResumeAction::Abort));
    pin([0x18_0000_0045, 0], command::stall_term(stream));
}

/// §4.7.3: CS 13:12, MSH 23:22, MSIAttr 27:24, MSIData 63:32, MSIAddr 119:66.
#[test]
fn sync_commands() {
    pin([0x46, 0], command::sync());
    let msi = command::sync_msi(PhysAddr::new(0x8_0000_1238), 0xdead_beef);
    pin([0xdead_beef_0fc0_1046, 0x8_0000_1238], msi);
}

/// An entry is 64 bytes: what the tables' strides are made of.
#[test]
fn sizes() {
    assert_eq!(size_of::<Ste>(), 64);
    assert_eq!(size_of::<Cd>(), 64);
    assert_eq!(size_of::<Cmd>(), 16);
}

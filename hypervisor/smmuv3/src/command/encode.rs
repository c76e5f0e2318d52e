//! Commands as pure functions (§4.2 to §4.7).

use palisade_hal::{Asid, PhysAddr, StreamId, SubstreamId, Vmid};

use crate::spec::{Cmd, Cs, Field, Opcode, PriResponse, ResumeAction};

/// The memory attributes of a completion message: Inner Shareable, Normal Write-Back (§4.7.3).
const MSI_INNER_SHAREABLE: u64 = 0b11;
const MSI_WRITE_BACK: u64 = 0xf;
/// CMD_CFGI_STE_RANGE with this Range is CMD_CFGI_ALL (§4.3.6).
const RANGE_ALL: u64 = 31;
/// An ATC invalidation of this Size covers every address (§4.5.1).
pub const ATC_SIZE_ALL: u8 = 52;

#[inline(always)]
fn command(opcode: Opcode) -> Cmd {
    let mut words = [0; 2];
    Cmd::OPCODE.set(&mut words, opcode as u64);
    Cmd(words)
}

/// The fields that many commands have.
trait Put {
    fn stream(self, stream: StreamId) -> Self;
    fn with(self, field: Field, value: u64) -> Self;
    fn address(self, address: u64) -> Self;
}

impl Put for Cmd {
    #[inline(always)]
    fn stream(self, stream: StreamId) -> Self {
        self.with(Cmd::STREAM_ID, u64::from(stream.get()))
    }

    #[inline(always)]
    fn with(mut self, field: Field, value: u64) -> Self {
        field.set(&mut self.0, value);
        self
    }

    #[inline(always)]
    fn address(mut self, address: u64) -> Self {
        Cmd::ADDRESS.set_address(&mut self.0, address);
        self
    }
}

/// CMD_CFGI_STE (§4.3.1); `leaf` false also forgets the L1STD.
pub fn cfgi_ste(stream: StreamId, leaf: bool) -> Cmd {
    command(Opcode::CfgiSte).stream(stream).with(Cmd::LEAF, u64::from(leaf))
}

/// CMD_CFGI_ALL (§4.3.6).
pub fn cfgi_all() -> Cmd {
    command(Opcode::CfgiSteRange).with(Cmd::RANGE, RANGE_ALL)
}

/// CMD_CFGI_CD (§4.3.3); `leaf` false also forgets the L1CD.
pub fn cfgi_cd(stream: StreamId, substream: SubstreamId, leaf: bool) -> Cmd {
    command(Opcode::CfgiCd)
        .stream(stream)
        .with(Cmd::SUBSTREAM_ID, u64::from(substream.get()))
        .with(Cmd::LEAF, u64::from(leaf))
}

/// CMD_CFGI_CD_ALL (§4.3.4).
pub fn cfgi_cd_all(stream: StreamId) -> Cmd {
    command(Opcode::CfgiCdAll).stream(stream)
}

/// CMD_TLBI_NH_ALL (§4.4.2.1): every stage 1 entry of `vmid`.
pub fn tlbi_nh_all(vmid: Vmid) -> Cmd {
    command(Opcode::TlbiNhAll).with(Cmd::VMID, u64::from(vmid.get()))
}

/// CMD_TLBI_NH_ASID (§4.4.2.2).
pub fn tlbi_nh_asid(vmid: Vmid, asid: Asid) -> Cmd {
    command(Opcode::TlbiNhAsid)
        .with(Cmd::VMID, u64::from(vmid.get()))
        .with(Cmd::ASID, u64::from(asid.get()))
}

/// CMD_TLBI_NH_VA (§4.4.2.4) of one address, any granule.
pub fn tlbi_nh_va(vmid: Vmid, asid: Asid, va: u64, leaf: bool) -> Cmd {
    command(Opcode::TlbiNhVa)
        .with(Cmd::VMID, u64::from(vmid.get()))
        .with(Cmd::ASID, u64::from(asid.get()))
        .with(Cmd::LEAF, u64::from(leaf))
        .address(va)
}

/// CMD_TLBI_NH_VAA (§4.4.2.3) of one address, any granule, every ASID.
pub fn tlbi_nh_vaa(vmid: Vmid, va: u64, leaf: bool) -> Cmd {
    command(Opcode::TlbiNhVaa)
        .with(Cmd::VMID, u64::from(vmid.get()))
        .with(Cmd::LEAF, u64::from(leaf))
        .address(va)
}

/// CMD_TLBI_S2_IPA (§4.4.3.1) of one address, any granule.
pub fn tlbi_s2_ipa(vmid: Vmid, ipa: u64, leaf: bool) -> Cmd {
    command(Opcode::TlbiS2Ipa)
        .with(Cmd::VMID, u64::from(vmid.get()))
        .with(Cmd::LEAF, u64::from(leaf))
        .address(ipa)
}

/// CMD_TLBI_S12_VMALL (§4.4.3.2).
pub fn tlbi_s12_vmall(vmid: Vmid) -> Cmd {
    command(Opcode::TlbiS12Vmall).with(Cmd::VMID, u64::from(vmid.get()))
}

/// CMD_TLBI_EL2_ALL (§4.4.2.7); CERROR_ILL without IDR0.HYP.
pub fn tlbi_el2_all() -> Cmd {
    command(Opcode::TlbiEl2All)
}

/// CMD_TLBI_NSNH_ALL (§4.4.4.1).
pub fn tlbi_nsnh_all() -> Cmd {
    command(Opcode::TlbiNsnhAll)
}

/// CMD_ATC_INV (§4.5.1) of 2^size pages from `address`; CERROR_ILL without IDR0.ATS.
pub fn atc_inv(stream: StreamId, substream: Option<SubstreamId>, address: u64, size: u8) -> Cmd {
    command(Opcode::AtcInv)
        .stream(stream)
        .with(Cmd::SSV, u64::from(substream.is_some()))
        .with(Cmd::SUBSTREAM_ID, substream.map_or(0, |id| u64::from(id.get())))
        .address(address)
        .with(Cmd::SIZE, u64::from(size))
}

/// CMD_PRI_RESP (§4.5.2).
pub fn pri_resp(
    stream: StreamId,
    substream: Option<SubstreamId>,
    group: u16,
    response: PriResponse,
) -> Cmd {
    command(Opcode::PriResp)
        .stream(stream)
        .with(Cmd::SSV, u64::from(substream.is_some()))
        .with(Cmd::SUBSTREAM_ID, substream.map_or(0, |id| u64::from(id.get())))
        .with(Cmd::PRG_INDEX, u64::from(group))
        .with(Cmd::RESP, response as u64)
}

/// CMD_RESUME (§4.7.1); CERROR_ILL with stall model 1.
pub fn resume(stream: StreamId, stag: u16, action: ResumeAction) -> Cmd {
    command(Opcode::Resume)
        .stream(stream)
        .with(Cmd::ACTION, action as u64)
        .with(Cmd::STAG, u64::from(stag))
}

/// CMD_STALL_TERM (§4.7.2): every stalled transaction of `stream`; CERROR_ILL with stall
/// model 1.
pub fn stall_term(stream: StreamId) -> Cmd {
    command(Opcode::StallTerm).stream(stream)
}

/// CMD_SYNC (§4.7.3) without a signal: CMDQ_CONS passes it when everything before is complete.
pub fn sync() -> Cmd {
    command(Opcode::Sync).with(Cmd::CS, Cs::None as u64)
}

/// CMD_SYNC (§4.7.3) that writes `cookie` to the 32-bit word at `address` when complete.
pub fn sync_msi(address: PhysAddr, cookie: u32) -> Cmd {
    let mut cmd = command(Opcode::Sync)
        .with(Cmd::CS, Cs::Irq as u64)
        .with(Cmd::MSH, MSI_INNER_SHAREABLE)
        .with(Cmd::MSI_ATTR, MSI_WRITE_BACK)
        .with(Cmd::MSI_DATA, u64::from(cookie));
    Cmd::MSI_ADDRESS.set_address(&mut cmd.0, address.get());
    cmd
}

//! Commands as pure functions (§4.2 to §4.7).

use palisade_hal::{Asid, PhysAddr, StreamId, SubstreamId, Vmid};

use crate::spec::{Cmd, Cs, Opcode, PriResponse, ResumeAction};

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

impl Cmd {
    /// The command's opcode byte.
    pub fn opcode(&self) -> u8 {
        (self.0[0] & Cmd::OPCODE.mask()) as u8
    }

    /// Whether it is a CMD_SYNC.
    pub fn is_sync(&self) -> bool {
        self.opcode() == Opcode::Sync as u8
    }

    #[inline(always)]
    fn stream(mut self, stream: StreamId) -> Self {
        Cmd::STREAM_ID.set(&mut self.0, u64::from(stream.get()));
        self
    }

    #[inline(always)]
    fn with(mut self, field: crate::spec::Field, value: u64) -> Self {
        field.set(&mut self.0, value);
        self
    }

    #[inline(always)]
    fn address(mut self, address: u64) -> Self {
        Cmd::ADDRESS.set_address(&mut self.0, address);
        self
    }

    /// CMD_CFGI_STE (§4.3.1); `leaf` false also forgets the L1STD.
    pub fn cfgi_ste(stream: StreamId, leaf: bool) -> Self {
        command(Opcode::CfgiSte).stream(stream).with(Cmd::LEAF, u64::from(leaf))
    }

    /// CMD_CFGI_ALL (§4.3.6).
    pub fn cfgi_all() -> Self {
        command(Opcode::CfgiSteRange).with(Cmd::RANGE, RANGE_ALL)
    }

    /// CMD_CFGI_CD (§4.3.3); `leaf` false also forgets the L1CD.
    pub fn cfgi_cd(stream: StreamId, substream: SubstreamId, leaf: bool) -> Self {
        command(Opcode::CfgiCd)
            .stream(stream)
            .with(Cmd::SUBSTREAM_ID, u64::from(substream.get()))
            .with(Cmd::LEAF, u64::from(leaf))
    }

    /// CMD_CFGI_CD_ALL (§4.3.4).
    pub fn cfgi_cd_all(stream: StreamId) -> Self {
        command(Opcode::CfgiCdAll).stream(stream)
    }

    /// CMD_TLBI_NH_ALL (§4.4.2.1): every stage 1 entry of `vmid`.
    pub fn tlbi_nh_all(vmid: Vmid) -> Self {
        command(Opcode::TlbiNhAll).with(Cmd::VMID, u64::from(vmid.get()))
    }

    /// CMD_TLBI_NH_ASID (§4.4.2.2).
    pub fn tlbi_nh_asid(vmid: Vmid, asid: Asid) -> Self {
        command(Opcode::TlbiNhAsid)
            .with(Cmd::VMID, u64::from(vmid.get()))
            .with(Cmd::ASID, u64::from(asid.get()))
    }

    /// CMD_TLBI_NH_VA (§4.4.2.4) of one address, any granule.
    pub fn tlbi_nh_va(vmid: Vmid, asid: Asid, va: u64, leaf: bool) -> Self {
        command(Opcode::TlbiNhVa)
            .with(Cmd::VMID, u64::from(vmid.get()))
            .with(Cmd::ASID, u64::from(asid.get()))
            .with(Cmd::LEAF, u64::from(leaf))
            .address(va)
    }

    /// CMD_TLBI_NH_VAA (§4.4.2.3) of one address, any granule, every ASID.
    pub fn tlbi_nh_vaa(vmid: Vmid, va: u64, leaf: bool) -> Self {
        command(Opcode::TlbiNhVaa)
            .with(Cmd::VMID, u64::from(vmid.get()))
            .with(Cmd::LEAF, u64::from(leaf))
            .address(va)
    }

    /// CMD_TLBI_S2_IPA (§4.4.3.1) of one address, any granule.
    pub fn tlbi_s2_ipa(vmid: Vmid, ipa: u64, leaf: bool) -> Self {
        command(Opcode::TlbiS2Ipa)
            .with(Cmd::VMID, u64::from(vmid.get()))
            .with(Cmd::LEAF, u64::from(leaf))
            .address(ipa)
    }

    /// CMD_TLBI_S12_VMALL (§4.4.3.2).
    pub fn tlbi_s12_vmall(vmid: Vmid) -> Self {
        command(Opcode::TlbiS12Vmall).with(Cmd::VMID, u64::from(vmid.get()))
    }

    /// CMD_TLBI_EL2_ALL (§4.4.2.7); CERROR_ILL without IDR0.HYP.
    pub fn tlbi_el2_all() -> Self {
        command(Opcode::TlbiEl2All)
    }

    /// CMD_TLBI_NSNH_ALL (§4.4.4.1).
    pub fn tlbi_nsnh_all() -> Self {
        command(Opcode::TlbiNsnhAll)
    }

    /// CMD_ATC_INV (§4.5.1) of 2^size pages from `address`; CERROR_ILL without IDR0.ATS.
    pub fn atc_inv(
        stream: StreamId,
        substream: Option<SubstreamId>,
        address: u64,
        size: u8,
    ) -> Self {
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
    ) -> Self {
        command(Opcode::PriResp)
            .stream(stream)
            .with(Cmd::SSV, u64::from(substream.is_some()))
            .with(Cmd::SUBSTREAM_ID, substream.map_or(0, |id| u64::from(id.get())))
            .with(Cmd::PRG_INDEX, u64::from(group))
            .with(Cmd::RESP, response as u64)
    }

    /// CMD_RESUME (§4.7.1); CERROR_ILL with stall model 1.
    pub fn resume(stream: StreamId, stag: u16, action: ResumeAction) -> Self {
        command(Opcode::Resume)
            .stream(stream)
            .with(Cmd::ACTION, action as u64)
            .with(Cmd::STAG, u64::from(stag))
    }

    /// CMD_STALL_TERM (§4.7.2): every stalled transaction of `stream`; CERROR_ILL with stall
    /// model 1.
    pub fn stall_term(stream: StreamId) -> Self {
        command(Opcode::StallTerm).stream(stream)
    }

    /// CMD_SYNC (§4.7.3) without a signal: CMDQ_CONS passes it when everything before is complete.
    pub fn sync() -> Self {
        command(Opcode::Sync).with(Cmd::CS, Cs::None as u64)
    }

    /// CMD_SYNC (§4.7.3) that writes `cookie` to the 32-bit word at `address` when complete.
    pub fn sync_msi(address: PhysAddr, cookie: u32) -> Self {
        let mut cmd = command(Opcode::Sync)
            .with(Cmd::CS, Cs::Irq as u64)
            .with(Cmd::MSH, MSI_INNER_SHAREABLE)
            .with(Cmd::MSI_ATTR, MSI_WRITE_BACK)
            .with(Cmd::MSI_DATA, u64::from(cookie));
        Cmd::MSI_ADDRESS.set_address(&mut cmd.0, address.get());
        cmd
    }
}

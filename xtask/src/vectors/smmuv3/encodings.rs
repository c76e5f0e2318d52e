//! STE and CD images.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use palisade_smmuv3::entry::encode::{
    CdStage1, ImageFeatures, SteStage1, SteStage2, cd_stage1, ste_abort, ste_bypass, ste_stage1,
    ste_stage2,
};
use palisade_smmuv3::spec::{S1Dss, S1Fmt};

use super::words::{Words, words};
use crate::vectors::compared::Compared;
use crate::vectors::table::{Table, number};

/// `key=value` words; words without "=" are labels.
struct Params<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Params<'a> {
    fn new(text: &'a str) -> Self {
        Self(text.split_whitespace().filter_map(|word| word.split_once('=')).collect())
    }

    fn get(&self, key: &str) -> Result<u64> {
        let value = self.0.get(key).with_context(|| format!("no {key}"))?;
        number(value).with_context(|| format!("{key}={value} is no number"))
    }

    fn flag(&self, key: &str) -> Result<bool> {
        Ok(self.get(key)? != 0)
    }

    fn features(&self) -> Result<ImageFeatures> {
        let mut features = ImageFeatures::default();
        for name in self.0.get("feat").context("no feat")?.split('|') {
            match name {
                "none" => {}
                "ATTR_TYPES_OVR" => features.attr_types_ovr = true,
                "E2H" => features.e2h = true,
                "STALLS" => features.stalls_configurable = true,
                other => bail!("unknown feature {other}"),
            }
        }
        Ok(features)
    }
}

/// smmuv3_ste_cd_encodings.csv: all words of every row.
///
/// # Errors
/// For a row that cannot be understood.
pub fn encodings(text: &str) -> Result<Compared> {
    let mut compared = Compared::default();
    for row in Table::new(text)?.rows() {
        let (kind, text) = (row.get("kind")?, row.get("params")?);
        let expected = words(row)?;
        let built = image(kind, text).with_context(|| format!("{kind} {text}"))?;
        compared.row(if built == expected {
            Ok(())
        } else {
            Err(format!("{kind} {text}: {built:#018x?} instead of {expected:#018x?}"))
        });
    }
    Ok(compared)
}

fn image(kind: &str, text: &str) -> Result<Words> {
    let params = Params::new(text);
    Ok(match kind {
        "STE_abort" => ste_abort().0,
        "STE_bypass" => ste_bypass(params.features()?).0,
        "STE_s1" => ste_stage1(params.features()?, &stage1(&params)?, 0).0,
        "STE_s2" => ste_stage2(params.features()?, &stage2(&params)?).0,
        "CD_s1" => cd_stage1(&context(&params)?).0,
        other => bail!("unknown kind {other}"),
    })
}

fn stage1(params: &Params<'_>) -> Result<SteStage1> {
    Ok(SteStage1 {
        s1_fmt: match params.get("s1fmt")? {
            0 => S1Fmt::Linear,
            1 => S1Fmt::Leaf4K,
            2 => S1Fmt::Leaf64K,
            other => bail!("s1fmt={other}"),
        },
        s1_context_ptr: params.get("ctxptr")?,
        s1_cd_max: u8::try_from(params.get("s1cdmax")?)?,
        s1_dss: match params.get("s1dss")? {
            0 => S1Dss::Terminate,
            1 => S1Dss::Bypass,
            2 => S1Dss::Substream0,
            other => bail!("s1dss={other}"),
        },
        stall: params.flag("stall")?,
        ats: params.flag("ats")?,
    })
}

fn stage2(params: &Params<'_>) -> Result<SteStage2> {
    // Write-back inner-shareable walks where coherent, non-cacheable outer-shareable where not.
    let (cacheable, shareable) = if params.flag("coherent")? { (1, 3) } else { (0, 2) };
    let vtcr = params.get("tsz")?
        | params.get("sl")? << 6
        | cacheable << 8
        | cacheable << 10
        | shareable << 12
        | params.get("tg")? << 14
        | params.get("ps")? << 16;
    Ok(SteStage2 {
        vmid: u16::try_from(params.get("vmid")?)?,
        vtcr: u32::try_from(vtcr)?,
        s2ttb: params.get("s2ttb")?,
        stall: params.flag("stall")?,
        fwb: params.flag("s2fwb")?,
        ats: params.flag("ats")?,
    })
}

fn context(params: &Params<'_>) -> Result<CdStage1> {
    Ok(CdStage1 {
        t0sz: u8::try_from(params.get("t0sz")?)?,
        tg0: u8::try_from(params.get("tg0")?)?,
        walk: (1, 1, 3),
        ips: u8::try_from(params.get("ips")?)?,
        // The measured code turns both on together.
        ha: params.flag("hd")?,
        hd: params.flag("hd")?,
        stall: params.flag("stall")?,
        asid: u16::try_from(params.get("asid")?)?,
        aset: true,
        ttb0: params.get("ttb")?,
        mair: params.get("mair")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "kind,params,q0,q1,q2,q3,q4,q5,q6,q7\n";

    #[test]
    fn a_wrong_word_is_a_mismatch() {
        for (word, passed) in [(9, true), (8, false)] {
            let row = format!("{HEADER}STE_bypass,feat=none,{word},0,0,0,0,0,0,0\n");
            assert_eq!(encodings(&row).unwrap().passed(), passed);
        }
        assert!(encodings(&format!("{HEADER}STE_odd,-,0,0,0,0,0,0,0,0\n")).is_err());
        assert!(!encodings(HEADER).unwrap().passed(), "nothing compared is no success");
    }
}

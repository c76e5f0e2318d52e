//! Which bits hardware reads.

use anyhow::{Result, bail};
use palisade_smmuv3::entry::used::{cd_used, ste_used};
use palisade_smmuv3::spec::{Cd, Field, Ste};

use crate::vectors::compared::Compared;
use crate::vectors::table::Table;

/// What ours may add: the manual reads them wherever stage 2 is on.
const MAY_ADD: [Field; 5] = [Ste::S2AFFD, Ste::S2HD, Ste::S2HA, Ste::S2DS, Ste::S2SL0_2];

/// smmuv3_used_bits.csv: ours contain these and add nothing but the named fields.
///
/// # Errors
/// For a row that cannot be understood.
pub fn used_bits(text: &str) -> Result<Compared> {
    let mut compared = Compared::default();
    for row in Table::new(text)?.rows() {
        let kind = row.get("kind")?;
        let used = match kind {
            "STE_V0" | "STE_V1" => {
                let config = row.number("config")?;
                if kind == "STE_V1" && (1..=3).contains(&config) {
                    compared.skip("Config 1 to 3 abort: only V and Config are read");
                    continue;
                }
                let mut ste = [0; 8];
                Ste::V.set(&mut ste, u64::from(kind == "STE_V1"));
                Ste::CONFIG.set(&mut ste, config);
                Ste::S1DSS.set(&mut ste, row.number("s1dss")?);
                ste_used(&ste)
            }
            "CD_V0_EPD0_0" | "CD_V0_EPD0_1" | "CD_V1_EPD0_0" | "CD_V1_EPD0_1" => {
                let mut cd = [0; 8];
                Cd::V.set(&mut cd, u64::from(kind.contains("V1")));
                Cd::EPD0.set(&mut cd, u64::from(kind.ends_with('1')));
                cd_used(&cd)
            }
            other => bail!("unknown kind {other}"),
        };
        let mut result = Ok(());
        for (at, &ours) in used.iter().enumerate().take(4) {
            let theirs = row.number(&format!("used_q{at}"))?;
            let added = MAY_ADD.iter().filter(|field| field.word() == at);
            let may_add = added.fold(0, |bits, field| bits | field.mask());
            if theirs & !ours != 0 || ours & !theirs & !may_add != 0 {
                let label = format!("{kind} {} {}", row.get("config")?, row.get("s1dss")?);
                result = Err(format!("{label}: q{at} {ours:#018x} instead of {theirs:#018x}"));
            }
        }
        compared.row(result);
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_an_added_bit_are_mismatches() {
        let header = "kind,config,s1dss,used_q0,used_q1,used_q2,used_q3\n";
        for (q0, passed) in [("0x1", true), ("0x3", false), ("0x0", false)] {
            let row = format!("{header}STE_V0,0,0,{q0},0,0,0\n");
            assert_eq!(used_bits(&row).unwrap().passed(), passed);
        }
    }
}

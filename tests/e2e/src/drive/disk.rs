//! The host's part towards the payload `disk`, and the host's own look at the disk image.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::outcome::Check;
use crate::record;
use crate::session::Session;

/// The VM's name in the scenarios.
pub const VM: &str = "disk";
/// Bytes that the payload writes and reads back.
pub const BYTES: u64 = 16 << 20;
const WORDS_PER_SECTOR: u64 = 64;

/// `key=value` of an answer, as a number.
pub fn field(answer: &str, key: &str) -> Option<u64> {
    let value =
        answer.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    record::parse(value?)
}

/// The n-th 64-bit word that the payload writes for a seed (splitmix64).
#[must_use]
pub fn word(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Adds a word to a checksum (FNV-1a, a word at a time).
#[must_use]
pub fn mix(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3)
}

/// The checksum of nothing.
pub const EMPTY: u64 = 0xcbf2_9ce4_8422_2325;

/// The checksum of `bytes` bytes of a seed's words.
#[must_use]
pub fn expected(seed: u64, bytes: u64) -> u64 {
    (0..bytes / 8).fold(EMPTY, |sum, n| mix(sum, word(seed, n)))
}

/// Lets the payload write and read back everything; gives its check.
pub fn write(session: &mut Session, seed: u64, name: &str) -> Result<Check> {
    write_by(session, VM, seed, name)
}

/// The same of any VM with this payload.
pub fn write_by(session: &mut Session, vm: &str, seed: u64, name: &str) -> Result<Check> {
    let answer = session.command(vm, &format!("write {seed} {BYTES}"), Duration::from_secs(60))?;
    let wanted = expected(seed, BYTES);
    let (bytes, sum) = (field(&answer, "bytes"), field(&answer, "sum"));
    let passed = bytes == Some(BYTES) && sum == Some(wanted);
    let evidence = json!({
        "bytes": bytes,
        "read_back": sum.map(|sum| format!("{sum:#018x}")),
        "expected": format!("{wanted:#018x}"),
    });
    Ok(Check::new(name, passed, evidence))
}

/// Reads the disk image on the host and compares it.
pub fn image(path: &Path, seed: u64, name: &str) -> Result<Check> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = vec![0; usize::try_from(BYTES)?];
    file.read_exact(&mut bytes).with_context(|| format!("{} is too short", path.display()))?;
    let words = bytes.chunks_exact(8).map(|chunk| {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let mut sum = EMPTY;
    let mut first_wrong = None;
    for (n, found) in (0..).zip(words) {
        if found != word(seed, n) && first_wrong.is_none() {
            first_wrong = Some(n / WORDS_PER_SECTOR);
        }
        sum = mix(sum, found);
    }
    let wanted = expected(seed, BYTES);
    let evidence = json!({
        "image": format!("{sum:#018x}"),
        "expected": format!("{wanted:#018x}"),
        "first_wrong_sector": first_wrong,
    });
    Ok(Check::new(name, first_wrong.is_none() && sum == wanted, evidence))
}

/// Lets the payload read part of the disk again; true when it is still right.
pub fn alive(session: &mut Session, seed: u64, sector: u64, sectors: u64) -> Result<bool> {
    read(session, VM, seed, sector, sectors)
}

/// The same of any VM with this payload.
pub fn read(session: &mut Session, vm: &str, seed: u64, sector: u64, sectors: u64) -> Result<bool> {
    let command = format!("read {sector} {sectors}");
    let answer = session.command(vm, &command, Duration::from_secs(60))?;
    let words = sector * WORDS_PER_SECTOR..(sector + sectors) * WORDS_PER_SECTOR;
    let wanted = words.fold(EMPTY, |sum, n| mix(sum, word(seed, n)));
    Ok(field(&answer, "sum") == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_key() {
        let answer = "ok bytes=16777216 sum=0x00ff read=1";
        assert_eq!(field(answer, "bytes"), Some(BYTES));
        assert_eq!(field(answer, "sum"), Some(0xff));
        assert_eq!(field(answer, "su"), None);
        assert_eq!(field(answer, "byte"), None);
    }

    #[test]
    fn the_image_check_sees_one_flipped_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut bytes: Vec<u8> = (0..BYTES / 8).flat_map(|n| word(7, n).to_le_bytes()).collect();
        std::fs::write(&path, &bytes).unwrap();
        assert!(image(&path, 7, "image").unwrap().passed);
        assert!(!image(&path, 8, "image").unwrap().passed);
        bytes[513] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let check = image(&path, 7, "image").unwrap();
        assert!(!check.passed);
        assert_eq!(check.evidence["first_wrong_sector"], 1);
    }
}

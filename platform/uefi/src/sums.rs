//! SHA256SUMS: each file's hash, as `sha256sum` writes it.

use sha2::{Digest, Sha256};

use crate::Refusal;

/// Checks a file's bytes against its line.
///
/// # Errors
/// There is no line for it, or another hash in it.
pub fn check(sums: &str, name: &'static str, bytes: &[u8]) -> Result<(), Refusal> {
    let line = |line: &'_ str| -> Option<[u8; 32]> {
        let (hash, rest) = line.split_at_checked(64)?;
        // Two spaces, or a space and an asterisk.
        let file = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
        (file.trim_end() == name).then(|| number(hash)).flatten()
    };
    let wanted = sums.lines().find_map(line).ok_or(Refusal::NoSum(name))?;
    let found: [u8; 32] = Sha256::digest(bytes).into();
    if found == wanted { Ok(()) } else { Err(Refusal::Sum(name)) }
}

/// 64 digits as 32 bytes.
fn number(hash: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(hash.as_bytes().chunks_exact(2)) {
        let digits = core::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMS: &str = "\
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  empty\n\
        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad *abc\r\n\
        zz  short\n";

    #[test]
    fn files_are_the_ones_that_were_packed() {
        assert_eq!(check(SUMS, "empty", b""), Ok(()));
        assert_eq!(check(SUMS, "abc", b"abc"), Ok(()));
        assert_eq!(check(SUMS, "abc", b""), Err(Refusal::Sum("abc")), "swapped");
        assert_eq!(check(SUMS, "abc", b"abd"), Err(Refusal::Sum("abc")), "damaged");
        assert_eq!(check(SUMS, "other", b""), Err(Refusal::NoSum("other")));
        assert_eq!(check(SUMS, "short", b""), Err(Refusal::NoSum("short")));
        assert_eq!(check("", "abc", b"abc"), Err(Refusal::NoSum("abc")));
        assert_eq!(check("äöü", "abc", b"abc"), Err(Refusal::NoSum("abc")));
    }
}

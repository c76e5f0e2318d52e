//! Kernels as they are shipped, unpacked on the host: raw Image, gzip, zstd, EFI zboot, ELF no.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// No kernel is larger than this; a small file that unpacks to more is refused.
const LARGEST: u64 = 512 << 20;
const IMAGE_MAGIC: &[u8] = b"ARM\x64";
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Reads a kernel and gives the raw image.
///
/// # Errors
/// The file cannot be read, or is something else: the error says what it looks like.
pub fn kernel(path: &Path) -> Result<Vec<u8>> {
    let bytes = read(path)?;
    unpack(bytes, 0).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let size =
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    if size > LARGEST {
        bail!("{} has {size} bytes, more than any kernel", path.display());
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn unpack(bytes: Vec<u8>, depth: u32) -> Result<Vec<u8>> {
    if depth > 2 {
        bail!("packed more than twice");
    }
    if bytes.is_empty() {
        bail!("the file is empty");
    }
    if bytes.starts_with(GZIP) {
        let inner = limited(flate2::read::MultiGzDecoder::new(bytes.as_slice()))
            .context("broken gzip data")?;
        return unpack(inner, depth + 1);
    }
    if bytes.starts_with(ZSTD) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(bytes.as_slice())
            .map_err(|error| anyhow::anyhow!("broken zstd data: {error}"))?;
        return unpack(limited(decoder).context("broken zstd data")?, depth + 1);
    }
    if is_image(&bytes) {
        return Ok(bytes);
    }
    if let Some(payload) = zboot(&bytes)? {
        return unpack(payload, depth + 1);
    }
    if let Some(what) = looks_like(&bytes) {
        bail!(
            "this looks like {what}, not like an arm64 Image, .gz, .zst, EFI zboot or flat image"
        );
    }
    Ok(bytes)
}

fn limited(reader: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        bail!("it unpacks to more than {LARGEST} bytes");
    }
    Ok(bytes)
}

/// Whether bytes start with the arm64 Image header.
pub fn is_image(bytes: &[u8]) -> bool {
    bytes.get(56..60) == Some(IMAGE_MAGIC)
}

/// The payload of an EFI zboot image: "MZ", "zimg" at 4, offset at 8, size at 12, kind at 24.
fn zboot(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    if !bytes.starts_with(b"MZ") || bytes.get(4..8) != Some(b"zimg") {
        return Ok(None);
    }
    let word = |at: usize| -> Result<usize> {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        Ok(u32::from_le_bytes(word.context("truncated zboot header")?) as usize)
    };
    let (offset, size) = (word(8)?, word(12)?);
    let end = offset.checked_add(size).context("zboot payload out of range")?;
    let payload = bytes.get(offset..end).context("zboot payload out of range: truncated file?")?;
    let kind = bytes.get(24..56).unwrap_or_default();
    let kind = kind.split(|byte| *byte == 0).next().unwrap_or_default();
    match kind {
        b"gzip" | b"zstd" | b"zstd22" => Ok(Some(payload.to_vec())),
        other => bail!("EFI zboot packed with {:?}", String::from_utf8_lossy(other)),
    }
}

/// What a file that is no kernel looks like; `None` for a flat image.
fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    const KNOWN: &[(&[u8], &str)] = &[
        (b"\x7fELF", "an ELF program (strip it to a flat image with objcopy -O binary)"),
        (b"\xfd7zXZ\0", "xz data"),
        (b"BZh", "bzip2 data"),
        (b"\x04\x22\x4d\x18", "lz4 data"),
        (b"\x02\x21\x4c\x18", "legacy lz4 data"),
        (b"\x5d\0\0", "lzma data"),
        (b"\x89LZO", "lzo data"),
        (b"MZ", "an EFI program without an arm64 Image header"),
        (b"\xd0\x0d\xfe\xed", "a device tree blob or FIT image"),
        (b"\x27\x05\x19\x56", "a U-Boot image"),
        (b"070701", "a cpio archive"),
        (b"070702", "a cpio archive"),
        (b"!<arch>", "an ar archive or Debian package"),
        (b"PK\x03\x04", "a zip archive"),
        (b"#!", "a script"),
        (b"ANDROID!", "an Android boot image"),
    ];
    let mut known = KNOWN.iter();
    if let Some((_, what)) = known.find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(what);
    }
    if bytes.get(0x202..0x206) == Some(b"HdrS") {
        return Some("an x86 Linux kernel");
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some("a tar archive");
    }
    if bytes.get(36..40) == Some(&[0x18, 0x28, 0x6f, 0x01]) {
        return Some("a 32-bit Arm zImage");
    }
    if bytes.get(48..52) == Some(b"RISC") || bytes.get(56..60) == Some(b"RSC\x05") {
        return Some("a RISC-V Image");
    }
    let text = bytes.iter().take(512).all(|byte| matches!(byte, 9..=13 | 32..=126));
    if text {
        return Some("text");
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Some("nothing but zeros");
    }
    if bytes.len() < 4 || !bytes.len().is_multiple_of(4) && bytes.len() < 64 {
        return Some("too short a file for any code");
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn image() -> Vec<u8> {
        let mut image = vec![0x14; 4096];
        image[56..60].copy_from_slice(IMAGE_MAGIC);
        image
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(bytes: &[u8]) -> Vec<u8> {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        ruzstd::encoding::compress_to_vec(bytes, level)
    }

    fn zimg(kind: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 512];
        file[..2].copy_from_slice(b"MZ");
        file[4..8].copy_from_slice(b"zimg");
        file[8..12].copy_from_slice(&512u32.to_le_bytes());
        file[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file[24..24 + kind.len()].copy_from_slice(kind);
        file.extend_from_slice(payload);
        file
    }

    #[test]
    fn every_known_packing_gives_the_image() {
        let image = image();
        let packed = [
            image.clone(),
            gz(&image),
            zst(&image),
            zimg(b"gzip", &gz(&image)),
            zimg(b"zstd22", &zst(&image)),
        ];
        for file in packed {
            assert_eq!(unpack(file, 0).unwrap(), image);
        }
    }

    #[test]
    fn a_flat_image_passes_as_it_is() {
        let flat: Vec<u8> =
            [0xd503_201fu32, 0x1400_0000].iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(unpack(flat.clone(), 0).unwrap(), flat);
    }

    #[test]
    fn anything_else_is_refused_by_what_it_looks_like() {
        let says = |bytes: &[u8]| format!("{:#}", unpack(bytes.to_vec(), 0).unwrap_err());
        assert!(says(b"\x7fELF\x02\x01\x01 and more").contains("ELF"));
        assert!(says(b"#!/bin/sh\n").contains("script"));
        assert!(says(b"hello, I am a text file\n").contains("text"));
        assert!(says(b"").contains("empty"));
        assert!(says(&[0; 100]).contains("zeros"));
        assert!(says(&zimg(b"lz4", &[1, 2, 3])).contains("lz4"));
        assert!(says(&gz(&image())[..20]).contains("gzip"));
        assert!(says(&zimg(b"gzip", &gz(&image()))[..540]).contains("out of range"));
        assert!(says(&gz(&gz(&gz(&gz(&image()))))).contains("twice"));
    }
}

//! One file out of a wheel, which is a zip archive.

use std::io::Read;

use flate2::read::DeflateDecoder;

const END: &[u8; 4] = b"PK\x05\x06";
const ENTRY: &[u8; 4] = b"PK\x01\x02";
const LOCAL: &[u8; 4] = b"PK\x03\x04";
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Larger than any program that we unpack.
const LARGEST: u64 = 512 << 20;

/// The content of the first file whose path ends with `suffix`; `None` if there is none or the archive is broken.
///
/// Wheels beyond 4 GiB, which need the 64-bit form of the format, are not read.
pub fn file(archive: &[u8], suffix: &str) -> Option<Vec<u8>> {
    // The directory's end may be followed by a comment of up to 64 KiB.
    let from = archive.len().saturating_sub(22 + 0xffff);
    let end = from + archive[from..].windows(4).rposition(|window| window == END)?;
    let (mut count, mut at) = (number(archive, end + 10, 2)?, number(archive, end + 16, 4)? as usize);
    while count > 0 {
        count -= 1;
        if archive.get(at..at + 4)? != ENTRY {
            return None;
        }
        let length = |offset| number(archive, at + offset, 2).map(|length| length as usize);
        let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
        if archive.get(at + 46..at + 46 + name)?.ends_with(suffix.as_bytes()) {
            return content(archive, at);
        }
        at += 46 + name + extra + comment;
    }
    None
}

fn content(archive: &[u8], entry: usize) -> Option<Vec<u8>> {
    let method = number(archive, entry + 10, 2)? as u16;
    let (packed, size) = (number(archive, entry + 20, 4)? as usize, number(archive, entry + 24, 4)?);
    let local = number(archive, entry + 42, 4)? as usize;
    if archive.get(local..local + 4)? != LOCAL || size > LARGEST {
        return None;
    }
    let names = number(archive, local + 26, 2)? as usize + number(archive, local + 28, 2)? as usize;
    let packed = archive.get(local + 30 + names..local + 30 + names + packed)?;
    let mut content = Vec::new();
    match method {
        STORED => content.extend_from_slice(packed),
        DEFLATED => drop(DeflateDecoder::new(packed).take(size + 1).read_to_end(&mut content).ok()?),
        _ => return None,
    }
    (content.len() as u64 == size).then_some(content)
}

/// Little endian.
fn number(archive: &[u8], at: usize, bytes: usize) -> Option<u64> {
    let bytes = archive.get(at..at.checked_add(bytes)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `zip` writes it: `a/plain` stored, `b/bin/uv` deflated, with a comment behind.
    const ARCHIVE: &str = include_str!("testdata/wheel.hex");

    #[test]
    fn a_file_is_found_by_the_end_of_its_path() {
        let hex: String = ARCHIVE.split_whitespace().collect();
        let archive: Vec<u8> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        assert_eq!(file(&archive, "/plain").unwrap(), b"as it is\n");
        assert_eq!(file(&archive, "/bin/uv").unwrap(), "echo again\n".repeat(20).as_bytes());
        assert_eq!(file(&archive, "/missing"), None);
        for cut in 0..archive.len() {
            let _ = file(&archive[..cut], "/bin/uv");
        }
    }
}

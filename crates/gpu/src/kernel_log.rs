//! What the kernel says of GPUs that fell off the bus, which the driver's library may never notice.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

/// New lines of the kernel log, where this user may read it.
pub(crate) struct KernelLog {
    file: File,
}

impl KernelLog {
    /// What was logged before counts no more: it may be about a GPU that was repaired since.
    pub fn open() -> Option<KernelLog> {
        let flags = OFlags::NONBLOCK.bits() as i32;
        let mut file = File::options().read(true).custom_flags(flags).open("/dev/kmsg").ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(KernelLog { file })
    }

    /// PCI addresses (see [`pci_address`]) of GPUs that fell off the bus since the last call.
    pub fn fallen(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        // One read is one line; the kernel's longest is 8 KiB.
        let mut line = [0; 8192];
        loop {
            match self.file.read(&mut line) {
                Ok(0) => return found,
                Ok(length) => found.extend(fallen(&String::from_utf8_lossy(&line[..length]))),
                // Lines were overwritten before they were read.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return found,
            }
        }
    }
}

/// Which GPU the line says fell off the bus.
fn fallen(line: &str) -> Option<String> {
    if !line.contains("NVRM") || !line.contains("fallen off the bus") {
        return None;
    }
    let is_part = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    line.split(|c| !is_part(c)).find_map(|word| pci_address(word.trim_start_matches(':')))
}

/// `00000000:3B:00.0`, `0000:3b:00.0` and `0000:3b:00` are all `0:3b:0`: domain, bus and device.
pub(crate) fn pci_address(text: &str) -> Option<String> {
    let text = text.strip_prefix("PCI:").unwrap_or(text);
    let text = text.split_once('.').map_or(text, |(address, _function)| address);
    let mut parts = text.split(':').map(|part| u32::from_str_radix(part, 16));
    let (domain, bus, device) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    parts.next().is_none().then(|| format!("{domain:x}:{bus:x}:{device:x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpu_that_fell_is_named() {
        let xid = "3,1234,56789,-;NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.";
        assert_eq!(fallen(xid), pci_address("00000000:3B:00.0"));
        let plain = "3,1235,56790,-;NVRM: GPU 0000:b1:00.0: GPU has fallen off the bus.";
        assert_eq!(fallen(plain).as_deref(), Some("0:b1:0"));
        assert_eq!(fallen("6,1,1,-;NVRM: loading NVIDIA UNIX x86_64 Kernel Module"), None);
        assert_eq!(fallen("6,1,1,-;someone wrote: fallen off the bus 0000:b1:00.0"), None);
    }
}

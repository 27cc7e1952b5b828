//! Writer of the "newc" archive that the kernel unpacks as its initramfs.
//! Source of the layout: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`.

use crate::error::{Error, Result};
use crate::limits;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;
/// The name that ends an archive. The kernel skips whatever carries it.
const TRAILER: &str = "TRAILER!!!";

/// Builds an archive in memory. Names are relative and without `..`; parents must be added first.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory.
    pub fn directory(&mut self, name: &str, permissions: u32) -> Result<()> {
        self.entry(name, DIRECTORY | permissions & 0o7777, &[], (0, 0))
    }

    /// Adds a regular file.
    pub fn file(&mut self, name: &str, permissions: u32, data: &[u8]) -> Result<()> {
        self.entry(name, REGULAR | permissions & 0o7777, data, (0, 0))
    }

    /// Adds a character device.
    pub fn character_device(&mut self, name: &str, permissions: u32, major: u32, minor: u32) -> Result<()> {
        self.entry(name, CHARACTER | permissions & 0o7777, &[], (major, minor))
    }

    /// Ends the archive and returns it.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.inode = 0;
        self.raw(TRAILER, 0, &[], (0, 0))?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8], device: (u32, u32)) -> Result<()> {
        let bad = |reason| Error::BadArchive { name: name.to_owned(), reason };
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name.contains('\0') {
            return Err(bad("empty, too long, or with a NUL"));
        }
        if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(bad("not a plain relative path"));
        }
        if name == TRAILER {
            return Err(bad("the name that ends an archive"));
        }
        self.inode = self.inode.saturating_add(1);
        self.raw(name, mode, data, device)
    }

    fn raw(&mut self, name: &str, mode: u32, data: &[u8], device: (u32, u32)) -> Result<()> {
        let too_large = || Error::BadArchive { name: name.to_owned(), reason: "4 GiB or more" };
        let size = u32::try_from(data.len()).map_err(|_| too_large())?;
        let name_size =
            u32::try_from(name.len()).ok().and_then(|n| n.checked_add(1)).ok_or_else(too_large)?;
        self.bytes.extend_from_slice(b"070701");
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn layout_of_one_file_is_byte_exact() {
        let mut archive = Archive::new();
        archive.file("init", 0o755, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let head = "070701000000010000 81ed 0000000000000000000000010000000000000005\
                    00000000000000000000000000000000 00000005 00000000"
            .replace(' ', "");
        assert_eq!(&bytes[..110], head.as_bytes());
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert!(bytes[124..].starts_with(b"07070100000000"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn names_that_could_leave_the_archive_are_refused() {
        for name in ["", "/init", "../x", "a//b", "a/.", "a\0b", "..", TRAILER, &"x".repeat(300)] {
            assert!(Archive::new().file(name, 0o644, b"").is_err(), "{name:?}");
        }
    }

    /// Second opinion: busybox's cpio, where there is one.
    #[test]
    fn another_reader_lists_what_was_written() {
        let mut archive = Archive::new();
        archive.directory("modules", 0o755).unwrap();
        archive.file("modules/00-a.ko", 0o644, &[7; 1001]).unwrap();
        archive.file("init", 0o755, b"x").unwrap();
        let bytes = archive.finish().unwrap();
        let mut command = Command::new("busybox");
        command.args(["cpio", "-t"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let Ok(mut child) = command.spawn() else {
            eprintln!("skipped: no busybox here");
            return;
        };
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "modules\nmodules/00-a.ko\ninit\n");
    }
}

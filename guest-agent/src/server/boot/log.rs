//! Lines in the kernel's log: the only place to speak before the host listens.

use std::io::Write;
use std::sync::OnceLock;

/// The kernel takes somewhat less than 1 KiB a record.
const LINE_CHARS_MAX: usize = 240;

static KERNEL_LOG: OnceLock<std::fs::File> = OnceLock::new();

/// Opens it; kept open since the initramfs' /dev goes away.
pub(super) fn open() {
    if let Ok(file) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = KERNEL_LOG.set(file);
    }
}

/// Something that ends the guest. Shown on the console at the kernel's usual level.
pub(super) fn error(text: &str) {
    write(3, text);
}

/// Something to know.
pub(super) fn info(text: &str) {
    write(6, text);
}

fn write(level: u8, text: &str) {
    if let Some(mut file) = KERNEL_LOG.get() {
        // One write is one record.
        let text: String = crate::proto::clean_text(text).chars().take(LINE_CHARS_MAX).collect();
        let line = format!("<{level}>guest-agent: {text}");
        let _ = file.write_all(line.as_bytes());
    }
}

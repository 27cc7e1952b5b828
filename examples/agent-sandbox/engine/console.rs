//! Keeps the end of the guest's serial console, which matters only when something went wrong.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

const KEPT_BYTES_MAX: usize = 16 << 10;
const SHOWN_LINES_MAX: usize = 12;

/// A bounded log of console output; clones share it.
#[derive(Clone, Default)]
pub struct Console(Arc<Mutex<VecDeque<u8>>>);

impl Console {
    /// Reads `from` to its end.
    pub fn follow(&self, mut from: impl Read) {
        let mut buffer = [0; 4096];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                return;
            }
            self.append(buffer.get(..count).unwrap_or_default());
        }
    }

    /// The last lines, indented, with what could drive a terminal made visible: they are the guest's words.
    pub fn tail(&self) -> String {
        let kept: Vec<u8> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let from = lines.len().saturating_sub(SHOWN_LINES_MAX);
        let shown = lines.iter().skip(from).map(|line| format!("  | {}\n", crate::report::printable(line)));
        shown.collect()
    }

    fn append(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(KEPT_BYTES_MAX);
        kept.drain(..excess);
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! The user's terminal while a command runs in the sandbox: raw mode, size, and its restoration.

use std::io::{self, IsTerminal};

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};

/// Puts the terminal on standard input into raw mode until dropped.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// `None` where standard input is not a terminal.
    pub fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Rows and columns of the terminal, from whichever standard stream is one.
pub fn size() -> Option<(u16, u16)> {
    let known = |size: Winsize| (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col));
    tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok().and_then(known)
}

//! PID 1 inherits every orphan of the guest; this reaps them.
//!
//! Only those: a program of an exec session is the child of that session's thread, and `__WNOTHREAD` leaves other
//! threads' children alone. So no session can lose its program's exit to the reaper, without any shared table.
//! Orphans go to the leader of PID 1's threads, which is the one that must run this.

use super::sys;

/// Reaps for ever. For the main thread of PID 1, with signals blocked.
pub(super) fn run() -> ! {
    loop {
        while sys::reap_own_child() {}
        // Whatever signal it was: a child's end, or somebody's attempt at PID 1, which ignores it.
        let _ = sys::next_signal();
    }
}

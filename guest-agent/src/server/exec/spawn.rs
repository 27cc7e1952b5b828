//! Starts a program: its pipes or terminal, `fork`, and what the child does before `execve`.
//!
//! Must never allocate, lock or panic between `fork` and `execve`: other threads' locks are frozen there.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::failure;
use super::lookup::Program;
use super::pipes::{ChildEnds, HostEnds, open};
use crate::proto::{Bytes, ExecRequest, FailKind, Failure};
use crate::server::sys;

/// A running program, as its session needs it.
#[derive(Debug)]
pub(super) struct Started {
    /// Leader of its own session and process group. The session that owns this reaps it.
    pub pid: Pid,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// Our ends of its streams.
    pub ends: HostEnds,
}

#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Stage {
    Session = 1,
    Tty,
    Stdio,
    Identity,
    Cwd,
    Exec,
}

/// Runs the request's program. Comes back when `execve` has worked or failed.
pub(super) fn spawn(request: &ExecRequest, env: &[(Bytes, Bytes)]) -> Result<Started, Failure> {
    let program = Program::new(request, env).map_err(|_| failure(FailKind::Request, 0, "request"))?;
    let (child_ends, ends) = open(request.tty, request.stdin)
        .map_err(|e| resources(&e, if request.tty.is_some() { "tty" } else { "pipe" }))?;
    let (report_read, report_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| resources(&e.into(), "pipe"))?;
    let pid = {
        let mut pointers = Pointers::new(&program);
        let child = Child::new(request, &program, &child_ends, report_write.as_raw_fd());
        fork(&child, &mut pointers).map_err(|e| resources(&e, "fork"))?
    };
    // The child has its own copies. Ours would keep its pipes from ever ending, and the report from being read.
    drop((child_ends, report_write));
    let mut report = Vec::new();
    // An unreadable report is taken as success: the program's end tells the rest.
    let _ = File::from(report_read).take(8).read_to_end(&mut report);
    if let [stage, a, b, c, d] = *report {
        reap(pid);
        return Err(explain(stage, i32::from_le_bytes([a, b, c, d])));
    }
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Started { pid, pidfd, ends }),
        Err(error) => {
            let _ = sys::kill_group(pid, 9);
            reap(pid);
            Err(resources(&error.into(), "fork"))
        }
    }
}

/// Takes the ended (or ending) child off the process table.
pub(super) fn reap(pid: Pid) {
    let _ = rustix::io::retry_on_intr(|| {
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
    });
}

fn resources(error: &io::Error, stage: &str) -> Failure {
    failure(FailKind::Resources, error.raw_os_error().unwrap_or(0), stage)
}

fn explain(stage: u8, errno: i32) -> Failure {
    let exec_kind = match errno {
        libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG => FailKind::NotFound,
        libc::E2BIG => FailKind::Request,
        libc::ENOMEM | libc::EAGAIN | libc::EMFILE | libc::ENFILE => FailKind::Resources,
        _ => FailKind::NotExecutable,
    };
    let (kind, name) = match stage {
        s if s == Stage::Exec as u8 => (exec_kind, "exec"),
        s if s == Stage::Cwd as u8 => (FailKind::Cwd, "cwd"),
        s if s == Stage::Identity as u8 => (FailKind::Identity, "identity"),
        s if s == Stage::Tty as u8 => (FailKind::Resources, "tty"),
        s if s == Stage::Stdio as u8 => (FailKind::Resources, "stdio"),
        _ => (FailKind::Resources, "session"),
    };
    failure(kind, errno, name)
}

/// NULL-ended arrays for `execve`. They point into a `Program`, which outlives them.
struct Pointers {
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    /// `sh`, candidate (filled in by the child), arguments.
    shell_argv: Vec<*const libc::c_char>,
}

impl Pointers {
    fn new(program: &Program) -> Self {
        let list =
            |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>();
        let argv = list(&program.argv);
        let arguments = argv.iter().copied().skip(1);
        let shell_argv = [program.shell.as_ptr(), ptr::null()].into_iter().chain(arguments).collect();
        Self { env: list(&program.env), shell_argv, argv }
    }
}

/// Numbers of Linux' signals: 1 to this.
const SIGNALS: libc::c_int = 64;

/// All that the child reads; nothing in it needs to be computed after `fork`.
struct Child<'a> {
    program: &'a Program,
    stdio: [RawFd; 3],
    terminal: Option<RawFd>,
    identity: Option<(u32, u32)>,
    groups: &'a [u32],
    report: RawFd,
}

impl<'a> Child<'a> {
    fn new(request: &'a ExecRequest, program: &'a Program, ends: &ChildEnds, report: RawFd) -> Self {
        let (uid, gid) = (request.uid, request.gid);
        let same = uid == rustix::process::geteuid().as_raw()
            && gid == rustix::process::getegid().as_raw()
            && request.groups.is_empty();
        Self {
            program,
            stdio: ends.stdio(),
            terminal: ends.terminal(),
            identity: (!same).then_some((uid, gid)),
            groups: &request.groups,
            report,
        }
    }
}

fn fork(child: &Child<'_>, pointers: &mut Pointers) -> io::Result<Pid> {
    // SAFETY: the child runs only `Child::become_program`, which makes nothing but async-signal-safe calls and
    // never returns; it works on its own copy of this thread's memory.
    let pid = sys::check(unsafe { libc::fork() })?;
    if pid == 0 {
        // SAFETY: this is the child of the fork above.
        unsafe { child.become_program(pointers) }
    }
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork gave no process id"))
}

impl Child<'_> {
    /// # Safety
    /// Only for the child of a `fork`: it replaces or ends the process. All pointers must be alive.
    unsafe fn become_program(&self, pointers: &mut Pointers) -> ! {
        // SAFETY: the caller's promise is passed on; each call takes numbers or pointers into memory that lives.
        unsafe {
            let stage = match self.prepare() {
                Ok(()) => {
                    self.execute(pointers);
                    Stage::Exec
                }
                Err(stage) => stage,
            };
            let [a, b, c, d] = (*libc::__errno_location()).to_le_bytes();
            let report = [stage as u8, a, b, c, d];
            libc::write(self.report, report.as_ptr().cast(), report.len());
            libc::_exit(127)
        }
    }

    /// # Safety
    /// Only between fork and exec, in the child.
    unsafe fn prepare(&self) -> Result<(), Stage> {
        // SAFETY: system calls on numbers and on memory that lives; raw calls for the identity since glibc's would
        // try to reach threads that a forked child does not have.
        unsafe {
            let ok = |result: libc::c_long, stage| if result == -1 { Err(stage) } else { Ok(()) };
            let call = |result: libc::c_int, stage| ok(libc::c_long::from(result), stage);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            // What is ignored stays so over execve, and no shell could trap it then. Fails for SIGKILL and SIGSTOP,
            // and for those that libc keeps.
            for number in 1..=SIGNALS {
                libc::signal(number, libc::SIG_DFL);
            }
            call(libc::setsid(), Stage::Session)?;
            if let Some(terminal) = self.terminal {
                call(libc::ioctl(terminal, libc::TIOCSCTTY, 0), Stage::Tty)?;
            }
            for (target, source) in (0..).zip(self.stdio) {
                call(libc::dup2(source, target), Stage::Stdio)?;
            }
            // Descriptors that a library forgot to mark; the report must stay open until execve.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if let Some((uid, gid)) = self.identity {
                let groups = self.groups.as_ptr();
                ok(libc::syscall(libc::SYS_setgroups, self.groups.len(), groups), Stage::Identity)?;
                ok(libc::syscall(libc::SYS_setresgid, gid, gid, gid), Stage::Identity)?;
                ok(libc::syscall(libc::SYS_setresuid, uid, uid, uid), Stage::Identity)?;
            }
            call(libc::chdir(self.program.cwd.as_ptr()), Stage::Cwd)
        }
    }

    /// Comes back only if no candidate could be run; errno then says why, a refusal winning over an absence.
    ///
    /// # Safety
    /// As for `prepare`; `pointers` must have been made from `self`.
    unsafe fn execute(&self, pointers: &mut Pointers) {
        // SAFETY: all arrays are NULL-ended and all strings alive; errno is this thread's.
        unsafe {
            let mut refused = 0;
            for candidate in &self.program.candidates {
                libc::execve(candidate.as_ptr(), pointers.argv.as_ptr(), pointers.env.as_ptr());
                if *libc::__errno_location() == libc::ENOEXEC {
                    if let Some(slot) = pointers.shell_argv.get_mut(1) {
                        *slot = candidate.as_ptr();
                    }
                    let shell = self.program.shell.as_ptr();
                    libc::execve(shell, pointers.shell_argv.as_ptr(), pointers.env.as_ptr());
                    *libc::__errno_location() = libc::ENOEXEC;
                }
                match *libc::__errno_location() {
                    libc::ENOENT | libc::ENOTDIR => {}
                    libc::EACCES => refused = libc::EACCES,
                    _ => return,
                }
            }
            *libc::__errno_location() = if refused == 0 { libc::ENOENT } else { refused };
        }
    }
}

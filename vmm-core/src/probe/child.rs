//! Runs the probe guest in a child process, with a time limit.
//!
//! A virtual machine belongs to the process that made it, so the child makes its own. Between its birth
//! and its end it calls nothing but system calls, and allocates nothing: another thread may have held the
//! allocator's lock when the child was copied. What allocates is done before, in the parent.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit};

use super::Defect;
use super::guest;

/// How long a killed child may take to die before it is left to the kernel.
const DEATH_LIMIT: Duration = Duration::from_millis(40);

/// What the child tells through shared memory: an outcome and a number that belongs to it.
struct Report {
    outcome: AtomicU32,
    detail: AtomicU32,
}

const OUTCOME_NONE: u32 = 0;
const OUTCOME_USABLE: u32 = 1;
const OUTCOME_INTERNAL: u32 = 2;
const OUTCOME_CRASHED: u32 = 3;
const OUTCOME_UNEXPECTED: u32 = 4;
/// From here on: a step of [`STEPS`] was refused.
const OUTCOME_REFUSED: u32 = 16;

/// The steps that KVM can refuse, in order.
const STEPS: [&str; 9] = [
    "make a virtual machine",
    "map its memory",
    "make a vCPU",
    "set the vCPU's CPUID",
    "set the vCPU's MSRs",
    "read the vCPU's special registers",
    "set the vCPU's special registers",
    "set the vCPU's registers",
    "run the vCPU",
];

/// Runs the guest for at most `limit`.
pub(super) fn run(kvm: &Kvm, limit: Duration) -> Result<(), Defect> {
    let no_child = |error: io::Error| Defect::NoChild(error.to_string());
    let refused = |step| move |error: kvm_ioctls::Error| Defect::Refused { step, errno: error.errno() };
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(refused("list CPU features"))?;
    let msrs = guest::MSRS.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
    let msrs = Msrs::from_entries(&msrs).map_err(|_| no_child(io::ErrorKind::OutOfMemory.into()))?;
    let mut memory = SharedMemory::new().map_err(no_child)?;
    guest::fill(memory.guest());

    let child = Child::start(|| run_guest(kvm, &memory, &cpuid, &msrs)).map_err(no_child)?;
    if !child.wait(limit, DEATH_LIMIT).map_err(no_child)? {
        return Err(Defect::Hung);
    }
    let report = memory.report();
    let detail = report.detail.load(Ordering::SeqCst);
    match report.outcome.load(Ordering::SeqCst) {
        OUTCOME_USABLE => Ok(()),
        OUTCOME_NONE => Err(Defect::NoChild("the child process was killed".into())),
        OUTCOME_INTERNAL => Err(Defect::Internal(detail)),
        OUTCOME_CRASHED => Err(Defect::Crashed),
        OUTCOME_UNEXPECTED => Err(Defect::Unexpected(detail)),
        outcome => {
            let step = usize::try_from(outcome.saturating_sub(OUTCOME_REFUSED)).unwrap_or(usize::MAX);
            let step = STEPS.get(step).copied().unwrap_or("go on");
            Err(Defect::Refused { step, errno: detail.cast_signed() })
        }
    }
}

/// In the child: makes the guest, runs it, reports. Only system calls, no allocation.
fn run_guest(kvm: &Kvm, memory: &SharedMemory, cpuid: &CpuId, msrs: &Msrs) {
    let (outcome, detail) = match try_guest(kvm, memory, cpuid, msrs) {
        Ok(found) => found,
        Err((step, error)) => (OUTCOME_REFUSED.saturating_add(step), error.errno().cast_unsigned()),
    };
    memory.report().detail.store(detail, Ordering::SeqCst);
    memory.report().outcome.store(outcome, Ordering::SeqCst);
}

/// The outcome and its detail, or the number of the step that was refused.
fn try_guest(
    kvm: &Kvm,
    memory: &SharedMemory,
    cpuid: &CpuId,
    msrs: &Msrs,
) -> Result<(u32, u32), (u32, kvm_ioctls::Error)> {
    let vm = kvm.create_vm().map_err(|error| (0, error))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: guest::MEMORY_BYTES as u64,
        userspace_addr: memory.address.as_ptr().addr() as u64,
    };
    // SAFETY: the range is part of `memory`, which outlives the virtual machine, and nothing else of this
    // process lies in it.
    unsafe { vm.set_user_memory_region(region) }.map_err(|error| (1, error))?;
    let mut vcpu = vm.create_vcpu(0).map_err(|error| (2, error))?;
    vcpu.set_cpuid2(cpuid).map_err(|error| (3, error))?;
    if vcpu.set_msrs(msrs).map_err(|error| (4, error))? != guest::MSRS.len() {
        return Err((4, kvm_ioctls::Error::new(libc::EINVAL)));
    }
    let mut sregs = vcpu.get_sregs().map_err(|error| (5, error))?;
    guest::set_special_registers(&mut sregs);
    vcpu.set_sregs(&sregs).map_err(|error| (6, error))?;
    vcpu.set_regs(&guest::registers()).map_err(|error| (7, error))?;
    for expected in guest::REPORTS {
        let reported = match vcpu.run() {
            Ok(VcpuExit::IoOut(guest::REPORT_PORT, data)) => data == expected.to_le_bytes(),
            Ok(VcpuExit::Shutdown) => return Ok((OUTCOME_CRASHED, 0)),
            Ok(VcpuExit::InternalError) => {
                // SAFETY: the exit reason is KVM_EXIT_INTERNAL_ERROR, so `internal` is what KVM filled in.
                let suberror = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal.suberror };
                return Ok((OUTCOME_INTERNAL, suberror));
            }
            Ok(_) => false,
            Err(error) => return Err((8, error)),
        };
        if !reported {
            return Ok((OUTCOME_UNEXPECTED, vcpu.get_kvm_run().exit_reason));
        }
    }
    Ok((OUTCOME_USABLE, 0))
}

/// Guest memory, and after it the report, shared between parent and child.
struct SharedMemory {
    address: NonNull<u8>,
}

const SHARED_BYTES: usize = guest::MEMORY_BYTES + 0x1000;

impl SharedMemory {
    fn new() -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the kernel chooses disturbs nothing.
        let address = unsafe { libc::mmap(ptr::null_mut(), SHARED_BYTES, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast()).map(|address| Self { address }).ok_or_else(io::Error::last_os_error)
    }

    fn guest(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is larger, was zeroed by the kernel, and `self` is borrowed for the slice's
        // life; no guest runs while the parent fills it.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), guest::MEMORY_BYTES) }
    }

    fn report(&self) -> &Report {
        // SAFETY: the page behind guest memory is mapped, aligned, zeroed at the start, holds nothing else
        // and is only ever used through atomics.
        unsafe { self.address.add(guest::MEMORY_BYTES).cast::<Report>().as_ref() }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrows from it any more.
        unsafe { libc::munmap(self.address.as_ptr().cast(), SHARED_BYTES) };
    }
}

/// A child process that raises no signal when it ends.
struct Child {
    pidfd: OwnedFd,
}

impl Child {
    /// Copies this process; the copy runs `body` and exits. `body` must not allocate, lock or panic.
    fn start(body: impl FnOnce()) -> io::Result<Self> {
        let mut pidfd: libc::c_int = -1;
        // The lowest byte of the flags is the signal at the child's end: none, so that no SIGCHLD handler
        // of the embedding program sees a child it does not know.
        let flags = libc::c_long::from(libc::CLONE_PIDFD);
        let nothing = ptr::null_mut::<libc::c_void>();
        // SAFETY: without CLONE_VM and without a stack this is fork(2): the child goes on here with a copy
        // of everything. The kernel writes the pidfd to where it is told.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, nothing, &raw mut pidfd, nothing, nothing) };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                detach();
                body();
                // SAFETY: ends the child at once; no destructor or exit handler of the parent's runs.
                unsafe { libc::_exit(0) }
            }
            // SAFETY: the kernel has just opened this descriptor for us alone.
            _ => Ok(Self { pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
        }
    }

    /// Waits for the end; `false` when the child had to be killed. If it is not dead `death` later, it is left to the
    /// kernel.
    fn wait(&self, limit: Duration, death: Duration) -> io::Result<bool> {
        let ended = self.ends_within(limit)?;
        if !ended {
            // SAFETY: plain system call on our own descriptor.
            unsafe {
                libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), libc::SIGKILL, 0, 0)
            };
            if !self.ends_within(death)? {
                return Ok(false);
            }
        }
        self.reap()?;
        Ok(ended)
    }

    fn ends_within(&self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            let mut poll = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd.
            match unsafe { libc::poll(&raw mut poll, 1, i32::try_from(left).unwrap_or(i32::MAX)) } {
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                -1 => return Err(io::Error::last_os_error()),
                count => return Ok(count > 0),
            }
        }
    }

    fn reap(&self) -> io::Result<()> {
        let pidfd = libc::id_t::try_from(self.pidfd.as_raw_fd()).unwrap_or_default();
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // `__WALL`: a child without an end signal is otherwise not waited for.
        // SAFETY: the kernel writes one siginfo_t.
        let result =
            unsafe { libc::waitid(libc::P_PIDFD, pidfd, info.as_mut_ptr(), libc::WEXITED | libc::__WALL) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// In the child: no handler of the parent's runs here, and the child dies with the parent.
fn detach() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: plain system calls; sigfillset initialises the set that the next line reads.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_hangs_is_killed_and_leaves_no_zombie() {
        let child = Child::start(|| {
            loop {
                std::hint::spin_loop();
            }
        });
        let child = child.unwrap();
        assert!(!child.wait(Duration::from_millis(10), Duration::from_secs(60)).unwrap());
        // Nothing is left to reap.
        assert_eq!(child.reap().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    fn a_child_that_ends_is_reaped() {
        let child = Child::start(|| {}).unwrap();
        assert!(child.wait(Duration::from_secs(60), DEATH_LIMIT).unwrap());
        assert_eq!(child.reap().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }
}

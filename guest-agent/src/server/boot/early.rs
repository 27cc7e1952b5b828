//! The first milliseconds: file systems of the kernel, descriptors, limits, modules.
//!
//! Must work with nothing but `/init` and `/modules` in the initramfs, not even `/dev/null`.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Resource, Rlimit, setrlimit, umask};

use super::{log, note};
use crate::limits;
use crate::server::sys;

const MODULES: &str = "/modules";

/// Nodes a program cannot do without, where the kernel has no devtmpfs: name, major, minor.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Makes this process one that can work: signals, descriptors, limits, `/proc`, `/sys`, `/dev`.
pub(super) fn prepare(notes: &mut Vec<String>) -> io::Result<()> {
    sys::quiet_signals();
    umask(Mode::from_raw_mode(0o022));
    for place in ["/proc", "/sys", "/dev"] {
        make_directory(place)?;
    }
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", quiet, None)?;
    mount("sysfs", "/sys", "sysfs", quiet, None)?;
    devices("/dev")?;
    sys::fill_standard_descriptors(|| Ok(rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?))?;
    log::open();
    let files =
        Rlimit { current: Some(limits::OPEN_FILES_SOFT_MAX), maximum: Some(limits::OPEN_FILES_HARD_MAX) };
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        note(notes, "raise the number of open files", &error);
    }
    Ok(())
}

/// Mounts devtmpfs, or a tmpfs with the few nodes that must be.
pub(super) fn devices(place: &str) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    if mount("devtmpfs", place, "devtmpfs", flags, Some(c"mode=0755")).is_ok() {
        return Ok(());
    }
    mount("tmpfs", place, "tmpfs", flags, Some(c"mode=0755"))?;
    for (name, major, minor) in NODES {
        let path = std::ffi::CString::new(format!("{place}/{name}"))?;
        make_device(&path, major, minor)?;
    }
    Ok(())
}

fn make_device(path: &CStr, major: u32, minor: u32) -> io::Result<()> {
    sys::make_device(path, 0o666, major, minor)?;
    // The umask took bits away.
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(0o666))?)
}

pub(super) fn make_directory(place: &str) -> io::Result<()> {
    match fs::create_dir(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Loads `/modules/*.ko` in the order of their names. One that fails is noted: what it is needed for will say more.
pub(super) fn load_modules(notes: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(MODULES) else { return };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "ko"))
        .collect();
    paths.sort_unstable();
    for path in paths {
        let loaded =
            File::open(&path).and_then(|file| match rustix::system::finit_module(file.as_fd(), c"", 0) {
                // Built in, or loaded as another's helper.
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(error) => Err(error.into()),
            });
        if let Err(error) = loaded {
            note(notes, &format!("load {}", path.display()), &error);
        }
    }
}

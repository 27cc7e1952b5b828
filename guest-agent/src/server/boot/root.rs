//! The new root: a tmpfs, the kernel's file systems, the host's shares, the given files.
//!
//! ```text
//! /newroot (tmpfs) ── becomes / ──►  proc sys dev tmp run root home …
//!   .agent/share   virtio-fs, the whole tree     ┐ mounted while shares are laid out,
//!   .agent/upper   tmpfs for overlays' changes   ┘ then detached: no path leads there
//! ```
//!
//! The change of root comes before anything that `Configure` names, so that a path with links in it (`/bin/x` where
//! `/bin` → `usr/bin`) means what it will mean to programs, and never leads into the initramfs.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind_recursive, mount_move, mount_remount, unmount,
};

use super::early::{devices, make_directory};
use super::{note, refused};
use crate::limits;
use crate::proto::{Bytes, Configure, File, Mount, MountMode, Refused, SHARE_TAG, Symlink};

const NEW_ROOT: &str = "/newroot";
const SHARE: &str = "/.agent/share";
const UPPER: &str = "/.agent/upper";
const DIRECTORIES: [&str; 9] = ["proc", "sys", "dev", "tmp", "run", "root", "home", "etc", ".agent"];
const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Makes the new root and changes into it.
pub(super) fn assemble(configure: &Configure, notes: &mut Vec<String>) -> Result<(), Refused> {
    skeleton(notes).map_err(|e| refused("make the new root", &e))?;
    let shares = !configure.mounts.is_empty();
    if shares {
        open_shares().map_err(|e| refused("mount the host's shares (virtio-fs)", &e))?;
        if let Err(error) = read_ahead(&format!("{NEW_ROOT}{SHARE}")) {
            note(notes, "read ahead on the host's shares", &error);
        }
    }
    enter().map_err(|e| refused("change to the new root", &e))?;
    links(&configure.symlinks)?;
    for (number, share) in configure.mounts.iter().enumerate() {
        lay(share, number).map_err(|e| refused(&format!("mount {:?}", share.target), &e))?;
    }
    // Again for those whose directory came with a share.
    links(&configure.symlinks)?;
    if shares {
        hide_shares().map_err(|e| refused("hide the host's shares", &e))?;
    }
    if let Err(error) = fs::remove_dir("/.agent") {
        note(notes, "remove /.agent", &error);
    }
    populate(configure)
}

/// Makes the directories and files of `configure` under the current root.
///
/// # Errors
/// Which path, and why.
pub fn populate(configure: &Configure) -> Result<(), Refused> {
    for directory in &configure.directories {
        let path = directory.path.as_path();
        make_directory_tree(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(directory.mode)))
            .and_then(|()| std::os::unix::fs::chown(path, Some(directory.uid), Some(directory.gid)))
            .map_err(|e| refused(&format!("make directory {:?}", directory.path), &e))?;
    }
    for file in &configure.files {
        write_file(file).map_err(|e| refused(&format!("write {:?}", file.path), &e))?;
    }
    Ok(())
}

fn skeleton(notes: &mut Vec<String>) -> io::Result<()> {
    make_directory(NEW_ROOT)?;
    mount("root", NEW_ROOT, "tmpfs", MountFlags::NODEV, Some(c"mode=0755"))?;
    let at = |name: &str| format!("{NEW_ROOT}/{name}");
    for name in DIRECTORIES {
        make_directory(&at(name))?;
    }
    fs::set_permissions(at("root"), fs::Permissions::from_mode(0o700))?;
    let kernel = QUIET | MountFlags::NOEXEC;
    mount("proc", at("proc"), "proc", kernel, None)?;
    mount("sysfs", at("sys"), "sysfs", kernel | MountFlags::RDONLY, None)?;
    let groups = mount("cgroup2", at("sys/fs/cgroup"), "cgroup2", kernel, None);
    if let Err(error) = groups {
        note(notes, "mount cgroup2", &error);
    }
    devices(&at("dev"))?;
    make_directory(&at("dev/pts"))?;
    make_directory(&at("dev/shm"))?;
    let terminals = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount("devpts", at("dev/pts"), "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, Some(terminals))?;
    mount("shm", at("dev/shm"), "tmpfs", QUIET, Some(c"mode=1777"))?;
    mount("tmp", at("tmp"), "tmpfs", QUIET, Some(c"mode=1777"))?;
    mount("run", at("run"), "tmpfs", QUIET, Some(c"mode=0755"))?;
    // devtmpfs has a node of this name that belongs to another instance of devpts.
    let _ = fs::remove_file(at("dev/ptmx"));
    let links = [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ];
    for (name, target) in links {
        match symlink(target, at(&format!("dev/{name}"))) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn open_shares() -> io::Result<()> {
    let at = |name: &str| format!("{NEW_ROOT}{name}");
    make_directory(&at(SHARE))?;
    make_directory(&at(UPPER))?;
    mount(SHARE_TAG, at(SHARE), "virtiofs", MountFlags::NODEV, None)?;
    Ok(mount("upper", at(UPPER), "tmpfs", MountFlags::NODEV, Some(c"mode=0700"))?)
}

/// Lets the kernel ask for as much at once as a request may hold: with its default of 128 KiB, a large file is read
/// from the host at half the speed.
fn read_ahead(mounted: &str) -> io::Result<()> {
    let device = fs::metadata(mounted)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), limits::READ_AHEAD_KIB.to_string())
}

/// Moves the new root over the old one. The initramfs stays below, without a path to it, so its files are removed
/// first: they are memory.
fn enter() -> io::Result<()> {
    let _ = fs::remove_dir_all("/modules");
    let _ = fs::remove_file("/init");
    for old in ["/dev", "/sys", "/proc"] {
        unmount(old, UnmountFlags::DETACH)?;
    }
    std::env::set_current_dir(NEW_ROOT)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")
}

fn hide_shares() -> io::Result<()> {
    for place in [SHARE, UPPER] {
        unmount(place, UnmountFlags::DETACH)?;
        fs::remove_dir(place)?;
    }
    Ok(())
}

fn links(list: &[Symlink]) -> Result<(), Refused> {
    for link in list {
        let path = link.path.as_path();
        let made = path.parent().map_or(Ok(()), make_directory_tree).and_then(|()| {
            match symlink(link.target.as_path(), path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        });
        made.map_err(|e| refused(&format!("link {:?}", link.path), &e))?;
    }
    Ok(())
}

/// Mounts one share.
fn lay(share: &Mount, number: usize) -> io::Result<()> {
    let source = inside(SHARE, &share.source);
    let target = share.target.as_path();
    let directory = fs::metadata(&source)?.is_dir();
    if directory {
        make_directory_tree(target)?;
    } else {
        target.parent().map_or(Ok(()), make_directory_tree)?;
    }
    match (share.mode, directory) {
        (MountMode::Overlay, true) => overlay(&source, target, number),
        (MountMode::Overlay, false) => copy(&source, target),
        (mode, _) => {
            if !directory {
                OpenOptions::new().create(true).append(true).open(target)?;
            }
            mount_bind_recursive(&source, target)?;
            let flags = match mode {
                MountMode::Ro => MountFlags::NODEV | MountFlags::RDONLY,
                _ => QUIET,
            };
            Ok(mount_remount(target, MountFlags::BIND | flags, c"")?)
        }
    }
}

fn overlay(source: &Path, target: &Path, number: usize) -> io::Result<()> {
    let (upper, work) = (format!("{UPPER}/{number}/u"), format!("{UPPER}/{number}/w"));
    make_directory_tree(Path::new(&upper))?;
    make_directory_tree(Path::new(&work))?;
    // The upper directory is what the mount point shows itself as.
    let shown = fs::metadata(source)?;
    fs::set_permissions(&upper, shown.permissions())?;
    let owner = (std::os::unix::fs::MetadataExt::uid(&shown), std::os::unix::fs::MetadataExt::gid(&shown));
    std::os::unix::fs::chown(&upper, Some(owner.0), Some(owner.1))?;
    let mut options = b"lowerdir=".to_vec();
    for byte in source.as_os_str().as_bytes() {
        if matches!(byte, b'\\' | b':' | b',') {
            options.push(b'\\');
        }
        options.push(*byte);
    }
    options.extend_from_slice(format!(",upperdir={upper},workdir={work}").as_bytes());
    let options = CString::new(options)?;
    Ok(mount("overlay", target, "overlay", MountFlags::NODEV, Some(options.as_c_str()))?)
}

/// A single file cannot be the bottom of an overlay: it is copied into memory instead.
fn copy(source: &Path, target: &Path) -> io::Result<()> {
    if fs::metadata(source)?.len() > limits::OVERLAY_FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "too large to be copied; mount it `ro` or `rw`",
        ));
    }
    fs::copy(source, target).map(drop)
}

fn inside(base: &str, relative: &Bytes) -> PathBuf {
    Path::new(base).join(relative.as_path())
}

fn make_directory_tree(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().recursive(true).mode(0o755).create(path) {
        Err(error) if !path.is_dir() => Err(error),
        _ => Ok(()),
    }
}

/// A link in the way is replaced, not followed: `/etc/resolv.conf` often points at what only the host has.
fn write_file(file: &File) -> io::Result<()> {
    let path = file.path.as_path();
    path.parent().map_or(Ok(()), make_directory_tree)?;
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        fs::remove_file(path)?;
    }
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(file.mode).open(path)?;
    out.write_all(file.content.as_slice())?;
    out.set_permissions(fs::Permissions::from_mode(file.mode))
}

//! Which parts of this host the guest sees, and where: its root file system without a download.
//!
//! The host's programs are shared read-only (enforced in the device) and appear under a RAM overlay, so
//! that the guest may "install" things that vanish with it. The workspace and `--share` are the only parts
//! it can change. Nothing of `$HOME`, no socket, no secret of `/etc`.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::cli::ShareSpec;
use crate::error::{Error, Result};
use crate::guest::etc;

/// How a part of the host appears in the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Read-only on the host, writable in the guest's memory.
    Overlay,
    ReadOnly,
    ReadWrite,
}

/// One part of the host, at the same absolute path in the guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    pub path: PathBuf,
    pub mode: Mode,
}

/// The whole picture.
#[derive(Debug, Default)]
pub struct Userland {
    /// Sorted so that a part comes after the part that contains it.
    pub parts: Vec<Part>,
    /// `(path, target)`: `/bin` → `usr/bin` and its like, as on this host.
    pub symlinks: Vec<(String, String)>,
}

const PROGRAMS: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// Puts the userland together. `workspace` is the current directory unless `--no-workspace`.
pub fn of_this_host(workspace: Option<&Path>, shares: &[ShareSpec]) -> Result<Userland> {
    let mut userland = Userland::default();
    for path in PROGRAMS.iter().map(Path::new) {
        match fs::symlink_metadata(path) {
            Ok(data) if data.is_symlink() => {
                if let Ok(target) = fs::read_link(path) {
                    let text = |path: &Path| path.to_string_lossy().into_owned();
                    userland.symlinks.push((text(path), text(&target)));
                }
            }
            Ok(data) if data.is_dir() => userland.push(path.to_owned(), Mode::Overlay),
            _ => {}
        }
    }
    for folder in etc::shared_folders() {
        userland.push(folder, Mode::Overlay);
    }
    for share in shares {
        let mode = if share.read_only { Mode::ReadOnly } else { Mode::ReadWrite };
        userland.push(canonical("--share", &share.path)?, mode);
    }
    if let Some(workspace) = workspace {
        let workspace = canonical("the current directory", workspace)?;
        refuse_home(&workspace)?;
        userland.push(workspace, Mode::ReadWrite);
    }
    userland.parts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(userland)
}

impl Userland {
    /// A later, more explicit wish for the same path replaces the earlier one.
    fn push(&mut self, path: PathBuf, mode: Mode) {
        self.parts.retain(|part| part.path != path);
        self.parts.push(Part { path, mode });
    }
}

fn canonical(what: &str, path: &Path) -> Result<PathBuf> {
    let path = fs::canonicalize(path)
        .map_err(|error| Error::Usage(format!("{what} {}: {error}", path.display())))?;
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if path.to_str().is_none() || !plain {
        return Err(Error::Usage(format!("{what} {}: the path is not valid UTF-8", path.display())));
    }
    // These are the guest's own; sharing the host's would hand over devices, processes or sockets.
    for own in ["/", "/proc", "/sys", "/dev", "/run"] {
        if path == Path::new(own) || (own != "/" && path.starts_with(own)) {
            return Err(Error::Usage(format!(
                "{what} {}: this part of the host is never shared; share a folder of your own",
                path.display()
            )));
        }
    }
    Ok(path)
}

/// The current directory is shared without being named, so it must not be all that a user owns.
fn refuse_home(workspace: &Path) -> Result<()> {
    let home = std::env::var_os("HOME").and_then(|home| fs::canonicalize(home).ok());
    match home {
        Some(home) if home.starts_with(workspace) => Err(Error::Usage(format!(
            "the current directory {} holds your home, keys and all\n  \
             cd into the project, or use --no-workspace, or name it with --share",
            workspace.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_and_kernel_folders_are_refused() {
        let share = |path: &str| of_this_host(None, &[ShareSpec { path: path.into(), read_only: true }]);
        for refused in ["/", "/proc", "/dev", "/run", "/sys/kernel", "/nonexistent-path"] {
            assert!(share(refused).is_err(), "{refused}");
        }
        assert!(of_this_host(Some(Path::new("/")), &[]).is_err());
    }

    #[test]
    fn parts_come_after_what_contains_them_and_shadow_is_never_one() {
        let folder = tempfile::tempdir().unwrap();
        let userland = of_this_host(Some(folder.path()), &[]).unwrap();
        let mut sorted = userland.parts.clone();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(sorted, userland.parts);
        assert!(userland.parts.iter().all(|part| part.path != Path::new("/etc")));
        let rw: Vec<_> = userland.parts.iter().filter(|part| part.mode == Mode::ReadWrite).collect();
        assert_eq!(rw.len(), 1);
    }
}

//! Which parts of this host the guest sees, and where: its root file system without a download.
//!
//! The host's programs are shared read-only (enforced in the device) and appear under a RAM overlay, so
//! that the guest may "install" things that vanish with it. The workspace and `--share` are the only parts
//! it can change. Nothing of `$HOME`, no socket, no secret of `/etc`.

use std::fs;
use std::path::{Path, PathBuf};

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
            Ok(data) if data.is_dir() => {
                userland.parts.push(Part { path: path.to_owned(), mode: Mode::Overlay })
            }
            _ => {}
        }
    }
    let folders = etc::shared_folders().into_iter();
    userland.parts.extend(folders.map(|path| Part { path, mode: Mode::Overlay }));
    let wanted = wanted_parts(workspace, shares)?;
    // What the user names takes the place of what would be there anyway.
    userland.parts.retain(|part| wanted.iter().all(|wanted| wanted.path != part.path));
    userland.parts.extend(wanted);
    userland.parts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(userland)
}

impl Userland {
    /// The part that the guest may write to and that holds `path` (which need not exist), if any.
    pub fn writable_part_with(&self, path: &Path) -> Option<&Path> {
        self.holding(path, |part| part.mode == Mode::ReadWrite)
    }

    /// The part that the guest can read and that holds `path`, if any.
    pub fn part_with(&self, path: &Path) -> Option<&Path> {
        self.holding(path, |_| true)
    }

    fn holding(&self, path: &Path, which: impl Fn(&Part) -> bool) -> Option<&Path> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = fs::canonicalize(path).or_else(|_| fs::canonicalize(parent)).ok()?;
        let holds = |part: &&Part| which(part) && folder.starts_with(&part.path);
        self.parts.iter().find(holds).map(|part| part.path.as_path())
    }

    /// What of this host the guest may change.
    pub fn writable_parts(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().filter(|part| part.mode == Mode::ReadWrite).map(|part| part.path.as_path())
    }
}

/// The workspace and the shares; a share of the workspace itself says how the workspace is shared.
fn wanted_parts(workspace: Option<&Path>, shares: &[ShareSpec]) -> Result<Vec<Part>> {
    let mut wanted: Vec<Part> = Vec::new();
    for share in shares {
        let mode = if share.read_only { Mode::ReadOnly } else { Mode::ReadWrite };
        let path = canonical("--share", &share.path)?;
        match wanted.iter().find(|part| part.path == path) {
            None => wanted.push(Part { path, mode }),
            Some(before) if before.mode == mode => {}
            Some(_) => {
                return Err(Error::Usage(format!(
                    "--share {}: both read-only and read-write",
                    path.display()
                )));
            }
        }
    }
    if let Some(workspace) = workspace {
        let path = canonical("the current directory", workspace)?;
        if wanted.iter().all(|part| part.path != path) {
            refuse_unnamed(&path)?;
            wanted.push(Part { path, mode: Mode::ReadWrite });
        }
    }
    Ok(wanted)
}

fn canonical(what: &str, path: &Path) -> Result<PathBuf> {
    let refused = |why: &str| Err(Error::Usage(format!("{what} {}: {why}", path.display())));
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) => return refused(&error.to_string()),
    };
    if real.to_str().is_none() {
        return refused("the path is not valid UTF-8");
    }
    // These are the guest's own; sharing the host's would hand over devices, processes or sockets.
    if real == Path::new("/") || ["/proc", "/sys", "/dev", "/run"].iter().any(|own| real.starts_with(own)) {
        return refused("this part of the host is never shared; share a folder of your own");
    }
    if let Some(made) = etc::MADE.iter().find(|made| Path::new(made).starts_with(&real)) {
        return refused(&format!("the sandbox makes its own {made}, so this cannot be shared"));
    }
    Ok(real)
}

/// The current directory is shared read-write without being named, so it must be neither all that a user owns
/// nor a part of the system.
fn refuse_unnamed(workspace: &Path) -> Result<()> {
    let remedy = "cd into a project, or use --no-workspace, or name the folder with --share";
    if homes().iter().any(|home| home.starts_with(workspace)) {
        let shown = workspace.display();
        return Err(Error::Usage(format!(
            "the current directory {shown} holds a home, keys and all\n  {remedy}"
        )));
    }
    let system = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/boot", "/var/lib"];
    let source = ["/usr/src", "/usr/local/src"];
    let within = |folders: &[&str]| folders.iter().any(|folder| workspace.starts_with(folder));
    if workspace.parent() == Some(Path::new("/")) && workspace != Path::new("/tmp")
        || within(&system) && !within(&source)
    {
        let shown = workspace.display();
        return Err(Error::Usage(format!(
            "the current directory {shown} is a part of the system\n  {remedy}"
        )));
    }
    Ok(())
}

/// The homes of the user: as the environment says, as the user database says, and of who called sudo.
fn homes() -> Vec<PathBuf> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let users = [Some(rustix::process::getuid().as_raw()), number("SUDO_UID")];
    let database = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = |line: &str| -> Option<PathBuf> {
        let fields: Vec<&str> = line.split(':').collect();
        let user: u32 = fields.get(2)?.parse().ok()?;
        users.contains(&Some(user)).then(|| fields.get(5).map(PathBuf::from)).flatten()
    };
    let known = database.lines().filter_map(entry).chain(std::env::var_os("HOME").map(PathBuf::from));
    known
        .filter(|home| home.components().count() > 1)
        .filter_map(|home| fs::canonicalize(home).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(path: &Path, read_only: bool) -> ShareSpec {
        ShareSpec { path: path.to_owned(), read_only }
    }

    #[test]
    fn parts_of_the_host_that_are_never_shared() {
        let made = ["/etc/hosts", "/etc/passwd", "/etc/ssl/certs", "/etc"];
        for refused in ["/", "/proc", "/dev", "/run", "/sys/kernel", "/nonexistent-path"].iter().chain(&made)
        {
            for read_only in [true, false] {
                assert!(of_this_host(None, &[share(Path::new(refused), read_only)]).is_err(), "{refused}");
            }
        }
    }

    #[test]
    fn a_home_or_a_system_folder_is_no_workspace_unless_named() {
        let home = homes().into_iter().next().expect("the user has a home");
        for refused in [Path::new("/"), &home, Path::new("/usr"), Path::new("/usr/bin"), Path::new("/home")] {
            if refused.exists() {
                assert!(of_this_host(Some(refused), &[]).is_err(), "{}", refused.display());
            }
        }
        assert!(of_this_host(Some(&home), &[share(&home, false)]).is_ok());
    }

    #[test]
    fn a_share_says_how_the_workspace_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |shares: &[ShareSpec]| -> Result<Mode> {
            let userland = of_this_host(Some(folder.path()), shares)?;
            let path = fs::canonicalize(folder.path()).unwrap();
            let modes: Vec<Mode> =
                userland.parts.iter().filter(|part| part.path == path).map(|part| part.mode).collect();
            assert_eq!(modes.len(), 1);
            Ok(modes[0])
        };
        assert_eq!(mode(&[]).unwrap(), Mode::ReadWrite);
        assert_eq!(mode(&[share(folder.path(), true)]).unwrap(), Mode::ReadOnly);
        assert!(mode(&[share(folder.path(), true), share(folder.path(), false)]).is_err());
    }

    #[test]
    fn what_the_guest_may_write_to_is_known_by_the_real_path() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), outside.path().join("link")).unwrap();
        let userland = of_this_host(Some(folder.path()), &[]).unwrap();
        assert!(userland.writable_part_with(&folder.path().join("new.jsonl")).is_some());
        assert!(userland.writable_part_with(&outside.path().join("link/new.jsonl")).is_some());
        assert!(userland.writable_part_with(&outside.path().join("new.jsonl")).is_none());
        let read_only = of_this_host(Some(folder.path()), &[share(folder.path(), true)]).unwrap();
        assert!(read_only.writable_part_with(&folder.path().join("new.jsonl")).is_none());
    }

    #[test]
    fn parts_come_after_what_contains_them_and_shadow_is_never_one() {
        let userland = of_this_host(None, &[]).unwrap();
        assert!(userland.parts.is_sorted_by(|a, b| a.path < b.path));
        assert!(userland.parts.iter().all(|part| part.path != Path::new("/etc")));
        assert!(userland.parts.iter().all(|part| part.mode == Mode::Overlay));
    }
}

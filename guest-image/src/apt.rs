//! Fetches packages by name through apt, with package lists, cache and lock of our own: works without root,
//! leaves the system's lists alone, and works where the system has none. Uses the system's sources and keys.
//! Must never install anything.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cache;
use crate::error::{Error, Result};
use crate::limits;
use crate::progress::{Progress, Step};

/// apt with folders of its own below one state folder.
#[derive(Debug)]
pub struct Apt {
    state: PathBuf,
}

impl Apt {
    /// Uses `state` for lists and caches. The caller makes sure that only one process does so at a time.
    pub fn new(state: &Path) -> Result<Self> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            let path = state.join(folder);
            fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
        }
        // Hooks of the system's configuration (cleaning /var/cache, telling desktop services) are not for us.
        let config = state.join("apt.conf");
        let text = "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n\
                    #clear APT::Update::Post-Invoke-Success;\n#clear DPkg::Pre-Invoke;\n\
                    #clear DPkg::Post-Invoke;\nAcquire::Languages \"none\";\n\
                    Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n";
        fs::write(&config, text).map_err(|e| Error::io("write", &config, e))?;
        Ok(Apt { state: state.to_path_buf() })
    }

    /// Fetches package lists unless ours are recent.
    pub fn update(&self, progress: &mut dyn Progress) -> Result<()> {
        let stamp = self.state.join("updated");
        let age = fs::metadata(&stamp).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age < Duration::from_secs(limits::PACKAGE_LIST_AGE_SECONDS_MAX)) {
            return Ok(());
        }
        progress.step(Step::UpdatingLists);
        // One unreachable third-party source must not stop us; a lookup that then fails says so.
        let outcome = self.run("apt-get", &["update", "--quiet"], &self.state);
        if let Err(error) = outcome
            && !(matches!(error, Error::Child { .. }) && self.has_lists())
        {
            return Err(error);
        }
        fs::write(&stamp, "").map_err(|e| Error::io("write", &stamp, e))
    }

    /// The newest package whose name starts with `prefix` and ends with `suffix`; digits compare as numbers.
    pub fn newest(&self, prefix: &str, suffix: &str) -> Result<String> {
        let output = self.run("apt-cache", &["pkgnames", prefix], &self.state)?;
        let names = output.lines().map(str::trim).filter(|n| n.starts_with(prefix) && n.ends_with(suffix));
        let newest = names.max_by_key(|name| version_key(name));
        newest.map(str::to_owned).ok_or_else(|| Error::NoPackage { pattern: format!("{prefix}*{suffix}") })
    }

    /// Downloads `package` (apt checks its signature chain) into `folder`; returns the `.deb`.
    pub fn download(&self, package: &str, folder: &Path, progress: &mut dyn Progress) -> Result<PathBuf> {
        progress.step(Step::Downloading { package });
        self.run("apt-get", &["download", "--quiet", package], folder)?;
        let entries = fs::read_dir(folder).map_err(|e| Error::io("list", folder, e))?;
        let deb = entries.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "deb"));
        deb.ok_or_else(|| Error::NoPackage { pattern: package.to_owned() })
    }

    /// Unpacks a `.deb`'s files below `folder`.
    pub fn unpack(&self, deb: &Path, folder: &Path) -> Result<()> {
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(deb).arg(folder);
        self.finish(command, "dpkg-deb -x").map(drop)
    }

    fn run(&self, program: &str, arguments: &[&str], folder: &Path) -> Result<String> {
        let option = |name: &str, path: &Path| format!("{name}={}", path.display());
        let mut command = Command::new(program);
        command.current_dir(folder).arg("-c").arg(self.state.join("apt.conf"));
        for option in [
            option("Dir::State", &self.state),
            option("Dir::State::lists", &self.state.join("lists")),
            option("Dir::State::status", Path::new("/dev/null")),
            option("Dir::Cache", &self.state.join("cache")),
            option("Dir::Log", &self.state),
            "Debug::NoLocking=1".to_owned(),
            // Root's apt would change to a user that cannot write here.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.args(arguments);
        self.finish(command, &format!("{program} {}", arguments.join(" ")))
    }

    fn finish(&self, mut command: Command, shown: &str) -> Result<String> {
        command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
        let output = command.output().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::AptMissing,
            _ => Error::Io { action: "run", path: PathBuf::from(shown), source: e },
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let free = cache::free_bytes(&self.state).unwrap_or(u64::MAX);
        if free < limits::FREE_BYTES_FULL {
            let wanted_bytes = limits::FREE_BYTES_WANTED;
            return Err(Error::NoSpace { path: self.state.clone(), free_bytes: free, wanted_bytes });
        }
        Err(Error::Child { command: shown.to_owned(), output: tail(&output.stderr) })
    }

    fn has_lists(&self) -> bool {
        let Ok(entries) = fs::read_dir(self.state.join("lists")) else { return false };
        entries.flatten().any(|e| e.file_name().to_string_lossy().contains("_Packages"))
    }
}

/// The last lines of a program's error output, on one line and without control characters.
fn tail(stderr: &[u8]) -> String {
    let start = stderr.len().saturating_sub(limits::CHILD_ERROR_BYTES_MAX);
    let text = String::from_utf8_lossy(stderr.get(start..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines.join("; ").chars().filter(|c| !c.is_control()).collect()
}

/// Runs of digits as numbers, so that 6.12.117 comes after 6.12.99.
pub(crate) fn version_key(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(version_key("linux-image-6.12.117+deb12") > version_key("linux-image-6.12.99+deb12"));
        assert!(version_key("linux-image-6.1.0-56") > version_key("linux-image-6.1.0-9"));
    }

    #[test]
    fn error_output_is_one_clean_line() {
        assert_eq!(tail(b"W: one\n\nE: \x1b[31mtwo\n"), "W: one; E: [31mtwo");
    }

    #[test]
    fn a_missing_program_is_its_own_error() {
        let dir = tempfile::tempdir().unwrap();
        let apt = Apt::new(dir.path()).unwrap();
        let outcome = apt.run("apt-that-does-not-exist", &[], dir.path());
        assert!(matches!(outcome, Err(Error::AptMissing)));
    }
}

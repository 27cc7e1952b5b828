//! The control connection's messages: what the guest shall look like, and what became of it.
//!
//! Must never grow a field that an older agent may not ignore: unknown fields are skipped on purpose.

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::frame::{self, Kind, WireError};
use crate::limits;

/// All that the host decides about the guest. Applied in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configure {
    /// Name of the guest, at most 64 bytes; empty leaves the kernel's.
    pub hostname: String,
    /// Wall clock, nanoseconds since 1970; `None` leaves the clock alone.
    pub clock_unix_ns: Option<u64>,
    /// Seed for the guest's random pool, at most 512 bytes, credited in full.
    pub entropy: Bytes,
    /// Links made in the new root, such as `/bin` → `usr/bin`; an existing path is left as it is.
    pub symlinks: Vec<Symlink>,
    /// Parts of the host's tree of shares, mounted in this order.
    pub mounts: Vec<Mount>,
    /// Directories to make, parents included (0755); an existing one gets mode and owner too. Like files, never in a
    /// share of the host's that is not an overlay.
    pub directories: Vec<Directory>,
    /// Files to write, after all mounts; parents are made.
    pub files: Vec<File>,
    /// Environment of every exec, which may override it.
    pub env: Vec<(Bytes, Bytes)>,
    /// Guest TCP port on loopback that leads to the host's proxy; `None` starts no proxy end.
    pub proxy_port: Option<u16>,
    /// Whether port 53 on loopback leads to the host's DNS.
    pub dns: bool,
    /// Whether TCP to every address that is not the guest's own leads to the host's proxy, with a preface that says
    /// where to. A kernel that cannot is a note in [`Ready`].
    pub transparent: bool,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symlink {
    /// Where, absolute.
    pub path: Bytes,
    /// What it says.
    pub target: Bytes,
}

/// One mount out of the tree of shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path inside the tree, relative (`usr`); empty is the whole tree.
    pub source: Bytes,
    /// Where in the guest, absolute. Made if missing.
    pub target: Bytes,
    /// How.
    pub mode: MountMode,
}

/// How a share appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountMode {
    /// Writable in the guest, changes stay in its memory. A single file is copied.
    Overlay,
    /// Read-only. The device must enforce it too: a guest's root can mount anew.
    Ro,
    /// Read-write, as far as the device lets it.
    Rw,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Where, absolute.
    pub path: Bytes,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where, absolute.
    pub path: Bytes,
    /// Permission bits.
    pub mode: u32,
    /// All of it.
    pub content: Bytes,
}

/// The guest is up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ready {
    /// When each step was done.
    pub timings: Timings,
    /// Kernel release, as `uname -r`.
    pub kernel: String,
    /// Version of the agent.
    pub agent: String,
    /// What did not work and was not needed, for the log.
    pub notes: Vec<String>,
}

/// Microseconds since the guest's kernel started (its monotonic clock).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timings {
    /// The agent's first instruction.
    pub agent_start_us: u64,
    /// All modules are in.
    pub modules_loaded_us: u64,
    /// The control connection stands.
    pub vsock_connected_us: u64,
    /// The configuration has arrived.
    pub configured_us: u64,
    /// The new root is `/`.
    pub root_assembled_us: u64,
    /// Services listen.
    pub ready_us: u64,
}

/// The configuration could not be applied; the guest ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the guest could not {stage}: {detail}")]
pub struct Refused {
    /// What was tried, such as `mount /usr`.
    pub stage: String,
    /// Error number of Linux; 0 if none.
    #[serde(default)]
    pub errno: i32,
    /// Why, in words.
    #[serde(default)]
    pub detail: String,
}

/// How the guest shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Reset: what a VMM without ACPI power management sees.
    Reboot,
    /// ACPI power-off; the kernel halts if it has none.
    PowerOff,
}

impl Configure {
    /// Appends the frame.
    ///
    /// # Errors
    /// Files, environment and lists together exceed the frame's limit.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        frame::append_json(out, Kind::Configure, self)
    }

    /// Checks every count and length, that every path is absolute, without `..` or NUL, and that no directory or
    /// file would be made in a `ro` or `rw` share: what is meant for the guest must not end up on the host.
    ///
    /// # Errors
    /// The first entry that breaks a rule.
    pub fn validate(&self) -> Result<(), Refused> {
        let lists = [
            self.symlinks.len(),
            self.mounts.len(),
            self.directories.len(),
            self.files.len(),
            self.env.len(),
        ];
        if lists.into_iter().any(|n| n > limits::CONFIGURE_ENTRIES_MAX) {
            return Err(refuse("read the configuration", "a list has too many entries"));
        }
        if self.hostname.len() > limits::HOSTNAME_BYTES_MAX {
            return Err(refuse("set the host name", "longer than 64 bytes"));
        }
        if self.entropy.as_slice().len() > limits::ENTROPY_BYTES_MAX {
            return Err(refuse("add entropy", "more than 512 bytes"));
        }
        for link in &self.symlinks {
            absolute(&link.path)?;
            if link.target.is_empty() || !plain(&link.target) {
                return Err(refuse_path(&link.target, "is no target for a link"));
            }
        }
        for mount in &self.mounts {
            absolute(&mount.target)?;
            let source = mount.source.as_slice();
            if source.starts_with(b"/") || !plain(&mount.source) || climbs(source) {
                return Err(refuse_path(&mount.source, "must be relative, without .. or NUL"));
            }
        }
        let made = self.directories.iter().map(|d| &d.path).chain(self.files.iter().map(|f| &f.path));
        for path in made {
            absolute(path)?;
            // Mounts are laid in order, so the last one that reaches the path is what is seen there.
            let seen =
                self.mounts.iter().rev().find(|mount| path.as_path().starts_with(mount.target.as_path()));
            if seen.is_some_and(|mount| mount.mode != MountMode::Overlay) {
                return Err(refuse_path(
                    path,
                    "lies in a share that is no overlay: it would be made on the host",
                ));
            }
        }
        Ok(())
    }
}

impl Ready {
    /// Appends the frame.
    ///
    /// # Errors
    /// The notes exceed the frame's limit.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        frame::append_json(out, Kind::Ready, self)
    }
}

impl Refused {
    /// Appends the frame.
    ///
    /// # Errors
    /// The text exceeds the frame's limit.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        frame::append_json(out, Kind::Refused, self)
    }
}

impl Shutdown {
    /// Appends the frame.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(self, out: &mut Vec<u8>) -> Result<(), WireError> {
        frame::append(out, Kind::Shutdown, &[matches!(self, Self::PowerOff).into()])
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// Neither 0 (reboot) nor 1 (power off).
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        match payload {
            [0] => Ok(Self::Reboot),
            [1] => Ok(Self::PowerOff),
            _ => Err(WireError::Malformed { kind: Kind::Shutdown, what: "0 or 1" }),
        }
    }
}

fn absolute(path: &Bytes) -> Result<(), Refused> {
    let bytes = path.as_slice();
    if !bytes.starts_with(b"/") || !plain(path) || climbs(bytes) {
        return Err(refuse_path(path, "must be absolute, without .. or NUL"));
    }
    Ok(())
}

fn plain(path: &Bytes) -> bool {
    path.as_slice().len() <= limits::PATH_BYTES_MAX && !path.as_slice().contains(&0)
}

fn climbs(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').any(|part| part == b"..")
}

fn refuse(stage: &str, detail: &str) -> Refused {
    Refused { stage: stage.to_owned(), errno: 0, detail: detail.to_owned() }
}

fn refuse_path(path: &Bytes, detail: &str) -> Refused {
    Refused { stage: format!("use path {path:?}"), errno: 0, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, target: &str) -> Configure {
        let mode = MountMode::Ro;
        Configure {
            mounts: vec![Mount { source: source.into(), target: target.into(), mode }],
            ..Default::default()
        }
    }

    #[test]
    fn paths_that_leave_their_place_are_refused() {
        assert!(mount("usr", "/usr").validate().is_ok());
        assert!(mount("", "/all").validate().is_ok());
        assert!(mount("a..b", "/a..b").validate().is_ok());
        for (source, target) in
            [("/usr", "/usr"), ("../x", "/x"), ("a/..", "/x"), ("a", "x"), ("a", ""), ("a", "/x/..")]
        {
            assert!(mount(source, target).validate().is_err(), "{source} {target}");
        }
        assert!(mount("a", "/x\0").validate().unwrap_err().to_string().contains("without .. or NUL"));
    }

    #[test]
    fn what_is_made_for_the_guest_is_never_made_in_a_share() {
        use MountMode::{Overlay, Ro, Rw};
        let refused = |mounts: &[(&str, MountMode)], path: &str| {
            let mounts = mounts.iter().map(|&(target, mode)| Mount {
                source: "0".into(),
                target: target.into(),
                mode,
            });
            let mounts: Vec<_> = mounts.collect();
            let file = File { path: path.into(), mode: 0o644, content: Bytes::default() };
            let directory = Directory { path: path.into(), mode: 0o755, uid: 0, gid: 0 };
            let file = Configure { mounts: mounts.clone(), files: vec![file], ..Default::default() };
            let directory = Configure { mounts, directories: vec![directory], ..Default::default() };
            assert_eq!(file.validate(), directory.validate());
            file.validate().is_err()
        };
        for mode in [Ro, Rw] {
            assert!(refused(&[("/etc/hosts", mode)], "/etc/hosts"));
            assert!(refused(&[("/etc", mode)], "/etc//./ssl/hosts"));
            assert!(refused(&[("/", mode)], "/x"));
            assert!(refused(&[("/etc", Overlay), ("/etc/ssl/", mode)], "/etc/ssl/a"));
            // Laid later, the outer one hides the inner one.
            assert!(refused(&[("/etc/ssl", Overlay), ("/etc", mode)], "/etc/ssl/a"));
            assert!(!refused(&[("/etc", mode), ("/etc/ssl", Overlay)], "/etc/ssl/a"));
            assert!(!refused(&[("/etc/hosts", mode)], "/etc/hosts.allow"));
            assert!(!refused(&[("/home/me/work", mode)], "/home/me"));
        }
    }

    #[test]
    fn unknown_fields_of_a_newer_host_are_skipped_and_missing_ones_default() {
        let text = br#"{"hostname":"box","colour":"red","proxy_port":3128}"#;
        let got: Configure = frame::parse_json(Kind::Configure, text).unwrap();
        let expected = Configure { hostname: "box".into(), proxy_port: Some(3128), ..Default::default() };
        assert_eq!(got, expected);
    }

    #[test]
    fn long_lists_names_and_seeds_are_refused() {
        let long = Configure { hostname: "x".repeat(65), ..Default::default() };
        assert!(long.validate().is_err());
        let seed = Configure { entropy: vec![0; 513].into(), ..Default::default() };
        assert!(seed.validate().is_err());
        let file = File { path: "/a".into(), mode: 0o644, content: Bytes::default() };
        let many = Configure { files: vec![file; limits::CONFIGURE_ENTRIES_MAX + 1], ..Default::default() };
        assert!(many.validate().is_err());
    }

    #[test]
    fn shutdown_is_one_of_two_bytes() {
        for how in [Shutdown::Reboot, Shutdown::PowerOff] {
            let mut wire = Vec::new();
            how.encode(&mut wire).unwrap();
            assert_eq!(Shutdown::parse(&wire[frame::HEADER_BYTES..]).unwrap(), how);
        }
        assert!(Shutdown::parse(&[2]).is_err());
        assert!(Shutdown::parse(&[]).is_err());
    }
}

//! Engine `qemu`: QEMU's software emulation runs the guest, our devices are served to it over vhost-user.
//!
//! For hosts without a KVM that can run Linux. A weaker boundary than hardware virtualisation, and said
//! so: QEMU's emulator is the wall, confined by its own seccomp sandbox.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use vmm_core::host_child::dies_with_parent;
use vmm_core::vhost_user;

use super::Hardware;
use super::console::Console;
use crate::error::{Error, Result};

pub const PROGRAM: &str = "qemu-system-x86_64";

/// virtio-mmio and ACPI, as in our own VMM; no PCI, no firmware that reads the kernel byte by byte.
const MACHINE: &str = "microvm,acpi=on,x-option-roms=off,isa-serial=on,pit=on,pic=on,rtc=on";

/// `acpi_no_timer_override`: this machine wires the PIT to pin 0, against what its tables let expect.
/// `mitigations=off nokaslr`: an emulated processor does not speculate, and this saves a tenth of the boot.
/// `pty.legacy_count=0`: a kernel that still has the terminals of old would make 512 devices for them.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t cryptomgr.notests \
     pty.legacy_count=0 acpi_no_timer_override tsc=reliable mitigations=off nokaslr";

/// QEMU denies itself what it does not need: no new programs, no privileges, no resource control.
const SECCOMP: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// A QEMU process and the devices served to it.
pub struct Machine {
    child: Child,
    servers: Vec<vhost_user::Server>,
    readers: Vec<JoinHandle<()>>,
    pub(super) console: Console,
}

/// Where QEMU is on this host.
pub fn find() -> Option<PathBuf> {
    find_program(PROGRAM)
}

pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

impl Machine {
    pub fn start(hardware: Hardware) -> Result<Self> {
        let program =
            find().ok_or_else(|| failed("QEMU is not installed", "install the package qemu-system-x86"))?;
        let mut command = command(&program, &hardware);
        let mut servers = Vec::new();
        // QEMU's ends; closed in this process when the vector drops, or QEMU's end would go unnoticed.
        let mut inherited = Vec::new();
        let fs = format!("vhost-user-fs-device,tag={},queue-size=1024", vmm_core::devices::fs::TAG);
        let devices = [("vsock", "vhost-user-vsock-device", hardware.vsock), ("fs", &fs, hardware.fs)];
        for (name, front_end, device) in devices {
            let (ours, theirs) = socket_pair()?;
            command
                .args(["-chardev", &format!("socket,id={name},fd={}", theirs.as_raw_fd())])
                .args(["-device", &format!("{front_end},chardev={name}")]);
            inherited.push(theirs);
            let server = vhost_user::serve(device, ours)
                .map_err(|error| Error::Sandbox(format!("the {name} device cannot be served: {error}")))?;
            servers.push(server);
        }
        let mut child = command.spawn().map_err(|source| spawn_error(&program, &source))?;
        drop(inherited);
        let console = Console::default();
        // The guest's console, and what QEMU itself complains about: both matter only when it fails.
        let readers = vec![follow(child.stdout.take(), &console), follow(child.stderr.take(), &console)];
        Ok(Self { child, servers, readers: readers.into_iter().flatten().collect(), console })
    }

    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) if status.success() => Some("the guest shut down".to_owned()),
            Ok(Some(status)) => Some(format!("QEMU ended with {status}")),
            Err(error) => Some(format!("QEMU cannot be waited for: {error}")),
        }
    }

    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The guest was asked to shut down before; what is left has nothing to save. Killing a process
        // that has ended is refused by std, so no other process can be hit.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.servers.clear();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

fn follow(output: Option<impl Read + Send + 'static>, console: &Console) -> Option<JoinHandle<()>> {
    let console = console.clone();
    output.map(|output| std::thread::spawn(move || console.follow(output)))
}

fn command(program: &Path, hardware: &Hardware) -> Command {
    let mut command = Command::new(program);
    // QEMU must not outlive us, even if we are killed. It is the main thread that starts it.
    dies_with_parent(&mut command);
    let memory = format!("memory-backend-memfd,id=ram,size={}M,share=on", hardware.memory_mib);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-M", &format!("{MACHINE},memory-backend=ram"), "-object", &memory])
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-sandbox", SECCOMP])
        .args(["-smp", &hardware.cpus.to_string(), "-m", &format!("{}M", hardware.memory_mib)])
        .args(["-global", "virtio-mmio.force-legacy=off"])
        .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
        .args(["-object", "rng-random,id=entropy,filename=/dev/urandom"])
        .args(["-device", "virtio-rng-device,rng=entropy"])
        .arg("-kernel")
        .arg(&hardware.vmlinux)
        .arg("-initrd")
        .arg(&hardware.initramfs)
        .args(["-append", &command_line()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C at the terminal is for the command in the guest.
        .process_group(0);
    command
}

fn command_line() -> String {
    match vmm_core::host_tsc::measure_khz(Duration::from_millis(10)) {
        Some(khz) => format!("{COMMAND_LINE} tsc_early_khz={khz}"),
        None => COMMAND_LINE.to_owned(),
    }
}

/// Our end, and QEMU's end, which programs started from now on inherit.
fn socket_pair() -> Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair().map_err(Error::io("cannot make a socket pair"))?;
    let theirs = OwnedFd::from(theirs);
    fcntl_setfd(&theirs, FdFlags::empty())
        .map_err(|error| Error::Io { what: "cannot pass a socket to QEMU", source: error.into() })?;
    Ok((ours, theirs))
}

fn spawn_error(program: &Path, error: &io::Error) -> Error {
    failed(&format!("cannot start {}: {error}", program.display()), "reinstall the package qemu-system-x86")
}

fn failed(problem: &str, remedy: &str) -> Error {
    Error::Engine { engine: "qemu", problem: problem.to_owned(), remedy: remedy.to_owned() }
}

//! PID 1 of the KVM lab's outer machine. Static, and all there is in it besides the program under test: no shell.
//!
//! It mounts the kernel's file systems, loads `/modules/NN-name.ko` in order, runs what `/lab.conf` says with its
//! output on the virtio port `lab.out`, writes `start`, a heartbeat and `rc N` to the port `lab.rc`, and restarts the machine,
//! which ends QEMU. It trusts its files: `xtask` wrote them.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::MountFlags;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socket_with};
use rustix::system::{RebootCommand, init_module, reboot};

const HEARTBEAT: Duration = Duration::from_secs(3);

fn main() {
    if let Err(error) = lab() {
        // The console is all that is left; xtask shows its end when no exit code came.
        eprintln!("lab-init: {error}");
    }
    // Lets the devices take what was written last.
    std::thread::sleep(Duration::from_millis(300));
    rustix::fs::sync();
    let _ = reboot(RebootCommand::Restart);
}

fn lab() -> io::Result<()> {
    mount_all()?;
    let conf = Conf::parse(&fs::read_to_string("/lab.conf")?);
    load_modules(&conf)?;
    if let Err(error) = loopback_up() {
        eprintln!("lab-init: cannot bring lo up: {error}");
    }
    let out = port("lab.out")?;
    let mut rc = port("lab.rc")?;
    if conf.arguments.is_empty() {
        return Err(io::Error::other("/lab.conf names no program"));
    }
    writeln!(rc, "start")?;
    let mut beat = rc.try_clone()?;
    // So that xtask can tell a program that takes long from an emulated machine that stands still.
    std::thread::spawn(move || {
        while writeln!(beat, "alive").is_ok() {
            std::thread::sleep(HEARTBEAT);
        }
    });
    let code = match conf.command().stdout(out.try_clone()?).stderr(out.try_clone()?).status() {
        Ok(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        Err(error) => {
            writeln!(&out, "lab-init: cannot run {}: {error}", conf.arguments[0])?;
            127
        }
    };
    writeln!(rc, "rc {code}")
}

fn mount_all() -> io::Result<()> {
    let all = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("debugfs", "/sys/kernel/debug"),
    ];
    for (kind, target) in all {
        let _ = fs::create_dir_all(target);
        match rustix::mount::mount(kind, target, kind, MountFlags::empty(), None) {
            Err(error) if kind != "debugfs" => {
                return Err(io::Error::other(format!("cannot mount {kind} on {target}: {error}")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn load_modules(conf: &Conf) -> io::Result<()> {
    let mut files: Vec<PathBuf> = fs::read_dir("/modules")?.flatten().map(|e| e.path()).collect();
    files.sort();
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = stem.split_once('-').map_or(&*stem, |(_, name)| name);
        let options = CString::new(conf.module_options(name))?;
        if let Err(error) = init_module(&fs::read(&file)?, &options) {
            return Err(io::Error::other(format!("cannot load {}: {error}", file.display())));
        }
    }
    Ok(())
}

/// One RTM_NEWLINK message on the route protocol (number 0, the default): interface 1 (`lo` is always the first), flag IFF_UP.
fn loopback_up() -> io::Result<()> {
    let words: [u32; 8] = [32, 5 << 16 | 16, 1, 0, 0, 1, 1, 1];
    let message: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &message, SendFlags::empty())?;
    Ok(())
}

/// The virtio serial port with this name. The devices may appear a little after the modules are loaded.
fn port(name: &str) -> io::Result<File> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            if fs::read_to_string(entry.path().join("name")).is_ok_and(|n| n.trim() == name) {
                let device = Path::new("/dev").join(entry.file_name());
                if let Ok(file) = OpenOptions::new().write(true).open(&device) {
                    return Ok(file);
                }
            }
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("no virtio port {name}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `/lab.conf`: lines `arg TEXT`, `env NAME=VALUE`, `dir PATH`, `option MODULE TEXT`.
#[derive(Debug, Default)]
struct Conf {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    options: Vec<(String, String)>,
    folder: Option<String>,
}

impl Conf {
    fn parse(text: &str) -> Self {
        let mut conf = Conf::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            let pair = |separator| value.split_once(separator).map(|(a, b)| (a.to_owned(), b.to_owned()));
            match key {
                "arg" => conf.arguments.push(value.to_owned()),
                "dir" => conf.folder = Some(value.to_owned()),
                "env" => conf.environment.extend(pair('=')),
                "option" => conf.options.extend(pair(' ')),
                _ => {}
            }
        }
        conf
    }

    fn module_options(&self, module: &str) -> String {
        let options = self.options.iter().filter(|(name, _)| name == module).map(|(_, value)| value.as_str());
        options.collect::<Vec<_>>().join(" ")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.arguments[0]);
        command.args(&self.arguments[1..]).stdin(std::process::Stdio::null());
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.current_dir(self.folder.as_deref().unwrap_or("/"));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_keeps_spaces_in_values_and_ignores_the_unknown() {
        let conf = Conf::parse("arg /payload/t\narg a b\nenv X=1=2\noption kvm_amd nested=0\nwhat ever\n");
        assert_eq!(conf.arguments, ["/payload/t", "a b"]);
        assert_eq!(conf.environment, [("X".to_owned(), "1=2".to_owned())]);
        assert_eq!(conf.module_options("kvm_amd"), "nested=0");
        assert_eq!(conf.module_options("kvm"), "");
    }
}

//! One guest with all devices, and what it says on its console.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use vmm_core::devices::blk::{Blk, BlkConfig};
use vmm_core::devices::console::Console;
use vmm_core::devices::fs::{self, FsConfig, Share};
use vmm_core::devices::rng::Rng;
use vmm_core::devices::vsock::{self, VsockConfig, VsockHost};
use vmm_core::vm::Handle;
use vmm_core::{ExitReason, Vm};

use crate::agent::{self, Control};

pub const DISK_TEXT: &str = "this is the first sector";
pub const DISK_SERIAL: &str = "lab-disk-1";
/// The one file of the shared folder, and what is in it.
pub const SHARED_FILE: &str = "letter.txt";
pub const SHARED_TEXT: &str = "from the host";

const AGENT_PORT: u32 = 1024;
/// Emulated processors are slow; this is for guests that will never answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(240);
const COMMAND_LINE: &str = "console=hvc0 quiet loglevel=4 reboot=k panic=-1 cryptomgr.notests";

/// What to boot.
pub struct Case {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
}

/// A running guest.
pub struct Machine {
    handle: Handle,
    host: VsockHost,
    connections: Receiver<std::os::unix::net::UnixStream>,
    console: Screen,
    _shared: TempDir,
}

impl Machine {
    pub fn boot(case: &Case, cpus: u8) -> Self {
        let console = Screen::default();
        let (vsock, host) = vsock::new(VsockConfig::default()).unwrap();
        let (sender, connections) = channel();
        host.listen(AGENT_PORT, move |stream| drop(sender.send(stream))).unwrap();
        let disk = Blk::new(disk(), BlkConfig { read_only: true, serial: DISK_SERIAL.into() }).unwrap();
        let shared = tempfile::tempdir().unwrap();
        std::fs::write(shared.path().join(SHARED_FILE), SHARED_TEXT).unwrap();
        let share = Share { at: agent::SHARE.into(), source: shared.path().into(), read_only: true };
        let fs = fs::new(FsConfig { shares: vec![share] }).unwrap();
        let (hvc, _input) = Console::new(console.clone()).unwrap();
        let vm = Vm::builder()
            .kernel(File::open(&case.kernel).unwrap())
            .initramfs(File::open(&case.initramfs).unwrap())
            .command_line(COMMAND_LINE)
            .cpus(cpus)
            .device(Box::new(vsock))
            .device(Box::new(Rng::new().unwrap()))
            .device(Box::new(disk))
            .device(Box::new(fs))
            .device(Box::new(hvc))
            .build()
            .unwrap();
        Self { handle: vm.start().unwrap(), host, connections, console, _shared: shared }
    }

    /// Waits for the agent and configures it.
    pub fn agent(&self) -> Control {
        let Ok(stream) = self.connections.recv_timeout(ANSWER_LIMIT) else {
            panic!("no word from the agent; {:?}; its console:\n{}", self.handle, self.console.text());
        };
        stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        Control::configure(stream)
    }

    /// Runs a program in the guest that prints the start of a file.
    pub fn read_file(&mut self, path: &str) -> String {
        let stream = self.host.connect(AGENT_PORT, ANSWER_LIMIT).unwrap();
        stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        let (code, output) = agent::read_file(stream, path);
        assert_eq!(code, 0, "the guest cannot read {path}; its console:\n{}", self.console.text());
        String::from_utf8_lossy(&output).into_owned()
    }

    pub fn stop(&self) {
        self.handle.stop();
    }

    pub fn wait(self) -> ExitReason {
        self.handle.wait()
    }
}

fn disk() -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(DISK_TEXT.as_bytes()).unwrap();
    file.set_len(1 << 20).unwrap();
    file
}

/// Collects what the guest prints.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

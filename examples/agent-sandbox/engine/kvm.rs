//! Engine `kvm`: our own VMM on /dev/kvm, in this process.

use std::fs::File;
use std::path::Path;

use vmm_core::devices::rng::Rng;
use vmm_core::vm::Handle;
use vmm_core::{ExitReason, Vm};

use super::Hardware;
use super::console::Console;
use crate::error::{Error, Result};

/// No keyboard controller to probe for, no self-tests of ciphers; a crash or a reboot ends the machine.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t cryptomgr.notests \
     pty.legacy_count=0 i8042.noaux i8042.nokbd i8042.nopnp tsc=reliable";

/// A virtual machine of ours.
pub struct Machine {
    handle: Handle,
    pub(super) console: Console,
}

impl Machine {
    pub fn start(hardware: Hardware) -> Result<Self> {
        let console = Console::default();
        let rng = Rng::new().map_err(Error::io("the entropy device cannot be made"))?;
        let handle = Vm::builder()
            .kernel(open(&hardware.vmlinux)?)
            .initramfs(open(&hardware.initramfs)?)
            .command_line(COMMAND_LINE)
            .memory_mib(hardware.memory_mib)
            .cpus(hardware.cpus)
            .device(hardware.vsock)
            .device(hardware.fs)
            .device(Box::new(rng))
            .serial(console.clone())
            .build()
            .and_then(Vm::start)
            .map_err(|error| Error::Engine {
                engine: "kvm",
                problem: error.to_string(),
                remedy: "use --engine qemu, or see `agent-sandbox doctor`".to_owned(),
            })?;
        Ok(Self { handle, console })
    }

    pub fn ended(&mut self) -> Option<String> {
        self.handle.exit_reason().map(|reason| match reason {
            ExitReason::Reset | ExitReason::TripleFault | ExitReason::PowerOff => {
                "the guest shut down".to_owned()
            }
            other => other.to_string(),
        })
    }

    pub fn stop(self) {
        self.handle.stop();
        // Why it ended is what `ended` tells; here it only has to be gone.
        let _ = self.handle.wait();
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::Read {
        what: "the kernel or initramfs",
        path: path.to_owned(),
        source,
    })
}

//! One sandbox from start to end: devices, machine, guest, and the only way out.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use guest_agent::client::{self, Control, Exec};
use guest_agent::proto::{
    CONTROL_PORT, Configure, ExecRequest, File, GUEST_CID, Mount, MountMode, PROXY_PORT, Ready, Shutdown,
    Symlink,
};
use vmm_core::devices::{fs, vsock};

use crate::engine::{Choice, Hardware, Machine};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::guest::etc::GuestFile;
use crate::guest::kernel::Kernel;
use crate::guest::userland::{Mode, Part, Userland};

/// From power-on to a guest that is ready; emulated and on a loaded machine. Past it, something is wrong.
const BOOT_TIMEOUT: Duration = Duration::from_secs(90);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
const ENTROPY_BYTES: usize = 64;

/// All that a sandbox is made of.
pub struct Config {
    pub engine: Choice,
    pub kernel: Kernel,
    pub cpus: u8,
    pub memory_mib: u32,
    pub userland: Userland,
    pub files: Vec<GuestFile>,
    /// For every command; `ExecRequest::env` comes on top.
    pub env: Vec<(String, String)>,
}

/// Where the time of a start went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Devices made, machine started.
    pub engine: Duration,
    /// From the machine's start to the agent's first instruction.
    pub kernel: Duration,
    /// From there until the guest was ready.
    pub agent: Duration,
    pub total: Duration,
}

/// A running sandbox. Dropping it ends the machine, whatever runs in it.
pub struct Sandbox {
    // Dropped in this order: first the word to the guest, then the machine, then its way out.
    control: Control,
    machine: Machine,
    vsock: vsock::VsockHost,
    gateway: Gateway,
    pub ready: Ready,
    pub timings: Timings,
}

// Programs that open as many connections as the guest's agent lets them must not keep the host from the next exec.
const _: () =
    assert!(guest_agent::limits::VSOCK_CONNECTIONS_MAX <= vmm_core::devices::vsock::limits::CONNECTIONS_MAX);

impl Sandbox {
    /// Boots a guest and makes it ready for commands. `gateway` serves its connections.
    pub fn start(config: Config, gateway: Gateway) -> Result<Self> {
        let begun = Instant::now();
        let (vsock_device, vsock) =
            vsock::new(vsock::VsockConfig { guest_cid: u64::from(GUEST_CID), ..Default::default() })
                .map_err(|error| Error::Sandbox(format!("the vsock device: {error}")))?;
        let fs_device = fs::new(fs_config(&config.userland))
            .map_err(|error| Error::Usage(format!("a part of this host cannot be shared: {error}")))?;
        let (announce, announced) = mpsc::channel();
        let listening = vsock.listen(CONTROL_PORT, move |stream: UnixStream| {
            // A second announcement finds nobody waiting and is closed.
            let _ = announce.send(stream);
        });
        listening.map_err(Error::io("the vsock device cannot listen for the guest"))?;
        gateway.serve(&vsock)?;
        let mut configure = configuration(&config)?;
        let hardware = Hardware {
            vmlinux: config.kernel.vmlinux,
            initramfs: config.kernel.initramfs,
            cpus: config.cpus,
            memory_mib: config.memory_mib,
            vsock: Box::new(vsock_device),
            fs: Box::new(fs_device),
        };
        let mut machine = Machine::start(config.engine.kind, hardware)?;
        let engine = begun.elapsed();
        let stream = wait_for_guest(&mut machine, &announced)?;
        // Now, not when the machine started: a guest whose clock is behind sees files from the future.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        configure.clock_unix_ns = u64::try_from(now.as_nanos()).ok();
        let (control, ready) = greet(stream, &configure)
            .map_err(|problem| Error::Boot { problem, console: machine.console_tail() })?;
        let total = begun.elapsed();
        let agent =
            Duration::from_micros(ready.timings.ready_us.saturating_sub(ready.timings.agent_start_us));
        let kernel = total.saturating_sub(engine).saturating_sub(agent);
        Ok(Self {
            control,
            machine,
            vsock,
            gateway,
            ready,
            timings: Timings { engine, kernel, agent, total },
        })
    }

    /// Starts a command.
    pub fn exec(&self, request: &ExecRequest) -> Result<Exec> {
        let stream = self
            .vsock
            .connect(CONTROL_PORT, CONNECT_TIMEOUT)
            .map_err(|error| Error::Sandbox(format!("the guest cannot be reached: {error}")))?;
        client::exec(stream, request).map_err(|error| Error::Sandbox(error.to_string()))
    }

    /// Asks the guest to write out what it holds and to end, waits a little, then ends the machine.
    ///
    /// # Errors
    /// What happened is not wholly recorded.
    pub fn stop(mut self) -> Result<()> {
        if self.control.shutdown(Shutdown::Reboot).is_ok() {
            let asked = Instant::now();
            while self.machine.ended().is_none() && asked.elapsed() < SHUTDOWN_TIMEOUT {
                std::thread::sleep(POLL);
            }
        }
        self.machine.stop();
        self.gateway.finish();
        self.gateway.check_audit()
    }
}

fn wait_for_guest(machine: &mut Machine, announced: &mpsc::Receiver<UnixStream>) -> Result<UnixStream> {
    let begun = Instant::now();
    loop {
        if let Ok(stream) = announced.recv_timeout(POLL) {
            return Ok(stream);
        }
        let problem = match machine.ended() {
            Some(how) => format!("{how} before the guest was ready"),
            None if begun.elapsed() > BOOT_TIMEOUT => {
                format!("the guest was not ready within {} s", BOOT_TIMEOUT.as_secs())
            }
            None => continue,
        };
        return Err(Error::Boot { problem, console: machine.console_tail() });
    }
}

fn greet(stream: UnixStream, configure: &Configure) -> Result<(Control, Ready), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    stream.set_read_timeout(Some(BOOT_TIMEOUT)).map_err(|error| text(&error))?;
    let mut control = Control::handshake(stream).map_err(|error| text(&error))?;
    let ready = control.configure(configure).map_err(|error| text(&error))?;
    Ok((control, ready))
}

/// The exported tree has a place of its own for each part, by number: parts may lie inside each other.
fn fs_config(userland: &Userland) -> fs::FsConfig {
    let share = |(number, part): (usize, &Part)| fs::Share {
        at: PathBuf::from(number.to_string()),
        source: fs::Source::Path(part.path.clone()),
        read_only: part.mode != Mode::ReadWrite,
    };
    fs::FsConfig { shares: userland.parts.iter().enumerate().map(share).collect() }
}

fn configuration(config: &Config) -> Result<Configure> {
    let mut entropy = vec![0; ENTROPY_BYTES];
    getrandom::fill(&mut entropy)
        .map_err(|error| Error::Sandbox(format!("this host has no randomness for the guest: {error}")))?;
    let mount = |(number, part): (usize, &Part)| Mount {
        source: number.to_string().into(),
        target: part.path.clone().into(),
        mode: match part.mode {
            Mode::Overlay => MountMode::Overlay,
            Mode::ReadOnly => MountMode::Ro,
            Mode::ReadWrite => MountMode::Rw,
        },
    };
    let file = |file: &GuestFile| File {
        path: file.path.as_str().into(),
        mode: file.mode,
        content: file.content.clone().into(),
    };
    Ok(Configure {
        hostname: "sandbox".to_owned(),
        clock_unix_ns: None,
        entropy: entropy.into(),
        symlinks: config
            .userland
            .symlinks
            .iter()
            .map(|(path, target)| Symlink { path: path.as_str().into(), target: target.as_str().into() })
            .collect(),
        mounts: config.userland.parts.iter().enumerate().map(mount).collect(),
        directories: Vec::new(),
        files: config.files.iter().map(file).collect(),
        env: config.env.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect(),
        proxy_port: Some(PROXY_PORT),
        dns: true,
        transparent: true,
    })
}

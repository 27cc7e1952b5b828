//! `run`: from options to the exit code of a command.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use glue::ask::ANSWER_WITHIN;
use glue::ask::terminal::{Gate, Terminal};
use glue::keys::SecretSource;
use glue::live::{Load, Loaded};
use glue::registries::Machine;
use glue::services::Chosen;
use guest_agent::proto::{ExecRequest, StdinMode, TtySize};
use serde_json::json;

use crate::cli::{MachineArgs, RunArgs};
use crate::engine::{self, Choice, EngineKind};
use crate::environ::{self, Values};
use crate::error::{Error, Result};
use crate::gateway::{self, AskOn, Gateway, Network};
use crate::guest::userland::{self, Userland};
use crate::guest::{environment, etc, kernel};
use crate::report::Style;
use crate::sandbox::{Config, Sandbox};
use crate::secrets::Keyed;
use crate::streams::{self, Outcome, Plumbing};
use crate::{setup, terminal};

/// Runs the command; the value is our exit code.
pub fn run(args: &RunArgs) -> Result<u8> {
    let style = Style::new(args.quiet, args.json);
    let begun = Instant::now();
    raise_file_limit();
    let workspace = match args.no_workspace {
        true => None,
        false => Some(std::env::current_dir().map_err(Error::io("the current directory cannot be found"))?),
    };
    let gate = Gate::default();
    let assembly = assemble(args, workspace.as_deref(), (style, &gate))?;
    let request = request_of(args, workspace.as_deref());
    let sandbox = assembly.start()?;
    let raw = match args.tty {
        true => terminal::RawMode::enter().map_err(Error::io("the terminal cannot be put into raw mode"))?,
        false => None,
    };
    let asked = Instant::now();
    let plumbing = Plumbing { stdin: true, tty: args.tty, timeout: args.timeout, gate };
    let outcome = sandbox.exec(&request).and_then(|exec| streams::attach(exec, &plumbing));
    drop(raw);
    let spent = Spent { exec: asked.elapsed(), total: begun.elapsed() };
    let stopped = sandbox.stop();
    let outcome = outcome?;
    report_end(style, &outcome, args, spent);
    stopped?;
    Ok(outcome.exit_code())
}

/// Finds what the user could have got wrong before anything is started or installed, then chooses the engine.
fn assemble<'a>(
    args: &'a RunArgs,
    workspace: Option<&Path>,
    (style, gate): (Style, &Gate),
) -> Result<Assembly<'a>> {
    let userland = userland::of_this_host(workspace, &args.shares)?;
    refuse_reachable(&userland, args)?;
    let chosen =
        glue::services::choose(&args.service, args.services_file.as_deref()).map_err(Error::Usage)?;
    let env = [glue::logins::variables(&args.tools), environment::requested(&args.env)?].concat();
    let values = environ::take(args, style);
    // After that, which needs leave to write to the own memory.
    if let Some(warning) = glue::hardening::harden() {
        style.or_text().say("not_hardened", &warning, json!({ "message": warning }));
    }
    let network = Network {
        policy: policy_of(args, &userland),
        ask: args.ask.then(|| ask_on(args, gate)).transpose()?,
        keys: keys_of(args, &chosen, values, style)?,
        resolve: args.resolve.clone(),
        limits: glue::limits::limits(&args.limits).map_err(|error| Error::Usage(error.to_string()))?,
        upstream_ca: read_all(&args.upstream_ca)?,
        audit: args.audit.clone(),
        name: args.name.clone(),
        style,
    };
    kernel::check(args.machine.kernel.as_deref())?;
    check_memory(args.machine.memory)?;
    let gateway = Gateway::new(network, gateway::runtime()?)?;
    env.iter().try_for_each(|(name, value)| gateway.check_variable(name, value))?;
    let files = gateway.logins(&args.tools, (&args.secrets, &chosen))?;
    let engine = choose_engine(&args.machine, style)?;
    Ok(Assembly { machine: &args.machine, engine, gateway, userland, files, env, style })
}

/// The keys, and a word on those that cannot be had yet.
fn keys_of(args: &RunArgs, chosen: &Chosen, values: Values, style: Style) -> Result<Keyed> {
    let keys = Keyed::resolve(args, chosen, values, style)?;
    for name in &keys.locked {
        let text = format!(
            "secret {name}: its store is locked; requests that need it are refused until you unlock it"
        );
        style.say("secret-locked", &text, json!({ "name": name }));
    }
    Ok(keys)
}

/// Probes and reports; installs QEMU where it is needed and wanted.
pub fn choose_engine(machine: &MachineArgs, style: Style) -> Result<Choice> {
    let choice = engine::choose::choose(machine.engine)?;
    if choice.kind == EngineKind::Qemu {
        setup::ensure_qemu(machine.yes, style)?;
    }
    let name = choice.kind.name();
    style.say(
        "engine",
        &format!("engine {name}: {}", choice.why),
        json!({ "engine": name, "why": choice.why }),
    );
    Ok(choice)
}

/// All that a sandbox is started from, by `run` and by `demo`.
pub struct Assembly<'a> {
    pub machine: &'a MachineArgs,
    pub engine: Choice,
    pub gateway: Gateway,
    pub userland: Userland,
    /// Beside those of `/etc`.
    pub files: Vec<etc::GuestFile>,
    pub env: Vec<(String, String)>,
    pub style: Style,
}

impl Assembly<'_> {
    pub fn start(self) -> Result<Sandbox> {
        let kernel = kernel::prepare(self.machine.kernel.as_deref(), self.style)?;
        let mut env = environment::defaults();
        env.extend(self.gateway.placeholders());
        env.extend(self.env);
        let config = Config {
            engine: self.engine,
            kernel,
            cpus: self.machine.cpus,
            memory_mib: self.machine.memory,
            userland: self.userland,
            files: etc::files(self.gateway.ca_pem()).into_iter().chain(self.files).collect(),
            env,
        };
        self.gateway.follow_policy(self.style);
        let sandbox = Sandbox::start(config, self.gateway)?;
        report_ready(self.style, &sandbox);
        Ok(sandbox)
    }
}

/// Files that this program trusts or writes must not lie where the guest can change or replace them: a log could be
/// emptied, or turned into a link to a file of the user's.
fn refuse_reachable(userland: &Userland, args: &RunArgs) -> Result<()> {
    let policy = args.policies.iter().map(|path| ("--policy", path));
    let audit = args.audit.iter().map(|path| ("--audit", path));
    let services = args.services_file.iter().map(|path| ("--services", path));
    let roots = args.upstream_ca.iter().map(|path| ("--upstream-ca", path));
    for (option, path) in policy.chain(audit).chain(services).chain(roots) {
        if let Some(part) = userland.writable_part_with(path) {
            let (path, part) = (path.display(), part.display());
            return Err(Error::Usage(format!(
                "{option} {path}: the sandbox may write to {part}, so it could change this file\n  \
                 keep it outside, or share that folder read-only: --share {part}:ro"
            )));
        }
    }
    let keys = args.secrets.iter().filter_map(|spec| match &spec.source {
        SecretSource::File(path) => Some(("--secret", path.clone())),
        _ => None,
    });
    let identity = args.stores.identity.iter().map(|path| ("--identity", path.clone()));
    let store = args.stores.file().ok().map(|path| ("--store", path));
    for (option, path) in keys.chain(identity).chain(store) {
        if let Some(part) = userland.part_with(&path) {
            let (path, part) = (path.display(), part.display());
            return Err(Error::Usage(format!(
                "{option} {path}: the sandbox has {part}, so it could read this file\n  keep it outside"
            )));
        }
    }
    Ok(())
}

fn ask_on(args: &RunArgs, gate: &Gate) -> Result<AskOn> {
    let terminal = Terminal::open("agent-sandbox", gate.clone(), ANSWER_WITHIN)
        .map_err(Error::io("--ask needs a terminal, and /dev/tty cannot be used"))?;
    Ok(AskOn { terminal, files: args.policies.clone() })
}

fn policy_of(args: &RunArgs, userland: &Userland) -> Box<Load> {
    let (files, secrets) = (args.policies.clone(), args.secrets.clone());
    let writable: Vec<_> = userland.writable_parts().map(Path::to_owned).collect();
    // One for all loads: it remembers what package clients have told.
    let machine = Machine::this(&writable);
    Box::new(move || Loaded::from(&files, &secrets, &machine))
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<String>> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|source| Error::Read {
            what: "the certificates",
            path: path.clone(),
            source,
        })
    };
    paths.iter().map(read).collect()
}

fn request_of(args: &RunArgs, workspace: Option<&Path>) -> ExecRequest {
    let mut request = ExecRequest::new(args.command.iter().map(String::as_str));
    request.cwd = workspace.unwrap_or(Path::new("/root")).to_owned().into();
    request.stdin = StdinMode::Pipe;
    request.timeout_ms = args.timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok());
    if args.tty {
        let (rows, cols) = terminal::size().unwrap_or((24, 80));
        request.tty = Some(TtySize { rows, cols });
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        request.env.push(("TERM".into(), term.into()));
    }
    request
}

fn report_ready(style: Style, sandbox: &Sandbox) {
    let timings = sandbox.timings;
    let seconds = |part: Duration| format!("{:.2}", part.as_secs_f64());
    let text = format!(
        "ready in {} s (engine {}, kernel {}, agent {}), Linux {}",
        seconds(timings.total),
        seconds(timings.engine),
        seconds(timings.kernel),
        seconds(timings.agent),
        crate::report::printable(&sandbox.ready.kernel),
    );
    let fields = json!({
        "kernel": sandbox.ready.kernel,
        "total_ms": ms(timings.total), "engine_ms": ms(timings.engine),
        "kernel_ms": ms(timings.kernel), "agent_ms": ms(timings.agent),
        "notes": sandbox.ready.notes,
    });
    style.say("ready", &text, fields);
    for note in &sandbox.ready.notes {
        style.say("note", &format!("the guest lacks something: {note}"), json!({ "note": note }));
    }
}

/// Where the time of a command went.
struct Spent {
    exec: Duration,
    /// From our own start.
    total: Duration,
}

fn report_end(style: Style, outcome: &Outcome, args: &RunArgs, spent: Spent) {
    let code = outcome.exit_code();
    let command = args.command.first().map(String::as_str).unwrap_or_default();
    let how = match outcome {
        Outcome::NotStarted(failure) => format!("{command}: {failure}"),
        Outcome::TimedOut => format!("{command} was ended: its time was over"),
        Outcome::Signal(signal) => format!("{command} was ended by signal {signal}"),
        Outcome::Abandoned(signal) => format!("{command} was given up after repeated signals ({signal})"),
        Outcome::Code(_) | Outcome::OutputClosed => format!("exit code {code}"),
    };
    let text = format!("{how}; exec {:.2} s of {:.2} s", spent.exec.as_secs_f64(), spent.total.as_secs_f64());
    let fields = json!({ "code": code, "how": how, "exec_ms": ms(spent.exec), "total_ms": ms(spent.total) });
    style.say("exit", &text, fields);
}

fn ms(part: Duration) -> u64 {
    u64::try_from(part.as_millis()).unwrap_or(u64::MAX)
}

/// A guest larger than the host would only start to die while it boots.
fn check_memory(wanted_mib: u32) -> Result<()> {
    let host = rustix::system::sysinfo();
    let host_mib = host.totalram.saturating_mul(u64::from(host.mem_unit)) >> 20;
    if u64::from(wanted_mib) > host_mib {
        return Err(Error::Usage(format!("--memory {wanted_mib}: this host has {host_mib} MiB")));
    }
    Ok(())
}

/// The file system device holds a descriptor per file that the guest knows: take what the host allows.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused only where a stricter limit is in force, and then the device evicts sooner.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

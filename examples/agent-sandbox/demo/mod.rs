//! `demo`: the whole promise, shown on the user's own machine against a fake model API.

mod checks;
mod upstream;

use std::fs;
use std::path::PathBuf;

use glue::live::Loaded;
use glue::resolve::ResolveSpec;
use policy::Ruleset;
use serde_json::{Value, json};

use self::checks::Check;
use self::upstream::{HOST, Upstream};
use crate::cli::{DemoArgs, MachineArgs};
use crate::error::{Error, Result};
use crate::gateway::{Gateway, Network};
use crate::guest::userland;
use crate::report::{self, Style};
use crate::run;
use crate::sandbox::Sandbox;
use crate::secrets::Keyed;

/// The environment variable that holds the placeholder in the guest.
const KEY_NAME: &str = "DEMO_API_KEY";

/// What the checks work with.
pub struct Stage {
    pub sandbox: Sandbox,
    pub upstream: Upstream,
    pub port: u16,
    pub key: String,
    pub placeholder: String,
    audit: PathBuf,
    /// Lines that the audit log had before.
    audit_before: usize,
}

impl Stage {
    pub fn audit_text(&self) -> Result<String> {
        fs::read_to_string(&self.audit).map_err(|source| Error::Read {
            what: "the audit log",
            path: self.audit.clone(),
            source,
        })
    }

    pub fn audit_lines(&self) -> Result<Vec<Value>> {
        let parse = |line: &str| {
            serde_json::from_str(line)
                .map_err(|error| Error::Sandbox(format!("the audit log is not JSON: {error}")))
        };
        self.audit_text()?.lines().skip(self.audit_before).map(parse).collect()
    }
}

/// Exit code 0 only if every promise holds.
pub fn demo(args: &DemoArgs) -> Result<u8> {
    let style = if args.json { Style::Quiet } else { Style::Text };
    let folder = tempfile::tempdir().map_err(Error::io("cannot make a temporary folder"))?;
    let audit = args.audit.clone().unwrap_or_else(|| folder.path().join("audit.jsonl"));
    let (stage, engine) = set_the_stage(&args.machine, audit, style)?;
    let kernel = stage.sandbox.ready.kernel.clone();
    let checks = checks::all(&stage);
    let stopped = stage.sandbox.stop();
    let checks = checks?;
    stopped?;
    let ok = checks.iter().all(|check| check.ok);
    if args.json {
        report::print(
            &json!({ "ok": ok, "engine": engine, "kernel": kernel, "checks": checks }).to_string(),
        )?;
    } else {
        table(&checks, ok)?;
    }
    Ok(u8::from(!ok))
}

fn set_the_stage(machine: &MachineArgs, audit: PathBuf, style: Style) -> Result<(Stage, &'static str)> {
    let key = fresh_key()?;
    let runtime = crate::gateway::runtime()?;
    let upstream = runtime.block_on(upstream::start(key.clone()))?;
    let port = upstream.address.port();
    let rules = policy_text(port);
    let policy = Box::new(move || Loaded {
        rules: Ruleset::parse(&rules, "demo policy").map_err(|error| error.to_string()),
        files: Vec::new(),
    });
    let keys = Keyed::fixed(KEY_NAME, key.as_bytes(), HOST, port)?;
    let placeholder = keys.placeholder(KEY_NAME).unwrap_or_default();
    let network = Network {
        policy,
        ask: None,
        keys,
        resolve: vec![ResolveSpec { host: HOST.to_owned(), address: upstream.address.ip() }],
        limits: netproxy::limits::Limits::default(),
        upstream_ca: vec![upstream.ca_pem.clone()],
        audit: Some(audit.clone()),
        name: "demo".to_owned(),
        style,
    };
    let audit_before = fs::read_to_string(&audit).map_or(0, |log| log.lines().count());
    let gateway = Gateway::new(network, runtime)?;
    let engine = run::choose_engine(machine, style)?;
    let name = engine.kind.name();
    let sandbox = run::Assembly {
        machine,
        engine,
        gateway,
        userland: userland::of_this_host(None, &[])?,
        files: Vec::new(),
        env: Vec::new(),
        style,
    }
    .start()?;
    Ok((Stage { sandbox, upstream, port, key, placeholder, audit, audit_before }, name))
}

/// What the sandbox may do: two paths of one host on one port, with the key.
fn policy_text(port: u16) -> String {
    format!(
        r#"version = 1

[[allow]]
id = "model-api"
host = "{HOST}"
ports = [{port}]
cidr = "127.0.0.1/32"
methods = ["GET", "POST"]
paths = ["/v1/**", "/echo"]
credential = "{KEY_NAME}"
"#
    )
}

fn fresh_key() -> Result<String> {
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(|error| Error::Sandbox(format!("no randomness: {error}")))?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sk-demo-{hex}"))
}

fn table(checks: &[Check], ok: bool) -> Result<()> {
    let colour = report::stdout_is_terminal();
    let mark = |ok: bool| match (ok, colour) {
        (true, true) => "\x1b[32m✓\x1b[0m",
        (true, false) => "✓",
        (false, true) => "\x1b[31m✗\x1b[0m",
        (false, false) => "✗",
    };
    for check in checks {
        report::print(&format!("{} {}\n    {}", mark(check.ok), check.name, check.detail))?;
    }
    let failed = checks.iter().filter(|check| !check.ok).count();
    let verdict =
        if ok { "every promise holds".to_owned() } else { format!("{failed} of {} FAILED", checks.len()) };
    report::print(&format!("\n{} {verdict}", mark(ok)))
}

//! The sandbox's only way out: `netproxy` on a runtime of its own, fed by the guest's vsock connections.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use credvault::Vault;
use glue::ask::Desk;
use glue::ask::terminal::Terminal;
use glue::audit::AuditFile;
use glue::fetch::Fetch;
use glue::keys::SecretSpec;
use glue::live::{LivePolicy, Load, Reloaded};
use glue::logins::ToolsSpec;
use glue::redact::VaultRedact;
use glue::resolve::ResolveSpec;
use glue::services::Chosen;
use glue::tokens::{Renewals, RenewingInject};
use glue::unlock::UnlockingInject;
use guest_agent::proto::{DNS_PORT, PROXY_PORT};
use netproxy::limits::Limits;
use netproxy::{Builder, Proxy};
use policy::ask::Grants;
use serde_json::json;
use tokio::runtime::Runtime;
use vmm_core::devices::vsock::VsockHost;

use crate::error::{Error, Result};
use crate::guest::environment;
use crate::guest::etc::GuestFile;
use crate::report::Style;
use crate::secrets::Keyed;

/// Two threads carry a sandbox's traffic; more would only take processors from the guest.
const WORKER_THREADS: usize = 2;

/// What the proxy needs to know.
pub struct Network {
    /// At the start, and again when a file of it changes.
    pub policy: Box<Load>,
    /// Somebody to ask about what no rule decides.
    pub ask: Option<AskOn>,
    pub keys: Keyed,
    pub resolve: Vec<ResolveSpec>,
    pub limits: Limits,
    /// PEM texts.
    pub upstream_ca: Vec<String>,
    pub audit: Option<PathBuf>,
    /// What the sandbox is called there.
    pub name: String,
    /// Of messages.
    pub style: Style,
}

/// How the user is asked.
pub struct AskOn {
    pub terminal: Terminal,
    /// The files of the policy: a rule for good goes to one of them.
    pub files: Vec<PathBuf>,
}

/// The proxy of one sandbox. [`Gateway::finish`] goes before it is dropped.
pub struct Gateway {
    proxy: Proxy,
    policy: Arc<LivePolicy>,
    vault: Arc<Vault>,
    _keys: Keyed,
    audit: Option<Arc<AuditFile>>,
    renewals: Option<Arc<Renewals>>,
    style: Style,
    runtime: Runtime,
}

pub fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("gateway")
        .enable_all()
        .build()
        .map_err(Error::io("the proxy's threads cannot be started"))
}

impl Gateway {
    pub fn new(mut network: Network, runtime: Runtime) -> Result<Self> {
        let vault = Arc::clone(&network.keys.vault);
        let (load, keys) = (network.policy, Arc::clone(&vault));
        let policy = LivePolicy::start(move || load().fitting(&keys, &[])).map_err(Error::Policy)?;
        let policy = Arc::new(match network.ask {
            // Names get synthetic addresses: nobody is told of them.
            Some(_) => policy.asking(Grants::letting_names_pass()),
            None => policy,
        });
        // The system's resolver is made where its timers will run.
        let context = runtime.enter();
        glue::hardening::outlive_file_limit().map_err(Error::io("signals cannot be watched"))?;
        let resolve = || glue::resolve::resolver(&network.resolve).map_err(Error::Usage);
        let mut builder = Proxy::builder()
            .name(network.name)
            // Programs that know of no proxy connect to these, and the agent brings them here.
            .synthetic_dns(true)
            .authorize(Arc::clone(&policy))
            .limits(network.limits)
            .resolve(resolve()?);
        let roots = &network.upstream_ca;
        builder = roots.iter().fold(builder, Builder::extra_roots_pem);
        let inject = UnlockingInject::new(vault.clone(), network.keys.sources.unlock(&network.keys.specs));
        let tokens = std::mem::take(&mut network.keys.tokens);
        let mut renewals = None;
        builder = match tokens.is_empty() {
            true => builder.inject(inject),
            false => {
                let own = roots.iter().fold(Proxy::builder().name("tokens"), Builder::extra_roots_pem);
                let servers = tokens.iter().map(|(_, source)| source.endpoint());
                let fetch =
                    Fetch::new(own.resolve(resolve()?), servers, policy.clone()).map_err(Error::Usage)?;
                let outcomes = (network.keys.keep.clone(), network.keys.report.clone());
                let all = Renewals::new(vault.clone(), tokens, fetch, outcomes);
                let all = renewals.insert(Arc::new(all));
                builder.inject(RenewingInject::new(inject, all.clone()))
            }
        }
        .redact(VaultRedact(vault.clone()));
        drop(context);
        if let Some(AskOn { terminal, files }) = network.ask {
            let desk = Desk::start(Arc::clone(&policy), policy.file_for_rules(&files), terminal)
                .map_err(Error::io("the thread that asks cannot be started"))?;
            builder = builder.ask(desk);
        }
        let mut audit = None;
        if let Some(path) = network.audit {
            // Said even with --quiet: what is not recorded must not go unnoticed.
            let style = network.style.or_text();
            let tell = move |text: &str| style.say("audit", text, json!({ "message": text }));
            let remedy = "name a file in a folder you may write to with --audit";
            let file = AuditFile::open(&path, None, tell).map_err(|source| Error::Write {
                path: path.clone(),
                source,
                remedy,
            })?;
            let file = Arc::new(file);
            builder = builder.audit(file.clone());
            audit = Some(file);
        }
        let proxy =
            builder.build().map_err(|error| Error::Usage(format!("the proxy cannot be set up: {error}")))?;
        Ok(Self { proxy, policy, vault, _keys: network.keys, audit, renewals, style: network.style, runtime })
    }

    /// Serves what the guest opens to the proxy and DNS ports. No other port leads anywhere. The proxy sees by itself
    /// which connections start with a preface.
    pub fn serve(&self, vsock: &VsockHost) -> Result<()> {
        let listen = |port: u16, dns: bool| {
            let (proxy, handle) = (self.proxy.clone(), self.runtime.handle().clone());
            vsock.listen(u32::from(port), move |stream: UnixStream| {
                let proxy = proxy.clone();
                let _context = handle.enter();
                // A stream that cannot be watched is closed by dropping it.
                let Ok(stream) =
                    stream.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(stream))
                else {
                    return;
                };
                handle.spawn(async move {
                    match dns {
                        true => proxy.serve_dns(stream).await,
                        false => proxy.serve(stream).await,
                    }
                });
            })
        };
        listen(PROXY_PORT, false)
            .and_then(|()| listen(DNS_PORT, true))
            .map_err(Error::io("the proxy cannot listen for the guest"))
    }

    /// Loads the policy again whenever a file of it changes, for as long as the gateway lives.
    pub fn follow_policy(&self, style: Style) {
        let (policy, proxy) = (Arc::clone(&self.policy), self.proxy.clone());
        let has_log = self.audit.is_some();
        warn(&policy, (has_log, style));
        policy.announce(&proxy);
        let tell = move |reloaded: &Reloaded, policy: &LivePolicy| tell(reloaded, policy, (has_log, style));
        self.runtime.spawn(policy.follow(proxy, tell));
    }

    /// Ends every connection, and waits for its record. Waits for the renewals of tokens that are under way, too, and says so:
    /// what they are answered would be lost.
    pub fn finish(&self) {
        self.runtime.block_on(self.proxy.end());
        if let Some(renewals) = &self.renewals {
            let waits = |text: &str| self.style.say("renewing", text, json!({ "message": text }));
            self.runtime.block_on(renewals.finish(waits));
        }
    }

    /// Fails if the audit log lacks a line.
    pub fn check_audit(&self) -> Result<()> {
        match &self.audit {
            Some(audit) if audit.has_failed() => Err(Error::Audit),
            _ => Ok(()),
        }
    }

    /// A variable for the guest must neither hide a placeholder nor carry the key itself.
    pub fn check_variable(&self, name: &str, value: &str) -> Result<()> {
        if self.vault.env().any(|(taken, _)| taken == name) {
            return Err(Error::Usage(format!(
                "--env {name}: this variable holds the placeholder of --secret {name}"
            )));
        }
        if self.vault.scrub_value(value.as_bytes()).is_some() {
            return Err(Error::Usage(format!(
                "--env {name}: the value holds a key of --secret; the sandbox must not"
            )));
        }
        Ok(())
    }

    /// Files of the guest's home that log its tools in, with placeholders.
    pub fn logins(
        &self,
        tools: &[ToolsSpec],
        (secrets, services): (&[SecretSpec], &Chosen),
    ) -> Result<Vec<GuestFile>> {
        let files = glue::logins::files(tools, secrets, services, &self.vault)?;
        let at_home = |file: credvault::GuestFile| GuestFile {
            path: format!("{}/{}", environment::HOME, file.path),
            mode: file.mode,
            content: file.content.into_bytes(),
        };
        Ok(files.into_iter().map(at_home).collect())
    }

    pub fn ca_pem(&self) -> &str {
        self.proxy.ca_certificate_pem()
    }

    /// Variables of the guest that hold placeholders.
    pub fn placeholders(&self) -> Vec<(String, String)> {
        self.vault.env().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// Said even with --quiet: silence would be taken for a policy in force.
fn warn(policy: &LivePolicy, (has_log, style): (bool, Style)) {
    if let Some(warning) = policy.warning(has_log) {
        style.or_text().say("policy_not_enforced", &warning, json!({ "warning": warning }));
    }
}

fn tell(reloaded: &Reloaded, policy: &LivePolicy, (has_log, style): (bool, Style)) {
    let text = reloaded.to_string();
    match reloaded {
        Reloaded::Replaced(generation) => {
            style.say("policy_loaded", &text, json!({ "generation": generation }));
            warn(policy, (has_log, style));
        }
        Reloaded::Kept(why) => style.or_text().say("policy_kept", &text, json!({ "why": why })),
    }
}

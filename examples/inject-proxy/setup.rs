//! From options to a proxy that can serve: everything that can be wrong is found here, before a client connects.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use credvault::{Injection, Secret, TokenSource, Vault};
use glue::ask::terminal::{Gate, Terminal};
use glue::ask::{ANSWER_WITHIN, Desk};
use glue::audit::AuditFile;
use glue::fetch::Fetch;
use glue::keys::{KeyError, bind};
use glue::live::{LivePolicy, Loaded};
use glue::redact::VaultRedact;
use glue::registries::Machine;
use glue::services::Chosen;
use glue::sources::{Refresher, Sources};
use glue::tokens::{Renewals, RenewingInject, Report, keep_in_store};
use glue::unlock::UnlockingInject;
use netproxy::{Builder, Host, Proxy, UpstreamProxy};
use policy::ask::Grants;
use tokio::net::TcpListener;

use crate::doors::{Doors, bind_tcp};
use crate::error::{Error, Result};
use crate::files::{write_certificates, write_guest_files};
use crate::keys::Values;
use crate::options::Options;
use crate::say::Messages;

/// The parts of a running proxy.
pub struct Setup {
    pub proxy: Proxy,
    pub listener: TcpListener,
    /// SOCKS5, DNS and metrics.
    pub doors: Doors,
    /// Where it listens: the real port.
    pub listen: SocketAddr,
    pub policy: Arc<LivePolicy>,
    /// Finds new values of keys, once it is started.
    pub refresher: Option<Refresher>,
    /// Which store is in use, if one is.
    pub store: Option<String>,
    pub audit: Option<Arc<AuditFile>>,
    /// Of tokens: what is under way at the end is waited for.
    pub renewals: Option<Arc<Renewals>>,
    /// What clients need.
    pub variables: Vec<(String, String)>,
}

impl Setup {
    pub fn new(options: &Options, values: Values) -> Result<Self> {
        let values = Arc::new(values);
        let sources = {
            // A second secret from the same variable gets a copy; the vault holds both in locked memory.
            let values = values.clone();
            let environment = move |variable: &str| values.get(variable).map(Secret::duplicate);
            Arc::new(Sources::new(options.stores.clone(), Box::new(environment)))
        };
        let table = options.services_file.as_deref();
        let chosen = glue::services::choose(&options.service, table).map_err(Error::Usage)?;
        let (vault, tokens) = vault_of(options, &chosen, &sources)?;
        let vault = Arc::new(vault);
        if let Some(folder) = &options.guest_files {
            let files = glue::logins::files(&options.tools, &options.secrets, &chosen, &vault)?;
            let what = format!("cannot write logins to {}", folder.display());
            write_guest_files(folder, &files).map_err(Error::io(what))?;
        }
        let specs = [&options.secrets[..], &glue::services::sent_as_stored(&chosen)].concat();
        let store = sources.in_use().map(glue::stores::Opened::describe);
        let refresher = Some(Refresher::new(vault.clone(), &specs, sources.clone()));
        let mut policy = live_policy(options, vault.clone())?;
        if options.ask {
            policy = policy.asking(grants(options));
        }
        let policy = Arc::new(policy);
        let listener = bind_tcp("--listen", options.listen, options)?;
        let listen = listener.local_addr().map_err(Error::io("the proxy's own address is not known"))?;
        let doors = Doors::bind(options)?;
        let limits =
            glue::limits::limits(&options.limits).map_err(|error| Error::Usage(error.to_string()))?;
        let mut builder = Proxy::builder()
            .name(&options.name)
            .authorize(policy.clone())
            .resolve(resolver(options)?)
            .limits(limits)
            .synthetic_dns(options.synthetic_dns)
            .own_listener(listen);
        if options.ask {
            let asker = Terminal::open("inject-proxy", Gate::default(), ANSWER_WITHIN)
                .map_err(Error::io("--ask needs a terminal, and /dev/tty cannot be used"))?;
            let desk = Desk::start(policy.clone(), policy.file_for_rules(&options.policies), asker)
                .map_err(Error::io("the thread that asks cannot be started"))?;
            builder = builder.ask(desk);
        }
        for (_, door) in doors.places() {
            builder = builder.own_listener(door);
        }
        let roots = options.upstream_ca.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
        builder = roots.iter().fold(builder, Builder::extra_roots_pem);
        let inject = UnlockingInject::new(vault.clone(), sources.unlock(&specs));
        let mut renewals = None;
        builder = match tokens.is_empty() {
            true => builder.inject(inject),
            false => {
                let own = roots.iter().fold(Proxy::builder().name("tokens"), Builder::extra_roots_pem);
                let own = with_upstream_proxies(own, options, &values)?;
                let servers = tokens.iter().map(|(_, source)| source.endpoint());
                let fetch = Fetch::new(own.resolve(resolver(options)?), servers, policy.clone());
                let messages = Messages { json: options.json };
                let report: Report = Arc::new(move |text| messages.say("secret", &text));
                let keep = keep_in_store(&sources, &chosen, report.clone());
                let fetch = fetch.map_err(Error::Usage)?;
                let all = Renewals::new(vault.clone(), tokens, fetch, (keep, report));
                let all = renewals.insert(Arc::new(all));
                builder.inject(RenewingInject::new(inject, all.clone()))
            }
        }
        .redact(VaultRedact(vault.clone()));
        builder = with_upstream_proxies(builder, options, &values)?;
        for (host, path) in &options.client_certificates {
            let usage = |error| Error::Usage(format!("--client-cert {host}: {error}"));
            let host = Host::parse(host).map_err(usage)?;
            let pem =
                Secret::new(fs::read(path).map_err(Error::io(format!("cannot read {}", path.display())))?);
            let pem = std::str::from_utf8(pem.expose()).unwrap_or_default();
            builder = builder.client_certificate(host, pem, pem);
        }
        let mut audit = None;
        if let Some(path) = &options.audit {
            let what = format!("cannot write {}", path.display());
            let messages = Messages { json: options.json };
            let tell = move |text: &str| messages.say("audit", text);
            let file = AuditFile::open(path, options.audit_rotate, tell).map_err(Error::io(what))?;
            let file = Arc::new(file);
            builder = builder.audit(file.clone());
            audit = Some(file);
        }
        let proxy =
            builder.build().map_err(|error| Error::Usage(format!("the proxy cannot be set up: {error}")))?;
        let variables = variables(options, listen, &proxy, &vault)?;
        Ok(Self { proxy, listener, doors, listen, policy, refresher, store, audit, renewals, variables })
    }
}

fn resolver(options: &Options) -> Result<netproxy::hooks::StaticResolve> {
    glue::resolve::resolver(&options.resolve).map_err(Error::Usage)
}

/// Each URL is a value like a key: it may hold a password.
fn with_upstream_proxies(mut builder: Builder, options: &Options, values: &Values) -> Result<Builder> {
    for (name, variable) in &options.upstream_proxies {
        let url = values.get(variable).and_then(|url| std::str::from_utf8(url.expose()).ok());
        let proxy = UpstreamProxy::parse(url.unwrap_or_default())
            .map_err(|error| Error::Usage(format!("--upstream-proxy {name}: {error}")))?;
        builder = builder.upstream_proxy(name.as_str(), proxy);
    }
    Ok(builder)
}

/// Synthetic addresses tell nobody of the names.
fn grants(options: &Options) -> Grants {
    if options.synthetic_dns { Grants::letting_names_pass() } else { Grants::default() }
}

/// Reads and checks the policy; at the start, and again for each reload.
fn live_policy(options: &Options, vault: Arc<Vault>) -> Result<LivePolicy> {
    let (files, secrets) = (options.policies.clone(), options.secrets.clone());
    // One for all loads: it remembers what package clients have told.
    let machine = Machine::this(&[]);
    let proxies: Vec<String> = options.upstream_proxies.iter().map(|(name, _)| name.clone()).collect();
    let load = move || Loaded::from(&files, &secrets, &machine).fitting(&vault, &proxies);
    LivePolicy::start(load).map_err(Error::Policy)
}

type Keyed = (Vault, Vec<(String, TokenSource)>);

/// The vault, and the sources of tokens in it that are renewed.
fn vault_of(options: &Options, chosen: &Chosen, sources: &Sources) -> Result<Keyed> {
    let unknown = |name: &String| !options.secrets.iter().any(|spec| spec.name == *name);
    if let Some((name, _)) = options.injections.iter().find(|(name, _)| unknown(name)) {
        return Err(Error::Usage(format!("--inject {name}: there is no --secret of this name")));
    }
    let injection_of = |name: &str| {
        let given = options.injections.iter().find(|(other, _)| other == name);
        given.map_or_else(Injection::replace, |(_, injection)| injection.clone())
    };
    let mut builder = Vault::builder();
    bind(&mut builder, &options.secrets, injection_of, |spec| sources.value(spec))?;
    let tokens = glue::services::bind(&mut builder, chosen, |spec| sources.value(spec))?;
    Ok((builder.build(), tokens))
}

fn variables(
    options: &Options,
    listen: SocketAddr,
    proxy: &Proxy,
    vault: &Vault,
) -> Result<Vec<(String, String)>> {
    let files = match &options.ca_dir {
        None => None,
        Some(folder) => {
            let what = format!("cannot write the certificate to {}", folder.display());
            Some(write_certificates(folder, proxy.ca_certificate_pem()).map_err(Error::io(what))?)
        }
    };
    let bundle = files.as_ref().map(|files| files.bundle.to_string_lossy().into_owned());
    let listen = reachable(listen);
    let mut variables = glue::clients::variables(&format!("http://{listen}"), bundle.as_deref());
    let java = glue::java::options(listen, files.as_ref().map(|files| files.java.as_path()));
    variables.push((glue::java::VARIABLE.to_owned(), java));
    variables.extend(glue::logins::variables(&options.tools));
    if listen.ip().is_loopback() {
        // Node reads the others only then. Elsewhere it would go through the proxy to the proxy for libraries that find it
        // by themselves; loopback is in NO_PROXY.
        variables.push(("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()));
    }
    for (name, placeholder) in vault.env() {
        if variables.iter().any(|(taken, _)| taken == name) {
            let problem = "this variable tells clients about the proxy; choose another name".to_owned();
            return Err(KeyError { name: name.to_owned(), problem }.into());
        }
        variables.push((name.to_owned(), placeholder.to_owned()));
    }
    Ok(variables)
}

/// An address that clients on this machine can connect to.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    SocketAddr::new(ip, listen.port())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(format!("cannot read {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_an_address_that_they_can_connect_to() {
        for (listens, told) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("192.0.2.1:8080", "192.0.2.1:8080"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), told.parse().unwrap(), "{listens}");
        }
    }
}

//! The proxies: how each is started, and what it can do.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::origin::{self, Ports};
use crate::tls::Authority;
use crate::{Error, Result};

/// One kind of proxy.
pub struct Kind {
    pub name: &'static str,
    pub plain: bool,
    pub opaque: bool,
    pub intercepts: bool,
    /// `None` where there is no proxy at all.
    command: Option<ToStart>,
}

/// How it is started, to listen at a port.
type ToStart = fn(&World, u16, &Programs<'_>) -> Result<Command>;

/// In the order of the tables.
pub const KINDS: &[Kind] = &[
    Kind { name: "direct", plain: true, opaque: true, intercepts: false, command: None },
    Kind { name: "relay", plain: true, opaque: true, intercepts: false, command: Some(relay) },
    Kind { name: "ours", plain: true, opaque: true, intercepts: true, command: Some(ours) },
    Kind { name: "hudsucker", plain: true, opaque: true, intercepts: true, command: Some(hudsucker) },
    Kind { name: "squid", plain: true, opaque: true, intercepts: true, command: Some(squid) },
    Kind { name: "tinyproxy", plain: true, opaque: true, intercepts: false, command: Some(tinyproxy) },
    Kind { name: "mitmproxy", plain: true, opaque: true, intercepts: true, command: Some(mitmproxy) },
];

/// Programs that are not ours to find.
struct Programs<'a> {
    inject_proxy: &'a Path,
    mitmdump: Option<&'a Path>,
}

/// The origin, and the files that the proxies read.
pub struct World {
    pub ports: Ports,
    folder: TempDir,
}

impl World {
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // A proxy that gives up root still has to read its files.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        let (ports, root_pem) = origin::start().await?;
        let authority = Authority::generate()?;
        fs::write(folder.path().join("root.pem"), root_pem)?;
        fs::write(folder.path().join("ca.pem"), &authority.certificate_pem)?;
        fs::write(folder.path().join("ca.key"), &authority.key_pem)?;
        fs::write(folder.path().join("both.pem"), authority.certificate_pem + &authority.key_pem)?;
        Ok(Self { ports, folder })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A running proxy, or none at all.
pub struct Subject {
    pub kind: &'static Kind,
    pub address: SocketAddr,
    child: Option<Child>,
}

impl Subject {
    pub async fn start(
        kind: &'static Kind,
        world: &World,
        inject_proxy: &Path,
        mitmdump: Option<&Path>,
    ) -> Result<Self> {
        let port = free_port().await?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let Some(command) = kind.command else { return Ok(Self { kind, address, child: None }) };
        let inner = command(world, port, &Programs { inject_proxy, mitmdump })?;
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        for _ in 0..400 {
            if let Some(status) = child.try_wait()? {
                return Err(format!("it ended at once ({status})").into());
            }
            if TcpStream::connect(address).await.is_ok() {
                return Ok(Self { kind, address, child: Some(child) });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(Self { kind, address, child: Some(child) });
        Err("it does not listen".into())
    }

    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether bytes go by it unread, or there is nobody to read them.
    pub fn is_bare(&self) -> bool {
        ["direct", "relay"].contains(&self.kind.name)
    }

    /// Where to connect for `port` of the origin: a relay has no CONNECT.
    pub fn relayed(&self, world: &World, port: u16) -> Option<SocketAddr> {
        if !self.is_bare() {
            return None;
        }
        let at = relayed_ports(&world.ports).iter().position(|one| *one == port)?;
        let port = if self.child.is_some() { self.address.port() + u16::try_from(at).ok()? } else { port };
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // Asked first: squid then takes its shared memory with it.
        if let Some(process) = Pid::from_raw(child.id().cast_signed()) {
            let _ = kill_process(process, Signal::TERM);
        }
        for _ in 0..40 {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

async fn free_port() -> Result<u16> {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        // The relay takes four in a row, all below the range of outgoing ports.
        let first = 20_000 + port % 10_000;
        let mut free = true;
        for port in first..first + 4 {
            free &= TcpListener::bind(("127.0.0.1", port)).await.is_ok();
        }
        if free {
            return Ok(first);
        }
    }
}

fn relayed_ports(ports: &Ports) -> [u16; 4] {
    [ports.plain, ports.tls, ports.opaque, ports.raw]
}

/// A program that was built beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is not built", path.display()).into()) }
}

fn relay(world: &World, port: u16, _: &Programs<'_>) -> Result<Command> {
    let mut command = Command::new(beside("relay")?);
    for (at, target) in (port..).zip(relayed_ports(&world.ports)) {
        command.args([format!("127.0.0.1:{at}"), format!("127.0.0.1:{target}")]);
    }
    Ok(command)
}

/// With everything on: rules, a credential that is put into every request over TLS, scrubbing, a log.
fn ours(world: &World, port: u16, programs: &Programs<'_>) -> Result<Command> {
    let Ports { plain, tls, opaque, raw } = world.ports;
    let mut policy = format!(
        r#"
version = 1
[[allow]]
id = "plain"
host = "localhost"
scheme = "http"
ports = [{plain}]
cidr = "127.0.0.0/8"
[[allow]]
id = "model"
host = "localhost"
ports = [{tls}]
cidr = "127.0.0.0/8"
credential = "BENCH_KEY"
[[allow]]
id = "opaque"
host = "localhost"
ports = [{opaque}, {raw}]
cidr = "127.0.0.0/8"
tls = "opaque"
"#
    );
    for n in 0..10 {
        policy +=
            &format!("[[allow]]\nhost = \"api{n}.example.com\"\nmethods = [\"GET\"]\npaths = [\"/v1/**\"]\n");
    }
    fs::write(world.file("policy.toml"), policy)?;
    let mut command = Command::new(programs.inject_proxy);
    command.env("BENCH_VALUE", "sk-bench-7d1f0a2b4c6e8f90a1b2c3d4");
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--policy"]).arg(world.file("policy.toml"));
    command.args(["--secret", &format!("BENCH_KEY=BENCH_VALUE@localhost:{tls}")]);
    command.arg("--upstream-ca").arg(world.file("root.pem")).arg("--audit").arg(world.file("audit.log"));
    command.args(["--resolve", "localhost:127.0.0.1"]);
    Ok(command)
}

fn hudsucker(world: &World, port: u16, _: &Programs<'_>) -> Result<Command> {
    let mut command = Command::new(beside("hudsucker_peer")?);
    command.arg(format!("127.0.0.1:{port}")).arg(format!("{},{}", world.ports.opaque, world.ports.raw));
    command.arg(world.file("ca.pem")).arg(world.file("ca.key")).arg(world.file("root.pem"));
    Ok(command)
}

/// squid gives up root, so its files are its own user's.
fn squid(world: &World, port: u16, _: &Programs<'_>) -> Result<Command> {
    const CERTIFICATES: &str = "/usr/lib/squid/security_file_certgen";
    let folder = world.file("squid");
    let at = |name: &str| folder.join(name).display().to_string();
    fs::create_dir(&folder)?;
    fs::copy(world.file("both.pem"), at("both.pem"))?;
    let made = Command::new(CERTIFICATES).args(["-c", "-s", &at("ssl_db"), "-M", "4MB"]).output();
    if !made.map_err(|_| Error::from("the package squid-openssl is not installed"))?.status.success() {
        return Err("squid's certificate store cannot be made".into());
    }
    let Ports { opaque, raw, .. } = world.ports;
    let config = format!(
        "http_port 127.0.0.1:{port} ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB tls-cert={}\n\
         sslcrtd_program {CERTIFICATES} -s {} -M 4MB\nsslcrtd_children 1 startup=1\n\
         acl unread port {opaque} {raw}\nssl_bump splice unread\nssl_bump bump all\nhttp_access allow all\n\
         access_log none\ncache deny all\ncache_log {}\npid_filename none\ntls_outgoing_options cafile={}\n\
         coredump_dir none\nvisible_hostname bench\nshutdown_lifetime 1 seconds\nmax_filedescriptors 8192\n",
        at("both.pem"),
        at("ssl_db"),
        at("squid.log"),
        world.file("root.pem").display(),
    );
    fs::write(at("squid.conf"), config)?;
    Command::new("chown").args(["-R", "proxy"]).arg(&folder).status()?;
    let mut command = Command::new("squid");
    // A name of its own: shared memory of another squid is not in its way.
    command.args(["-N", "-n", &format!("bench{port}"), "-f", &at("squid.conf")]);
    Ok(command)
}

fn tinyproxy(world: &World, port: u16, _: &Programs<'_>) -> Result<Command> {
    let config = format!("Port {port}\nListen 127.0.0.1\nLogLevel Critical\nMaxClients 2000\nTimeout 600\n");
    fs::write(world.file("tinyproxy.conf"), config)?;
    let mut command = Command::new("tinyproxy");
    command.arg("-d").arg("-c").arg(world.file("tinyproxy.conf"));
    Ok(command)
}

fn mitmproxy(world: &World, port: u16, programs: &Programs<'_>) -> Result<Command> {
    let mitmdump = programs.mitmdump.ok_or("no --mitmdump was given")?;
    fs::create_dir_all(world.file("mitm"))?;
    let mut command = Command::new(mitmdump);
    command.args(["-q", "--listen-host", "127.0.0.1", "--listen-port", &port.to_string()]);
    command.args(["--ignore-hosts", &format!("localhost:({}|{})$", world.ports.opaque, world.ports.raw)]);
    command.arg("--set").arg(format!("confdir={}", world.file("mitm").display()));
    command.arg("--set").arg(format!("ssl_verify_upstream_trusted_ca={}", world.file("root.pem").display()));
    Ok(command)
}

//! One upstream, one proxy in front of it, and how a client is started between the two.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::proxy::{KEY, RunningProxy};
use crate::upstream::{Kind, Seen, Upstream};

/// May be reached.
pub const ALLOWED: &str = "allowed.test";
/// No rule allows it.
pub const DENIED: &str = "denied.test";
/// Gets the key.
pub const KEYED: &str = "keyed.test";

/// In no rule of the usual policy: for the rules that a test adds.
pub const OTHER: &str = "other.test";

/// What a world has beyond the usual one.
///
/// `{port}` in options and the file is the upstream's, `{plain}` the one where it speaks plain HTTP; `{home}` is the
/// clients' home, `{services}` the file `scenarios/services.toml` with those ports, `{client}` a client certificate
/// that the upstream trusts, `{file}` the file.
#[derive(Default)]
pub struct More<'a> {
    /// Of the proxy.
    pub options: &'a [&'a str],
    /// Content of a file for the owner's eyes alone.
    pub file: &'a str,
    /// Further variables of the proxy's environment.
    pub environment: &'a [(&'a str, String)],
    pub upstream: Kind,
    /// Calls go to `http://`.
    pub plain: bool,
}

/// Everything of one test.
pub struct World {
    pub folder: TempDir,
    pub upstream: Upstream,
    plain: bool,
    proxy: Option<RunningProxy>,
}

impl World {
    /// With the usual policy.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With further options of the proxy.
    pub fn with(options: &[&str]) -> Self {
        Self::with_more(&More { options, ..More::default() })
    }

    /// With the file `{file}` too.
    pub fn with_key_file(file: &str, options: &[&str]) -> Self {
        Self::with_more(&More { file, options, ..More::default() })
    }

    /// Where the same hosts are reached over plain HTTP, and one of them gets its key there.
    pub fn plain() -> Self {
        let options =
            ["--policy", "{file}", "--service", "mock-plain=HOST_SIDE_KEY", "--services", "{services}"];
        let file = include_str!("scenarios/plain.toml");
        Self::with_more(&More { options: &options, file, plain: true, ..More::default() })
    }

    pub fn with_more(more: &More) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::start(folder.path(), &[ALLOWED, DENIED, KEYED, OTHER], more.upstream);
        let port = upstream.port;
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let filled = |text: &str| {
            text.replace("{port}", &port.to_string())
                .replace("{plain}", &upstream.plain_port.to_string())
                .replace("{home}", &path("home"))
                .replace("{services}", &path("services.toml"))
                .replace("{client}", &path("client.pem"))
                .replace("{file}", &path("key"))
        };
        fs::write(path("policy.toml"), policy(port)).unwrap();
        let services =
            include_str!("scenarios/services.toml").replace("8443", "{port}").replace("8080", "{plain}");
        fs::write(path("services.toml"), filled(&services)).unwrap();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path("key")).unwrap();
        file.write_all(filled(more.file).as_bytes()).unwrap();
        let mut arguments: Vec<String> = ["--listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
        // What comes back is masked by the first key of that value: it is the one under test.
        let api_key = if more.plain { "HOST_SIDE_AWS_KEYS" } else { "HOST_SIDE_KEY" };
        for (option, value) in [
            ("--policy", path("policy.toml")),
            ("--secret", format!("API_KEY={api_key}@{KEYED}:{port}")),
            ("--ca-dir", path("ca")),
            ("--upstream-ca", path("upstream-ca.pem")),
            ("--audit", path("audit.jsonl")),
        ] {
            arguments.extend([option.to_owned(), value]);
        }
        for host in [ALLOWED, DENIED, KEYED, OTHER] {
            arguments.extend(["--resolve".to_owned(), format!("{host}:127.0.0.1")]);
        }
        arguments.extend(more.options.iter().map(|option| filled(option)));
        fs::create_dir(folder.path().join("home")).unwrap();
        let proxy = Some(RunningProxy::start(&arguments, more.environment));
        Self { folder, upstream, plain: more.plain, proxy }
    }

    pub fn proxy(&mut self) -> &mut RunningProxy {
        self.proxy.as_mut().expect("it was not stopped")
    }

    /// A client's home, and a place for its files.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub fn url(&self, host: &str, path: &str) -> String {
        let (scheme, port) = match self.plain {
            true => ("http", self.upstream.plain_port),
            false => ("https", self.upstream.port),
        };
        format!("{scheme}://{host}:{port}{path}")
    }

    /// What the key of calls to `KEYED` is called in the log.
    pub fn credential(&self) -> &'static str {
        if self.plain { "mock-plain" } else { "API_KEY" }
    }

    /// What stands in the key's place in a client.
    pub fn placeholder(&self) -> String {
        self.variables()[if self.plain { "PLAIN_KEY" } else { "API_KEY" }].clone()
    }

    /// Where another door of the proxy is.
    pub fn door(&self, name: &str) -> SocketAddr {
        self.proxy.as_ref().expect("it was not stopped").doors[name]
    }

    /// Where the proxy listens, as `host:port`: for SOCKS5 too.
    pub fn place(&self) -> &str {
        self.variables()["HTTPS_PROXY"].rsplit('/').find(|part| !part.is_empty()).expect("a URL")
    }

    pub fn variables(&self) -> &std::collections::BTreeMap<String, String> {
        &self.proxy.as_ref().expect("it was not stopped").variables
    }

    /// A client with the variables that the proxy printed, and nothing of this process's own.
    pub fn client(&self, program: &Path) -> Command {
        // Far beyond what any client takes: past it, something hangs, and the test says so.
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", "120"])
            .arg(program)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("LANG", "C.UTF-8")
            .envs(self.variables())
            .current_dir(self.home())
            .stdin(Stdio::null());
        command
    }

    /// Stops the proxy: its exit code, and what it said while it ran and ended.
    pub fn end(&mut self) -> (Option<i32>, String) {
        self.proxy.take().expect("it was not stopped").stop()
    }

    /// The same of one that ends well.
    pub fn stop_saying(&mut self) -> String {
        let (code, said) = self.end();
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// Stops the proxy, so that its log is whole.
    pub fn stop(&mut self) -> Log {
        self.stop_saying();
        let text = fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap();
        assert!(!text.contains(KEY), "the key is in the log");
        Log { lines: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() }
    }

    /// Requests that reached the upstream under this name.
    pub fn seen(&self, host: &str) -> Vec<Seen> {
        let name =
            |seen: &Seen| seen.host.rsplit_once(':').map_or(seen.host.clone(), |(name, _)| name.to_owned());
        self.upstream.seen().into_iter().filter(|seen| name(seen) == host).collect()
    }
}

/// The audit log of a proxy that has ended.
pub struct Log {
    pub lines: Vec<Value>,
}

impl Log {
    /// Refusals for this host.
    pub fn denials(&self, host: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| line["host"] == host && line["verdict"] == "deny").collect()
    }

    /// Requests that went to this host.
    pub fn requests(&self, host: &str) -> Vec<&Value> {
        let http = |line: &&Value| line["layer"] == "http" && line["verdict"] == "allow";
        self.lines.iter().filter(|line| line["host"] == host).filter(http).collect()
    }
}

fn policy(port: u16) -> String {
    let allow = |id: &str, host: &str, more: &str| {
        format!(
            "[[allow]]\nid = \"{id}\"\nhost = \"{host}\"\ncidr = \"127.0.0.1/32\"\nports = [{port}]\n{more}\n"
        )
    };
    let deny = format!("[[deny]]\nid = \"closed\"\nhost = \"{ALLOWED}\"\npaths = [\"/closed/**\"]\n");
    let keyed = allow("keyed", KEYED, "credential = \"API_KEY\"\nwebsocket = true");
    format!("version = 1\n{}{keyed}{deny}", allow("open", ALLOWED, "websocket = true"))
}

/// Both outputs, as a person at the terminal sees them.
pub fn shown(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

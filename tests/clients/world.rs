//! One upstream, one proxy in front of it, and how a client is started between the two.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::proxy::{KEY, RunningProxy};
use crate::upstream::{Seen, Upstream};

/// May be reached.
pub const ALLOWED: &str = "allowed.test";
/// No rule allows it.
pub const DENIED: &str = "denied.test";
/// Gets the key.
pub const KEYED: &str = "keyed.test";

/// Everything of one test.
pub struct World {
    pub folder: TempDir,
    pub upstream: Upstream,
    proxy: Option<RunningProxy>,
}

impl World {
    /// With the usual policy.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With further options of the proxy; `{port}` in them is the upstream's, `{home}` the clients' home,
    /// `{services}` the file `scenarios/services.toml` with that port.
    pub fn with(options: &[&str]) -> Self {
        Self::with_key_file("", options)
    }

    /// The same with a file for the owner's eyes alone, `{file}` in options. `{port}` in it is the upstream's too.
    pub fn with_key_file(content: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::start(folder.path(), &[ALLOWED, DENIED, KEYED]);
        let port = upstream.port;
        fs::write(folder.path().join("policy.toml"), policy(port)).unwrap();
        let services = include_str!("scenarios/services.toml").replace("8443", &port.to_string());
        fs::write(folder.path().join("services.toml"), services).unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path("key")).unwrap();
        file.write_all(content.replace("{port}", &port.to_string()).as_bytes()).unwrap();
        let mut arguments: Vec<String> = ["--listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
        for (option, value) in [
            ("--policy", path("policy.toml")),
            ("--secret", format!("API_KEY=HOST_SIDE_KEY@{KEYED}:{port}")),
            ("--ca-dir", path("ca")),
            ("--upstream-ca", path("upstream-ca.pem")),
            ("--audit", path("audit.jsonl")),
        ] {
            arguments.extend([option.to_owned(), value]);
        }
        for host in [ALLOWED, DENIED, KEYED] {
            arguments.extend(["--resolve".to_owned(), format!("{host}:127.0.0.1")]);
        }
        arguments.extend(options.iter().map(|option| {
            option
                .replace("{port}", &port.to_string())
                .replace("{home}", &path("home"))
                .replace("{services}", &path("services.toml"))
                .replace("{file}", &path("key"))
        }));
        fs::create_dir(folder.path().join("home")).unwrap();
        let proxy = Some(RunningProxy::start(&arguments));
        Self { folder, upstream, proxy }
    }

    pub fn proxy(&mut self) -> &mut RunningProxy {
        self.proxy.as_mut().expect("it was not stopped")
    }

    /// A client's home, and a place for its files.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.upstream.port)
    }

    /// What stands in the key's place in a client.
    pub fn placeholder(&self) -> String {
        self.variables()["API_KEY"].clone()
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

    /// Stops the proxy; what it said while it ran and ended.
    pub fn stop_saying(&mut self) -> String {
        let (code, said) = self.proxy.take().expect("it was not stopped").stop();
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

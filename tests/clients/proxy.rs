//! Runs `inject-proxy` and reads what it says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};

/// A key in the environment of every proxy under test, in the variable `HOST_SIDE_KEY`. No client may ever see it.
pub const KEY: &str = "test-key-0123456789abcdef";

/// Keys for AWS there, in `HOST_SIDE_AWS_KEYS`, and with a session token in `HOST_SIDE_AWS_SESSION`.
pub const AWS_ID: &str = "AKIDEXAMPLEEXAMPLE";
pub const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub const AWS_TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLE/of+a/session";

/// `INJECT_PROXY_BIN`, or a build of the same profile as this test.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("INJECT_PROXY_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    // This test binary is in <target>/<profile>/deps.
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "examples", "--example", "inject-proxy"]);
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "inject-proxy does not build");
    profile.join("examples/inject-proxy")
}

/// `inject-proxy ARGUMENTS`, not started.
pub fn command(arguments: &[String]) -> Command {
    let mut command = Command::new(path());
    command.args(arguments).env("HOST_SIDE_KEY", KEY);
    command.env("HOST_SIDE_AWS_KEYS", format!("{AWS_ID}:{AWS_SECRET}")).stdin(Stdio::null());
    command.env("HOST_SIDE_AWS_SESSION", format!("{AWS_ID}:{AWS_SECRET}:{AWS_TOKEN}"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// One that ends by itself.
pub fn run(arguments: &[String]) -> Output {
    command(arguments).output().unwrap()
}

/// A running proxy; ended when dropped.
pub struct RunningProxy {
    child: Child,
    /// What it told clients to set.
    pub variables: BTreeMap<String, String>,
    /// Where its other doors are.
    pub doors: BTreeMap<String, SocketAddr>,
    stderr: BufReader<ChildStderr>,
}

impl RunningProxy {
    /// Starts it and waits until it is ready.
    pub fn start(arguments: &[String], environment: &[(&str, String)]) -> Self {
        let mut child = command(arguments).envs(environment.iter().cloned()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut proxy = Self { child, variables: BTreeMap::new(), doors: BTreeMap::new(), stderr };
        for line in stdout.lines() {
            let line = line.unwrap();
            if line == "# ready" {
                return proxy;
            }
            if let Some((name, at)) = line.strip_prefix("# ").and_then(|door| door.split_once(" on ")) {
                proxy.doors.insert(name.to_owned(), at.parse().unwrap());
            }
            if let Some((name, value)) = line.strip_prefix("export ").and_then(|pair| pair.split_once('=')) {
                proxy.variables.insert(name.to_owned(), value.trim_matches('\'').to_owned());
            }
        }
        panic!("inject-proxy did not start: {}", proxy.next_message());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The next message on standard error.
    pub fn next_message(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "the proxy has ended");
        line
    }

    /// Ends it by SIGTERM: it finishes what is open and writes its log. Gives the exit code and the messages.
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for RunningProxy {
    fn drop(&mut self) {
        // Fails where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

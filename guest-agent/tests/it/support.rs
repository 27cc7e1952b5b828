//! A server thread at one end of a socket pair, the client at the other, and a collector of events.

use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use guest_agent::client::{self, Event, Events, Remote, StdinWriter};
use guest_agent::proto::{Bytes, ExecRequest, Exit, Failure};
use guest_agent::server::exec;

/// Long enough for a loaded machine; no test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Running {
    pub stdin: StdinWriter,
    pub events: Events,
    pub remote: Remote,
    pub server: JoinHandle<()>,
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub pid: u32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit: Option<Exit>,
    pub failure: Option<Failure>,
}

pub fn request(argv: &[&str]) -> ExecRequest {
    let mut request = ExecRequest::new(argv.iter().copied());
    // Tests may run as any user; the identity is changed only when another one is asked for.
    request.uid = own_uid();
    request.gid = own_gid();
    request
}

pub fn sh(script: &str) -> ExecRequest {
    request(&["sh", "-c", script])
}

pub fn start(request: &ExecRequest) -> Running {
    let (host, guest) = UnixStream::pair().unwrap();
    let env: Vec<(Bytes, Bytes)> =
        vec![("PATH".into(), std::env::var("PATH").unwrap().into()), ("DEFAULT".into(), "yes".into())];
    let server = std::thread::spawn(move || {
        // A host that hangs up mid-way is an error of the stream; the tests that do it look at other things.
        let _ = exec::serve(guest, &env);
    });
    let (stdin, events, remote) = client::exec(host, request).unwrap().split();
    events.set_silence_max(Some(PATIENCE)).unwrap();
    Running { stdin, events, remote, server }
}

pub fn collect(events: &mut Events) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(event) = events.recv().unwrap() {
        match event {
            Event::Started(pid) => outcome.pid = pid,
            Event::Stdout(bytes) => outcome.stdout.extend(bytes),
            Event::Stderr(bytes) => outcome.stderr.extend(bytes),
            Event::Exited(exit) => outcome.exit = Some(exit),
            Event::Failed(failure) => outcome.failure = Some(failure),
            _ => {}
        }
    }
    outcome
}

pub fn run(request: &ExecRequest) -> Outcome {
    let mut running = start(request);
    let outcome = collect(&mut running.events);
    running.server.join().unwrap();
    outcome
}

fn own_uid() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap())
}

fn own_gid() -> u32 {
    std::os::unix::fs::MetadataExt::gid(&std::fs::metadata("/proc/self").unwrap())
}

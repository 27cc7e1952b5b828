//! The wire format of generation 1, frozen: numbers, limits, and one encoded example of every message.
//!
//! When this test fails, the protocol has changed. An addition that an older side ignores (a new optional JSON
//! field) is written to the file with `UPDATE_SCHEMA=1`; anything else needs generation 2 and a file of its own.

use std::fmt::Write;
use std::path::Path;

use guest_agent::proto::{
    Bytes, Configure, Directory, ExecInput, ExecOutput, ExecRequest, Exit, ExitStatus, FailKind, Failure,
    File, Hello, Kind, Mount, MountMode, Ready, Refused, Shutdown, StdinMode, Symlink, Timings, TtySize,
    frame,
};
use serde_json::{Value, json};

#[test]
fn generation_1_is_what_the_file_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/gen-1.json");
    let now = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let frozen = std::fs::read_to_string(&path).unwrap();
    assert!(now == frozen, "the protocol is no longer generation 1; now it is:\n{now}");
}

fn schema() -> Value {
    let kinds: Vec<Value> = Kind::ALL
        .iter()
        .map(|kind| {
            json!({ "number": kind.number(), "name": format!("{kind:?}"), "payload_bytes_max": kind.payload_bytes_max() })
        })
        .collect();
    json!({
        "generation": 1,
        "hello": hex(&Hello { newest: 1, oldest: 1 }.encode()),
        "frame": "kind:u8 length:u32be payload",
        "ports": { "control": guest_agent::proto::CONTROL_PORT, "proxy": guest_agent::proto::PROXY_PORT, "dns": guest_agent::proto::DNS_PORT },
        "share_tag": guest_agent::proto::SHARE_TAG,
        "kinds": kinds,
        "examples": examples(),
    })
}

fn examples() -> Value {
    let input = |message: ExecInput<'_>| encoded(|out| message.encode(out));
    let output = |message: ExecOutput<'_>| encoded(|out| message.encode(out));
    let cut = Exit { status: ExitStatus::Code(3), timed_out: false, output_cut: true };
    let late = Exit { status: ExitStatus::Signal(15), timed_out: true, output_cut: false };
    let failure = Failure { kind: FailKind::NotFound, errno: 2, stage: "exec".into() };
    json!({
        "Configure": json_of(|out| configure().encode(out)),
        "Configure, all defaults": json_of(|out| Configure::default().encode(out)),
        "Ready": json_of(|out| ready().encode(out)),
        "Refused": json_of(|out| refused().encode(out)),
        "Shutdown, reboot": encoded(|out| Shutdown::Reboot.encode(out)),
        "Shutdown, power off": encoded(|out| Shutdown::PowerOff.encode(out)),
        "ExecRequest": json_of(|out| request().encode(out)),
        "ExecRequest, all defaults": json_of(|out| ExecRequest::new(["true"]).encode(out)),
        "Stdin": input(ExecInput::Stdin(b"hi")),
        "StdinEof": input(ExecInput::StdinEof),
        "Signal": input(ExecInput::Signal(2)),
        "Resize": input(ExecInput::Resize(TtySize { rows: 24, cols: 300 })),
        "Started": output(ExecOutput::Started(4711)),
        "Stdout": output(ExecOutput::Stdout(b"out")),
        "Stderr": output(ExecOutput::Stderr(b"err")),
        "StdinCredit": output(ExecOutput::StdinCredit(262_144)),
        "StdinClosed": output(ExecOutput::StdinClosed),
        "Exited, code 0": output(ExecOutput::Exited(Exit::code(0))),
        "Exited, code 3, output cut": output(ExecOutput::Exited(cut)),
        "Exited, signal 15, timed out": output(ExecOutput::Exited(late)),
        "Failed": json_of(|out| ExecOutput::Failed(failure.clone()).encode(out)),
        "FailKind": [FailKind::NotFound, FailKind::NotExecutable, FailKind::Cwd, FailKind::Identity, FailKind::Request, FailKind::Busy, FailKind::Resources],
    })
}

fn configure() -> Configure {
    let mount =
        |source: &str, target: &str, mode| Mount { source: source.into(), target: target.into(), mode };
    Configure {
        hostname: "sandbox".into(),
        clock_unix_ns: Some(1_700_000_000_000_000_000),
        entropy: vec![0xff, 0].into(),
        symlinks: vec![Symlink { path: "/bin".into(), target: "usr/bin".into() }],
        mounts: vec![
            mount("usr", "/usr", MountMode::Overlay),
            mount("share-0", "/opt", MountMode::Ro),
            mount("workspace", "/home/me/project", MountMode::Rw),
        ],
        directories: vec![Directory { path: "/home/me".into(), mode: 0o750, uid: 1000, gid: 1000 }],
        files: vec![File { path: "/etc/hosts".into(), mode: 0o644, content: "127.0.0.1 localhost\n".into() }],
        env: vec![("PATH".into(), "/usr/bin".into())],
        proxy_port: Some(3128),
        dns: true,
        transparent: true,
    }
}

fn ready() -> Ready {
    let timings = Timings {
        agent_start_us: 1,
        modules_loaded_us: 2,
        vsock_connected_us: 3,
        configured_us: 4,
        root_assembled_us: 5,
        ready_us: 6,
    };
    Ready { timings, kernel: "6.12.0".into(), agent: "0.1.0".into(), notes: vec!["mount cgroup2: no".into()] }
}

fn refused() -> Refused {
    Refused { stage: "mount \"/usr\"".into(), errno: 19, detail: "No such device".into() }
}

fn request() -> ExecRequest {
    ExecRequest {
        argv: vec!["sh".into(), Bytes::from(vec![0xff])],
        env: vec![("A".into(), "b".into())],
        cwd: "/work".into(),
        uid: 1000,
        gid: 100,
        groups: vec![27],
        tty: Some(TtySize { rows: 24, cols: 80 }),
        stdin: StdinMode::Pipe,
        timeout_ms: Some(5000),
    }
}

fn bytes_of<E: std::fmt::Debug>(encode: impl Fn(&mut Vec<u8>) -> Result<(), E>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out).unwrap();
    out
}

/// A frame as hexadecimal digits.
fn encoded<E: std::fmt::Debug>(encode: impl Fn(&mut Vec<u8>) -> Result<(), E>) -> Value {
    Value::String(hex(&bytes_of(encode)))
}

/// The JSON that a frame carries.
fn json_of<E: std::fmt::Debug>(encode: impl Fn(&mut Vec<u8>) -> Result<(), E>) -> Value {
    let bytes = bytes_of(encode);
    match frame::split(&bytes).unwrap() {
        frame::Split::Frame { payload, .. } => serde_json::from_slice(payload).unwrap(),
        frame::Split::Need(_) => panic!("a whole frame was written"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

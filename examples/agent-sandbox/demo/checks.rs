//! The promises of the sandbox, each tried from inside the guest with the machine's own tools.

use guest_agent::client::Event;
use guest_agent::proto::{ExecRequest, ExitStatus};
use serde::Serialize;
use serde_json::Value;

use super::Stage;
use super::upstream::{EVENTS, HOST};
use crate::error::{Error, Result};

/// One promise: whether it holds, and what was seen.
#[derive(Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
}

/// What a command in the guest printed, and how it ended.
struct Printed {
    stdout: String,
    status: Option<u8>,
}

/// Everything a process of the guest could look into for a key, except the shared programs.
const SEARCH: &str = "env; cat /proc/cmdline /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; \
     find /etc /root /home /run /tmp /var /mnt /opt /srv -xdev -type f -size -2M -exec cat {} + 2>/dev/null; true";

const NETWORK: &str = r#"
import errno, os, socket, struct, sys
def attempt(kind, proto, address):
    s = socket.socket(socket.AF_INET, kind, proto)
    s.settimeout(30)
    try:
        # The agent takes every connection, asks the host, and resets it.
        if kind == socket.SOCK_STREAM: s.connect(address); s.recv(1)
        else: s.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", address)
        return "WENT OUT"
    except OSError as e: return errno.errorcode.get(e.errno, str(e))
def dns(name):
    q = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0)
    for label in name.split("."): q += bytes([len(label)]) + label.encode()
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)
    s.sendto(q + struct.pack(">BHH", 0, 1, 1), ("127.0.0.1", 53))
    return {0: "NOERROR", 3: "NXDOMAIN"}.get(s.recv(4096)[3] & 15, "OTHER")
cards = [n for n in os.listdir("/sys/class/net") if os.path.exists("/sys/class/net/%s/device" % n)]
print("network cards", len(cards))
print("tcp", attempt(socket.SOCK_STREAM, 0, ("192.0.2.1", 22)))
print("udp", attempt(socket.SOCK_DGRAM, 0, ("192.0.2.1", 53)))
print("icmp", attempt(socket.SOCK_RAW, socket.IPPROTO_ICMP, ("192.0.2.1", 0)))
print("dns", dns(sys.argv[1]))
"#;

/// Runs every check, in the order of the README.
pub fn all(stage: &Stage) -> Result<Vec<Check>> {
    let mut checks = vec![no_key_inside(stage)?, stream_arrives(stage)?, echo_is_redacted(stage)?];
    checks.push(no_proxy_needed(stage)?);
    let port = stage.port;
    let url = |port: u16, path: &str| format!("https://{HOST}:{port}{path}");
    checks.push(refused(stage, "a host that is not allowed", "GET", &format!("https://evil.test:{port}/"))?);
    checks.push(refused(stage, "another port of an allowed host", "GET", &url(port ^ 1, "/echo"))?);
    checks.push(refused(stage, "a method that is not allowed", "DELETE", &url(port, "/v1/messages"))?);
    checks.push(refused(stage, "a path that is not allowed", "GET", &url(port, "/admin"))?);
    checks.push(refused(stage, "a literal address", "GET", "https://192.0.2.1/")?);
    checks.push(no_other_way_out(stage)?);
    checks.push(audit_is_complete(stage)?);
    Ok(checks)
}

fn no_key_inside(stage: &Stage) -> Result<Check> {
    let seen = sh(stage, SEARCH)?;
    let clean = !seen.stdout.contains(&stage.key);
    let placeholder = seen.stdout.contains(&stage.placeholder);
    let detail = match (clean, placeholder) {
        (true, true) => format!(
            "{} bytes of environment, files and /proc hold only {}",
            seen.stdout.len(),
            stage.placeholder
        ),
        (true, false) => "not even the placeholder was found".to_owned(),
        (false, _) => "THE KEY IS IN THE GUEST".to_owned(),
    };
    Ok(Check { name: "no key in the guest, only a placeholder", ok: clean && placeholder, detail })
}

fn stream_arrives(stage: &Stage) -> Result<Check> {
    let url = format!("https://{HOST}:{}/v1/messages", stage.port);
    let script = format!("exec curl -sS -N -X POST -H \"x-api-key: $DEMO_API_KEY\" --data '{{}}' {url}");
    let (_, mut events, _) = stage.sandbox.exec(&shell(&script))?.split();
    let mut output = String::new();
    let mut status = None;
    let mut permitted = 1;
    stage.upstream.pace.add_permits(1);
    while let Some(event) = events.recv().map_err(|error| Error::Sandbox(error.to_string()))? {
        match event {
            Event::Stdout(bytes) => output.push_str(&String::from_utf8_lossy(&bytes)),
            Event::Exited(exit) => status = Some(exit.status),
            _ => {}
        }
        // The next event is let go only now that this one has arrived: a buffering proxy would wait for ever.
        let arrived = output.matches("\n\n").count();
        if arrived == permitted && permitted < EVENTS {
            stage.upstream.pace.add_permits(1);
            permitted += 1;
        }
    }
    let ok = status == Some(ExitStatus::Code(0)) && output.matches("data:").count() == EVENTS;
    let detail = if ok {
        format!("{EVENTS} events, each sent after the one before had arrived")
    } else {
        crate::report::printable(&format!("curl ended with {status:?}: {output}"))
    };
    Ok(Check { name: "a request with the placeholder gets the key, events stream", ok, detail })
}

fn echo_is_redacted(stage: &Stage) -> Result<Check> {
    let seen = echo(stage, "curl")?;
    let detail = format!("the upstream saw the key, the guest sees {}", stage.placeholder);
    Ok(judge_echo(stage, "an echo of the key is redacted", &seen, detail))
}

/// The same from a program that connects to whatever address DNS gives it.
fn no_proxy_needed(stage: &Stage) -> Result<Check> {
    let seen = echo(stage, "curl --noproxy '*' -w '\\nto %{remote_ip}'")?;
    let address = seen.stdout.rsplit("\nto ").next().unwrap_or_default();
    let detail = format!("it connected to {}, which stands for the name", crate::report::printable(address));
    Ok(judge_echo(stage, "a program that knows no proxy gets the key too", &seen, detail))
}

fn echo(stage: &Stage, curl: &str) -> Result<Printed> {
    let url = format!("https://{HOST}:{}/echo", stage.port);
    sh(stage, &format!("exec {curl} -sS -H \"x-api-key: $DEMO_API_KEY\" {url}"))
}

/// The upstream must have seen the key, and the guest must not.
fn judge_echo(stage: &Stage, name: &'static str, seen: &Printed, detail: String) -> Check {
    let leaked = seen.stdout.contains(&stage.key);
    let ok = !leaked && seen.stdout.contains(&format!("x-api-key: {}", stage.placeholder));
    let detail = match (leaked, ok) {
        (true, _) => "THE UPSTREAM'S ECHO HANDED THE KEY OVER".to_owned(),
        (false, true) => detail,
        (false, false) => crate::report::printable(&seen.stdout),
    };
    Check { name, ok, detail }
}

/// A refusal must be a 403 inside TLS that explains itself, recorded exactly once.
fn refused(stage: &Stage, name: &'static str, method: &str, url: &str) -> Result<Check> {
    let before = stage.audit_lines()?.len();
    let script = format!("exec curl -sS -X {method} -w '\\n%{{http_code}} %header{{x-should-retry}}' {url}");
    let seen = sh(stage, &script)?;
    let (body, status) = seen.stdout.rsplit_once('\n').unwrap_or((&seen.stdout, ""));
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let recorded = stage.audit_lines()?.iter().skip(before).filter(|line| line["verdict"] == "deny").count();
    let ok = seen.status == Some(0)
        && status == "403 false"
        && answer["error"] == "blocked_by_policy"
        && answer["retryable"] == false
        && answer["decision_id"].is_string()
        && answer.get("rule").is_some()
        && recorded == 1;
    let detail = if ok {
        let why = answer["detail"].as_str().unwrap_or_default();
        format!("403 inside TLS, once: {}", crate::report::printable(why))
    } else {
        crate::report::printable(&format!(
            "curl {:?}, recorded {recorded} times: {}",
            seen.status, seen.stdout
        ))
    };
    Ok(Check { name, ok, detail })
}

fn no_other_way_out(stage: &Stage) -> Result<Check> {
    let mut request = ExecRequest::new(["/usr/bin/python3", "-c", NETWORK, "evil.test"]);
    request.cwd = "/".into();
    let seen = collect(stage, &request)?;
    let expected = "network cards 0\ntcp ECONNRESET\nudp ENETUNREACH\nicmp ENETUNREACH\ndns NXDOMAIN\n";
    Ok(Check {
        name: "no other way out: TCP, UDP, ICMP, DNS",
        ok: seen.stdout == expected,
        detail: crate::report::printable(&seen.stdout.trim().replace('\n', ", ")),
    })
}

fn audit_is_complete(stage: &Stage) -> Result<Check> {
    let lines = stage.audit_lines()?;
    let count = |layers: &[&str], verdict: &str| {
        let in_layer = |line: &&Value| layers.iter().any(|layer| line["layer"] == *layer);
        lines.iter().filter(in_layer).filter(|line| line["verdict"] == verdict).count()
    };
    // Which policy is in force is neither decided nor refused.
    let says_why =
        |line: &Value| line["rule"].is_string() || line["error"].is_string() || line["layer"] == "policy";
    let whole = lines.iter().all(|line| line["decision_id"].is_string() && says_why(line));
    let text = stage.audit_text()?;
    let clean = !text.contains(&stage.key);
    // A refusal is the tunnel's where host or port decide, the request's where method or path do.
    let (allowed, denied) = (count(&["http"], "allow"), count(&["connect", "http"], "deny"));
    let names = count(&["dns"], "deny");
    let unproxied = count(&["transparent"], "deny");
    Ok(Check {
        name: "the audit log has each of these, and no secret",
        ok: clean && whole && allowed == 3 && denied == 5 && names == 1 && unproxied == 1,
        detail: format!(
            "{} lines: {allowed} requests allowed, {denied} refused, {names} name and {unproxied} connection refused",
            lines.len()
        ),
    })
}

fn shell(script: &str) -> ExecRequest {
    let mut request = ExecRequest::new(["/bin/sh", "-c", script]);
    request.cwd = "/".into();
    request
}

fn sh(stage: &Stage, script: &str) -> Result<Printed> {
    collect(stage, &shell(script))
}

/// Standard output and error together, as a person would see them.
fn collect(stage: &Stage, request: &ExecRequest) -> Result<Printed> {
    let (_, mut events, _) = stage.sandbox.exec(request)?.split();
    let mut printed = Vec::new();
    let mut status = None;
    while let Some(event) = events.recv().map_err(|error| Error::Sandbox(error.to_string()))? {
        match event {
            Event::Stdout(bytes) | Event::Stderr(bytes) => printed.extend_from_slice(&bytes),
            Event::Exited(exit) => {
                status = match exit.status {
                    ExitStatus::Code(code) => Some(code),
                    ExitStatus::Signal(_) => None,
                }
            }
            Event::Failed(failure) => printed.extend_from_slice(failure.to_string().as_bytes()),
            _ => {}
        }
    }
    Ok(Printed { stdout: String::from_utf8_lossy(&printed).into_owned(), status })
}

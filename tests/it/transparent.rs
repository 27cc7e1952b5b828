//! Programs that know of no proxy: they resolve a name, or have an address, and connect.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::network::{audit, with_upstream};
use crate::program::{run_in, skipped, text};
use crate::upstream::{self, HOST};

/// No variable that names a proxy; the certificates stay.
const NO_PROXY: &str = "unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy JAVA_TOOL_OPTIONS; ";

/// A server that speaks first, then gives back what it gets in upper case.
fn greeting_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                stream.write_all(b"hello\n")?;
                let mut buffer = [0; 4096];
                loop {
                    let count = stream.read(&mut buffer)?;
                    if count == 0 {
                        return stream.shutdown(Shutdown::Write);
                    }
                    stream.write_all(&buffer[..count].to_ascii_uppercase())?;
                }
            });
        }
    });
    port
}

/// Runs a Python program in a sandbox under a policy, with `db.test` on this machine.
fn python(folder: &Path, policy: &str, program: &str) -> String {
    let file = folder.join("policy.toml");
    fs::write(&file, policy).unwrap();
    let log = folder.join("audit.jsonl");
    let (file, log) = (file.to_str().unwrap(), log.to_str().unwrap());
    let options = ["--policy", file, "--audit", log, "--resolve", "db.test:127.0.0.1", "--no-workspace"];
    let output = run_in(folder, &options, &["python3", "-c", program], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn denials(folder: &Path, layer: &str) -> Vec<Value> {
    audit(folder).into_iter().filter(|line| line["verdict"] == "deny" && line["layer"] == layer).collect()
}

#[test]
fn without_proxy_variables_the_key_is_swapped_in_and_scrubbed_out() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream::start(folder.path());
    let port = upstream.address.port();
    // A name, and an address that stands for it beside the one that DNS gave.
    let script = format!(
        "{NO_PROXY} curl -sS -w '\\nto %{{remote_ip}}\\n' -H \"Authorization: Bearer $API_KEY\" https://{HOST}:{port}/ok/echo; \
         curl -sS -o /dev/null -w '%{{http_code}} to %{{remote_ip}}\\n' --resolve {HOST}:{port}:[fd73:616e:6462:6f78::1] https://{HOST}:{port}/ok/six; \
         echo $API_KEY"
    );
    let secret = format!("API_KEY=env:HOST_SIDE_KEY@{HOST}:{port}");
    let output = with_upstream(folder.path(), &upstream, &["--secret", &secret], &script);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!printed.contains(crate::program::HOST_SIDE_KEY), "{printed}");
    let placeholder = printed.lines().last().unwrap();
    assert!(placeholder.starts_with("sbx-"), "{printed}{}", text(&output.stderr));
    let echoed = format!("authorization: bearer {placeholder}").to_ascii_lowercase();
    assert!(printed.to_ascii_lowercase().contains(&echoed), "{printed}{}", text(&output.stderr));
    assert!(printed.contains("\nto 198.18.0.1\n"), "{printed}");
    assert!(printed.contains("\n200 to fd73:"), "{printed}{}", text(&output.stderr));
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 2);
    let requests = audit(folder.path());
    let line = requests.iter().find(|line| line["layer"] == "http").unwrap();
    assert_eq!((line["credential"].as_str(), line["redactions"].as_u64()), (Some("API_KEY"), Some(1)));
}

#[test]
fn a_refusal_explains_itself_inside_tls_once() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream::start(folder.path());
    let port = upstream.address.port();
    let refusals = [
        // Another path, another port, an address that was known before, and an address alone.
        (format!("https://{HOST}:{port}/secret"), "http", HOST),
        (format!("https://{HOST}:8443/ok/"), "transparent", HOST),
        ("--resolve refused.test:443:192.0.2.7 https://refused.test/".to_owned(), "transparent", "192.0.2.7"),
        ("https://192.0.2.1/".to_owned(), "transparent", "192.0.2.1"),
        ("http://192.0.2.1/".to_owned(), "transparent", "192.0.2.1"),
        ("http://[2001:db8::1]:8080/".to_owned(), "transparent", "[2001:db8::1]"),
    ];
    let curl = |(options, ..): &(String, &str, &str)| format!("curl -sS --retry 3 -w '\\n' {options}; ");
    let script = refusals.iter().map(curl).collect::<String>();
    // A name that no rule allows has no address.
    let script = format!("{NO_PROXY}{script} curl -sS https://refused.test/; echo $?");
    let output = with_upstream(folder.path(), &upstream, &[], &script);
    let (printed, stderr) = (text(&output.stdout), text(&output.stderr));
    let lines: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.last(), Some(&"6"), "{printed}{stderr}");
    let log = audit(folder.path());
    for ((options, layer, host), line) in refusals.iter().zip(&lines) {
        let answer: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{options}: {line}{stderr}"));
        assert_eq!(
            (answer["status"].as_u64(), answer["retryable"].as_bool()),
            (Some(403), Some(false)),
            "{line}"
        );
        assert_eq!(answer["error"], "blocked_by_policy", "{line}");
        assert_eq!(answer["host"], *host, "{line}");
        let recorded: Vec<&Value> =
            log.iter().filter(|line| line["decision_id"] == answer["decision_id"]).collect();
        assert_eq!(recorded.len(), 1, "{options}");
        assert_eq!(
            (recorded[0]["verdict"].as_str(), recorded[0]["layer"].as_str()),
            (Some("deny"), Some(*layer))
        );
    }
    assert_eq!(
        log.iter().filter(|line| line["verdict"] == "deny" && line["layer"] != "dns").count(),
        refusals.len()
    );
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn raw_tcp_goes_where_a_rule_names_host_and_port_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let (open, closed) = (greeting_server(), greeting_server());
    let policy = format!(
        "version = 1\n[[allow]]\nid = \"db\"\nhost = \"db.test\"\ncidr = \"127.0.0.1/32\"\nports = [{open}]\ntcp = true\n"
    );
    let program = format!(
        r#"
import errno, socket
def talk(host, port):
    try:
        s = socket.create_connection((host, port), 60)
        greeting = s.recv(6)
        s.sendall(b"query" * 20000); s.shutdown(socket.SHUT_WR)
        got = b""
        while chunk := s.recv(65536): got += chunk
        return greeting, got == b"QUERY" * 20000
    except OSError as e: return errno.errorcode.get(e.errno, str(e))
def udp(host, port):
    try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (host, port)); return "WENT OUT"
    except OSError as e: return errno.errorcode.get(e.errno, str(e))
print(talk("db.test", {open}))
print(talk("db.test", {closed}), talk("db.test", 22), talk("127.0.0.1", {open}), talk("192.0.2.1", {open}), talk("198.18.77.77", 22))
print(udp("192.0.2.1", 53), udp(socket.gethostbyname("db.test"), 443))
own = socket.create_server(("127.0.0.1", 0))
print(socket.create_connection(own.getsockname()).getpeername() == own.getsockname())
"#
    );
    let printed = python(folder.path(), &policy, &program);
    let expected = "(b'hello\\n', True)\n\
        ECONNRESET ECONNRESET ECONNREFUSED ECONNRESET ECONNRESET\n\
        ENETUNREACH ENETUNREACH\n\
        True\n";
    assert_eq!(printed, expected);
    let refused: Vec<(String, u64)> = denials(folder.path(), "transparent")
        .iter()
        .map(|line| (line["host"].as_str().unwrap().to_owned(), line["port"].as_u64().unwrap()))
        .collect();
    let port = |port: u16| u64::from(port);
    let db = |at: u16| ("db.test".to_owned(), port(at));
    assert_eq!(refused, [db(closed), db(22), ("192.0.2.1".to_owned(), port(open))]);
    let allowed: Vec<Value> =
        audit(folder.path()).into_iter().filter(|line| line["layer"] == "tcp").collect();
    assert_eq!(allowed.len(), 1);
    assert_eq!((allowed[0]["rule"].as_str(), allowed[0]["bytes_up"].as_u64()), (Some("db"), Some(100_000)));
}

#[test]
fn java_needs_nothing_with_the_proxy_and_without() {
    let name = "java_needs_nothing_with_the_proxy_and_without";
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream::start(folder.path());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/scenarios/Get.java");
    let classes = folder.path().join("classes");
    match Command::new("javac").arg("-d").arg(&classes).arg(source).status() {
        Ok(status) => assert!(status.success()),
        Err(error) => return skipped(name, &format!("javac: {error}")),
    }
    let url = format!("https://{HOST}:{}/ok/java", upstream.address.port());
    let get = format!("java -cp {} Get {url}", classes.display());
    let script = format!(
        "{get} && JAVA_TOOL_OPTIONS=\"${{JAVA_TOOL_OPTIONS##* }}\" {get} && echo \"$JAVA_TOOL_OPTIONS\""
    );
    let share = format!("{}:ro", classes.display());
    let output = with_upstream(folder.path(), &upstream, &["--share", &share], &script);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}{}", text(&output.stderr));
    assert_eq!(printed.matches("GET /ok/java HTTP/1.1").count(), 2, "{printed}");
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 2);
    // The second was really another way: no decision about a CONNECT.
    assert!(printed.contains("-Dhttps.proxyHost=127.0.0.1"), "{printed}");
    let asked = audit(folder.path()).iter().filter(|line| line["layer"] == "dns").count();
    assert!(asked > 0, "nobody asked for the name's address");
}

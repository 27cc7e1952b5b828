//! Audit logs (docs/audit.md) read back as questions for a policy. A log tells what a sandbox did, so its words are a
//! stranger's: parsed again by the parsers that requests go through, counted, and limited.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use glue::question::Question;
use netproxy::wire::path::CanonicalPath;
use netproxy::{Authority, Host};
use policy::Scheme;
use serde::Deserialize;

use crate::error::{Error, Result};

/// One line, bytes: what the proxy accepts in a request, escaped, and more.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Different attempts in all logs.
const ATTEMPTS_MAX: usize = 100_000;

/// What was tried, each once, in the order of the log.
#[derive(Default)]
pub struct Log {
    pub attempts: Vec<Attempt>,
    /// Lines that are no question, by why not.
    pub skipped: BTreeMap<&'static str, usize>,
    places: HashMap<(Question, Option<String>, bool), usize>,
}

pub struct Attempt {
    pub question: Question,
    /// How often.
    pub count: usize,
    /// By the policy of then.
    pub refused: bool,
    /// The rule that refused it.
    pub denied_by: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    v: u64,
    layer: String,
    verdict: String,
    rule: Option<String>,
    error: Option<String>,
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    method: Option<String>,
    path: Option<String>,
    status: Option<u16>,
    /// Logs from before there was this field say it by the status alone, and of what was let through only.
    #[serde(default)]
    websocket: bool,
}

impl Log {
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut log = Self::default();
        for path in paths {
            log.read_file(path)?;
        }
        Ok(log)
    }

    fn read_file(&mut self, path: &Path) -> Result<()> {
        let unreadable = |source| Error::Read { what: "the audit log", path: path.to_owned(), source };
        let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = reader.by_ref().take(LINE_BYTES_MAX);
            if limited.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
                return Ok(());
            }
            if limited.limit() == 0 {
                let problem = format!("{} is no audit log: a line is too long", path.display());
                return Err(Error::Usage(problem));
            }
            if !line.trim_ascii().is_empty() {
                self.take(&line).map_err(|()| {
                    Error::Usage(format!(
                        "{} has more than {ATTEMPTS_MAX} different attempts; cut it into parts",
                        path.display()
                    ))
                })?;
            }
        }
    }

    /// Fails if there are too many.
    fn take(&mut self, bytes: &[u8]) -> std::result::Result<(), ()> {
        let (question, line) = match question(bytes) {
            Ok(found) => found,
            Err(why) => {
                *self.skipped.entry(why).or_default() += 1;
                return Ok(());
            }
        };
        let refused = line.is_refused();
        let denied_by = line.rule.filter(|_| refused);
        let key = (question, denied_by, refused);
        if let Some(attempt) = self.places.get(&key).and_then(|place| self.attempts.get_mut(*place)) {
            attempt.count += 1;
            return Ok(());
        }
        if self.attempts.len() >= ATTEMPTS_MAX {
            return Err(());
        }
        let (question, denied_by, refused) = key.clone();
        self.places.insert(key, self.attempts.len());
        self.attempts.push(Attempt { question, count: 1, refused, denied_by });
        Ok(())
    }

    /// `2 lines skipped (…)`, or nothing.
    pub fn skipped_text(&self) -> Option<String> {
        let total: usize = self.skipped.values().sum();
        let why: Vec<String> = self.skipped.iter().map(|(why, count)| format!("{count} {why}")).collect();
        (total > 0).then(|| format!("{} skipped: {}", super::count(total, "line"), why.join(", ")))
    }
}

impl Line {
    /// By the policy, also where it only records: other refusals no rule can change.
    fn is_refused(&self) -> bool {
        let by_policy = match self.error.as_deref() {
            Some("blocked_by_policy") => true,
            // Raw bytes that no rule allows.
            Some("not_tls") => self.layer == "tcp",
            _ => false,
        };
        self.verdict == "would_deny" || (self.verdict == "deny" && by_policy)
    }
}

fn question(bytes: &[u8]) -> std::result::Result<(Question, Line), &'static str> {
    const NO_RECORD: &str = "not a record";
    const NO_REQUEST: &str = "about no request";
    let line: Line = serde_json::from_slice(bytes).map_err(|_| NO_RECORD)?;
    if line.v != 1 {
        return Err("of another version");
    }
    if line.error.as_deref() == Some("address_prohibited") {
        return Err("about an address, which the log does not hold");
    }
    let host = Host::parse(line.host.as_deref().ok_or(NO_REQUEST)?).map_err(|_| NO_RECORD)?;
    let authority =
        |port: Option<u16>| Authority::new(host.clone(), port.ok_or(NO_REQUEST)?).map_err(|_| NO_RECORD);
    let question = match (&*line.layer, &line.method, &line.path) {
        ("dns", ..) if matches!(host, Host::Name(_)) => Question::Dns(host),
        ("connect" | "socks" | "transparent", ..) => Question::Connect(authority(line.port)?),
        ("tcp", ..) => Question::Tcp(authority(line.port)?),
        ("http" | "upstream" | "address", Some(method), Some(path)) => {
            let scheme = match (line.scheme.as_deref(), line.websocket || line.status == Some(101)) {
                (Some("https"), true) => Scheme::Wss,
                (Some("http"), true) => Scheme::Ws,
                (Some("https"), false) => Scheme::Https,
                (Some("http"), false) => Scheme::Http,
                _ => return Err(NO_REQUEST),
            };
            let path = CanonicalPath::parse(path).map_err(|_| NO_RECORD)?.as_str().to_owned();
            let (authority, method) = (authority(line.port)?, method.clone());
            Question::Http { scheme, authority, method, path, query: None }
        }
        _ => return Err(NO_REQUEST),
    };
    Ok((question, line))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use netproxy::audit::{Layer, Outcome, Record, audit_json_line};
    use netproxy::id::DecisionId;

    use super::*;

    fn record(layer: Layer, verdict: Outcome, error: Option<&'static str>) -> Record {
        let mut record = Record::new(UNIX_EPOCH, DecisionId::new(0, [0; 10]), layer, verdict);
        record.error = error;
        record.host = Some("a.test".into());
        record
    }

    #[test]
    fn what_the_proxy_writes_is_read_back() {
        let mut log = Log::default();
        let mut http = record(Layer::Http, Outcome::Deny, Some("blocked_by_policy"));
        http.scheme = Some(netproxy::hooks::Scheme::Https);
        (http.port, http.method, http.path) = (Some(443), Some("POST".into()), Some("/v1/a%2Fb".into()));
        let mut socket = http.clone();
        (socket.verdict, socket.error, socket.status, socket.method) =
            (Outcome::Allow, None, Some(101), Some("GET".into()));
        let mut tunnel = record(Layer::Connect, Outcome::Deny, Some("blocked_by_policy"));
        (tunnel.port, tunnel.host, tunnel.rule) =
            (Some(8443), Some("[2001:db8::1]".into()), Some("no".into()));
        let mut raw = record(Layer::Tcp, Outcome::Deny, Some("not_tls"));
        raw.port = Some(5432);
        let dns = record(Layer::Dns, Outcome::Allow, None);
        let mut refused_socket = socket.clone();
        (refused_socket.verdict, refused_socket.error, refused_socket.status, refused_socket.websocket) =
            (Outcome::Deny, Some("blocked_by_policy"), Some(403), true);
        for record in [&http, &http, &socket, &refused_socket, &tunnel, &raw, &dns] {
            log.take(audit_json_line(record).as_bytes()).unwrap();
        }
        let told = |attempt: &Attempt| {
            format!(
                "{} {} {} {:?}",
                attempt.question.facts(),
                attempt.count,
                attempt.refused,
                attempt.denied_by
            )
        };
        assert_eq!(
            log.attempts.iter().map(told).collect::<Vec<_>>(),
            [
                "POST https://a.test/v1/a%2Fb 2 true None",
                "GET wss://a.test/v1/a%2Fb 1 false None",
                "GET wss://a.test/v1/a%2Fb 1 true None",
                "CONNECT [2001:db8::1]:8443 1 true Some(\"no\")",
                "TCP a.test:5432 1 true None",
                "DNS a.test 1 false None",
            ]
        );
        assert!(log.skipped.is_empty());
    }

    #[test]
    fn what_is_no_question_is_counted() {
        let mut log = Log::default();
        let mut strange = record(Layer::Dns, Outcome::Deny, Some("blocked_by_policy"));
        strange.host = Some("A.test/x".into());
        let tls = record(Layer::Tls, Outcome::Error, Some("client_tls_failed"));
        let address = record(Layer::Address, Outcome::Deny, Some("address_prohibited"));
        let lines = [&strange, &tls, &address].map(audit_json_line);
        for line in lines.iter().map(String::as_str).chain(["{", "[]", "{\"v\":1}"]) {
            log.take(line.as_bytes()).unwrap();
        }
        log.take(lines[1].replace("\"v\":1", "\"v\":2").as_bytes()).unwrap();
        assert!(log.attempts.is_empty());
        assert_eq!(
            log.skipped_text().unwrap(),
            "7 lines skipped: 1 about an address, which the log does not hold, 1 about no request, 4 not a record, 1 of \
             another version"
        );
    }
}

//! Frames of HTTP/2 against the server that the proxy runs inside an intercepted connection, on a paused clock.
//!
//! - It ends, whatever was sent: when the client does, and by itself when the client stays and says nothing.
//! - Nothing is put on its way that was not asked about, and only to the one place where the connection leads.
//! - Every body that comes back is a refusal of ours, with a decision that was recorded.
//! - Memory stays within bounds that do not depend on what is claimed.

#![no_main]

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use fuzz::frames::{self, kind};
use fuzz::{Input, chunks};
use libfuzzer_sys::fuzz_target;
use netproxy::hooks::*;
use netproxy::{Authority, HostName, Proxy};
use peak_alloc::PeakAlloc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that one connection may take beside the input: 100 streams with heads of 64 KiB, and windows.
const MEMORY_BYTES_MAX: usize = 24 << 20;
/// Of the paused clock: far beyond every limit of the proxy.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// What was judged, put on its way and recorded.
#[derive(Default)]
struct Log {
    allowed: Vec<(String, String, Option<String>)>,
    sent: Vec<(String, String, Option<String>)>,
    records: Vec<Record>,
}

#[derive(Clone, Default)]
struct Hooks(Arc<Mutex<Log>>);

fn place() -> Authority {
    Authority::parse("ok.example:443", None).expect("an authority")
}

fn what(facts: &RequestFacts<'_>) -> (String, String, Option<String>) {
    assert_eq!((facts.scheme, facts.authority), (Scheme::Https, &place()), "another place");
    assert!(!facts.websocket, "HTTP/2 has no upgrade");
    assert!(facts.method.bytes().all(|byte| byte.is_ascii_graphic()) && !facts.method.is_empty());
    assert!(facts.path.starts_with('/') && facts.path.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!facts.path.split('/').any(|part| part == "." || part == ".."), "{}", facts.path);
    (facts.method.to_owned(), facts.path.to_owned(), facts.query.map(str::to_owned))
}

impl Authorize for Hooks {
    fn connect(&self, _: &ConnectFacts<'_>) -> Verdict {
        Allow::by("ok").into()
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        let asked = what(facts);
        if facts.path.starts_with("/private") {
            return Deny::by("no-private", "not for anybody").into();
        }
        self.0.lock().expect("no panic").allowed.push(asked);
        Allow::by("ok").into()
    }
    fn dns_name(&self, _: &HostName) -> Verdict {
        Allow::by("ok").into()
    }
}

impl Inject for Hooks {
    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        const NEVER: [&str; 8] = [
            "connection",
            "te",
            "transfer-encoding",
            "upgrade",
            "keep-alive",
            "proxy-connection",
            "content_length",
            "trailer",
        ];
        let sent = what(&decided.request);
        assert!(!sent.1.starts_with("/private"), "sent, although refused");
        for (name, value) in &head.headers {
            assert!(!NEVER.contains(&name.as_str()), "{name} is the connection's");
            assert!(!value.as_bytes().iter().any(|byte| byte.is_ascii_control() && *byte != b'\t'));
        }
        assert!(head.headers.get_all("cookie").iter().count() <= 1, "a cookie in crumbs");
        self.0.lock().expect("no panic").sent.push(sent);
        Box::pin(std::future::ready(Ok(Injected::default())))
    }
}

impl Audit for Hooks {
    fn record(&self, record: Record) {
        self.0.lock().expect("no panic").records.push(record);
    }
}

/// Every name is unknown: what is allowed ends in a 502 of ours, without a network.
impl Resolve for Hooks {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(std::future::ready(Err(ResolveError::NotFound)))
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (mode, cuts) = (input.u8(), input.piece());
    let text = if mode & 1 == 0 { composed(mode, input) } else { [frames::PREFACE, input.0].concat() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let (hooks, proxy) = PROXY.with(|both| (both.0.clone(), both.1.clone()));
    *hooks.0.lock().expect("no panic") = Log::default();
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    KNOWN.call_once(let_known_panic_pass);
    let talked = AssertUnwindSafe(|| runtime.block_on(converse(&proxy, &text, cuts, mode)));
    let Ok(back) = catch_unwind(talked) else { return };
    let grown = MEMORY.peak_usage().saturating_sub(before);
    assert!(grown < MEMORY_BYTES_MAX + 16 * text.len(), "{grown} bytes for {} of input", text.len());

    let log = hooks.0.lock().expect("no panic");
    for sent in &log.sent {
        let times = |all: &[_]| all.iter().filter(|one| *one == sent).count();
        assert!(times(&log.sent) <= times(&log.allowed), "{sent:?} was not asked about");
    }
    check_answers(&back, &log.records);
});

fn composed(mode: u8, mut input: Input<'_>) -> Vec<u8> {
    let mut text = if mode & 8 == 0 { frames::PREFACE.to_vec() } else { Vec::new() };
    text.extend(frames::frame(kind::SETTINGS, 0, 0, &[]));
    while !input.is_empty() && text.len() < 1 << 20 {
        text.extend(frames::any(&mut input));
    }
    text
}

static KNOWN: Once = Once::new();

/// h2 asserts, in debug builds only, that no stream is open when a connection is dropped. It is when we give one up; h2
/// knows that the assertion is wrong (its issue 907). Every other panic stays a finding.
fn let_known_panic_pass() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let in_counts = info.location().is_some_and(|at| at.file().ends_with("proto/streams/counts.rs"));
        let text = info.payload_as_str().unwrap_or_default();
        if !(in_counts && text == "assertion failed: !self.has_streams()") {
            before(info);
        }
    }));
}

thread_local! {
    /// One for all inputs: its certificate authority is slow to make.
    static PROXY: (Hooks, Proxy) = {
        let hooks = Hooks::default();
        let builder = Proxy::builder().authorize(hooks.clone()).inject(hooks.clone());
        let builder = builder.audit(hooks.clone()).resolve(hooks.clone());
        (hooks, builder.build().expect("a proxy"))
    };
}

/// Sends `text` in pieces, then ends or stays; gives what came back.
async fn converse(proxy: &Proxy, text: &[u8], cuts: &[u8], mode: u8) -> Vec<u8> {
    let (near, far) = tokio::io::duplex(4096);
    let (mut from_proxy, mut to_proxy) = tokio::io::split(near);
    let served = proxy.serve_http2_inside(place(), far);
    let (stays, reads) = (mode & 2 != 0, mode & 4 == 0);
    let talk = async {
        for piece in chunks(text, cuts) {
            if to_proxy.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if !stays {
            let _ = to_proxy.shutdown().await;
        }
        std::future::pending::<Infallible>().await
    };
    let hear = async {
        let mut back = Vec::new();
        if reads {
            let _ = from_proxy.read_to_end(&mut back).await;
        }
        back
    };
    let ended = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            // Never ends: it only has to be driven.
            never = talk => match never {},
            (back, ()) = async { tokio::join!(hear, served) } => back,
        }
    });
    ended.await.expect("the proxy holds on to a connection")
}

/// The frames that came back are whole but for the last, and what stands in their bodies is ours.
fn check_answers(mut back: &[u8], records: &[Record]) {
    const START: &[u8] = br#"{"type":"urn:agent-sandbox:"#;
    let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut whole: Vec<u32> = Vec::new();
    while let Some((head, rest)) = back.split_at_checked(9) {
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).expect("24 bits");
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        assert!(length <= 1 << 14 && head[3] <= kind::CONTINUATION, "no frame of ours: {head:?}");
        if head[3] == kind::DATA {
            bodies.entry(stream).or_default().extend_from_slice(payload);
            whole.extend((head[4] & 1 != 0).then_some(stream));
        }
        back = rest;
    }
    for (stream, body) in &bodies {
        // In words, for a client that says it is git.
        let Some(b'{') = body.first() else {
            let text = String::from_utf8_lossy(body);
            assert!(!whole.contains(stream) || text.contains("\ndecision "), "{text}");
            continue;
        };
        let common = body.len().min(START.len());
        assert_eq!(body[..common], START[..common]);
        if whole.contains(stream) {
            let json: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            let id = json["decision_id"].as_str().expect("an id");
            assert!(records.iter().any(|record| record.decision_id.as_str() == id), "not recorded: {json}");
        }
    }
}

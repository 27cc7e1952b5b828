//! What is inside a connection to one place, through whichever door it came: `CONNECT`, SOCKS, or transparent
//! with a preface. The door has decided about host and port; here the first bytes say what is spoken, and who
//! judges it from there:
//!
//! ```text
//! TLS hello      passage/tls.rs    intercepted, or passed on unread where the rule says so
//! HTTP request   here              each request decided, the authority fixed
//! anything else  passage/raw.rs    only where `Authorize::tcp` allows it
//! silence        passage/raw.rs    the same; then the server may speak first
//! ```
//!
//! A refusal is given in the language that the client speaks. Nothing is dialled before the first byte is judged,
//! except for a silent client where raw bytes are allowed.

mod http2;
mod raw;
mod tls;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::audit::Layer;
use crate::authority::Authority;
use crate::flow::{self, Door, subject_of};
use crate::hooks::{Allow, ConnectFacts, Scheme, TlsMode, Verdict};
use crate::limits::WEB_PORTS;
use crate::refuse::{Kind, Refusal, Subject, head_shows_words_only};
use crate::shell::answer::{self, linger};
use crate::shell::asking::still_holds;
use crate::shell::client::http1::{self, Client};
use crate::shell::client::strict_io::{NoHead, StrictIo};
use crate::shell::door::front::refuse_bad;
use crate::shell::shared::{Decision, Shared};
use crate::shell::stream::rewind::Rewind;
use crate::shell::upstream::reach::still_admits;
use crate::wire::client_hello::ClientHello;
use crate::wire::head;
use crate::wire::opening::{Opening, look};
use crate::wire::target::Target;

/// A connection that its door has let in.
pub struct Passage<'a> {
    pub shared: &'a Arc<Shared>,
    pub decision: Decision,
    pub authority: Authority,
    /// Of the door.
    pub layer: Layer,
    /// What the door has decided, until the client hears of it, or something else is recorded.
    unheard: Mutex<Option<Box<Verdict>>>,
}

/// What came first inside.
enum Inside {
    Tls(ClientHello),
    Http,
    Other,
    /// Nothing that could be answered.
    Nothing(&'static str),
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.record_unheard(self.shared.control.who_is_gone());
    }
}

impl<'a> Passage<'a> {
    pub fn new(
        shared: &'a Arc<Shared>,
        decision: Decision,
        (authority, layer): (Authority, Layer),
        verdict: &Verdict,
    ) -> Self {
        let unheard = Mutex::new(Some(Box::new(verdict.clone())));
        Self { shared, decision, authority, layer, unheard }
    }
}

impl Passage<'_> {
    /// From here on, something else is recorded.
    fn heard(&self) {
        self.take_unheard();
    }

    fn take_unheard(&self) -> Option<Box<Verdict>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Records what nobody has heard of: the refusal, or this error.
    fn record_unheard(&self, error: &'static str) {
        let Some(verdict) = self.take_unheard() else { return };
        let subject = subject_of(&self.authority);
        match *verdict {
            Verdict::Deny(deny) => {
                let refusal = Refusal::policy(self.layer, deny).about(subject);
                self.shared.record_refusal(&self.decision, &refusal, false);
            }
            Verdict::Allow(_) => self.shared.record_unheard(&self.decision, (self.layer, subject), error),
        }
    }

    /// Lets the client in with what its door says then.
    pub async fn open<S>(self, mut stream: Rewind<S>, verdict: Verdict, let_in: &[u8])
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if answer::write(self.shared, &mut stream, let_in).await {
            Box::pin(self.serve(stream, verdict)).await;
        }
    }

    /// Serves the connection under the verdict on host and port. Each way has a box of its own: an idle tunnel does not
    /// hold the room that interception would take.
    async fn serve<S>(self, mut stream: Rewind<S>, verdict: Verdict)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let inside = match self.silent(&mut stream).await {
            None => self.look_inside(&mut stream).await,
            Some(allow) => Box::pin(self.let_server_speak(&mut stream, allow)).await,
        };
        // Served by now, or else the proxy is to end.
        let Some(inside) = inside else { return self.record_unheard("proxy_ended") };
        let _slot = match &verdict {
            // Other bytes are counted by the rule that allows them.
            Verdict::Allow(allow) if !matches!(inside, Inside::Other) => {
                match self.shared.limiter.rule_connection(allow, self.layer) {
                    Ok(slot) => slot,
                    Err(refusal) => {
                        let refusal = refusal.about(self.subject(&inside));
                        return Box::pin(self.refuse(stream, inside, refusal)).await;
                    }
                }
            }
            _ => None,
        };
        match (verdict, inside) {
            (Verdict::Allow(allow), Inside::Tls(hello)) => {
                Box::pin(self.serve_tls(stream, hello, allow)).await
            }
            (Verdict::Allow(_), Inside::Http) => Box::pin(self.serve_http(stream)).await,
            (verdict, Inside::Other) => Box::pin(self.serve_raw(stream, verdict)).await,
            (Verdict::Deny(deny), inside) => {
                let refusal = Refusal::policy(self.layer, deny).about(self.subject(&inside));
                Box::pin(self.refuse(stream, inside, refusal)).await;
            }
            (Verdict::Allow(allow), Inside::Nothing(detail)) => {
                let inside = Inside::Nothing(detail);
                let refusal = Refusal::new(Kind::NotTls, Layer::Tls, detail).about(self.subject(&inside));
                Box::pin(self.refuse(stream, inside, refusal.after(&allow))).await;
            }
        }
    }

    fn facts(&self) -> ConnectFacts<'_> {
        ConnectFacts { authority: &self.authority }
    }

    /// Whether TLS to `peer` that `allow` let through may still pass unread.
    fn still_opaque(&self, allow: &Allow, peer: Option<IpAddr>) -> bool {
        let verdict = self.shared.authorize.connect(&self.facts());
        let is_opaque = matches!(&verdict, Verdict::Allow(now) if now.tls == TlsMode::Opaque);
        is_opaque && still_holds(allow, &verdict) && still_admits(self.shared, &self.authority, peer)
    }

    /// Whether other bytes to `peer` that `allow` let through may still pass.
    fn still_may_tcp(&self, allow: &Allow, peer: Option<IpAddr>) -> bool {
        still_holds(allow, &self.shared.authorize.tcp(&self.facts()))
            && still_admits(self.shared, &self.authority, peer)
    }

    fn subject(&self, inside: &Inside) -> Subject {
        let scheme = match inside {
            Inside::Tls(_) => Some(Scheme::Https),
            Inside::Http => Some(Scheme::Http),
            Inside::Other | Inside::Nothing(_) => None,
        };
        Subject { scheme, ..subject_of(&self.authority) }
    }

    /// Waits for the client's first byte; the verdict that lets the server speak first, if none comes in time.
    async fn silent<S: AsyncRead + Unpin>(&self, stream: &mut Rewind<S>) -> Option<Allow> {
        if !stream.early().is_empty() {
            return None;
        }
        // An end or an error is found again by whoever looks inside.
        match timeout(self.shared.limits.silent_client_wait, stream.read_ahead()).await {
            Ok(_) => None,
            Err(_) => {
                // Of a slow client on a port of the web nobody is asked whether it may speak something else.
                let verdict = match WEB_PORTS.contains(&self.authority.port()) {
                    true => self.shared.authorize.tcp(&self.facts()),
                    false => self.shared.may_tcp(&self.facts()).await,
                };
                match verdict {
                    Verdict::Allow(allow) => Some(allow),
                    Verdict::Deny(_) => None,
                }
            }
        }
    }

    /// `None` where the proxy is to end before the client has said anything: there is nothing to wait for then.
    async fn look_inside<S: AsyncRead + Unpin>(&self, stream: &mut Rewind<S>) -> Option<Inside> {
        let look = async {
            loop {
                if let Some(inside) = understand(look(stream.early())) {
                    return inside;
                }
                if !matches!(stream.read_ahead().await, Ok(count) if count > 0) {
                    return Inside::Nothing("the client sent nothing that could be understood");
                }
            }
        };
        let looked = timeout(self.shared.limits.client_tls_timeout, look);
        let looked = self.shared.control.unless_draining(looked).await?;
        Some(looked.unwrap_or(Inside::Nothing("neither a TLS handshake nor a request came in time")))
    }

    /// Refuses in the language that the client speaks: HTTP inside TLS, plain HTTP, or not at all.
    async fn refuse<S>(&self, mut stream: Rewind<S>, inside: Inside, refusal: Refusal)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match inside {
            Inside::Tls(hello) => Box::pin(self.refuse_in_tls(stream, &hello, refusal)).await,
            Inside::Http => self.refuse_in_http(stream, Door::InsidePlain(&self.authority), refusal).await,
            // Whoever began with `CONNECT` speaks HTTP, and most show what they cannot understand.
            Inside::Other if self.layer == Layer::Connect => {
                self.heard();
                answer::refuse(self.shared, &mut stream, &refusal, &self.decision).await;
            }
            Inside::Other | Inside::Nothing(_) => {
                self.heard();
                self.shared.record_refusal(&self.decision, &refusal, false);
            }
        }
    }

    /// Reads one request and answers it with the refusal.
    async fn refuse_in_http<T>(&self, io: T, door: Door<'_>, mut refusal: Refusal)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut io = StrictIo::new(io, &self.shared.limits);
        let head = io.head_unless(self.shared.control.draining()).await;
        self.heard();
        match head.unwrap_or(Err(NoHead::End)) {
            Ok(_) => {}
            Err(NoHead::Bad(error)) => {
                return refuse_bad(self.shared, &mut io, error, refusal.subject).await;
            }
            Err(NoHead::End | NoHead::Broken) => {
                return self.shared.record_refusal(&self.decision, &refusal, false);
            }
        }
        let head_bytes = io.take_head();
        if let Ok(head) = head::parse(&head_bytes) {
            refusal.words = head_shows_words_only(&head_bytes);
            refusal.subject.method = Some(flow::method_text(head.method));
            let understood = flow::understand(door, head.method, Target::parse(head.target), None);
            refusal.subject.path = understood.ok().and_then(|request| request.subject().path);
        }
        answer::refuse(self.shared, io.io_mut(), &refusal, &self.decision).await;
    }

    /// Serves plain HTTP, each request with a decision of its own.
    async fn serve_http<S>(&self, stream: Rewind<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.heard();
        let client = Client::inside(
            Arc::clone(self.shared),
            (Scheme::Http, self.authority.clone()),
            self.decision.policy,
        );
        self.serve_requests(stream, &Arc::new(client)).await;
    }

    async fn serve_requests<T>(&self, io: T, client: &Arc<Client>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut io = Box::new(StrictIo::new(io, &self.shared.limits));
        loop {
            let Some(head) = io.head_unless(client.gone()).await else {
                return linger(self.shared, io.io_mut()).await;
            };
            match head {
                Ok(ahead) if ahead.connect => {
                    client.count_request(true);
                    let detail = "CONNECT inside a connection to one place is not allowed";
                    let refusal =
                        Refusal::new(Kind::Malformed, Layer::Http, detail).about(subject_of(&self.authority));
                    let decision = self.shared.begin();
                    return answer::refuse(self.shared, io.io_mut(), &refusal, &decision).await;
                }
                Ok(_) => {}
                Err(NoHead::Bad(error)) => {
                    client.count_request(true);
                    return refuse_bad(self.shared, &mut io, error, client.subject()).await;
                }
                Err(NoHead::End | NoHead::Broken) => {
                    return linger(self.shared, io.io_mut()).await;
                }
            }
            let Some(back) = http1::serve(io, client).await else { return };
            if let Some(session) = client.take_session() {
                return session.relay(*back).await;
            }
            io = back;
            if !io.has_news() || client.is_last() {
                return linger(self.shared, io.io_mut()).await;
            }
        }
    }
}

/// `None` for too few bytes.
fn understand(opening: Opening) -> Option<Inside> {
    match opening {
        Opening::Need => None,
        Opening::Tls(hello) => Some(Inside::Tls(hello)),
        Opening::BadTls => Some(Inside::Nothing("the TLS handshake is malformed")),
        Opening::Http => Some(Inside::Http),
        Opening::Other => Some(Inside::Other),
    }
}

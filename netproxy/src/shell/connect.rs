//! `CONNECT`: decided at once, answered inside. Whatever the verdict, the client gets `200` and its TLS
//! handshake, and then an answer that it can read: a refused `CONNECT` is retried or hidden by most clients.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answer::{self, linger};
use super::front::refuse_bad;
use super::http1::{self, Client};
use super::ledger::Ledger;
use super::rewind::Rewind;
use super::shared::{Decision, Shared};
use super::strict_io::{NoHead, StrictIo};
use super::tunnel;
use crate::audit::{Layer, Outcome, Record, milliseconds};
use crate::authority::{Authority, Host};
use crate::flow::{self, Door, check_server_name, subject_of};
use crate::hooks::{Allow, ConnectFacts, Scheme, TlsMode, Verdict};
use crate::refuse::{Kind, Refusal, Subject};
use crate::wire::client_hello::{ClientHello, Peek, peek};
use crate::wire::head;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";

/// Serves a stream whose next head is a `CONNECT`.
pub async fn serve<S>(shared: &Arc<Shared>, mut io: StrictIo<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let decision = shared.begin();
    let bytes = io.take_head();
    let authority = match head::parse(&bytes) {
        Ok(head) => flow::understand_connect(&head),
        Err(error) => return refuse_bad(shared, &mut io, error).await,
    };
    let authority = match authority {
        Ok(authority) => authority,
        Err(refusal) => return answer::refuse(shared, io.io_mut(), &refusal, &decision).await,
    };
    let verdict = shared.authorize.connect(&ConnectFacts { authority: &authority });
    let (mut stream, early) = io.into_parts();
    if stream.write_all(ESTABLISHED).await.is_err() || stream.flush().await.is_err() {
        return;
    }
    Tunnel { shared, decision, authority }.serve(Rewind::new(stream, early), verdict).await;
}

/// A `CONNECT` that was answered with 200.
struct Tunnel<'a> {
    shared: &'a Arc<Shared>,
    decision: Decision,
    authority: Authority,
}

/// What came first inside the tunnel.
enum Inside {
    Tls(ClientHello),
    NotTls,
    Nothing,
}

impl Tunnel<'_> {
    async fn serve<S>(self, mut stream: Rewind<S>, verdict: Verdict)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let inside = self.look_inside(&mut stream).await;
        let (allow, hello) = match (verdict, inside) {
            (Verdict::Deny(deny), inside) => {
                let refusal = Refusal::policy(Layer::Connect, deny).about(self.subject());
                return self.refuse(stream, inside, refusal).await;
            }
            (Verdict::Allow(allow), Inside::Tls(hello)) => (allow, hello),
            (Verdict::Allow(allow), inside) => {
                let detail = match inside {
                    Inside::NotTls => "the bytes after CONNECT are not TLS",
                    _ => "no TLS handshake came after CONNECT",
                };
                let refusal = Refusal::new(Kind::NotTls, Layer::Tls, detail).about(self.subject());
                return self.refuse(stream, inside, refusal.under(Some(allow.rule))).await;
            }
        };
        let name_required = allow.tls == TlsMode::Opaque;
        let name = hello.server_name.as_deref();
        if let Err(refusal) = check_server_name(&self.authority, name, name_required) {
            let refusal = refusal.under(Some(allow.rule));
            return self.refuse(stream, Inside::Tls(hello), refusal).await;
        }
        match allow.tls {
            TlsMode::Inspect => self.intercept(stream, allow).await,
            TlsMode::Opaque => self.pass_through(stream, allow, hello).await,
        }
    }

    fn subject(&self) -> Subject {
        Subject { scheme: Some(Scheme::Https), ..subject_of(&self.authority) }
    }

    async fn look_inside<S: AsyncRead + Unpin>(&self, stream: &mut Rewind<S>) -> Inside {
        let look = async {
            loop {
                match peek(stream.early()) {
                    Peek::Hello(hello) => return Inside::Tls(hello),
                    Peek::NotTls => return Inside::NotTls,
                    Peek::Malformed => return Inside::Nothing,
                    Peek::Need => {}
                }
                if !matches!(stream.read_ahead().await, Ok(count) if count > 0) {
                    return Inside::Nothing;
                }
            }
        };
        timeout(self.shared.limits.client_tls_timeout, look).await.unwrap_or(Inside::Nothing)
    }

    /// Refuses in the language that the client speaks: HTTP inside TLS, plain HTTP, or not at all.
    async fn refuse<S>(&self, mut stream: Rewind<S>, inside: Inside, refusal: Refusal)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match inside {
            Inside::Tls(hello) => self.refuse_in_tls(stream, &hello, refusal).await,
            Inside::NotTls => answer::refuse(self.shared, &mut stream, &refusal, &self.decision).await,
            Inside::Nothing => self.shared.record_refusal(&self.decision, &refusal, false),
        }
    }

    /// Terminates TLS, reads one request and answers it with the refusal.
    async fn refuse_in_tls<S>(&self, stream: Rewind<S>, hello: &ClientHello, mut refusal: Refusal)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // As whom the client wants us to be: else it could not read the answer.
        let named = hello.server_name.as_deref().and_then(|name| Host::parse(name).ok());
        let host = named.as_ref().unwrap_or_else(|| self.authority.host());
        let Ok(tls) = self.accept(stream, host).await else {
            return self.shared.record_refusal(&self.decision, &refusal, false);
        };
        let mut io = StrictIo::new(tls, self.shared.limits.header_bytes_max);
        match timeout(self.shared.limits.header_timeout, io.head()).await {
            Ok(Ok(_)) => {}
            Ok(Err(NoHead::Bad(error))) => return refuse_bad(self.shared, &mut io, error).await,
            _ => return self.shared.record_refusal(&self.decision, &refusal, false),
        }
        let head_bytes = io.take_head();
        if let Ok(head) = head::parse(&head_bytes) {
            refusal.subject.method = Some(head.method.to_owned());
            let understood = flow::understand(Door::Inside(&self.authority), head.method, head.target, None);
            refusal.subject.path = understood.ok().and_then(|request| request.subject().path);
        }
        answer::refuse(self.shared, io.io_mut(), &refusal, &self.decision).await;
    }

    async fn accept<S>(&self, stream: Rewind<S>, host: &Host) -> io::Result<TlsStream<Rewind<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.shared.leaves.server_config(host, self.decision.time).map_err(io::Error::other)?;
        timeout(self.shared.limits.client_tls_timeout, TlsAcceptor::from(config).accept(stream))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Serves the requests inside, each with a decision of its own.
    async fn intercept<S>(&self, stream: Rewind<S>, allow: Allow)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tls = match self.accept(stream, self.authority.host()).await {
            Ok(tls) => tls,
            Err(error) => return self.record_unused(&allow, Some(&error)),
        };
        let client = Arc::new(Client::inside(Arc::clone(self.shared), self.authority.clone()));
        self.serve_requests(tls, &client).await;
        if client.requests() == 0 {
            self.record_unused(&allow, None);
        }
    }

    async fn serve_requests<T>(&self, tls: T, client: &Arc<Client>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut io = StrictIo::new(tls, self.shared.limits.header_bytes_max);
        loop {
            match timeout(self.shared.limits.header_timeout, io.head()).await {
                Ok(Ok(ahead)) if ahead.connect => {
                    client.count_request(true);
                    let detail = "CONNECT inside an intercepted connection is not allowed";
                    let refusal = Refusal::new(Kind::Malformed, Layer::Http, detail).about(self.subject());
                    let decision = self.shared.begin();
                    return answer::refuse(self.shared, io.io_mut(), &refusal, &decision).await;
                }
                Ok(Ok(_)) => {}
                Ok(Err(NoHead::Bad(error))) => {
                    client.count_request(true);
                    return refuse_bad(self.shared, &mut io, error).await;
                }
                Ok(Err(NoHead::End | NoHead::Broken)) | Err(_) => {
                    return linger(self.shared, io.io_mut()).await;
                }
            }
            let Some(back) = http1::serve(io, client).await else { return };
            io = back;
            if !io.has_news() || client.is_last() {
                return linger(self.shared, io.io_mut()).await;
            }
        }
    }

    /// An allowed connection over which no request came: mostly a client that does not trust our authority.
    fn record_unused(&self, allow: &Allow, error: Option<&io::Error>) {
        let outcome = if error.is_some() { Outcome::Error } else { Outcome::Allow };
        let mut record = Record::new(self.decision.time, self.decision.id.clone(), Layer::Tls, outcome);
        record.rule = Some(Arc::clone(&allow.rule));
        record.scheme = Some(Scheme::Https);
        record.host = Some(self.authority.host().to_string());
        record.port = Some(self.authority.port());
        record.error = error.map(|_| "client_tls_failed");
        record.reason = error.map(|error| format!("the TLS handshake with the client failed: {error}"));
        record.ms_total = milliseconds(self.decision.started.elapsed());
        self.shared.audit.record(record);
    }

    /// Passes the bytes on unread. The upstream is dialled only now: the name inside agrees.
    async fn pass_through<S>(&self, mut stream: Rewind<S>, allow: Allow, hello: ClientHello)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ready = self.shared.audit.ready().map_err(|error| {
            Box::new(Refusal::new(Kind::AuditUnavailable, Layer::Connect, error.to_string()))
        });
        let upstream = match ready {
            Ok(()) => super::reach::connect(self.shared, &self.authority).await,
            Err(refusal) => Err(refusal),
        };
        match upstream {
            Ok(mut upstream) => {
                let subject = Subject { method: Some("CONNECT".to_owned()), ..self.subject() };
                let mut ledger = Ledger::open(self.shared, &self.decision, Layer::Connect, (&allow, subject));
                ledger.first_byte(200);
                tunnel::relay(&mut stream, &mut upstream, self.shared.limits.idle_timeout, ledger).await;
            }
            Err(refusal) => {
                let refusal = refusal.about(self.subject()).under(Some(allow.rule));
                self.refuse_in_tls(stream, &hello, refusal).await;
            }
        }
    }
}

//! TLS inside a connection: intercepted, each request decided; or passed on unread, once its server name agrees.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Inside, Passage};
use crate::audit::{Layer, Outcome, Record, milliseconds};
use crate::authority::Host;
use crate::flow::{Door, check_server_name, subject_of};
use crate::hooks::{Allow, Scheme, TlsMode};
use crate::limits::TLS_SEND_BUFFER_BYTES;
use crate::refuse::{Kind, Refusal, Subject};
use crate::shell::client::http1::Client;
use crate::shell::client::http2;
use crate::shell::ledger::Ledger;
use crate::shell::stream::rewind::Rewind;
use crate::shell::stream::tunnel;
use crate::shell::upstream::reach;
use crate::wire::client_hello::ClientHello;

impl Passage<'_> {
    pub(super) async fn serve_tls<S>(&self, stream: Rewind<S>, hello: ClientHello, allow: Allow)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let name_required = allow.tls == TlsMode::Opaque;
        let name = hello.server_name.as_deref();
        if let Err(refusal) = check_server_name(&self.authority, name, name_required) {
            let refusal = refusal.after(&allow);
            return Box::pin(self.refuse(stream, Inside::Tls(hello), refusal)).await;
        }
        match allow.tls {
            TlsMode::Inspect => Box::pin(self.intercept(stream, allow)).await,
            TlsMode::Opaque => Box::pin(self.pass_through(stream, allow, hello)).await,
        }
    }

    fn tls_subject(&self) -> Subject {
        Subject { scheme: Some(Scheme::Https), ..subject_of(&self.authority) }
    }

    /// Terminates TLS, reads one request and answers it with the refusal.
    pub(super) async fn refuse_in_tls<S>(&self, stream: Rewind<S>, hello: &ClientHello, refusal: Refusal)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // As whom the client wants us to be: else it could not read the answer.
        let named = hello.server_name.as_deref().and_then(|name| Host::parse(name).ok());
        let host = named.as_ref().unwrap_or_else(|| self.authority.host());
        let Ok(tls) = self.accept(stream, host).await else {
            self.heard();
            return self.shared.record_refusal(&self.decision, &refusal, false);
        };
        if speaks_http2(&tls) {
            return self.refuse_in_http2(tls, refusal).await;
        }
        self.refuse_in_http(tls, Door::Inside(&self.authority), refusal).await;
    }

    async fn accept<S>(&self, stream: Rewind<S>, host: &Host) -> io::Result<TlsStream<Rewind<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.shared.leaves.server_config(host, self.decision.time).map_err(io::Error::other)?;
        let accept = TlsAcceptor::from(config)
            .accept_with(stream, |tls| tls.set_buffer_limit(Some(TLS_SEND_BUFFER_BYTES)));
        let accepted = timeout(self.shared.limits.client_tls_timeout, accept);
        let accepted = match self.shared.control.unless_draining(accepted).await {
            Some(in_time) => in_time.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            None => Err(io::ErrorKind::Interrupted.into()),
        };
        // The other doors have no words for it.
        if let (Err(error), Layer::Connect) = (&accepted, self.layer) {
            self.shared.distrust.note(self.authority.host(), error, Instant::now());
        }
        accepted
    }

    /// Serves the requests inside, each with a decision of its own.
    async fn intercept<S>(&self, stream: Rewind<S>, allow: Allow)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let accepted = Box::pin(self.accept(stream, self.authority.host())).await;
        self.heard();
        let tls = match accepted {
            Ok(tls) => tls,
            Err(error) => return self.record_unused(&allow, Some(&error)),
        };
        let (shared, authority, policy) =
            (Arc::clone(self.shared), self.authority.clone(), self.decision.policy);
        let is_http2 = speaks_http2(&tls);
        let client = Arc::new(match is_http2 {
            true => Client::inside_http2(shared, authority, policy),
            false => Client::inside(shared, (Scheme::Https, authority), policy),
        });
        let _unused = Unused { passage: self, allow, client: &client };
        match is_http2 {
            true => Box::pin(http2::serve(tls, &client)).await,
            false => Box::pin(self.serve_requests(tls, &client)).await,
        }
    }

    /// An allowed connection over which no request came: mostly a client that does not trust our authority.
    fn record_unused(&self, allow: &Allow, error: Option<&io::Error>) {
        let outcome = if error.is_some() { Outcome::Error } else { Outcome::Allow };
        let mut record = Record::new(self.decision.time, self.decision.id.clone(), Layer::Tls, outcome);
        record.decided(allow);
        record.scheme = Some(Scheme::Https);
        record.host = Some(self.authority.host().shared_text());
        record.port = Some(self.authority.port());
        if let Some(error) = error {
            // Of TLS nothing is interrupted but by our end.
            let ended = error.kind() == io::ErrorKind::Interrupted;
            record.error = Some(if ended { "proxy_ended" } else { "client_tls_failed" });
            record.reason = (!ended).then(|| format!("the TLS handshake with the client failed: {error}"));
        } else if allow.would_deny.is_some() {
            record.error = Some(Kind::Policy.code());
        }
        record.ms_total = milliseconds(self.decision.started.elapsed());
        self.shared.record(&self.decision.span, record);
    }

    /// Passes the bytes on unread. The upstream is dialled only now: the name inside agrees.
    async fn pass_through<S>(&self, mut stream: Rewind<S>, allow: Allow, hello: ClientHello)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let upstream = match self.shared.recordable(self.layer).await {
            Ok(_) => Box::pin(reach::connect(self.shared, &self.authority, allow.upstream.as_ref())).await,
            Err(refusal) => Err(refusal),
        };
        match upstream {
            Ok((mut upstream, times)) => {
                let subject = Subject { method: Some("CONNECT".into()), ..self.tls_subject() };
                let mut ledger = Ledger::open(self.shared, &self.decision, self.layer, (&allow, subject));
                ledger.opened(&times);
                ledger.head_is_here();
                ledger.answered(200);
                self.heard();
                let peer = reach::peer(&upstream, (&self.authority, &allow));
                let still_allowed = || self.still_opaque(&allow, peer);
                tunnel::relay(&mut stream, &mut upstream, &mut ledger, still_allowed).await;
            }
            Err(refusal) => {
                let refusal = refusal.about(self.tls_subject()).after(&allow);
                Box::pin(self.refuse_in_tls(stream, &hello, refusal)).await;
            }
        }
    }
}

/// Records a connection over which no request came, whatever ended it.
struct Unused<'a> {
    passage: &'a Passage<'a>,
    allow: Allow,
    client: &'a Client,
}

impl Drop for Unused<'_> {
    fn drop(&mut self) {
        if self.client.requests() == 0 {
            self.passage.record_unused(&self.allow, None);
        }
    }
}

fn speaks_http2<S>(tls: &TlsStream<S>) -> bool {
    tls.get_ref().1.alpn_protocol() == Some(http2::ALPN)
}

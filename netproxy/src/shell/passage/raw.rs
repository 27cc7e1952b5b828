//! Bytes that are neither TLS nor HTTP: passed on unread where [`Authorize::tcp`](crate::hooks::Authorize::tcp)
//! allows them, refused everywhere else. A server may speak first; a client that answers with TLS or HTTP, before
//! the server has said anything, is judged as that: silence is no way around inspection.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Inside, Passage, understand};
use crate::audit::Layer;
use crate::flow::subject_of;
use crate::hooks::{Allow, Verdict};
use crate::refuse::{Kind, Refusal};
use crate::shell::ledger::Ledger;
use crate::shell::limiter::Slot;
use crate::shell::stream::rewind::Rewind;
use crate::shell::stream::tunnel;
use crate::shell::upstream::reach;
use crate::wire::opening::look;

const THIS_RULE_REFUSES: &str = "Do not retry. This rule refuses bytes that are neither TLS nor HTTP here; one with \
    methods, paths or query does, too, as it cannot see those. Ask the user if you need it.";

impl Passage<'_> {
    /// The client has begun with bytes that nobody understands; `verdict` is the one on host and port.
    pub(super) async fn serve_raw<S>(&self, mut stream: Rewind<S>, verdict: Verdict)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let refusal = match (self.shared.may_tcp(&self.facts()).await, verdict) {
            (Verdict::Allow(allow), _) => match self.open_raw(&allow).await {
                Ok((mut upstream, mut ledger, _slot)) => {
                    let peer = reach::peer(&upstream, (&self.authority, &allow));
                    let still_allowed = || self.still_may_tcp(&allow, peer);
                    return tunnel::relay(&mut stream, &mut upstream, &mut ledger, still_allowed).await;
                }
                Err(refusal) => *refusal,
            },
            (Verdict::Deny(_), Verdict::Deny(deny)) => Refusal::policy(self.layer, deny),
            (Verdict::Deny(deny), Verdict::Allow(_)) => {
                let detail = format!("the bytes are neither TLS nor HTTP: {}", deny.reason);
                // There may be a rule that names host and port; then the hint of this kind would not help.
                let by_rule = deny.rule.is_some().then(|| THIS_RULE_REFUSES.to_owned());
                let refusal = Refusal::new(Kind::NotTls, Layer::Tcp, detail).under(deny.rule);
                Refusal { hint: deny.hint.or(by_rule), generation: deny.generation, ..refusal }
            }
        };
        Box::pin(self.refuse(stream, Inside::Other, refusal.about(subject_of(&self.authority)))).await;
    }

    /// The client waits for the server, and may. `None` once the connection was served to its end.
    pub(super) async fn let_server_speak<S>(&self, stream: &mut Rewind<S>, allow: Allow) -> Option<Inside>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut upstream, mut ledger, _slot) = match self.open_raw(&allow).await {
            Ok(opened) => opened,
            Err(refusal) => {
                let refusal = refusal.about(subject_of(&self.authority));
                self.heard();
                self.shared.record_refusal(&self.decision, &refusal, false);
                return None;
            }
        };
        let peer = reach::peer(&upstream, (&self.authority, &allow));
        let still_allowed = || self.still_may_tcp(&allow, peer);
        let first = timeout(self.shared.limits.idle_timeout, who_speaks_first(stream, &upstream));
        // A timeout is left to the relay, which records it.
        let first = tunnel::while_allowed(&mut ledger, still_allowed, first).await?.unwrap_or(First::Server);
        match first {
            First::Client(inside @ (Inside::Tls(_) | Inside::Http | Inside::Nothing(_))) => {
                ledger.discard();
                Some(inside)
            }
            First::Client(Inside::Other) | First::Server => {
                tunnel::relay(stream, &mut upstream, &mut ledger, still_allowed).await;
                None
            }
        }
    }

    async fn open_raw(&self, allow: &Allow) -> Result<(TcpStream, Ledger, Option<Slot>), Box<Refusal>> {
        let refuse = |refusal: Box<Refusal>| Box::new(refusal.after(allow));
        self.shared.recordable(Layer::Tcp).await.map_err(refuse)?;
        let slot = self.shared.limiter.rule_connection(allow, Layer::Tcp)?;
        let (upstream, times) =
            reach::connect(self.shared, &self.authority, allow.upstream.as_ref()).await.map_err(refuse)?;
        let subject = subject_of(&self.authority);
        let mut ledger = Ledger::open(self.shared, &self.decision, Layer::Tcp, (allow, subject));
        ledger.opened(&times);
        self.heard();
        Ok((upstream, ledger, slot))
    }
}

enum First {
    Client(Inside),
    /// Or its end, or an error: for the relay to find.
    Server,
}

async fn who_speaks_first<S: AsyncRead + Unpin>(stream: &mut Rewind<S>, upstream: &TcpStream) -> First {
    let mut byte = [0u8; 1];
    loop {
        tokio::select! {
            biased;
            read = stream.read_ahead() => match read {
                // A client that only ends its side can still hear the server.
                Ok(0) | Err(_) => return First::Server,
                Ok(_) => if let Some(inside) = understand(look(stream.early())) {
                    return First::Client(inside);
                },
            },
            _ = upstream.peek(&mut byte) => return First::Server,
        }
    }
}

//! The front door: a plain connection to the proxy, request by request, or handed on to the door of the language
//! that it speaks.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::connect;
use super::{preface, socks};
use crate::audit::Layer;
use crate::http2::GOAWAY_HTTP_1_1_REQUIRED;
use crate::refuse::{Kind, Refusal, Subject};
use crate::shell::answer;
use crate::shell::client::http1::{self, Client};
use crate::shell::client::strict_io::{NoHead, StrictIo};
use crate::shell::shared::Shared;
use crate::shell::stream::rewind::Rewind;
use crate::wire;
use crate::wire::head::HeadError;
use crate::wire::socks5;

pub async fn serve<S>(shared: Arc<Shared>, io: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut io = Box::new(StrictIo::new(io, &shared.limits));
    match first_words(&shared, &mut io).await {
        Some(Language::Http) => {}
        Some(Language::Socks) => return Box::pin(socks::serve(&shared, rewound(*io))).await,
        Some(Language::Preface) => return Box::pin(preface::serve(&shared, rewound(*io))).await,
        None => return,
    }
    let client = Arc::new(Client::plain(Arc::clone(&shared)));
    loop {
        match io.head().await {
            Ok(ahead) if ahead.connect => return Box::pin(connect::serve(&shared, *io)).await,
            Ok(_) => {}
            Err(NoHead::Bad(error)) => {
                return refuse_bad(&shared, &mut io, error, Subject::default()).await;
            }
            Err(NoHead::End | NoHead::Broken) => return,
        }
        let Some(back) = http1::serve(io, &client).await else { return };
        if let Some(session) = client.take_session() {
            return Box::pin(session.relay(*back)).await;
        }
        io = back;
        if !io.has_news() || client.is_last() {
            return Box::pin(answer::linger(&shared, io.io_mut())).await;
        }
    }
}

/// The language of a client that begins to speak in time. A proxy that is to end does not wait for it.
async fn first_words<S>(shared: &Shared, io: &mut StrictIo<S>) -> Option<Language>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    shared.control.unless_draining(timeout(shared.limits.header_timeout, language(io))).await?.ok()
}

/// Tells a client, in its language, that too many connections are open.
pub async fn turn_away<S>(shared: &Arc<Shared>, io: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut io = StrictIo::new(io, &shared.limits);
    // A client that does not say at once what it speaks only takes up the room.
    match timeout(shared.limits.linger_timeout, language(&mut io)).await {
        Ok(Language::Http) => {
            let (mut io, _) = io.into_parts();
            answer::refuse(shared, &mut io, &too_many(shared), &shared.begin()).await;
        }
        Ok(Language::Socks) => {
            let no_method = socks5::method_bytes(socks5::Method::Unacceptable);
            let (mut io, _) = io.into_parts();
            let sent = timeout(shared.limits.linger_timeout, io.write_all(&no_method)).await;
            record_turned_away(shared, false);
            if matches!(sent, Ok(Ok(()))) {
                answer::linger(shared, &mut io).await;
            }
        }
        Ok(Language::Preface) => {
            let (decision, refusal) = (shared.begin(), too_many(shared));
            let line = wire::preface::refused(refusal.kind.code(), &decision.id);
            let (mut io, _) = io.into_parts();
            let sent = timeout(shared.limits.linger_timeout, io.write_all(line.as_bytes())).await;
            shared.record_refusal(&decision, &refusal, false);
            if matches!(sent, Ok(Ok(()))) {
                answer::linger(shared, &mut io).await;
            }
        }
        Err(_) => record_turned_away(shared, false),
    }
}

pub fn record_turned_away(shared: &Shared, answered: bool) {
    shared.record_refusal(&shared.begin(), &too_many(shared), answered);
}

fn too_many(shared: &Shared) -> Refusal {
    let detail = format!("the sandbox may have {} connections open", shared.limits.client_connections_max);
    Refusal::new(Kind::TooManyConnections, Layer::Connect, detail)
}

enum Language {
    Http,
    Socks,
    Preface,
}

/// What the client speaks to us, by its first bytes. No HTTP method starts with a control byte, and none is called
/// `TCP1`.
async fn language<S: AsyncRead + Unpin>(io: &mut StrictIo<S>) -> Language {
    loop {
        match io.early() {
            [] => {}
            [socks5::VERSION, ..] => return Language::Socks,
            bytes if bytes.starts_with(wire::preface::START) => return Language::Preface,
            bytes if wire::preface::START.starts_with(bytes) => {}
            _ => return Language::Http,
        }
        // The end of the stream is found again by the HTTP server.
        if !matches!(io.read_ahead().await, Ok(count) if count > 0) {
            return Language::Http;
        }
    }
}

fn rewound<S: AsyncRead + Unpin>(io: StrictIo<S>) -> Rewind<S> {
    let (stream, early) = io.into_parts();
    Rewind::new(stream, early)
}

/// Answers a head that is not acceptable; `subject` is what is known of it all the same.
pub async fn refuse_bad<S>(shared: &Shared, io: &mut StrictIo<S>, error: HeadError, subject: Subject)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let refusal = Refusal::head(error).about(subject);
    // The preface of RFC 9113 §3.4; what it says next would be frames.
    if io.early().starts_with(b"PRI * HTTP/2.0\r\n\r\n") {
        return answer::refuse_with(shared, io.io_mut(), &refusal, GOAWAY_HTTP_1_1_REQUIRED).await;
    }
    answer::refuse(shared, io.io_mut(), &refusal, &shared.begin()).await;
}

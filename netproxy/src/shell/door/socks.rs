//! The SOCKS5 door. A name is never resolved here: it is judged, and what is inside decides the rest. A
//! synthetic address of ours stands for its name.
//!
//! A refused connection to a port of the web is answered with success, and refused inside TLS or HTTP, as after
//! `CONNECT`: clients retry or hide a refused one. To any other port the reply is 0x02 (not allowed by ruleset).

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::audit::Layer;
use crate::authority::Authority;
use crate::flow::subject_of;
use crate::hooks::{ConnectFacts, Verdict};
use crate::limits::WEB_PORTS;
use crate::refuse::{Kind, Refusal};
use crate::shell::answer::{linger, write};
use crate::shell::passage::Passage;
use crate::shell::shared::{Decision, Shared};
use crate::shell::stream::rewind::Rewind;
use crate::wire::socks5::{self, Method, Parsed, Reply, Socks5Error};

/// Why there is no request.
enum Fault {
    /// The stream ended, broke or was too slow.
    Gone,
    /// To be answered and recorded.
    Refused(Kind, String, Vec<u8>),
}

impl From<std::io::Error> for Fault {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

/// Serves one SOCKS5 client.
pub async fn serve<S>(shared: &Arc<Shared>, mut stream: Rewind<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = timeout(shared.limits.header_timeout, negotiate(shared, &mut stream));
    let Some(asked) = shared.control.unless_draining(asked).await else { return };
    let decision = shared.begin();
    let authority = match asked {
        Ok(Ok(authority)) => authority,
        Ok(Err(Fault::Gone)) | Err(_) => return,
        Ok(Err(Fault::Refused(kind, detail, reply))) => {
            let refusal = Refusal::new(kind, Layer::Socks, detail);
            return refuse(shared, (stream, &decision), &reply, &refusal).await;
        }
    };
    let authority = match shared.dns.named(authority) {
        Ok(authority) => authority,
        Err(refusal) => {
            let reply = socks5::reply_bytes(Reply::HostUnreachable);
            return refuse(shared, (stream, &decision), &reply, &refusal).await;
        }
    };
    let facts = ConnectFacts { authority: &authority };
    let verdict = shared.authorize.connect(&facts);
    if let Verdict::Deny(deny) = &verdict
        && !can_be_told_inside(shared, &facts)
    {
        let refusal = Refusal::policy(Layer::Socks, deny.clone()).about(subject_of(&authority));
        return refuse(shared, (stream, &decision), &socks5::reply_bytes(Reply::NotAllowed), &refusal).await;
    }
    let passage = Passage::new(shared, decision, (authority, Layer::Socks), &verdict);
    passage.open(stream, verdict, &socks5::reply_bytes(Reply::Succeeded)).await;
}

/// Whether a connection whose host and port are refused is let in all the same: to tell the client inside, or since
/// raw bytes are allowed.
pub fn can_be_told_inside(shared: &Shared, facts: &ConnectFacts<'_>) -> bool {
    WEB_PORTS.contains(&facts.authority.port()) || matches!(shared.authorize.tcp(facts), Verdict::Allow(_))
}

async fn negotiate<S>(shared: &Shared, stream: &mut Rewind<S>) -> Result<Authority, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let refused =
        |error: Socks5Error, reply: &[u8]| Fault::Refused(Kind::Malformed, error.to_string(), reply.to_vec());
    let unacceptable = socks5::method_bytes(Method::Unacceptable);
    let methods = read(stream, socks5::greeting).await?.map_err(|error| refused(error, &unacceptable))?;
    match &shared.socks_token {
        None if methods.none => send(stream, &socks5::method_bytes(Method::None)).await?,
        None => {
            let detail = "this proxy wants no authentication, and the client insists on one".to_owned();
            return Err(Fault::Refused(Kind::Malformed, detail, unacceptable.to_vec()));
        }
        Some(_) if !methods.password => {
            let detail = "the client offers no user name, which has to be the sandbox's token".to_owned();
            return Err(Fault::Refused(Kind::Policy, detail, unacceptable.to_vec()));
        }
        Some(token) => {
            send(stream, &socks5::method_bytes(Method::Password)).await?;
            let check = |bytes: &[u8]| {
                let parsed = socks5::user_name(bytes)?;
                Ok(parsed.map(|(name, length)| (token.is(name.0), length)))
            };
            let wrong = socks5::password_bytes(false);
            if !read(stream, check).await?.map_err(|error| refused(error, &wrong))? {
                let detail = "the user name is not the sandbox's token".to_owned();
                return Err(Fault::Refused(Kind::Policy, detail, wrong.to_vec()));
            }
            send(stream, &socks5::password_bytes(true)).await?;
        }
    }
    let asked = read(stream, socks5::request).await?;
    asked.map_err(|error| refused(error, &socks5::reply_bytes(error.reply())))
}

/// Reads one message, and takes it off the stream.
async fn read<S, T>(
    stream: &mut Rewind<S>,
    parse: impl Fn(&[u8]) -> Parsed<T>,
) -> Result<Result<T, Socks5Error>, Fault>
where
    S: AsyncRead + Unpin,
{
    loop {
        match parse(stream.early()) {
            Ok(Some((message, length))) => {
                stream.skip(length);
                return Ok(Ok(message));
            }
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        if stream.read_ahead().await? == 0 {
            return Err(Fault::Gone);
        }
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn refuse<S>(
    shared: &Shared,
    (mut stream, decision): (Rewind<S>, &Decision),
    reply: &[u8],
    refusal: &Refusal,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sent = write(shared, &mut stream, reply).await;
    shared.record_refusal(decision, refusal, false);
    if sent {
        linger(shared, &mut stream).await;
    }
}

//! A client that speaks HTTP/2, and bodies that are sent piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;

use crate::client::{connect, tls_offering};
use crate::http2::H2;
use crate::world::World;

/// What the test sends, when it sends it.
pub struct Pieces(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

pub type Client = SendRequest<Pieces>;

pub fn no_body() -> Pieces {
    let (sender, body) = mpsc::unbounded_channel();
    drop(sender);
    Pieces(body)
}

pub fn pieces() -> (mpsc::UnboundedSender<Frame<Bytes>>, Pieces) {
    let (sender, body) = mpsc::unbounded_channel();
    (sender, Pieces(body))
}

pub fn whole(body: &'static [u8]) -> Pieces {
    let (sender, pieces) = pieces();
    sender.send(Frame::data(Bytes::from_static(body))).unwrap();
    pieces
}

/// `CONNECT`, TLS with `h2`.
pub async fn tls(world: &World, target: &str) -> TlsStream<DuplexStream> {
    let host = target.rsplit_once(':').unwrap().0;
    let stream = connect(world, target).await;
    let tls = tls_offering(world.proxy.ca_certificate_pem(), stream, (host, &[H2])).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(H2));
    tls
}

pub async fn open(world: &World, target: &str) -> Client {
    over(tls(world, target).await).await
}

/// HTTP/2 over a connection where it was agreed on.
pub async fn over(tls: TlsStream<DuplexStream>) -> Client {
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    client
}

pub fn request(method: &str, target: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("https://{target}{path}"))
}

pub async fn get(client: &mut Client, target: &str, path: &str) -> Answer {
    ask(client, request("GET", target, path).body(no_body()).unwrap()).await
}

pub async fn ask(client: &mut Client, request: Request<Pieces>) -> Answer {
    Answer::of(client.send_request(request).await.unwrap()).await
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub async fn of(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.to_bytes().to_vec(),
            trailers,
        }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// A body of this many bytes, a multiple of 64 KiB, all of which are the same memory.
pub fn repeated(bytes: usize) -> Pieces {
    let (sender, body) = pieces();
    let chunk = Bytes::from_static(&[b'x'; 64 * 1024]);
    for _ in 0..bytes / chunk.len() {
        sender.send(Frame::data(chunk.clone())).unwrap();
    }
    body
}

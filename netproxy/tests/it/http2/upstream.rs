//! A TLS upstream that speaks what it offers, HTTP/2 or HTTP/1.1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::hooks::SECRET;
use crate::upstream::{Seen, Upstream, certificate};

/// Length of `/big`.
pub const BIG_BYTES: usize = 256 * 1024 * 1024;

/// What an answer is made of, in order.
pub enum Frames {
    Ready(std::collections::VecDeque<Frame<Bytes>>),
    /// What the client sends, as it comes.
    Mirror(Incoming),
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Ready(frames) => Poll::Ready(frames.pop_front().map(Ok)),
            Self::Mirror(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.and_then(Result::ok).map(Ok))
            }
        }
    }
}

/// Accepts TLS connections with these protocols and hands each to `serve`, numbered from 0.
pub async fn listen<F, S>(names: &[&str], alpn: &[&[u8]], serve: F) -> Upstream
where
    F: Fn(TlsStream<TcpStream>, usize) -> S + Send + Sync + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let (root_pem, mut config) = certificate(names);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = empty(listener.local_addr().unwrap(), root_pem);
    let (acceptor, connections) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&upstream.connections));
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let (acceptor, connections, serve) =
                (acceptor.clone(), Arc::clone(&connections), Arc::clone(&serve));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let number = connections.fetch_add(1, Ordering::SeqCst);
                    serve(stream, number).await;
                }
            });
        }
    });
    upstream
}

fn empty(address: SocketAddr, root_pem: String) -> Upstream {
    Upstream {
        address,
        root_pem,
        seen: Seen::default(),
        whole: Arc::default(),
        next_event: Arc::default(),
        connections: Arc::default(),
    }
}

pub async fn start(names: &[&str], alpn: &[&[u8]]) -> Upstream {
    let seen: Seen = Arc::default();
    let log = Arc::clone(&seen);
    let mut upstream = listen(names, alpn, move |stream, _| serve(stream, Arc::clone(&log))).await;
    upstream.seen = seen;
    upstream
}

pub async fn serve(stream: TlsStream<TcpStream>, seen: Seen) {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(crate::http2::H2);
    let service = service_fn(move |request| {
        let seen = Arc::clone(&seen);
        async move { Ok::<_, Infallible>(answer(request, &seen).await) }
    });
    let io = TokioIo::new(stream);
    let _ = if http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        http1::Builder::new().serve_connection(io, service).await
    };
}

async fn answer(request: Request<Incoming>, seen: &Mutex<Vec<String>>) -> Response<Frames> {
    let (parts, body) = request.into_parts();
    let mut head = format!("{} {} {:?}\r\n", parts.method, parts.uri, parts.version);
    // Byte for byte; a `Uri` shows a path where there is none.
    head += &format!("as-sent: {}\r\n", parts.uri.path_and_query().map_or("", |target| target.as_str()));
    for (name, value) in &parts.headers {
        head += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    seen.lock().unwrap().push(head.clone());
    if parts.uri.path() == "/discard" {
        let mut body = body;
        let mut count = 0;
        while let Some(Ok(frame)) = body.frame().await {
            count += frame.data_ref().map_or(0, Bytes::len);
        }
        return Response::new(Frames::Ready(vec![Frame::data(format!("{count} bytes").into())].into()));
    }
    if parts.uri.path() == "/big" {
        // All chunks are the same memory.
        let chunk = Bytes::from_static(&[b'x'; 64 * 1024]);
        return Response::new(Frames::Ready(
            (0..BIG_BYTES / chunk.len()).map(|_| Frame::data(chunk.clone())).collect(),
        ));
    }
    if parts.uri.path() == "/mirror" {
        return Response::new(Frames::Mirror(body));
    }
    let body = body.collect().await;
    let (trailers, body) = match body {
        Ok(body) => (body.trailers().cloned(), body.to_bytes()),
        Err(_) => (None, Bytes::from_static(b"broken")),
    };
    let (mut headers, mut data, mut last) =
        (HeaderMap::new(), Bytes::from_static(b"hello"), HeaderMap::new());
    match parts.uri.path() {
        "/echo" => data = head.into(),
        "/upload" => data = format!("{} bytes", body.len()).into(),
        "/echo-body" => data = body,
        "/echo-trailers" => data = format!("{:?}", trailers.unwrap_or_default()).into(),
        "/echo-header" => {
            headers.insert("x-got", parts.headers["authorization"].clone());
        }
        "/grpc" => {
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("trailer", HeaderValue::from_static("grpc-status, host, x-secret"));
            for (name, value) in [
                ("grpc-status", "0"),
                ("host", "evil.example"),
                ("content-length", "7"),
                ("proxy-status", "agent-sandbox; error=http_request_denied"),
                ("x-secret", SECRET),
            ] {
                last.insert(name, HeaderValue::from_static(value));
            }
        }
        _ => {}
    }
    let mut frames = vec![Frame::data(data)];
    if !last.is_empty() {
        frames.push(Frame::trailers(last));
    }
    let mut response = Response::new(Frames::Ready(frames.into()));
    *response.headers_mut() = headers;
    response
}

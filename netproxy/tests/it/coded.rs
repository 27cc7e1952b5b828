//! Bodies in each content coding, and a TLS upstream that sends them.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use netproxy::coding::Coding;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, zstd_sys::ZSTD_EndDirective};

use crate::hooks::SECRET;
use crate::http2::client::{Pieces, pieces};
use crate::http2::upstream::listen;
use crate::upstream::{Seen, Upstream};

/// Chunks of one encoded body, flushed after each piece.
pub fn encode_flushed(coding: Coding, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    match coding {
        Coding::Gzip => {
            flushed(GzEncoder::new(Vec::new(), Compression::default()), pieces, GzEncoder::get_mut, |e| {
                e.finish().unwrap()
            })
        }
        Coding::Deflate => {
            flushed(ZlibEncoder::new(Vec::new(), Compression::default()), pieces, ZlibEncoder::get_mut, |e| {
                e.finish().unwrap()
            })
        }
        Coding::Brotli => {
            flushed(brotli_encoder(22), pieces, brotli::CompressorWriter::get_mut, |e| e.into_inner())
        }
        Coding::Zstd => zstd_flushed(&[(CParameter::ChecksumFlag(true))], pieces),
    }
}

pub fn brotli_encoder(lgwin: i32) -> brotli::CompressorWriter<Vec<u8>> {
    let params = brotli::enc::BrotliEncoderParams { quality: 5, lgwin, ..Default::default() };
    brotli::CompressorWriter::with_params(Vec::new(), 4096, &params)
}

fn flushed<E: std::io::Write>(
    mut encoder: E,
    pieces: &[&[u8]],
    inner: impl Fn(&mut E) -> &mut Vec<u8>,
    finish: impl FnOnce(E) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    for piece in pieces {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
        chunks.push(std::mem::take(inner(&mut encoder)));
    }
    chunks.push(finish(encoder));
    chunks
}

pub fn zstd_flushed(parameters: &[CParameter], pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut machine = CCtx::create();
    for parameter in parameters {
        machine.set_parameter(*parameter).unwrap();
    }
    let mut chunks = Vec::new();
    let mut run = |piece: &[u8], how: ZSTD_EndDirective| {
        let (mut from, mut chunk) = (InBuffer::around(piece), Vec::new());
        loop {
            let mut out = vec![0; 64 * 1024];
            let mut to = OutBuffer::around(out.as_mut_slice());
            let left = machine.compress_stream2(&mut to, &mut from, how).unwrap();
            let count = to.pos();
            chunk.extend_from_slice(&out[..count]);
            if left == 0 {
                return chunks.push(chunk);
            }
        }
    };
    for piece in pieces {
        run(piece, ZSTD_EndDirective::ZSTD_e_flush);
    }
    run(&[], ZSTD_EndDirective::ZSTD_e_end);
    chunks
}

pub fn encode(coding: Coding, body: &[u8]) -> Vec<u8> {
    encode_flushed(coding, &[body]).concat()
}

/// In each of these codings, in their order.
pub fn encode_all(codings: &[Coding], body: &[u8]) -> Vec<u8> {
    codings.iter().fold(body.to_vec(), |bytes, coding| encode(*coding, &bytes))
}

/// Serves `/KIND/CODINGS`, over what the client agrees to.
pub async fn start(names: &[&str], alpn: &[&[u8]]) -> Upstream {
    let (seen, next): (Seen, Arc<Notify>) = Default::default();
    let (log, events) = (Arc::clone(&seen), Arc::clone(&next));
    let mut upstream =
        listen(names, alpn, move |stream, _| serve(stream, (Arc::clone(&log), Arc::clone(&events)))).await;
    (upstream.seen, upstream.next_event) = (seen, next);
    upstream
}

async fn serve(stream: TlsStream<TcpStream>, (seen, events): (Seen, Arc<Notify>)) {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<Incoming>| {
        seen.lock().unwrap().push(format!("{:?}", request.headers()));
        std::future::ready(Ok::<_, Infallible>(answer(&request, Arc::clone(&events))))
    });
    let io = TokioIo::new(stream);
    let _ = if http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        http1::Builder::new().serve_connection(io, service).await
    };
}

fn answer(request: &Request<Incoming>, events: Arc<Notify>) -> Response<Pieces> {
    let (kind, names) = request.uri().path()[1..].split_once('/').unwrap();
    let codings: Vec<Coding> = names.split(',').filter_map(Coding::named).collect();
    let echo = request.headers().get("authorization").map_or("", |value| value.to_str().unwrap());
    let text = format!("it is {echo}, and again: {echo}{}", "filler ".repeat(5000));
    let (sender, body) = pieces();
    let send_all = |bytes: &[u8]| {
        for chunk in bytes.chunks(3) {
            sender.send(Frame::data(Bytes::copy_from_slice(chunk))).unwrap();
        }
    };
    let mut response = Response::new(body);
    let mut status = 200;
    match kind {
        "echo" => {
            send_all(&encode_all(&codings, text.as_bytes()));
            let fields =
                [("x-sum", HeaderValue::from_static(SECRET)), ("digest", HeaderValue::from_static("x"))];
            let trailers: HeaderMap =
                fields.map(|(name, value)| (name.parse().unwrap(), value)).into_iter().collect();
            sender.send(Frame::trailers(trailers)).unwrap();
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        }
        "cut" => {
            let bytes = encode_all(&codings, text.as_bytes());
            send_all(&bytes[..bytes.len() - 1]);
        }
        "bomb" => send_all(&encode_all(&codings, &vec![0; 64 * 1024 * 1024])),
        "part" => {
            status = 206;
            send_all(b"whatever");
        }
        "empty" => {}
        _ => {
            let events_sent: Vec<String> = (0..3).map(|n| format!("data: {n} {echo}\n\n")).collect();
            let texts: Vec<&[u8]> = events_sent.iter().map(String::as_bytes).collect();
            let chunks = encode_flushed(codings[0], &texts);
            tokio::spawn(async move {
                for (n, chunk) in chunks.into_iter().enumerate() {
                    if n > 0 {
                        events.notified().await;
                    }
                    sender.send(Frame::data(chunk.into())).unwrap();
                }
            });
        }
    }
    *response.status_mut() = status.try_into().unwrap();
    for (name, value) in [
        ("content-encoding", names),
        ("etag", "\"v1\""),
        ("content-md5", "x"),
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-goog-hash", "crc32c=AAAAAA=="),
        ("accept-ranges", "bytes"),
        ("vary", "accept-encoding"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    response
}

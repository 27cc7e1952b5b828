//! The origin: the cheapest server that answers right. `/1k` is a kilobyte in one segment, `/2k` the same with
//! head and body in two, `/bulk/N` N bytes; what is sent to `/sink` is read off before the answer. It speaks HTTP/1.1 in the
//! clear and over TLS, HTTP/2 over TLS where the client prefers it, and on its raw port sends bytes as soon as it got some.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::Result;

/// Bytes of a small answer.
pub const SMALL: usize = 1024;
/// Bytes of a bulk transfer that are read or written at a time.
pub const CHUNK: usize = 256 * 1024;

/// Where the origin listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub plain: u16,
    pub tls: u16,
    /// TLS that a proxy passes on unread.
    pub opaque: u16,
    /// Reads a little, then sends without end.
    pub raw: u16,
}

/// Starts on a thread of its own, pinned to core 0.
pub async fn start() -> Result<(Ports, String)> {
    let (root_pem, config) = crate::tls::server(&[b"h2", b"http/1.1"])?;
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || -> Result<()> {
        crate::cpu::pin_this_thread(0)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            let ports = Ports {
                plain: listen(|stream| async { http1(stream, Vec::new()).await }).await?,
                tls: over_tls(&acceptor).await?,
                opaque: over_tls(&acceptor).await?,
                raw: listen(|mut stream| async move {
                    if stream.read(&mut [0; 16 * 1024]).await? == 0 {
                        return Ok(());
                    }
                    let bytes = vec![7; CHUNK];
                    loop {
                        stream.write_all(&bytes).await?;
                    }
                })
                .await?,
            };
            let _ = send.send(ports);
            std::future::pending::<()>().await;
            Ok(())
        })
    });
    Ok((receive.await?, root_pem))
}

async fn over_tls(acceptor: &TlsAcceptor) -> Result<u16> {
    let acceptor = acceptor.clone();
    listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                http2(stream).await
            } else {
                http1(stream, Vec::new()).await
            }
        }
    })
    .await
}

async fn listen<F>(serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> Result<u16>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream));
        }
    });
    Ok(port)
}

async fn http1<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, mut buffer: Vec<u8>) -> Result<()> {
    let small = [head(SMALL).into_bytes(), vec![b'x'; SMALL]].concat();
    loop {
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let text = String::from_utf8(buffer.drain(..end + 4).collect())?;
        let path = text.split(' ').nth(1).unwrap_or("/");
        if let Some(count) = path.strip_prefix("/bulk/") {
            let mut left: usize = count.parse()?;
            stream.write_all(head(left).as_bytes()).await?;
            let bytes = vec![7; CHUNK];
            while left > 0 {
                let count = left.min(CHUNK);
                stream.write_all(&bytes[..count]).await?;
                left -= count;
            }
        } else if path == "/sink" {
            let length = text
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut left = length.unwrap_or(0usize).saturating_sub(buffer.len());
            buffer.clear();
            let mut room = vec![0; CHUNK];
            while left > 0 {
                match stream.read(&mut room).await? {
                    0 => return Ok(()),
                    count => left = left.saturating_sub(count),
                }
            }
            stream.write_all(&small).await?;
        } else if path == "/2k" {
            stream.write_all(&small[..small.len() - SMALL]).await?;
            stream.flush().await?;
            stream.write_all(&small[small.len() - SMALL..]).await?;
        } else {
            stream.write_all(&small).await?;
        }
        stream.flush().await?;
    }
}

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n")
}

async fn http2<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    let body = Bytes::from(vec![b'x'; SMALL]);
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        let head = http::Response::builder().header("content-length", SMALL).body(())?;
        respond.send_response(head, false)?.send_data(body.clone(), true)?;
    }
    Ok(())
}

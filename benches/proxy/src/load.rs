//! The clients: as cheap as can be, since they share a core with the origin.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::origin::{CHUNK, SMALL};
use crate::scenario::Done;
use crate::subject::{Subject, World};
use crate::{Error, Result};

/// How to reach one port of the origin through one proxy.
#[derive(Clone)]
pub struct Client {
    /// The proxy, or the relay's port for this target.
    address: SocketAddr,
    relayed: bool,
    port: u16,
    tls: Arc<ClientConfig>,
}

impl Client {
    pub fn new(subject: &Subject, world: &World, port: u16, tls: Arc<ClientConfig>) -> Self {
        let relayed = subject.relayed(world, port);
        Self { address: relayed.unwrap_or(subject.address), relayed: relayed.is_some(), port, tls }
    }

    async fn tcp(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A tunnel to `host`.
    async fn tunnel(&self, host: &str) -> Result<TcpStream> {
        let mut stream = self.tcp().await?;
        if !self.relayed {
            let target = format!("{host}:{}", self.port);
            stream
                .write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())
                .await?;
            let mut buffer = Vec::new();
            while !buffer.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Err("the proxy closed after CONNECT".into());
                }
            }
            if !buffer.starts_with(b"HTTP/1.1 200") && !buffer.starts_with(b"HTTP/1.0 200") {
                return Err(format!("CONNECT: {}", String::from_utf8_lossy(&buffer)).into());
            }
        }
        Ok(stream)
    }

    async fn secure(&self, host: &str) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())?;
        Ok(TlsConnector::from(Arc::clone(&self.tls)).connect(name, self.tunnel(host).await?).await?)
    }

    fn request(&self, path: &str) -> Vec<u8> {
        let host = format!("localhost:{}", self.port);
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
            .into_bytes()
    }
}

/// Runs `count` copies of `work` side by side and adds up what they did.
async fn side_by_side<F>(count: usize, work: impl Fn(usize) -> F) -> Result<Done>
where
    F: Future<Output = Result<Done>> + Send + 'static,
{
    let mut all = JoinSet::new();
    for n in 0..count {
        all.spawn(work(n));
    }
    let mut sum: Done = (0.0, Vec::new(), 0);
    while let Some(done) = all.join_next().await {
        let (count, latencies, errors) = done??;
        sum = (sum.0 + count, [sum.1, latencies].concat(), sum.2 + errors);
    }
    Ok(sum)
}

/// Requests over `connections` kept connections in the clear.
pub async fn plain(
    client: &Client,
    path: &'static str,
    connections: usize,
    length: Duration,
) -> Result<Done> {
    side_by_side(connections, |_| {
        let client = client.clone();
        async move {
            let path = if client.relayed {
                path.to_owned()
            } else {
                format!("http://localhost:{}{path}", client.port)
            };
            let (started, mut sum) = (Instant::now(), Vec::new());
            // Some proxies close after each answer.
            while let Some(left) = length.checked_sub(started.elapsed()) {
                sum.extend(repeat(client.tcp().await?, &client.request(&path), left).await?);
            }
            Ok((sum.len() as f64, sum, 0))
        }
    })
    .await
}

/// Requests over `connections` kept connections with TLS.
pub async fn kept(client: &Client, connections: usize, length: Duration) -> Result<Done> {
    side_by_side(connections, |_| {
        let client = client.clone();
        async move {
            let latencies = repeat(client.secure("localhost").await?, &client.request("/1k"), length).await?;
            Ok((latencies.len() as f64, latencies, 0))
        }
    })
    .await
}

async fn repeat<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    request: &[u8],
    length: Duration,
) -> Result<Vec<u32>> {
    let (started, mut latencies, mut buffer) = (Instant::now(), Vec::new(), Vec::with_capacity(4096));
    while started.elapsed() < length {
        let sent = Instant::now();
        match exchange(&mut stream, request, &mut buffer).await {
            Ok(()) => latencies.push(microseconds(sent)),
            Err(_) if buffer.is_empty() && !latencies.is_empty() => return Ok(latencies),
            Err(error) => return Err(error),
        }
    }
    Ok(latencies)
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<()> {
    stream.write_all(request).await?;
    stream.flush().await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(format!("closed after {:?}", String::from_utf8_lossy(buffer)).into());
        }
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            if !buffer.starts_with(b"HTTP/1.1 200") {
                return Err(format!("answer: {}", String::from_utf8_lossy(buffer)).into());
            }
            // A proxy may frame anew in chunks; then the body ends with an empty one.
            let chunked = buffer.ends_with(b"0\r\n\r\n") && buffer.len() > end + 4 + SMALL;
            if buffer.len() == end + 4 + SMALL || chunked {
                return Ok(());
            }
        }
    }
}

fn microseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// Connects, asks and closes, again and again.
pub async fn anew(client: &Client, clients: usize, length: Duration) -> Result<Done> {
    side_by_side(clients, |_| {
        let client = client.clone();
        async move {
            let (started, mut latencies, mut buffer) = (Instant::now(), Vec::new(), Vec::with_capacity(4096));
            let (request, mut errors) = (client.request("/1k"), 0);
            while started.elapsed() < length {
                let sent = Instant::now();
                let done: Result<()> = async {
                    let mut stream = client.secure("localhost").await?;
                    exchange(&mut stream, &request, &mut buffer).await?;
                    stream.shutdown().await?;
                    Ok(())
                }
                .await;
                match done {
                    Ok(()) => latencies.push(microseconds(sent)),
                    Err(_) => errors += 1,
                }
            }
            Ok((latencies.len() as f64, latencies, errors))
        }
    })
    .await
}

/// Connects to a host that no rule allows and reads the refusal.
pub async fn refused(client: &Client, clients: usize, length: Duration, new_host: bool) -> Result<Done> {
    let run = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_nanos();
    side_by_side(clients, |n| {
        let client = client.clone();
        async move {
            let (started, mut latencies) = (Instant::now(), Vec::new());
            while started.elapsed() < length {
                let host = match new_host {
                    true => format!("h{run}-{n}-{}.refused.example", latencies.len()),
                    false => "refused.example".to_owned(),
                };
                let (sent, mut answer) = (Instant::now(), Vec::new());
                let mut stream = client.secure(&host).await?;
                stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
                while !answer.ends_with(b"}") {
                    if stream.read_buf(&mut answer).await? == 0 {
                        break;
                    }
                }
                if !answer.starts_with(b"HTTP/1.1 403") {
                    return Err(format!("not refused: {}", String::from_utf8_lossy(&answer)).into());
                }
                latencies.push(microseconds(sent));
            }
            Ok((latencies.len() as f64, latencies, 0))
        }
    })
    .await
}

/// One long answer over TLS.
pub async fn bulk(client: &Client, bytes: u64) -> Result<Done> {
    let mut stream = client.secure("localhost").await?;
    stream.write_all(&client.request(&format!("/bulk/{bytes}"))).await?;
    read_off(&mut stream, bytes).await
}

/// One long request over TLS.
pub async fn upload(client: &Client, bytes: u64) -> Result<Done> {
    let mut stream = client.secure("localhost").await?;
    let host = format!("localhost:{}", client.port);
    let head = format!("POST /sink HTTP/1.1\r\nHost: {host}\r\nContent-Length: {bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let (piece, mut left) = (vec![7; CHUNK], usize::try_from(bytes)?);
    while left > 0 {
        let count = left.min(CHUNK);
        stream.write_all(&piece[..count]).await?;
        left -= count;
    }
    stream.flush().await?;
    // Its end: the answer has come once all was taken.
    read_off(&mut stream, SMALL as u64).await?;
    Ok((bytes as f64 / 1e6, Vec::new(), 0))
}

/// Bytes without end behind what looks like the start of TLS.
pub async fn bulk_raw(client: &Client, bytes: u64) -> Result<Done> {
    let mut stream = client.tunnel("localhost").await?;
    let name = ServerName::try_from("localhost")?;
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::clone(&client.tls), name)?.write_tls(&mut hello)?;
    stream.write_all(&hello).await?;
    read_off(&mut stream, bytes).await
}

async fn read_off<S: AsyncRead + Unpin>(stream: &mut S, bytes: u64) -> Result<Done> {
    let (mut buffer, mut left) = (vec![0; CHUNK], bytes);
    while left > 0 {
        match stream.read(&mut buffer).await? {
            0 => return Err("the bulk transfer broke off".into()),
            count => left = left.saturating_sub(count as u64),
        }
    }
    Ok((bytes as f64 / 1e6, Vec::new(), 0))
}

/// `streams` loops of requests over one HTTP/2 connection.
pub async fn http2(client: &Client, streams: usize, length: Duration) -> Result<Done> {
    let stream = client.secure("localhost").await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err("the proxy does not speak HTTP/2 here".into());
    }
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .handshake::<_, Bytes>(stream)
        .await?;
    let driver = tokio::spawn(connection);
    let uri = format!("https://localhost:{}/1k", client.port);
    let done = side_by_side(streams, |_| {
        let (sender, uri) = (sender.clone(), uri.clone());
        async move {
            let (started, mut latencies) = (Instant::now(), Vec::new());
            while started.elapsed() < length {
                let sent = Instant::now();
                let request = http::Request::get(&uri).header("user-agent", "bench").body(())?;
                let mut ready = sender.clone().ready().await?;
                let response = ready.send_request(request, true)?.0.await?;
                let (head, mut body) = response.into_parts();
                let mut count = 0;
                while let Some(chunk) = body.data().await {
                    let chunk = chunk?;
                    count += chunk.len();
                    body.flow_control().release_capacity(chunk.len())?;
                }
                if head.status != 200 || count != SMALL {
                    return Err(format!("HTTP/2 answer: {} with {count} bytes", head.status).into());
                }
                latencies.push(microseconds(sent));
            }
            Ok::<Done, Error>((latencies.len() as f64, latencies, 0))
        }
    })
    .await;
    driver.abort();
    done
}

/// Opens connections, uses each once, and keeps them.
pub async fn open_and_keep(client: &Client, count: usize) -> Result<Vec<TlsStream<TcpStream>>> {
    let (mut kept, mut buffer) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut stream = client.secure("localhost").await?;
        exchange(&mut stream, &client.request("/1k"), &mut buffer).await?;
        kept.push(stream);
    }
    Ok(kept)
}

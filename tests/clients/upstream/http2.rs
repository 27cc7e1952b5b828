//! The same answers over HTTP/2. They are made as HTTP/1.1, whole, and said again.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use h2::RecvStream;
use h2::server::SendResponse;
use http::{Response, header::HOST};
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::http::{Request, note};
use super::{Over, Shared, routes};

/// Serves one connection until the client is done.
pub fn serve(stream: TcpStream, config: Arc<ServerConfig>, shared: &Arc<Shared>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        stream.set_nonblocking(true)?;
        let stream = TlsAcceptor::from(config).accept(tokio::net::TcpStream::from_std(stream)?).await?;
        let mut connection = h2::server::handshake(stream).await.map_err(io::Error::other)?;
        while let Some(next) = connection.accept().await {
            let (request, respond) = next.map_err(io::Error::other)?;
            // Beside this: a body comes only while the connection is asked for the next request.
            tokio::spawn(answer(request, respond, shared.clone()));
        }
        Ok(())
    })
}

async fn answer(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<bytes::Bytes>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let request = note(read(request).await?, &shared, Over::Http2);
    let mut answer = Vec::new();
    routes::answer(&request, &shared, &mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).map_err(io::Error::other)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let mut response = Response::builder().status(status);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        assert_ne!(name, "transfer-encoding", "an answer in pieces is for HTTP/1.1 alone");
        response = response.header(name, value);
    }
    let response = response.body(()).map_err(io::Error::other)?;
    let mut stream = respond.send_response(response, false).map_err(io::Error::other)?;
    stream.send_data(body.into(), true).map_err(io::Error::other)
}

/// With a head as it would be in HTTP/1.1.
async fn read(request: http::Request<RecvStream>) -> io::Result<Request> {
    let (parts, mut stream) = request.into_parts();
    let mut head = format!("{} {} HTTP/2\r\n", parts.method, parts.uri.path());
    if let Some(authority) = parts.uri.authority() {
        head += &format!("{HOST}: {authority}\r\n");
    }
    for (name, value) in &parts.headers {
        head += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(io::Error::other)?;
        stream.flow_control().release_capacity(piece.len()).map_err(io::Error::other)?;
        body.extend(piece);
    }
    Ok(Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        head: head + "\r\n",
        body,
    })
}

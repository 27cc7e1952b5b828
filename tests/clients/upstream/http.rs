//! Just enough of HTTP/1.1 for clients behind a strict proxy.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;

use super::{Over, Seen, Shared, routes, websocket};

/// One request, whole.
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    /// As it came.
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (other, value) = line.split_once(':')?;
            other.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Serves one connection until the client is done.
pub fn serve(stream: impl Read + Write, shared: &Shared, over: Over) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = next(&mut stream)? {
        let request = note(request, shared, over);
        if request.path == "/socket" && websocket::accept(&request, stream.get_mut())? {
            // Nothing was read ahead: a client says nothing before it has its answer.
            return websocket::talk(stream.get_mut(), &request.head);
        }
        routes::answer(&request, shared, stream.get_mut())?;
        stream.get_mut().flush()?;
    }
    Ok(())
}

/// Remembers what the tests ask about.
pub fn note(request: Request, shared: &Shared, over: Over) -> Arc<Request> {
    shared.seen.lock().unwrap().push(Seen {
        host: request.header("host").unwrap_or_default().to_owned(),
        method: request.method.clone(),
        path: request.path.clone(),
        authorization: request.header("authorization").map(str::to_owned),
        api_key: request.header("x-api-key").map(str::to_owned),
        over,
    });
    let request = Arc::new(request);
    if request.header("authorization").is_some_and(|value| value.starts_with("AWS4-")) {
        shared.signed.lock().unwrap().push(request.clone());
    }
    if routes::makes_tokens(&request.path) {
        shared.asked.lock().unwrap().push(request.clone());
    }
    request
}

fn next<S: Read + Write>(stream: &mut BufReader<S>) -> io::Result<Option<Request>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut request = Request { method, path, query, head, body: Vec::new() };
    if request.header("expect").is_some() {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.get_mut().flush()?;
    }
    if request.header("transfer-encoding").is_some() {
        request.body = chunks(stream)?;
    } else if let Some(length) = request.header("content-length").and_then(|text| text.parse().ok()) {
        request.body = vec![0; length];
        stream.read_exact(&mut request.body)?;
    }
    Ok(Some(request))
}

fn chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let start = body.len();
        // With the line feed after the chunk, or after the last one.
        body.resize(start + size + 2, 0);
        stream.read_exact(&mut body[start..])?;
        body.truncate(start + size);
        if size == 0 {
            return Ok(body);
        }
    }
}

/// A whole answer.
pub fn respond(out: &mut impl Write, status: &str, content_type: &str, body: &[u8]) -> io::Result<()> {
    respond_with(out, status, &[content_type], body)
}

/// The same with more fields, after the content type.
pub fn respond_with(out: &mut impl Write, status: &str, fields: &[&str], body: &[u8]) -> io::Result<()> {
    let fields = fields.join("\r\n");
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {fields}\r\ncontent-length: {}\r\n\r\n", body.len());
    out.write_all(head.as_bytes())?;
    out.write_all(body)
}

/// An event stream: each event is sent on its own.
pub fn respond_events<'a>(out: &mut impl Write, events: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
    out.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    for event in events {
        out.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
        out.flush()?;
    }
    out.write_all(b"0\r\n\r\n")
}

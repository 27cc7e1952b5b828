//! What is where.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use super::http::{Request, respond};
use super::{Shared, models};
use crate::check::HELLO;

pub fn answer(request: &Request, shared: &Shared, out: &mut impl Write) -> io::Result<()> {
    if let Some((content_type, content)) = shared.files.lock().unwrap().get(&request.path) {
        return respond(out, "200 OK", content_type, content);
    }
    match request.path.as_str() {
        "/hello" => respond(out, "200 OK", "text/plain", HELLO.as_bytes()),
        "/echo" => respond(out, "200 OK", "text/plain", request.head.as_bytes()),
        "/size" => respond(out, "200 OK", "text/plain", request.body.len().to_string().as_bytes()),
        "/v1/chat/completions" => models::openai(request, out),
        "/v1/messages" => models::anthropic(request, out),
        path if path.starts_with("/git/") => git(request, shared, out),
        _ => respond(out, "404 Not Found", "text/plain", b"nothing here"),
    }
}

/// git's own server program, by CGI (RFC 3875).
fn git(request: &Request, shared: &Shared, out: &mut impl Write) -> io::Result<()> {
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &shared.repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "test")
        .env("PATH_INFO", request.path.trim_start_matches("/git"))
        .env("QUERY_STRING", &request.query)
        .env("REQUEST_METHOD", &request.method)
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or_default())
        .env("HTTP_CONTENT_ENCODING", request.header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", request.header("git-protocol").unwrap_or_default())
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut stdin, body) = (child.stdin.take().unwrap(), request.body.clone());
    let feeder = std::thread::spawn(move || stdin.write_all(&body));
    let mut answer = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut answer)?;
    let fed = feeder.join().unwrap();
    child.wait()?;
    fed?;
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(|| io::Error::other("no CGI head"))?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]).into_owned(), &answer[end + 4..]);
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    respond(
        out,
        field("Status:").unwrap_or("200 OK"),
        field("Content-Type:").unwrap_or("application/octet-stream"),
        body,
    )
}

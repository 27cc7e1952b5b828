//! What is where.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use serde_json::json;

use super::http::{Request, respond, respond_with};
use super::{Shared, models};
use crate::check::HELLO;

/// A file, or a part of it (RFC 9110 §14.1.2, one range from a first byte on).
fn file(request: &Request, (content_type, content): (&str, &[u8]), out: &mut impl Write) -> io::Result<()> {
    let length = content.len();
    if request.method == "HEAD" {
        return write!(out, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\naccept-ranges: bytes\r\n\r\n");
    }
    let ends = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, end)) = ends else {
        return respond_with(out, "200 OK", &[content_type, "accept-ranges: bytes"], content);
    };
    let (first, end): (usize, usize) =
        (first.parse().unwrap(), end.parse().map_or(length, |last: usize| last + 1));
    let part = &content[first..end.min(length)];
    let range = format!("content-range: bytes {first}-{}/{length}", first + part.len() - 1);
    respond_with(out, "206 Partial Content", &[content_type, &range], part)
}

pub fn answer(request: &Request, shared: &Shared, out: &mut impl Write) -> io::Result<()> {
    if let Some((content_type, content)) = shared.files.lock().unwrap().get(&request.path) {
        return file(request, (content_type, content), out);
    }
    // What asks for a login, as git waits to be asked.
    let path = match request.path.strip_prefix("/private") {
        Some(_) if request.header("authorization").is_none() => return ask(out),
        Some(path) => path,
        None => &request.path,
    };
    match path {
        "/hello" => respond(out, "200 OK", "text/plain", HELLO.as_bytes()),
        "/echo" => respond(out, "200 OK", "text/plain", request.head.as_bytes()),
        "/size" => respond(out, "200 OK", "text/plain", request.body.len().to_string().as_bytes()),
        "/v1/chat/completions" => models::openai(request, out),
        "/oauth/token" => tokens(request, shared, out),
        APP_TOKENS => app_token(shared, out),
        GOOGLE_TOKENS => google_token(shared, out),
        "/v2/" | IMAGE_TAGS if request.header("authorization").is_none() => ask(out),
        "/v2/" => respond(out, "200 OK", "application/json", b"{}"),
        IMAGE_TAGS => respond(out, "200 OK", "application/json", br#"{"name":"demo","tags":["one-tag"]}"#),
        "/v1/messages" => models::anthropic(request, out),
        path if path.starts_with("/git/") => git(request, path, (shared, out)),
        _ => respond(out, "404 Not Found", "text/plain", b"nothing here"),
    }
}

/// A token server: each refresh token is good once, and the first access token ends soon. It says the token more often
/// than it has to.
fn tokens(request: &Request, shared: &Shared, out: &mut impl Write) -> io::Result<()> {
    let mut given = shared.tokens_given.lock().unwrap();
    let refresh = if *given == 0 { crate::proxy::KEY.to_owned() } else { format!("refresh-token-{given}") };
    let expected = format!("grant_type=refresh_token&refresh_token={refresh}&client_id=client");
    if request.body != expected.as_bytes() {
        return respond(out, "400 Bad Request", "application/json", br#"{"error":"invalid_grant"}"#);
    }
    *given += 1;
    let (number, life) = (*given, if *given == 1 { 30 } else { 3600 });
    drop(given);
    let (held, told) = &shared.tokens_held;
    drop(told.wait_while(held.lock().unwrap(), |held| *held).unwrap());
    let (token, refresh) = (format!("access-token-{number}"), format!("refresh-token-{number}"));
    let answer = json!({ "access_token": token, "token_type": "Bearer", "expires_in": life,
                         "refresh_token": refresh, "note": format!("you got {token}") });
    let status = format!("200 OK\r\nset-cookie: login={token}");
    respond(out, &status, "application/json", answer.to_string().as_bytes())
}

/// What a registry of container images has of `demo`.
const IMAGE_TAGS: &str = "/v2/demo/tags/list";
/// Where GitHub makes tokens of an installation.
const APP_TOKENS: &str = "/app/installations/7/access_tokens";
/// Where Google makes tokens of a service account.
const GOOGLE_TOKENS: &str = "/google/token";

/// Whether tokens are made there of what is signed with a key; what is asked is for the test to check.
pub fn makes_tokens(path: &str) -> bool {
    [APP_TOKENS, GOOGLE_TOKENS].contains(&path)
}

/// How many tokens there were with this one, and how long it is good, in seconds: the first ends soon.
fn next_token(shared: &Shared) -> (u32, u32) {
    let mut given = shared.tokens_given.lock().unwrap();
    *given += 1;
    (*given, if *given == 1 { 30 } else { 3600 })
}

fn app_token(shared: &Shared, out: &mut impl Write) -> io::Result<()> {
    let (number, life) = next_token(shared);
    let end = Command::new("date")
        .args(["-u", "-d", &format!("{life} seconds"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()?;
    let answer = json!({ "token": format!("minted-token-{number}"), "permissions": { "contents": "read" },
                         "expires_at": String::from_utf8_lossy(&end.stdout).trim() });
    respond(out, "201 Created", "application/json", answer.to_string().as_bytes())
}

fn google_token(shared: &Shared, out: &mut impl Write) -> io::Result<()> {
    let (number, life) = next_token(shared);
    let answer = json!({ "access_token": format!("minted-token-{number}"), "expires_in": life, "token_type": "Bearer" });
    respond(out, "200 OK", "application/json", answer.to_string().as_bytes())
}

fn ask(out: &mut impl Write) -> io::Result<()> {
    let head =
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"t\"\r\ncontent-length: 0\r\n\r\n";
    out.write_all(head.as_bytes())
}

/// git's own server program, by CGI (RFC 3875).
fn git(request: &Request, path: &str, (shared, out): (&Shared, &mut impl Write)) -> io::Result<()> {
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &shared.repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "test")
        .env("PATH_INFO", path.trim_start_matches("/git"))
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

//! `GET /metrics`, and nothing else: one answer per connection.

use std::convert::Infallible;
use std::time::Duration;

use glue::audit::AuditFile;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use netproxy::Proxy;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest that a reader may take.
const LONGEST: Duration = Duration::from_secs(5);

/// Answers one client.
pub async fn serve(stream: TcpStream, proxy: &Proxy, audit: Option<&AuditFile>) {
    let service =
        service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, proxy, audit))));
    let connection = Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    // A reader that is slow or gone misses its answer.
    let _ = timeout(LONGEST, connection).await;
}

fn answer(request: &Request<Incoming>, proxy: &Proxy, audit: Option<&AuditFile>) -> Response<String> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            (StatusCode::OK, proxy.metrics_text() + &audit.map(AuditFile::metrics_text).unwrap_or_default())
        }
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn ask(head: &str, audit: Option<AuditFile>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let proxy = Proxy::builder().build().unwrap();
        let server = tokio::spawn(async move { serve(stream, &proxy, audit.as_ref()).await });
        client.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        server.await.unwrap();
        text
    }

    #[tokio::test]
    async fn the_metrics_and_nothing_else_are_answered() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile::open(&folder.path().join("log"), None, |_| ()).unwrap();
        let text = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Some(file)).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("\nagent_sandbox_proxy_client_connections 0\n"), "{text}");
        assert!(text.ends_with("\nagent_sandbox_audit_waiting_bytes 0\n"), "{text}");
        for (head, status) in [
            ("POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
            ("GET http://example.com/ HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ] {
            assert!(ask(head, None).await.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        }
    }
}

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use http::HeaderValue;

use super::*;

/// Takes so many bytes at a time.
struct Narrow(usize, Vec<u8>);

impl AsyncWrite for Narrow {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.0);
        self.1.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A body in these pieces.
#[derive(Default)]
struct Pieces {
    left: VecDeque<Result<Frame<Bytes>, io::Error>>,
    /// It tells its end with its last piece.
    knows_its_end: bool,
}

impl Pieces {
    fn of(pieces: &[&'static str]) -> Self {
        let left = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        Self { left: left.collect(), knows_its_end: false }
    }

    fn and(mut self, frame: Result<Frame<Bytes>, io::Error>) -> Self {
        self.left.push_back(frame);
        self
    }

    fn knowing(self) -> Self {
        Self { knows_its_end: true, ..self }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.left.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.left.is_empty()
    }
}

/// What is sent of a request with these fields and this body.
fn sent(
    fields: &[(&'static str, &'static str)],
    body: Pieces,
    narrow: usize,
) -> (Result<(), NotSent>, String) {
    let mut request = Request::post("/x?y").body(body).unwrap();
    for (name, value) in fields {
        request.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    let (mut upload, mut out) = (Upload::new(request), Narrow(narrow, Vec::new()));
    let mut nobody = Context::from_waker(Waker::noop());
    let Poll::Ready(done) = upload.poll(Pin::new(&mut out), &mut nobody) else { panic!("it waits") };
    (done, String::from_utf8(out.1).unwrap())
}

fn trailers() -> Frame<Bytes> {
    let fields = [("x-sum", "1"), ("x-secret", "2")];
    let fields = fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Frame::trailers(fields.into_iter().collect())
}

#[test]
fn a_request_is_written_the_same_whatever_the_connection_takes_at_a_time() {
    const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");
    type Case = (&'static [(&'static str, &'static str)], fn() -> Pieces, &'static str);
    let cases: [Case; 6] = [
        (&[("host", "a")], || Pieces::default().knowing(), "host: a\r\n\r\n"),
        (
            &[("content-length", "5")],
            || Pieces::of(&["he", "", "llo"]).knowing(),
            "content-length: 5\r\n\r\nhello",
        ),
        (&[("content-length", "5")], || Pieces::of(&["hello"]), "content-length: 5\r\n\r\nhello"),
        (
            &[CHUNKED],
            || Pieces::of(&["hello world, and more", "", "!"]).knowing(),
            "transfer-encoding: chunked\r\n\r\n15\r\nhello world, and more\r\n1\r\n!\r\n0\r\n\r\n",
        ),
        // The end comes after an empty piece.
        (
            &[CHUNKED],
            || Pieces::of(&["a", ""]).knowing(),
            "transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        ),
        (
            &[CHUNKED, ("trailer", "X-Other, X-Sum")],
            || Pieces::of(&["a"]).and(Ok(trailers())),
            "transfer-encoding: chunked\r\ntrailer: X-Other, X-Sum\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\n\r\n",
        ),
    ];
    for (fields, body, expected) in cases {
        for narrow in [1, 3, usize::MAX] {
            let expected = format!("POST /x?y HTTP/1.1\r\n{expected}");
            assert_eq!(sent(fields, body(), narrow), (Ok(()), expected), "{narrow}");
        }
    }
}

/// The upstream would take the next request for the rest of it, or what is too much for the next request.
#[test]
fn a_body_that_is_not_as_long_as_was_said_or_breaks_off_is_not_sent_whole() {
    let broken = || Pieces::of(&["he"]).and(Err(io::ErrorKind::Other.into()));
    for (field, body) in [
        (("content-length", "5"), Pieces::of(&["hell"])),
        (("content-length", "5"), Pieces::of(&["hell"]).knowing()),
        (("content-length", "5"), Pieces::of(&["hell", "o!"])),
        (("content-length", "5"), broken()),
        (("transfer-encoding", "chunked"), broken()),
        (("host", "a"), Pieces::of(&["a"])),
    ] {
        let (done, out) = sent(&[field], body, usize::MAX);
        assert_eq!(done, Err(NotSent::Body), "{out}");
        assert!(!out.ends_with("0\r\n\r\n") && !out.ends_with("o!"), "{out}");
    }
}

#[test]
fn a_connection_that_takes_nothing_is_given_up() {
    let (done, out) = sent(&[("host", "a")], Pieces::default().knowing(), 0);
    assert_eq!((done, out.as_str()), (Err(NotSent::Connection), ""));
}

/// As TLS does, it keeps what it takes until it is told to let it go.
#[derive(Default)]
struct Keeping {
    kept: Vec<u8>,
    gone: Vec<u8>,
}

impl AsyncWrite for Keeping {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.kept.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut kept = std::mem::take(&mut self.kept);
        self.gone.append(&mut kept);
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Says "abc", and then nothing for now.
struct Hesitant(Option<Frame<Bytes>>);

impl Body for Hesitant {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.take().map_or(Poll::Pending, |frame| Poll::Ready(Some(Ok(frame))))
    }
}

/// Else the upstream would wait for it, and we for the upstream.
#[test]
fn nothing_is_kept_back_at_the_end_nor_while_the_body_is_waited_for() {
    let mut nobody = Context::from_waker(Waker::noop());
    let (mut upload, mut io) =
        (Upload::new(Request::post("/x").body(Pieces::default()).unwrap()), Keeping::default());
    assert_eq!(upload.poll(Pin::new(&mut io), &mut nobody), Poll::Ready(Ok(())));
    assert_eq!(String::from_utf8_lossy(&io.gone), "POST /x HTTP/1.1\r\n\r\n");
    let waits = Hesitant(Some(Frame::data(Bytes::from_static(b"abc"))));
    let request = Request::post("/x").header("transfer-encoding", "chunked").body(waits).unwrap();
    let (mut upload, mut io) = (Upload::new(request), Keeping::default());
    assert_eq!(upload.poll(Pin::new(&mut io), &mut nobody), Poll::Pending);
    assert!(io.kept.is_empty() && io.gone.ends_with(b"\r\n\r\n3\r\nabc\r\n"));
}

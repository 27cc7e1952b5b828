use super::*;

/// What an answer is read as: status, body, trailers, whether it is whole, and whether its connection persists.
type Read = (u16, String, Vec<String>, bool, bool);

fn read(method: &Method, text: &str, cut: usize) -> Result<Option<Read>, AnswerError> {
    let (mut buffer, mut heads, mut answer) = (BytesMut::new(), Heads::new(200), None::<Answer>);
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    for chunk in text.as_bytes().chunks(cut) {
        buffer.extend_from_slice(chunk);
        if answer.is_none() {
            answer = heads.take(&mut buffer, method)?;
        }
        let Some(answer) = &mut answer else { continue };
        loop {
            match answer.body.take(&mut buffer)? {
                Piece::Need => break,
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::Trailers(fields) => {
                    let fields = fields.iter().map(|(name, value)| format!("{name}: {value:?}"));
                    trailers.extend(fields);
                }
                Piece::End => {
                    assert!(answer.body.is_over() && answer.body.left() == Some(0));
                    break;
                }
            }
        }
    }
    let Some(mut answer) = answer else { return Ok(None) };
    let body = String::from_utf8(body).unwrap();
    Ok(Some((answer.status.as_u16(), body, trailers, answer.body.end(), answer.persists)))
}

#[test]
fn as_many_trailers_are_borne_as_fields_of_a_head() {
    for (count, borne) in [(HEADER_FIELDS_MAX, true), (HEADER_FIELDS_MAX + 1, false)] {
        let text = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}\r\n",
            "A: b\r\n".repeat(count)
        );
        for cut in [usize::MAX, 1] {
            assert_eq!(read(&Method::GET, &text, cut).is_ok(), borne, "{count}");
        }
    }
}

/// What is wrong behind a piece of a body does not take that piece away, however they come.
#[test]
fn what_came_before_a_bad_chunk_is_given_out() {
    let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nno\r\n";
    let mut buffer = BytesMut::from(&text[..]);
    let mut body = Heads::new(200).take(&mut buffer, &Method::GET).unwrap().unwrap().body;
    assert!(matches!(body.take(&mut buffer), Ok(Piece::Data(data)) if data == "hello"));
    assert!(matches!(body.take(&mut buffer), Err(AnswerError::Chunk)) && !body.end());
}

/// Each in one piece, byte by byte, and in threes.
fn check(method: &Method, text: &str, expected: &Result<Option<Read>, AnswerError>) {
    for cut in [usize::MAX, 1, 3] {
        assert_eq!(&read(method, text, cut), expected, "{method} {text:?}");
    }
}

#[test]
fn an_answer_ends_where_rfc_9112_says() {
    for (method, head, rest, (body, whole, persists)) in [
        (Method::GET, "1.1 200 OK\r\nContent-Length: 5", "hello", ("hello", true, true)),
        (Method::GET, "1.1 200 OK\r\nContent-Length: 5", "hell", ("hell", false, true)),
        (Method::GET, "1.1 200 OK\r\nContent-Length: 5", "helloHTTP/1.1 200 OK", ("hello", true, true)),
        (Method::GET, "1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2, 2", "ab", ("ab", true, true)),
        (Method::GET, "1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close", "a", ("a", true, false)),
        (Method::GET, "1.0 200 OK\r\nContent-Length: 1", "a", ("a", true, false)),
        (Method::GET, "1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive", "a", ("a", true, true)),
        (Method::GET, "1.1 200", "all", ("all", true, false)),
        (Method::GET, "1.1 200 OK\r\nTransfer-Encoding: Chunked", "1\r\na\r\n0\r\n\r\n", ("a", true, true)),
        (Method::GET, "1.1 200 OK\r\nTransfer-Encoding: chunked", "1\r\na\r\n0\r\n", ("a", false, true)),
        (Method::GET, "1.1 200 OK\r\nTransfer-Encoding: chunked", "2\r\na", ("a", false, true)),
        // Some pad sizes with blanks.
        (
            Method::GET,
            "1.1 200 OK\r\nTransfer-Encoding: chunked",
            "2 \r\nab\r\n1\t;x=y\r\nc\r\n0  \r\n\r\nnext",
            ("abc", true, true),
        ),
        // Framed twice: chunked wins, and nothing follows.
        (
            Method::GET,
            "1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            "1\r\na\r\n0\r\n\r\n",
            ("a", true, false),
        ),
        (Method::HEAD, "1.1 200 OK\r\nContent-Length: 5", "", ("", true, true)),
        (Method::HEAD, "1.1 200 OK\r\nTransfer-Encoding: chunked", "", ("", true, true)),
        (Method::GET, "1.1 204 No Content\r\nContent-Length: 5", "", ("", true, true)),
        (Method::GET, "1.1 304 Not Modified\r\nContent-Length: 5", "", ("", true, true)),
        (Method::GET, "1.1 101 Switching Protocols\r\nContent-Length: 5", "frames", ("", true, true)),
    ] {
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        let expected = Ok(Some((status, body.to_owned(), Vec::new(), whole, persists)));
        check(&method, &format!("HTTP/{head}\r\n\r\n{rest}"), &expected);
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        check(&method, &format!("{interim}HTTP/{head}\r\n\r\n{rest}"), &expected);
        check(&method, &format!("\r\n\r\nHTTP/{head}\r\n\r\n{rest}"), &expected);
        let bare = head.replace("\r\n", "\n");
        check(&method, &format!("HTTP/{bare}\n\n{rest}"), &expected);
    }
}

#[test]
fn a_length_that_is_said_twice_is_passed_on_once() {
    for (lengths, status, method) in [
        ("5, 5", 200, Method::GET),
        ("5\r\nContent-Length: 5", 200, Method::GET),
        ("5, 5", 200, Method::HEAD),
        ("5\r\nContent-Length: 5", 304, Method::GET),
    ] {
        let head = |lengths| format!("HTTP/1.1 {status} OK\r\nContent-Length: {lengths}\r\n\r\n");
        let mut buffer = BytesMut::from(head(lengths).as_str());
        let answer = Heads::new(200).take(&mut buffer, &method).unwrap().unwrap();
        assert_eq!(answer.headers.get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["5"]);
        for wrong in ["5, 6", "0x5", "+5", ""] {
            let mut buffer = BytesMut::from(head(wrong).as_str());
            let refused = Heads::new(200).take(&mut buffer, &method).unwrap_err();
            assert_eq!(refused, AnswerError::Length, "{wrong}");
        }
    }
}

#[test]
fn trailers_come_after_all_of_the_body() {
    let text =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: 1\r\nhost:  2 \r\n\r\n";
    let trailers = vec!["x-a: \"1\"".to_owned(), "host: \"2\"".to_owned()];
    check(&Method::GET, text, &Ok(Some((200, "a".to_owned(), trailers, true, true))));
}

#[test]
fn what_is_no_answer_is_refused() {
    let long = format!("1.1 200 OK\r\nX: {}", "x".repeat(200));
    let many = format!("1.1 200 OK\r\n{}", "A:\r\n".repeat(HEADER_FIELDS_MAX + 1));
    for (head, error) in [
        ("2 200 OK", AnswerError::Malformed),
        ("1.2 200 OK", AnswerError::Malformed),
        ("1.1 20 OK", AnswerError::Malformed),
        ("1.1 099 OK", AnswerError::Malformed),
        ("1.1 200 OK\r\nNo colon", AnswerError::Malformed),
        ("1.1 200 OK\r\nA : b", AnswerError::Malformed),
        ("1.1 200 OK\r\nA: b\r\n folded", AnswerError::Malformed),
        ("1.1 200 OK\r\nA: \0", AnswerError::Malformed),
        ("1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2", AnswerError::Length),
        ("1.1 200 OK\r\nContent-Length: 1, 2", AnswerError::Length),
        ("1.1 200 OK\r\nContent-Length: +1", AnswerError::Length),
        ("1.1 200 OK\r\nContent-Length: ", AnswerError::Length),
        ("1.0 200 OK\r\nTransfer-Encoding: chunked", AnswerError::Length),
        ("1.1 200 OK\r\nTransfer-Encoding: gzip", AnswerError::Length),
        ("1.1 200 OK\r\nTransfer-Encoding: gzip, chunked", AnswerError::Length),
        ("1.1 200 OK\r\nTransfer-Encoding: chunked, gzip", AnswerError::Length),
        ("1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", AnswerError::Length),
        ("1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 1", AnswerError::Length),
        ("1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1", AnswerError::Chunk),
        ("1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab", AnswerError::Chunk),
        ("1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 2", AnswerError::Chunk),
        (&long, AnswerError::TooLarge),
        // Above both limits.
        (&many, AnswerError::TooLarge),
    ] {
        check(&Method::GET, &format!("HTTP/{head}\r\n\r\n"), &Err(error));
    }
    // At once: it may say no more.
    for (begin, error) in [
        ("500 bad command\r\n", true),
        ("SSH-2.0-x", true),
        ("\r\n\nHTT", false),
        ("\n\r", false),
        ("\n\rH", true),
    ] {
        let mut buffer = BytesMut::from(begin);
        assert_eq!(Heads::new(200).take(&mut buffer, &Method::GET).is_err(), error, "{begin}");
    }
    // Not yet.
    check(&Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n", &Ok(None));
    check(&Method::GET, "HTTP/1.1 100 Continue\r\n\r\n", &Ok(None));
}

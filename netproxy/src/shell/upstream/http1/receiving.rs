//! The body of an answer on its way from an upstream over HTTP/1.1. It holds the connection, and gives it back when the
//! exchange has ended whole. Must never give back one in which anything of the exchange is left, or say that a body which was cut
//! off has ended.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;
use tokio::io::{AsyncRead, ReadHalf};
use tokio::sync::oneshot;

use super::{Sender, Stream};
use crate::shell::stream::buffer::Buffer;
use crate::shell::stream::rewind::Rewind;
use crate::wire::answer::{Body, Piece};

pub struct Receiving {
    over: Over,
    body: Body,
}

enum Over {
    /// The whole request is sent. `None` once the connection was taken.
    Alone { sender: Option<Sender>, persists: bool },
    /// What is left of the request is sent by a task.
    Beside { read: Option<Reading>, buffer: Buffer, upload: Option<oneshot::Sender<Reading>> },
}

/// The side of a stream that an answer comes from.
pub type Reading = ReadHalf<Box<dyn Stream>>;

impl Receiving {
    /// `persists`: the connection can be used again.
    pub fn alone(sender: Sender, body: Body, persists: bool) -> Self {
        Self { over: Over::Alone { sender: Some(sender), persists }, body }
    }

    /// `upload` is who sends the rest of the request. It is given the stream once the answer is here whole, and ends where it
    /// never is.
    pub fn beside(upload: oneshot::Sender<Reading>, (read, buffer): (Reading, Buffer), body: Body) -> Self {
        Self { over: Over::Beside { read: Some(read), buffer, upload: Some(upload) }, body }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let (io, buffer): (&mut (dyn AsyncRead + Unpin), _) = match &mut self.over {
            Over::Alone { sender: Some(sender), .. } => sender.reader(),
            Over::Beside { read: Some(read), buffer, .. } => (read, buffer),
            Over::Alone { .. } | Over::Beside { .. } => return Poll::Ready(None),
        };
        loop {
            match self.body.take(&mut buffer.bytes) {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(fields)) => return Poll::Ready(Some(Ok(Frame::trailers(fields)))),
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::Need) => {}
                Err(error) => {
                    return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::InvalidData, error))));
                }
            }
            if ready!(buffer.poll_fill(io, cx))? == 0 {
                let cut = (!self.body.end()).then(|| Err(io::ErrorKind::UnexpectedEof.into()));
                return Poll::Ready(cut);
            }
        }
    }

    pub fn is_over(&self) -> bool {
        self.body.is_over()
    }

    /// Bytes that are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.body.left()
    }

    /// The connection, once nothing of this exchange is left in it, if it can be used again.
    pub fn take_sender(&mut self) -> Option<Sender> {
        match &mut self.over {
            Over::Alone { sender, persists: true } if self.body.is_over() => sender.take(),
            _ => None,
        }
    }

    /// The connection, and what came after the head of a `101`.
    pub fn take_stream(&mut self) -> Option<Rewind<Box<dyn Stream>>> {
        match &mut self.over {
            Over::Alone { sender, .. } => sender.take().map(Sender::into_stream),
            Over::Beside { .. } => None,
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let is_over = self.body.is_over();
        match &mut self.over {
            Over::Alone { sender, .. } if is_over => {
                if let Some(sender) = sender.take() {
                    sender.close();
                }
            }
            // Where the answer breaks off, the request matters to nobody.
            Over::Beside { read, upload, .. } if is_over => {
                if let Some((read, upload)) = read.take().zip(upload.take()) {
                    // It may have sent all meanwhile.
                    let _ = upload.send(read);
                }
            }
            Over::Alone { .. } | Over::Beside { .. } => {}
        }
    }
}

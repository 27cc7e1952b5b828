//! Bodies passing by: counted, bounded in silence, searched for secrets, and never collected.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::held::{Held, Room, no_room};
use super::search::Search;
use crate::audit::Layer;
use crate::coding::CodingError;
use crate::hooks::{BodyFilter, HeaderFate, ResponseFilter};
use crate::refuse::{Kind, Refusal};
use crate::shell::exchange::body_too_large;
use crate::shell::ledger::{Ledger, Sent};
use crate::shell::stream::incoming::Incoming;
use crate::shell::stream::silence::Silence;
use crate::shell::upstream::pool::{Place, give_back};
use crate::shell::upstream::{body_too_quiet, malformed_body};
use crate::trailers;

/// The body of a request on its way up, with the trailers that may be; `None` where there is none. Small, as requests
/// are handed on from one place to the next.
pub struct RequestBody(Option<Box<Sending>>);

/// What of it is sent.
pub enum What {
    /// What comes in, as it comes.
    Incoming,
    /// This in its place, in hand already.
    Held(Held),
    /// What comes in, through this.
    Through(Box<dyn BodyFilter>, Room),
}

struct Sending {
    /// Before what comes in, with which the request ceases to count as under way: it is recorded first.
    sent: Arc<Sent>,
    incoming: Incoming,
    silence: Silence,
    bytes_max: Option<u64>,
    /// Bytes that came in.
    came: u64,
    /// In hand already; nothing more comes in.
    held: Option<Held>,
    filter: Option<(Box<dyn BodyFilter>, Room)>,
}

impl RequestBody {
    #[cfg(test)]
    pub fn none() -> Self {
        Self(None)
    }

    pub fn new(
        (incoming, what): (Incoming, What),
        idle: Duration,
        (sent, bytes_max): (Arc<Sent>, Option<u64>),
    ) -> Self {
        let (held, filter) = match what {
            What::Incoming if incoming.is_end_stream() => return Self(None),
            What::Incoming => (None, None),
            What::Held(held) => (Some(held), None),
            // An empty body too may be one that the filter refuses.
            What::Through(filter, room) => (None, Some((filter, room))),
        };
        let silence = Silence::new(idle);
        Self(Some(Box::new(Sending { incoming, silence, sent, bytes_max, came: 0, held, filter })))
    }
}

impl Sending {
    /// No more of it may go, for this reason.
    fn cut(&self, refusal: impl FnOnce() -> Refusal) -> io::Error {
        io::Error::other(self.sent.cut.get_or_init(|| Box::new(refusal())).detail.clone())
    }

    fn poll_held(&mut self) -> Option<Frame<Bytes>> {
        let held = self.held.as_mut()?;
        match std::mem::take(&mut held.bytes) {
            bytes if bytes.is_empty() => held.trailers.take().map(|mut fields| {
                trailers::clean(&mut fields);
                Frame::trailers(fields)
            }),
            bytes => {
                count(&self.sent.bytes, bytes.len());
                Some(Frame::data(bytes))
            }
        }
    }

    /// What may be sent of the next bytes, or of what was held back when there are no more.
    fn filtered(&mut self, next: Option<Bytes>) -> Result<Bytes, io::Error> {
        let Some((filter, room)) = &mut self.filter else { return Ok(next.unwrap_or_default()) };
        let is_last = next.is_none();
        let out = match next {
            Some(bytes) => filter.push(bytes),
            None => filter.finish(),
        };
        let fits = room.set(filter.held_bytes());
        if is_last {
            self.filter = None;
        }
        match out {
            Err(error) => Err(self.cut(|| Refusal::new(Kind::BodyRefused, Layer::Http, error.reason))),
            Ok(_) if !fits => Err(self.cut(no_room)),
            Ok(bytes) => Ok(bytes),
        }
    }

    fn check_length(&mut self, data: &Bytes) -> Result<(), io::Error> {
        self.came = self.came.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        match self.bytes_max.filter(|most| self.came > *most) {
            Some(most) => Err(self.cut(|| body_too_large(most))),
            None => Ok(()),
        }
    }

    fn sending(&self, data: Bytes) -> Option<Result<Frame<Bytes>, io::Error>> {
        count(&self.sent.bytes, data.len());
        Some(Ok(Frame::data(data)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |sending| sending.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|sending| sending.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |sending| sending.size_hint())
    }
}

impl Sending {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.held.is_some() {
            return Poll::Ready(self.poll_held().map(Ok));
        }
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Pending => {
                    ready!(self.silence.poll_over(cx));
                    return Poll::Ready(Some(Err(self.cut(body_too_quiet))));
                }
                Poll::Ready(None) => {
                    let rest = self.filtered(None)?;
                    return Poll::Ready(if rest.is_empty() { None } else { self.sending(rest) });
                }
                Poll::Ready(Some(Err(error))) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        return Poll::Ready(Some(Err(self.cut(malformed_body))));
                    }
                    self.sent.break_off(&error);
                    return Poll::Ready(Some(Err(io::Error::other(error))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    self.silence.heard();
                    match frame.into_data().map_err(Frame::into_trailers) {
                        Ok(data) => {
                            self.check_length(&data)?;
                            let mut data = self.filtered(Some(data))?;
                            if self.incoming.is_end_stream() {
                                data = joined(data, self.filtered(None)?);
                            }
                            // A filter may hold a chunk back whole.
                            if !data.is_empty() {
                                return Poll::Ready(self.sending(data));
                            }
                        }
                        Err(Ok(fields)) => {
                            // They wait for what the filter held back.
                            self.held = Some(Held {
                                bytes: self.filtered(None)?,
                                trailers: Some(fields),
                                _room: None,
                            });
                            return Poll::Ready(self.poll_held().map(Ok));
                        }
                        // No other kind of frame exists.
                        Err(Err(_)) => {}
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.held {
            Some(held) => held.bytes.is_empty() && held.trailers.is_none(),
            None => self.filter.is_none() && self.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.held {
            Some(held) => SizeHint::with_exact(u64::try_from(held.bytes.len()).unwrap_or(u64::MAX)),
            None => self.incoming.size_hint(),
        }
    }
}

pub fn joined(first: Bytes, second: Bytes) -> Bytes {
    if second.is_empty() { first } else { Bytes::from([&first[..], &second[..]].concat()) }
}

pub fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
}

fn too_quiet() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no byte of the answer came in time")
}

/// The body of an answer: one of ours, or a response passing by.
pub enum Reply {
    /// Of ours.
    Whole(Option<Bytes>),
    /// From an upstream.
    Passing(Box<Passing>),
}

/// A response passing by. Its audit record is written when it is dropped: at its end, or when either side
/// has broken off.
pub struct Passing {
    incoming: Incoming,
    search: Option<Search>,
    silence: Silence,
    ledger: Ledger,
    /// Where its connection leads.
    place: Option<Place>,
    /// They wait for what the filter held back.
    trailers: Option<Box<HeaderMap>>,
    /// Why it breaks off, said next.
    broken: Option<io::Error>,
    ended: bool,
}

impl Passing {
    pub fn new(incoming: Incoming, search: Option<Search>, place: Place, ledger: Ledger) -> Self {
        // Without a body there is nothing to search, and the server never asks for any.
        let ended = incoming.is_end_stream();
        let search = search.filter(|_| !ended);
        let silence = Silence::new(ledger.shared().limits.idle_timeout);
        let place = Some(place);
        let mut passing =
            Self { incoming, search, silence, ledger, place, trailers: None, broken: None, ended };
        passing.give_back_if_ended();
        passing
    }

    /// The connection is free again once nothing of this exchange is left in it.
    fn give_back_if_ended(&mut self) {
        if let Incoming::Upstream(receiving) = &mut self.incoming
            && let Some(sender) = receiving.take_sender()
            && let Some(place) = self.place.take()
        {
            give_back(self.ledger.shared(), place, sender);
        }
    }

    /// Nothing of it is to come.
    fn is_over(&self) -> bool {
        self.ended || (self.search.is_none() && self.incoming.is_end_stream())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match ready!(self.poll_piece(cx)) {
            // At an error the server throws away what it has not sent yet. The client gets what came before.
            Some(Err(error)) => {
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            piece => Poll::Ready(piece),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                self.ended = true;
                return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let data = match self.search.as_mut().and_then(Search::more) {
                Some(more) => more,
                None => match Pin::new(&mut self.incoming).poll_frame(cx) {
                    Poll::Pending => {
                        if let Some(held) = self.search.as_mut().and_then(Search::quiet) {
                            self.ledger.down(held.len());
                            return Poll::Ready(Some(Ok(Frame::data(held))));
                        }
                        ready!(self.silence.poll_over(cx));
                        self.ledger.fail("response_too_quiet");
                        return Poll::Ready(Some(Err(too_quiet())));
                    }
                    Poll::Ready(Some(Err(error))) => {
                        self.ledger.fail("upstream_broke_off");
                        if error.kind() == io::ErrorKind::InvalidData {
                            self.ledger.note(|record| record.reason = Some(error.to_string()));
                        }
                        return Poll::Ready(Some(Err(io::Error::other(error))));
                    }
                    Poll::Ready(None) => self.finish().inspect(|_| self.ended = true),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Err(frame) => self.take_trailers(frame),
                        Ok(data) => self.searched(data),
                    },
                },
            };
            let data = match data {
                Ok(data) => data,
                Err(error) => return Poll::Ready(Some(Err(self.undecodable(error)))),
            };
            self.silence.heard();
            if let Some(search) = &self.search {
                self.ledger.redactions(search.redactions());
            }
            self.give_back_if_ended();
            // A filter may hold a chunk back whole.
            if !data.is_empty() {
                self.ledger.down(data.len());
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            // What decodes to little may take long.
            if !self.ended && self.search.as_ref().is_some_and(Search::decodes) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// What of `data` may be sent now. Where it is known to be the last, what the filter held back goes with it, and the end
    /// needs no turn, and no frame, of its own.
    fn searched(&mut self, data: Bytes) -> Result<Bytes, CodingError> {
        let Some(search) = &mut self.search else { return Ok(data) };
        let mut data = search.body(data)?;
        if self.incoming.is_end_stream() && !search.decodes() {
            data = joined(data, search.finish()?);
            self.ended = true;
        }
        Ok(data)
    }

    /// What the filter held back.
    fn finish(&mut self) -> Result<Bytes, CodingError> {
        self.search.as_mut().map_or_else(|| Ok(Bytes::new()), Search::finish)
    }

    /// The client must not take what it has for the whole.
    fn undecodable(&mut self, error: CodingError) -> io::Error {
        self.ledger.fail(error.code());
        self.ledger.note(|record| record.reason = Some(error.to_string()));
        io::Error::other(error)
    }

    /// Trailers end the body. They are searched as headers are.
    fn take_trailers(&mut self, frame: Frame<Bytes>) -> Result<Bytes, CodingError> {
        let Ok(mut fields) = frame.into_trailers() else { return Ok(Bytes::new()) };
        trailers::clean(&mut fields);
        if let Some(search) = &mut self.search {
            search.fields(&mut fields);
        }
        self.trailers = Some(Box::new(fields));
        self.finish()
    }
}

/// Takes secrets out of headers or trailers.
pub fn redact_fields(filter: &mut dyn ResponseFilter, fields: &mut HeaderMap) {
    let mut dropped = Vec::new();
    for (name, value) in fields.iter_mut() {
        match filter.header(name, value) {
            HeaderFate::Keep => {}
            HeaderFate::Replace(clean) => *value = clean,
            HeaderFate::Drop => dropped.push(name.clone()),
        }
    }
    for name in dropped {
        fields.remove(name);
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if !self.is_over() {
            self.ledger.unheard();
        }
    }
}

impl Reply {
    /// Notes why it is cut short; what was noted first stays.
    pub fn fail(&mut self, error: &'static str) {
        if let Self::Passing(passing) = self {
            passing.ledger.fail(error);
        }
    }

    /// Notes that nobody is there to take the rest.
    pub fn unheard(&mut self) {
        if let Self::Passing(passing) = self {
            passing.ledger.unheard();
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passing(passing) => passing.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Passing(passing) => passing.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| u64::try_from(b.len()).unwrap_or(u64::MAX)))
            }
            Self::Passing(passing) if passing.search.is_some() => SizeHint::default(),
            Self::Passing(passing) => passing.incoming.size_hint(),
        }
    }
}

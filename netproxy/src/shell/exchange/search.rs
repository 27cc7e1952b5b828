//! How an answer is searched for secrets: decoded first, as it comes, or in its fields only.

use bytes::Bytes;
use http::header::ACCEPT_RANGES;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Body;

use super::body::redact_fields;
use super::opaque::FieldsOnly;
use crate::audit::Layer;
use crate::coding::{self, CodingError, Decoder, Lease, Room};
use crate::fields::has;
use crate::flow::{is_encoded_as_a_whole, is_part, is_redactable};
use crate::hooks::{OnOpaque, ResponseFilter};
use crate::refuse::{Kind, Refusal};
use crate::shell::stream::incoming::Incoming;

pub struct Search {
    filter: Box<dyn ResponseFilter>,
    /// Boxed: most answers need none, and do not carry its room about.
    decoder: Option<Box<Decoder>>,
    /// The body passes as it is.
    pub fields_only: bool,
    /// Parts may be asked for.
    parts: bool,
}

impl Search {
    /// Decided by the head of the answer. `lease` is the memory that was taken when an encoded answer was asked for, `parts`
    /// says whether a part of one may be.
    pub fn open(
        filter: Box<dyn ResponseFilter>,
        response: &Response<Incoming>,
        (lease, room): (Option<Lease>, &Room),
        (on_opaque, parts): (OnOpaque, bool),
    ) -> Result<Self, Box<Refusal>> {
        let headers = response.headers();
        let plain = Self { filter, decoder: None, fields_only: false, parts };
        // Without a body there is nothing to decode, and its fields are about another answer (`HEAD`, 304).
        if response.body().is_end_stream() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(plain);
        }
        let (readable, part) = (is_encoded_as_a_whole(headers), is_part(response.status(), headers));
        if readable && (parts || !part) && is_redactable(headers) {
            return Ok(plain);
        }
        if readable
            && !part
            && let Some(codings) = coding::codings(headers)
        {
            let decoder = Decoder::new(&codings, lease, room).map_err(no_room)?;
            return Ok(Self { decoder: decoder.map(Box::new), ..plain });
        }
        match on_opaque {
            OnOpaque::Refuse => {
                let detail = "the upstream's answer is in an unknown coding or character set, or partial, and cannot be searched for secrets";
                Err(Box::new(Refusal::new(Kind::NotRedactable, Layer::Upstream, detail)))
            }
            OnOpaque::Pass => {
                let filter: Box<dyn ResponseFilter> = Box::new(FieldsOnly(plain.filter));
                Ok(Self { filter, decoder: None, fields_only: true, parts })
            }
        }
    }

    /// Takes secrets out of headers or trailers, and says of them what is true of the body that passes.
    pub fn fields(&mut self, fields: &mut HeaderMap) {
        redact_fields(self.filter.as_mut(), fields);
        if self.decoder.is_some() {
            coding::after_decoding(fields);
        }
        // Of what is decoded here a client would ask for other bytes than the upstream counts.
        if (!self.parts || self.decoder.is_some()) && has(fields, &ACCEPT_RANGES) {
            fields.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
        }
    }

    /// Takes the next chunk and gives what may be sent now; may be empty, also where there is [more](Self::more).
    pub fn body(&mut self, chunk: Bytes) -> Result<Bytes, CodingError> {
        match &mut self.decoder {
            None => Ok(self.filter.body(chunk)),
            Some(decoder) => {
                decoder.push(chunk);
                self.more().unwrap_or_else(|| Ok(Bytes::new()))
            }
        }
    }

    /// Whether a chunk may give more than one piece. After an empty one others should have their turn.
    pub fn decodes(&self) -> bool {
        self.decoder.is_some()
    }

    /// More of the last chunk, until there is none: asked before each chunk.
    pub fn more(&mut self) -> Option<Result<Bytes, CodingError>> {
        let piece = self.decoder.as_mut()?.pull().transpose()?;
        Some(piece.map(|piece| if piece.is_empty() { piece } else { self.filter.body(piece) }))
    }

    /// Nothing comes for now: gives what may go of what was held back, if there is any.
    pub fn quiet(&mut self) -> Option<Bytes> {
        Some(self.filter.quiet()).filter(|held| !held.is_empty())
    }

    /// The body ended: gives what was held back.
    pub fn finish(&mut self) -> Result<Bytes, CodingError> {
        self.decoder.as_mut().map_or(Ok(()), |decoder| decoder.finish())?;
        Ok(self.filter.finish())
    }

    /// For what comes after the head of a `101`.
    pub fn into_filter(self) -> Box<dyn ResponseFilter> {
        self.filter
    }

    pub fn redactions(&self) -> u64 {
        self.filter.redactions()
    }
}

fn no_room(error: CodingError) -> Box<Refusal> {
    Box::new(Refusal::new(Kind::DecodingLimit, Layer::Upstream, error.to_string()))
}

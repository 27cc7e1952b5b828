//! A response whose body cannot be searched and may pass all the same: headers and trailers are still searched.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::hooks::{HeaderFate, ResponseFilter};

pub struct FieldsOnly(pub Box<dyn ResponseFilter>);

impl ResponseFilter for FieldsOnly {
    fn header(&mut self, name: &HeaderName, value: &HeaderValue) -> HeaderFate {
        self.0.header(name, value)
    }

    fn body(&mut self, chunk: Bytes) -> Bytes {
        chunk
    }

    fn finish(&mut self) -> Bytes {
        Bytes::new()
    }

    fn redactions(&self) -> u64 {
        self.0.redactions()
    }
}

//! The headers of a request as this crate sees them: names and values as bytes, edited in place.
//!
//! A trait, so that no HTTP crate is needed. Implemented for a vector of pairs and, with the feature
//! `http`, for `http::HeaderMap`. Must never keep a value.

use zeroize::Zeroizing;

/// A value that the header type refused. Secrets are checked when they are bound, so this means that the
/// header type is stricter than RFC 9110 §5.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header could not hold the credential: the value is not a legal header value")]
pub struct BadHeader;

/// Headers that can be read and edited.
pub trait HeaderAccess {
    /// Calls `see` with every name and value, until it returns `false`.
    fn visit(&self, see: &mut dyn FnMut(&[u8], &[u8]) -> bool);

    /// Calls `edit` with every name and value and puts what it returns in the place of the value.
    ///
    /// # Errors
    /// [`BadHeader`] if a new value is refused.
    fn rewrite(&mut self, edit: &mut HeaderEdit<'_>) -> Result<(), BadHeader>;

    /// Removes every header whose name is `doomed`; the test itself disregards case.
    fn remove(&mut self, doomed: &mut dyn FnMut(&[u8]) -> bool);

    /// Adds a header. Mark it as sensitive where the type can: it must not enter HPACK's dynamic table
    /// (RFC 7541 §7.1.3) or a debug print.
    ///
    /// # Errors
    /// [`BadHeader`] if name or value is refused.
    fn append(&mut self, name: &str, value: &[u8]) -> Result<(), BadHeader>;
}

/// Gives the new value for a header, or `None` to leave it.
pub type HeaderEdit<'a> = dyn FnMut(&[u8], &[u8]) -> Option<Zeroizing<Vec<u8>>> + 'a;

impl HeaderAccess for Vec<(Vec<u8>, Vec<u8>)> {
    fn visit(&self, see: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        for (name, value) in self {
            if !see(name, value) {
                return;
            }
        }
    }

    fn rewrite(&mut self, edit: &mut HeaderEdit<'_>) -> Result<(), BadHeader> {
        for (name, value) in self {
            if let Some(new) = edit(name, value) {
                *value = new.to_vec();
            }
        }
        Ok(())
    }

    fn remove(&mut self, doomed: &mut dyn FnMut(&[u8]) -> bool) {
        self.retain(|(name, _)| !doomed(name));
    }

    fn append(&mut self, name: &str, value: &[u8]) -> Result<(), BadHeader> {
        self.push((name.as_bytes().to_vec(), value.to_vec()));
        Ok(())
    }
}

#[cfg(feature = "http")]
impl HeaderAccess for http::HeaderMap {
    fn visit(&self, see: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        for (name, value) in self {
            if !see(name.as_str().as_bytes(), value.as_bytes()) {
                return;
            }
        }
    }

    fn rewrite(&mut self, edit: &mut HeaderEdit<'_>) -> Result<(), BadHeader> {
        for (name, value) in self.iter_mut() {
            if let Some(new) = edit(name.as_str().as_bytes(), value.as_bytes()) {
                *value = sensitive(&new)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, doomed: &mut dyn FnMut(&[u8]) -> bool) {
        // One pass over the names is cheaper than a look-up of each name that is seldom there.
        let names: Vec<_> = self.keys().filter(|name| doomed(name.as_str().as_bytes())).cloned().collect();
        for name in names {
            self.remove(name);
        }
    }

    fn append(&mut self, name: &str, value: &[u8]) -> Result<(), BadHeader> {
        let name = http::HeaderName::try_from(name).map_err(|_| BadHeader)?;
        self.try_append(name, sensitive(value)?).map_err(|_| BadHeader)?;
        Ok(())
    }
}

#[cfg(feature = "http")]
fn sensitive(value: &[u8]) -> Result<http::HeaderValue, BadHeader> {
    // One piece of memory for all clones of the value, cleared with the last of them.
    let value = bytes::Bytes::from_owner(Zeroizing::new(value.to_vec()));
    let mut value = http::HeaderValue::from_maybe_shared(value).map_err(|_| BadHeader)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exercise(headers: &mut dyn HeaderAccess) -> Vec<(String, String)> {
        headers.append("authorization", b"one").unwrap();
        headers.append("x-keep", b"two").unwrap();
        headers.append("authorization", b"three").unwrap();
        headers
            .rewrite(&mut |name, value| {
                (name == b"x-keep" && value == b"two").then(|| Zeroizing::new(b"2".to_vec()))
            })
            .unwrap();
        headers.remove(&mut |name| name.eq_ignore_ascii_case(b"Authorization"));
        let mut seen = Vec::new();
        headers.visit(&mut |name, value| {
            seen.push((String::from_utf8_lossy(name).into(), String::from_utf8_lossy(value).into()));
            true
        });
        seen
    }

    #[test]
    fn pairs_are_edited_without_regard_to_case() {
        let left = [("x-keep".to_owned(), "2".to_owned())];
        assert_eq!(exercise(&mut Vec::<(Vec<u8>, Vec<u8>)>::new()), left);
        #[cfg(feature = "http")]
        {
            let mut map = http::HeaderMap::new();
            assert_eq!(exercise(&mut map), left);
            assert!(map.get("x-keep").is_some_and(http::HeaderValue::is_sensitive));
            assert_eq!(HeaderAccess::append(&mut map, "x-bad", b"a\r\nb").unwrap_err(), BadHeader);
        }
    }
}

//! Header fields that most heads do not have. To compare with the few names that there are costs less than to search.

use http::header::{HeaderMap, HeaderName};

/// Whether there is such a field.
#[must_use]
pub fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.keys().any(|here| here == name)
}

/// Removes it, however often it is there.
pub fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    if has(headers, name) {
        headers.remove(name);
    }
}

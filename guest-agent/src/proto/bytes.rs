//! Bytes inside a JSON message: a string where they are UTF-8, `{"base64": "…"}` where they are not.
//!
//! Paths, arguments and environment of Linux are bytes; a name that is not UTF-8 must reach the guest unchanged.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::base64;

const BASE64_KEY: &str = "base64";

/// A path, an argument, a file's content: any bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, as the operating system's string.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The bytes, as a path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(self.as_os_str())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

macro_rules! from {
    ($($t:ty => |$v:ident| $e:expr;)*) => {
        $(impl From<$t> for Bytes { fn from($v: $t) -> Self { Self($e) } })*
    };
}
from! {
    Vec<u8> => |v| v;
    &[u8] => |v| v.to_vec();
    &str => |v| v.as_bytes().to_vec();
    String => |v| v.into_bytes();
    OsString => |v| v.into_vec();
    &OsStr => |v| v.as_bytes().to_vec();
    PathBuf => |v| v.into_os_string().into_vec();
    &Path => |v| v.as_os_str().as_bytes().to_vec();
}

/// Text is shown escaped; other bytes, which may be entropy, only by their number.
impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) => write!(f, "{text:?}"),
            Err(_) => write!(f, "({} bytes)", self.0.len()),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(BASE64_KEY, &base64::encode(&self.0))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or {\"base64\": \"…\"}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        Ok(Bytes::from(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
        let (key, text) =
            map.next_entry::<String, String>()?.ok_or_else(|| A::Error::custom("empty object"))?;
        if key != BASE64_KEY || map.next_key::<String>()?.is_some() {
            return Err(A::Error::custom("an object of bytes has the one key \"base64\""));
        }
        base64::decode(&text).map(Bytes).ok_or_else(|| A::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_stays_text_and_other_bytes_are_encoded() {
        assert_eq!(serde_json::to_string(&Bytes::from("/usr/ä\n")).unwrap(), r#""/usr/ä\n""#);
        assert_eq!(serde_json::to_string(&Bytes::from(vec![0xff, 0])).unwrap(), r#"{"base64":"/wA="}"#);
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in
            ["1", "null", "{}", "[]", r#"{"base64":"*"}"#, r#"{"hex":"00"}"#, r#"{"base64":"","x":""}"#]
        {
            assert!(serde_json::from_str::<Bytes>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let text = serde_json::to_string(&bytes).unwrap();
            prop_assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), bytes);
        }
    }
}

//! Why a policy does not load: where, what, and what to do. Errors hold text of the policy, never of a request
//! from a guest.

use std::fmt;
use std::sync::Arc;

use crate::pattern::PatternError;
use crate::request::RequestError;
use crate::sources::Registry;

/// A place in a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// The file's name as the caller gave it.
    pub file: Arc<str>,
    /// From 1; 0 for a rule made in code, which has no line.
    pub line: u32,
    /// In characters, from 1; 0 where only the line is known.
    pub column: u32,
    /// The line itself, for [`PolicyError::excerpt`].
    pub(crate) text: Option<Box<str>>,
}

/// A policy does not load.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file is not TOML, has an unknown key or a value of the wrong type.
    #[error("{at}: {message}{}", Excerpt(at))]
    Syntax {
        /// Where.
        at: Location,
        /// What the TOML reader says, one line.
        message: String,
    },
    /// Not `version = 1`.
    #[error(
        "{at}: this file needs `version = 1` at its top, and this program reads no other version{}",
        Excerpt(at)
    )]
    Version {
        /// Where.
        at: Location,
    },
    /// Larger than the limit.
    #[error("{file}: the policy is larger than {max} bytes; split it")]
    FileTooLarge {
        /// Which file.
        file: Arc<str>,
        /// The limit.
        max: usize,
    },
    /// More rules than the limit.
    #[error("{at}: more than {max} rules; use wildcards or split the policy")]
    TooManyRules {
        /// The first rule too many.
        at: Location,
        /// The limit.
        max: usize,
    },
    /// More ceilings than the limit.
    #[error("{file}: more than {max} layers are ceilings; put some together")]
    TooManyCeilings {
        /// The first ceiling too many.
        file: Arc<str>,
        /// The limit.
        max: usize,
    },
    /// A file that `include` names is not to be had.
    #[error("{at}: include = {wanted:?}: {problem}{}", Excerpt(at))]
    Include {
        /// Where.
        at: Location,
        /// As written.
        wanted: Box<str>,
        /// What is wrong, with the remedy.
        problem: String,
    },
    /// A preset that there is not.
    #[error(
        "{at}: there is no preset {name:?}{}; there are: {}{}",
        Nearest(*nearest), crate::presets::list(), Excerpt(at)
    )]
    Preset {
        /// Where.
        at: Location,
        /// As written.
        name: Box<str>,
        /// The one that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The hosts of a package registry are not known.
    #[error("{at}: the hosts of `{registry}` are not known: {problem}{}", Excerpt(at))]
    Registry {
        /// Where.
        at: Location,
        /// Whose.
        registry: Registry,
        /// What is wrong, with the remedy.
        problem: String,
    },
    /// A value that is not what its key wants.
    #[error("{at}: {key} = {value:?}: {source}{}", Excerpt(at))]
    Value {
        /// Where.
        at: Location,
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What is wrong, with the remedy.
        source: PatternError,
    },
    /// Keys of one rule that do not go together, or one that is missing.
    #[error("{at}: rule \"{id}\": {conflict}{}", Excerpt(at))]
    Rule {
        /// Where.
        at: Location,
        /// The rule.
        id: Box<str>,
        /// What is wrong, with the remedy.
        #[source]
        conflict: Conflict,
    },
    /// Two rules of one name.
    #[error("{at}: a rule named \"{id}\" is already at {first}; give each rule its own id{}", Excerpt(at))]
    DuplicateId {
        /// The second one.
        at: Location,
        /// The name.
        id: Box<str>,
        /// The first one, as `file:line`.
        first: String,
    },
    /// A `[[test]]` that is not a question.
    #[error("{at}: request = {request:?}: {source}{}", Excerpt(at))]
    Request {
        /// Where.
        at: Location,
        /// The line.
        request: String,
        /// What is wrong, with the remedy.
        source: RequestError,
    },
    /// A `[[test]]` whose answer is another one.
    #[error(
        "{at}: the test expects {expected}, but the policy says: {got}. Correct the rules or the test{}",
        Excerpt(at)
    )]
    TestFailed {
        /// Where.
        at: Location,
        /// Effect and, if named, rule.
        expected: String,
        /// The verdict, explained.
        got: String,
    },
}

/// What does not go together in one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// Neither host nor cidr.
    #[error("it names no `host` and no `cidr`; write one (any name: host = \"**\")")]
    NoTarget,
    /// Raw bytes to a port nobody named.
    #[error("tcp = true needs `ports` with numbers; raw bytes are allowed to named ports only")]
    TcpPorts,
    /// Raw bytes have neither method nor path.
    #[error(
        "tcp = true cannot stand with `methods`, `paths`, `query` or `credential`, which raw bytes do not have; write two rules"
    )]
    TcpConditions,
    /// Nothing to see inside an opaque tunnel.
    #[error(
        "tls = \"opaque\" cannot stand with `methods`, `paths`, `query` or `credential`: nobody looks inside; write tls = \"inspect\""
    )]
    OpaqueConditions,
    /// No TLS at all.
    #[error("tls = \"opaque\" needs scheme = \"https\": there is no TLS in clear text")]
    OpaqueScheme,
    /// The handshake is a GET.
    #[error("websocket = true needs \"GET\" among `methods`: a WebSocket begins with a GET")]
    WebsocketMethod,
    /// Only raw bytes allowed.
    #[error("websocket = true needs a `scheme`, since tcp = true alone allows neither https nor http")]
    WebsocketScheme,
    /// Meaningless in a deny rule.
    #[error(
        "`credential`, `tls`, `upstream`, `on_opaque`, `limits` and `write_capable` belong to rules that allow; leave them out"
    )]
    DenyGrants,
    /// Time must never allow.
    #[error(
        "a [[deny]] does not end by itself: time alone would allow something; leave `expires` out and remove the rule when it is no longer wanted"
    )]
    DenyExpires,
    /// A ceiling bounds what others allow.
    #[error("a ceiling gives nothing: `credential` and `upstream` belong to the layers below it")]
    CeilingGrants,
    /// Nobody sees requests.
    #[error(
        "nobody sees requests in an opaque tunnel or in raw bytes; only limits.connections can hold there"
    )]
    UnseenLimits,
    /// The client's own configuration says where it is.
    #[error("`registry` stands for `host`, `cidr`, `ports` and `scheme`; leave these out")]
    RegistryTarget,
    /// `"any"` with others.
    #[error("`\"any\"` stands alone: ports = \"any\"")]
    AnyPort,
}

impl PolicyError {
    /// Where the error is, if it has a place within a file.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::FileTooLarge { .. } | Self::TooManyCeilings { .. } => None,
            Self::Syntax { at, .. }
            | Self::Version { at }
            | Self::TooManyRules { at, .. }
            | Self::Include { at, .. }
            | Self::Preset { at, .. }
            | Self::Registry { at, .. }
            | Self::Value { at, .. }
            | Self::Rule { at, .. }
            | Self::DuplicateId { at, .. }
            | Self::Request { at, .. }
            | Self::TestFailed { at, .. } => Some(at),
        }
    }
}

impl fmt::Display for Location {
    /// `file:line:column`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        Ok(())
    }
}

struct Nearest(Option<&'static str>);

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, "; did you mean {name:?}?"))
    }
}

/// The line of the file with a caret below, after a line break; nothing where there is no line.
struct Excerpt<'a>(&'a Location);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(text) = &self.0.text else { return Ok(()) };
        let line = self.0.line.to_string();
        let gutter = " ".repeat(line.len());
        // The caret stands below its character also where tabs come before.
        let before = usize::try_from(self.0.column.saturating_sub(1)).unwrap_or(0);
        let indent: String = text.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "\n{gutter} |\n{line} | {text}\n{gutter} | {indent}^")
    }
}

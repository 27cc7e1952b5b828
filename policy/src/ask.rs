//! What a person allows beside the rules, when asked about something that no rule decides.
//!
//! ```text
//!   decide ── no rule, inside the ceilings ──▶ Question ── a person ──▶ Answer ─┬─ once: that attempt alone
//!                                                                               ├─ Grants: for the sandbox's life
//!                                                                               └─ Question::rule_text: for good
//! ```
//!
//! A grant stands in for a missing allow rule, and for nothing else: deny rules and ceilings hold, private addresses
//! stay closed, and no credential comes with it. It is as narrow as the question.

use std::fmt;

use crate::decide::{decide_as, public_address_as};
use crate::facts::{Facts, Host, Layer, Scheme};
use crate::limits::GRANTS_MAX;
use crate::ruleset::{Mode, Ruleset};
use crate::verdict::{Cause, Verdict};

/// Something that no rule decides, as it was tried. Two attempts that would be asked about in the same words are
/// equal: queries are no part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    host: OwnedHost,
    port: Option<u16>,
    scheme: Option<Scheme>,
    method: Option<Box<str>>,
    path: Option<Box<str>>,
    layer: Layer,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum OwnedHost {
    Name(Box<str>),
    Ip(std::net::IpAddr),
}

/// How much a person allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// What was asked about: scheme, host, port, method and path of a request; host and port of raw bytes; a name.
    Exactly,
    /// Every request to this host and port over this scheme.
    Host,
}

/// For how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Term {
    /// For the attempts that wait for this answer.
    Once,
    /// Until the sandbox ends.
    Sandbox,
    /// From now on: as a rule in the user's file.
    Always,
}

/// What a person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// No; also what silence means.
    Deny,
    /// Yes, this much and this long.
    Allow(Scope, Term),
}

/// There are as many grants as one sandbox may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{GRANTS_MAX} grants are as many as one sandbox may have; write a rule into the policy")]
pub struct TooManyGrants;

/// What was allowed for the life of a sandbox. Its existence says that somebody can be asked: a connection is let in
/// so that what is inside can be asked about. Nothing is sent for that.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    granted: Vec<(Question, Scope)>,
    names_pass: bool,
}

impl Question {
    /// The question, if there is one: no rule allows `facts`, none denies them, each ceiling would let them pass, and
    /// the refusal is carried out.
    #[must_use]
    pub fn about(rules: &Ruleset, facts: &Facts<'_>) -> Option<Self> {
        let verdict = decide_as(rules, facts, false);
        let missed = verdict.cause == Cause::NoRule && verdict.mode == Mode::Enforce;
        (missed && decide_as(rules, facts, true).is_allowed()).then(|| Self::of(facts))
    }

    fn of(facts: &Facts<'_>) -> Self {
        let host = match facts.host() {
            Host::Name(name) => OwnedHost::Name(name.into()),
            Host::Ip(ip) => OwnedHost::Ip(ip),
        };
        let (method, path) = (facts.method().map(Into::into), facts.path().map(Into::into));
        Self { host, port: facts.port(), scheme: facts.scheme(), method, path, layer: facts.layer() }
    }

    /// The attempt that it is about, without a query.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        let host = match &self.host {
            OwnedHost::Name(name) => Host::Name(name),
            OwnedHost::Ip(ip) => Host::Ip(*ip),
        };
        let port = self.port.unwrap_or_default();
        match (self.layer, host, self.scheme) {
            (Layer::Dns, Host::Name(name), _) => Facts::dns(name),
            (Layer::Http, host, Some(scheme)) => {
                let (method, path) = (self.method.as_deref(), self.path.as_deref());
                Facts::http(scheme, host, port, method.unwrap_or_default(), path.unwrap_or_default())
            }
            (Layer::Tcp, host, _) => Facts::tcp(host, port),
            (_, host, _) => Facts::connect(host, port),
        }
    }

    /// Whether [`Scope::Host`] is more than [`Scope::Exactly`]: not for raw bytes and names.
    #[must_use]
    pub fn has_scopes(&self) -> bool {
        self.layer == Layer::Http
    }

    /// The rule that allows this for good, as text to append to a policy file; `None` where no rule of a file can say
    /// just that. Such are names alone, literal addresses, and paths that a pattern would read otherwise. `id` and
    /// `reason` are the caller's, and must be what a file may hold.
    #[must_use]
    pub fn rule_text(&self, scope: Scope, id: &str, reason: &str) -> Option<String> {
        let OwnedHost::Name(host) = &self.host else { return None };
        let (scheme, port) = (self.scheme?, self.port?);
        let mut text = format!("[[allow]]\nid = {}\nhost = {}\n", quoted(id), quoted(host));
        if scheme.default_port() != Some(port) {
            text += &format!("ports = [{port}]\n");
        }
        text += match scheme {
            Scheme::Https => "",
            Scheme::Http => "scheme = \"http\"\n",
            Scheme::Wss => "websocket = true\n",
            Scheme::Ws => "scheme = \"http\"\nwebsocket = true\n",
            Scheme::Tcp => "tcp = true\n",
        };
        if self.layer == Layer::Http && scope == Scope::Exactly {
            let (method, path) = (self.method.as_deref()?, self.path.as_deref()?);
            if path.contains('*') {
                return None;
            }
            text += &format!("methods = [{}]\npaths = [{}]\n", quoted(method), quoted(path));
        }
        text += &format!("reason = {}\n", quoted(reason));
        // Whether it says that is for the rules themselves to tell.
        let alone = Ruleset::parse(&format!("version = 1\n{text}"), "asked").ok()?;
        decide_as(&alone, &self.facts().with_query(""), false).is_allowed().then_some(text)
    }

    fn covers(&self, scope: Scope, facts: &Facts<'_>) -> bool {
        let own = self.facts();
        if own.host() != facts.host() {
            return false;
        }
        match facts.layer() {
            // Whoever may go there may find the way.
            Layer::Dns => true,
            Layer::Connect => false,
            Layer::Tcp => self.layer == Layer::Tcp && own.port() == facts.port(),
            Layer::Http => {
                let whole = own.method() == facts.method() && own.path() == facts.path();
                self.layer == Layer::Http
                    && (own.scheme(), own.port()) == (facts.scheme(), facts.port())
                    && (whole || scope == Scope::Host)
            }
        }
    }
}

impl Grants {
    /// With every name passing at [`Layer::Dns`] that could be asked about, unasked. Only for a proxy that tells
    /// nobody of names that are looked up (synthetic addresses).
    #[must_use]
    pub fn letting_names_pass() -> Self {
        Self { names_pass: true, ..Self::default() }
    }

    /// Remembers a yes until [`Grants::clear`].
    ///
    /// # Errors
    /// [`TooManyGrants`] beyond [`GRANTS_MAX`].
    pub fn add(&mut self, question: Question, scope: Scope) -> Result<(), TooManyGrants> {
        if self.granted.contains(&(question.clone(), scope)) {
            return Ok(());
        }
        if self.granted.len() >= GRANTS_MAX {
            return Err(TooManyGrants);
        }
        self.granted.push((question, scope));
        Ok(())
    }

    /// Forgets all of them: the sandbox has ended.
    pub fn clear(&mut self) {
        self.granted.clear();
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.granted.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.granted.is_empty()
    }

    /// As [`decide`](crate::decide), with grants in the place of missing rules ([`Cause::Granted`]). A connection
    /// about which somebody can be asked is let in, to be inspected.
    pub fn decide<'r>(&self, rules: &'r Ruleset, facts: &Facts<'_>) -> Verdict<'r> {
        let verdict = decide_as(rules, facts, false);
        let grant = match facts.layer() {
            Layer::Connect => true,
            Layer::Dns if self.names_pass => true,
            _ => self.granted.iter().any(|(question, scope)| question.covers(*scope, facts)),
        };
        if grant { granted(rules, facts, verdict) } else { verdict }
    }

    /// As [`decide_public_address`](crate::decide_public_address), for what a person allowed; a special-purpose address needs a rule.
    pub fn decide_public_address<'r>(
        &self,
        rules: &'r Ruleset,
        facts: &Facts<'_>,
        ip: std::net::IpAddr,
    ) -> Verdict<'r> {
        public_address_as(rules, facts, ip, true)
    }
}

/// Decides about what a person was asked and said yes to: as by a grant for this attempt alone.
pub fn decide_granted<'r>(rules: &'r Ruleset, facts: &Facts<'_>) -> Verdict<'r> {
    granted(rules, facts, decide_as(rules, facts, false))
}

fn granted<'r>(rules: &'r Ruleset, facts: &Facts<'_>, verdict: Verdict<'r>) -> Verdict<'r> {
    match verdict.cause {
        Cause::NoRule if !verdict.would_deny() => decide_as(rules, facts, true),
        _ => verdict,
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

impl fmt::Display for Question {
    /// As [`Facts`]; of letters outside ASCII only their escapes are shown, since some change what is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.facts().to_string().chars() {
            match c {
                ' '..='~' => fmt::Write::write_char(f, c)?,
                other => write!(f, "{}", other.escape_unicode())?,
            }
        }
        Ok(())
    }
}

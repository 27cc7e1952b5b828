//! Decides whether a request, a connection or a DNS name is allowed, by which rule and with which credential.
//!
//! ```text
//!   policy.toml ── Ruleset::parse ──▶ Ruleset ─┐
//!   (text; its own tests are run)              ├─ decide ──▶ Verdict { effect, rule, nearest miss,
//!   parser of the request ──▶ Facts ───────────┘                       credential, tls }
//!   (canonical host, port, method, path)
//! ```
//!
//! # From an empty project to a decision
//!
//! `cargo add --path CHECKOUT/policy`, where CHECKOUT is a clone of this repository; it is on no registry.
//!
//! ```
//! use policy::{Facts, Ruleset, decide};
//!
//! let rules = Ruleset::parse(
//!     r#"
//!     version = 1
//!     [[allow]]
//!     id = "models"
//!     host = "api.example.com"
//!     methods = ["POST"]
//!     paths = ["/v1/**"]
//!     credential = "EXAMPLE_KEY"
//!     "#,
//!     "policy.toml",
//! )?;
//! let facts = Facts::parse("POST https://api.example.com/v1/chat")?;
//! let verdict = decide(&rules, &facts);
//! assert!(verdict.is_allowed());
//! assert_eq!(verdict.credential, Some("EXAMPLE_KEY"));
//!
//! let facts = Facts::parse("DELETE https://api.example.com/v1/files")?;
//! assert_eq!(
//!     decide(&rules, &facts).explain(&facts).to_string(),
//!     "denied: DELETE https://api.example.com/v1/files: no rule allows it; \
//!      nearest is rule \"models\" (policy.toml:3), whose `methods` does not match",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it never does
//!
//! * It does no I/O: text and facts come in, a verdict goes out. It reads no clock and no random numbers.
//! * It does not parse requests. Facts must be canonical; others are denied, never repaired, since what
//!   was repaired here would not be what is sent.
//! * It does not allow by default: no constructor yields a rule set that allows what no rule names.
//! * [`decide`] allocates nothing, and there is no second function that only "explains".
//! * It replaces nothing by halves: with the feature `live`, `Live` swaps a whole rule set while others decide.
//!
//! # The file
//!
//! ```toml
//! version = 1                  # required
//! mode = "enforce"             # or "audit": what this file refuses passes and is recorded
//! ceiling = false              # true: allows nothing itself, but nothing else may go beyond what it allows
//! use = ["anthropic"]          # ready-made rules ([`presets`])
//! include = ["common.toml"]    # read by whoever embeds this crate
//!
//! [[allow]]
//! id = "models"                # shown with every verdict; else allow-1, allow-2…
//! host = "api.example.com"     # or a list; `*.x` is one label before x, `**.x` one or more, `**` any name
//! ports = [443]                # or ranges as "8000-8099", or "any"; else 443 (80 for http)
//! scheme = "https"             # the default; or "http", or a list
//! methods = ["GET", "POST"]    # else any
//! paths = ["/v1/**"]           # `*` within a segment, `**` any number of segments; else any
//! websocket = false            # whether ws/wss are allowed too
//! tls = "inspect"              # or "opaque": nobody looks inside, so no methods, paths or credential
//! query = ["page", "q"]        # no other keys may be in the query; else any
//! credential = "EXAMPLE_KEY"   # put into matching requests
//! upstream = "corp"            # leave by the upstream proxy of this name, which whoever embeds this crate knows
//! on_opaque = "refuse"         # the default; or "pass": answers that cannot be searched for secrets
//! limits = { requests_per_s = 5, request_body_bytes = 1_000_000, connections = 4 }
//! expires = "2027-01-31T12:00:00Z" # allows nothing from then on
//! write_capable = true         # a label: what is sent here could be read by others; `policy lint` names it
//! reason = "the model's API"   # one line, shown with the verdict
//!
//! [[allow]]
//! host = "db.example.com"
//! ports = [5432]
//! tcp = true                   # raw bytes; ports must be written
//!
//! [[allow]]
//! host = "model.test"
//! ports = [8443]
//! cidr = "127.0.0.0/8"         # this name may resolve to these special-purpose addresses
//!
//! [[allow]]
//! registry = "pip"             # the hosts that the machine's own client is set up to use
//!
//! [[deny]]
//! host = "**.example.com"
//! methods = ["DELETE"]
//!
//! [[test]]                     # a policy whose tests fail does not load
//! request = "DELETE https://api.example.com/v1/files"
//! expect = "deny"
//! rule = "deny-5"
//! ```
//!
//! In a deny rule a key that is left out means *everything*: any port, any scheme, raw bytes too; in an
//! allow rule it means the narrow default. Deny wins, whatever the order. Deny rules read paths as the
//! laxest server would: letter case, percent-encoding and a slash at the end make no difference, and
//! `/admin/**` includes `/admin`. Deny rules read the query as laxly: a key that some server could take for one of
//! theirs counts, and so does one that nobody can be sure of.
//!
//! A rule with `expires` allows only facts that tell the time ([`Facts::at`]); one with `query` only those
//! that tell the query. A rule with `tls = "opaque"` cannot have `query`: nobody sees it.
//!
//! `host` and `cidr`:
//!
//! | written | the rule is about |
//! |---|---|
//! | `host` | names, resolved to public addresses |
//! | `cidr` | literal addresses, and special-purpose addresses to which a name resolves that some rule allows |
//! | both | these names, which may also resolve to these special-purpose addresses; no literal address |
//!
//! A deny rule with both denies these names at these addresses.
//!
//! Some paths mean different things to different servers: those with `;`, `//`, `%2F`, `%3B`, `%5C`, `%25`, an
//! escaped control byte, or escapes that are no UTF-8. No `paths` of an allow rule matches them (a rule without `paths` does), every `paths` of a deny
//! rule does. Dot segments, lower-case or needless percent-encoding are not canonical: such facts are
//! denied.
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]

pub mod ask;
mod builder;
mod canonical;
mod compile;
mod decide;
pub mod diff;
mod error;
mod facts;
mod index;
pub mod limits;
pub mod lint;
#[cfg(feature = "live")]
mod live;
mod load;
mod pattern;
pub mod presets;
mod request;
mod respell;
mod rule;
mod ruleset;
mod schema;
mod sources;
pub mod suggest;
mod test_run;
mod timestamp;
mod verdict;
mod view;

pub use builder::RulesetBuilder;
pub use canonical::Fault;
pub use decide::{decide, decide_address, decide_public_address};
pub use error::{Conflict, Location, PolicyError};
pub use facts::{Facts, Host, Layer, Scheme};
#[cfg(feature = "live")]
pub use live::{Current, Live};
pub use pattern::PatternError;
pub use request::RequestError;
pub use rule::Rule;
pub use ruleset::{Mode, Ruleset};
pub use schema::schema;
pub use sources::{Included, Includes, Registry, RegistryHost, RegistryHosts};
pub use test_run::TestRun;
pub use timestamp::parse as parse_time;
pub use verdict::{Cause, Effect, Explanation, Field, Miss, OnOpaque, RuleLimits, RuleRef, TlsMode, Verdict};
pub use view::RuleView;
